"""The real JaxPruner behind our interface, where it is installed: `config.sparsity.library`.

Its updaters choose the masks; weights, moments and layers without a mask are handled here, so that
its SET and RigL also work for networks with biases and with every optimizer. In return our MEST and
GraNet join its registry. Imported by nothing that does not ask for it.
"""

import copy
import dataclasses
import importlib
import types
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dst_jax.sparsity import (
    api,
    base_updater,
    mask_trees,
    maskable,
    optimizer_state,
    param_paths,
    sparsity_distributions,
    traits,
)

# On PyPI the name is somebody else's empty package. SET and RigL of the commits before this one, of
# February 2025, fail on current JAX for a layer without a mask.
INSTALL = "pip install 'jaxpruner @ git+https://github.com/google-research/jaxpruner@e7af4e4'"
_THEIR_OPTIONS = (
    *("algorithm", "dist_type", "sparsity", "drop_fraction", "skip_gradients"),
    *("update_freq", "update_start_step", "update_end_step"),
)
# What only our updaters have, and the value at which theirs do the same.
_ONLY_OURS = {
    "regrow_same": "keep",
    "adam_fresh": "zero",
    "drop_fraction_schedule": "cosine",
    "drop_fraction_floor": 0,
    "sparsity_type": "",
}
THEIR_NAMES = {"static": "static_sparse"}
OURS = ("mest_r", "mest_g", "granet_r", "granet_g")


def load() -> types.ModuleType:
    """Imports JaxPruner and registers our MEST and GraNet with it.

    Raises:
      ModuleNotFoundError: if it is not installed, or a package that only shares its name is.
    """
    if not hasattr(jax, "tree_map"):
        vars(jax)["tree_map"] = jax.tree.map  # its code calls the name that JAX has removed
    try:
        library = importlib.import_module("jaxpruner")
        register = library.register_algorithm
    except (ImportError, AttributeError):
        raise ModuleNotFoundError(
            f"jaxpruner: found no package of google-research; expected it installed by {INSTALL}"
        ) from None
    for name in OURS:
        register(name, api.ALGORITHM_REGISTRY[name])
    return library


@dataclasses.dataclass
class Original(base_updater.BaseUpdater):
    """An updater of JaxPruner.

    Attributes:
      theirs: the updater; its `wrap_optax` is asked for the masks.
      filter_fn: (path, param) -> whether a layer is maskable; it sees no others.
    """

    theirs: Any = None
    filter_fn: sparsity_distributions.FilterFnType = sparsity_distributions.MASKABLE_FILTER_FN

    def _maskable(self, tree: Any, params: Any) -> Any:
        """Returns the nested dict of the maskable layers' leaves of a tree like the params."""
        paths, leaves, _ = param_paths.flatten(params)
        nested: dict[Any, Any] = {}
        of = param_paths.parts(tree, params)
        for path, param, leaf in zip(paths, leaves, of, strict=True):
            if self.filter_fn(path, param):
                node = nested
                for name in path[:-1]:
                    node = node.setdefault(name, {})
                node[path[-1]] = leaf
        return nested

    def _all_layers(self, masks: Any, params: Any) -> Any:
        """Returns a tree like the params with None for the layers that are not maskable."""
        found = param_paths.by_text(masks)
        return param_paths.map_with_path(lambda p, _: found.get(param_paths.text(p)), params)

    def leaving_dense(self, paths: Iterable[Any]) -> "Original":
        """Returns a copy that leaves the layers at these paths without a mask."""
        other = copy.copy(self)
        other.filter_fn = maskable.without(self.filter_fn, paths)
        return other

    def with_seed(self, seed: Any) -> "Original":
        """Returns a copy that hands the seed on to JaxPruner's updater."""
        seeded = copy.copy(self)
        seeded.theirs = copy.copy(self.theirs)
        seeded.theirs.rng_seed = jax.random.PRNGKey(seed)
        return seeded

    def init_state(self, params: Any) -> base_updater.SparseState:
        """Returns the first state, with the masks that JaxPruner starts from."""
        state = self.theirs.wrap_optax(optax.identity()).init(self._maskable(params, params))
        masks = self._all_layers(state.masks, params)
        return base_updater.SparseState(masks=masks, count=jnp.zeros([], jnp.int32))

    def update_state(
        self, sparse_state: base_updater.SparseState, params: Any, grads: Any, **kwargs: Any
    ) -> base_updater.SparseState:
        """Returns the state with the masks that JaxPruner chooses; fresh moments are zero."""
        transformation = self.theirs.wrap_optax(optax.identity())
        weights = self._maskable(params, params)
        state = transformation.init(weights)._replace(
            masks=self._maskable(sparse_state.masks, params), count=sparse_state.count
        )
        _, state = transformation.update(self._maskable(grads, params), state, weights, **kwargs)
        masks = self._all_layers(state.masks, params)
        resets = mask_trees.map_masks(
            lambda old, new: None if old is None else 1 - (old & new), sparse_state.masks, masks
        )
        inner_state = optimizer_state.reset_moments(sparse_state.inner_state, resets)
        return sparse_state._replace(masks=masks, inner_state=inner_state)


def create_updater_from_config(sparsity_config: Mapping[str, Any]) -> base_updater.BaseUpdater:
    """Creates JaxPruner's updater of a config; ours for one of `OURS` and for a dense training.

    Args:
      sparsity_config: the keys of `api.create_updater_from_config`; `rng_seed` an integer.

    Raises:
      ModuleNotFoundError: JaxPruner is not installed.
      ValueError: JaxPruner does not take the config, lacks the algorithm or ignores an option.
    """
    from ml_collections import ConfigDict

    library = load()
    options = dict(sparsity_config)
    name = options["algorithm"]
    if name in OURS or traits.of(api.ALGORITHM_REGISTRY.get(name), "is_dense"):
        return api.create_updater_from_config(options)
    options["algorithm"] = THEIR_NAMES.get(name, name)
    if options["algorithm"] not in library.ALGORITHM_REGISTRY:
        raise ValueError(
            f"algorithm: found {name}, which JaxPruner lacks; expected one of "
            + ", ".join(sorted({*library.ALGORITHM_REGISTRY, *THEIR_NAMES}))
        )
    for key, default in _ONLY_OURS.items():
        if options.get(key, default) not in (default, None, "unstructured"):
            raise ValueError(
                f"{key}: found {options[key]}; expected {default} with library jaxpruner, whose "
                f"{name} has no such option"
            )
    filter_fn, seed = options.pop("filter_fn"), options.pop("rng_seed")
    options = {key: options[key] for key in _THEIR_OPTIONS if key in options}
    theirs = library.create_updater_from_config(
        ConfigDict({**options, "rng_seed": jax.random.PRNGKey(seed)})
    )
    return Original(
        scheduler=theirs.scheduler,
        skip_gradients=theirs.skip_gradients,
        is_sparse_gradients=theirs.is_sparse_gradients,
        theirs=theirs,
        filter_fn=filter_fn,
    )
