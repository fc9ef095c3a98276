"""How sparse each layer becomes: uniform and Erdos-Renyi-Kernel.

A `Distribution` is one of the rules with the sparsity that it is to reach; an updater holds one.
Everything here runs on the host in float64 and only reads shapes, so it works while a program is
traced. Used by the updaters; nothing here knows scores or masks.
"""

import contextlib
import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import numpy as np

from dst_jax.sparsity import maskable, param_paths
from dst_jax.sparsity.active_counts import active_counts
from dst_jax.sparsity.maskable import (
    EMBEDDINGS_TOO_FILTER_FN,
    KERNEL_FILTER_FN,
    MASKABLE_FILTER_FN,
    NOT_DIM_ONE_FILTER_FN,
    FilterFnType,
)
from dst_jax.sparsity.param_paths import PyTree

__all__ = [
    "EMBEDDINGS_TOO_FILTER_FN",
    "KERNEL_FILTER_FN",
    "MASKABLE_FILTER_FN",
    "NOT_DIM_ONE_FILTER_FN",
    "Distribution",
    "active_counts",
    "erk",
    "get_n_zeros",
    "get_sparsities_erdos_renyi",
    "requested_sparsity",
    "uniform",
]

CustomSparsityMapType = Mapping[Any, float]


def uniform(
    params: PyTree,
    sparsity: float,
    filter_fn: FilterFnType = MASKABLE_FILTER_FN,
    custom_sparsity_map: CustomSparsityMapType | None = None,
) -> PyTree:
    """Gives every selected layer the same sparsity.

    Args:
      params: any tree of arrays, or one array.
      sparsity: share of weights to remove, in [0, 1].
      filter_fn: called with the path (a tuple of names) and the array; False leaves a layer dense
        and without a mask.
      custom_sparsity_map: path -> sparsity for layers that differ, whatever `filter_fn` says; a
        path is a tuple of names or their text, `layer1/kernel`.

    Returns:
      The tree with a float for every selected layer and None for the others.

    Raises:
      ValueError: a path of the map is none of the params, or a leaf is no array.
    """
    param_paths.check_arrays(params)
    custom = param_paths.normalised_map(custom_sparsity_map, params)

    def of(path: tuple[str, ...], param: Any) -> float | None:
        own = custom.get(param_paths.text(path))
        return own if own is not None else (sparsity if filter_fn(path, param) else None)

    return param_paths.map_with_path(of, params)


def erk(
    param_tree: PyTree,
    sparsity: float,
    filter_fn: FilterFnType = MASKABLE_FILTER_FN,
    custom_sparsity_map: CustomSparsityMapType | None = None,
) -> PyTree:
    """Spreads the sparsity by the Erdos-Renyi-Kernel rule (Evci et al. 2020, section 3).

    Args and result as `uniform`, but not for a single array.

    Raises:
      ValueError: also for a single array, when no layer is selected, for a layer of the map that
        `filter_fn` does not select, or for an impossible sparsity.
    """
    if hasattr(param_tree, "shape"):
        # JaxPruner's wording, spelling included: tests match it.
        raise ValueError("Single parameter is provided. Please provide a paramater tree.")
    param_paths.check_arrays(param_tree)
    custom = param_paths.normalised_map(custom_sparsity_map, param_tree)
    paths, leaves, treedef = param_paths.flatten(param_tree)
    shapes = {
        path: tuple(np.shape(leaf))
        for path, leaf in zip(paths, leaves, strict=True)
        if filter_fn(path, leaf)
    }
    if not shapes:
        raise ValueError(_nothing_to_mask(paths, leaves))
    texts = {path: param_paths.text(path) for path in shapes}
    own = {path: custom[name] for path, name in texts.items() if name in custom}
    if unused := sorted(custom.keys() - {texts[path] for path in own}):
        raise ValueError(
            f"custom_sparsity_map: found {unused[0]}, which filter_fn leaves dense; expected a "
            "layer that it selects"
        )
    sparsities = get_sparsities_erdos_renyi(shapes, sparsity, own)
    return treedef.unflatten([sparsities.get(path) for path in paths])


def _nothing_to_mask(paths: list[Any], leaves: list[Any]) -> str:
    seen = ", ".join(
        f"{param_paths.text(path)} {list(np.shape(leaf))}"
        for path, leaf in list(zip(paths, leaves, strict=True))[:3]
    )
    return (
        f"params: found no layer to mask among {len(paths)} arrays ({seen or 'none'}); expected "
        "one that filter_fn selects, by default weights of two or more dimensions. Variable shape "
        "dictionary should not be empty"
    )


def get_n_zeros(size: int, sparsity: float) -> int:
    """Returns how many of `size` weights a sparsity removes, rounded down."""
    return math.floor(sparsity * size)


def _raw_probability(shape: tuple[int, ...], include_kernel: bool, power: float) -> float:
    if include_kernel:
        return float(np.float64(sum(shape) / math.prod(shape)) ** power)
    n_in, n_out = shape[-2:]
    return (n_in + n_out) / (n_in * n_out)


def get_sparsities_erdos_renyi(
    var_shape_dict: Mapping[Any, tuple[int, ...]],
    default_sparsity: float,
    custom_sparsity_map: Mapping[Any, float] | None = None,
    include_kernel: bool = True,
    erk_power_scale: float = 1.0,
) -> dict[Any, float]:
    """Returns the sparsity of each layer under the Erdos-Renyi(-Kernel) rule.

    A layer's density is proportional to (sum of its dimensions) / (product of its dimensions).
    Layers for which that exceeds 1 are made dense, and the rest is scaled so that all layers
    together keep as many weights as with a uniform sparsity.

    Args:
      var_shape_dict: layer -> shape.
      default_sparsity: overall sparsity of the layers that are not in `custom_sparsity_map`.
      custom_sparsity_map: layers with a sparsity of their own; they take no part in the budget.
      include_kernel: False uses the last two dimensions only (plain Erdos-Renyi).
      erk_power_scale: exponent of the ratio; below 1 flattens the distribution.

    Returns:
      layer -> sparsity, for every layer of `var_shape_dict`.

    Raises:
      ValueError: for an empty dict, a sparsity outside [0, 1], or a budget that the dense layers
        already exceed.
    """
    if not var_shape_dict:
        raise ValueError("Variable shape dictionary should not be empty")
    if default_sparsity is None or not 0 <= default_sparsity <= 1:
        raise ValueError(
            f"Default sparsity should be a value between 0 and 1, found {default_sparsity}"
        )
    custom = custom_sparsity_map or {}
    sizes = {name: math.prod(shape) for name, shape in var_shape_dict.items()}
    zeros = {name: get_n_zeros(size, default_sparsity) for name, size in sizes.items()}
    raw = {
        name: _raw_probability(shape, include_kernel, erk_power_scale)
        for name, shape in var_shape_dict.items()
        if name not in custom
    }
    # Layers leave `raw` for `dense` until no density exceeds 1. With nothing to remove all are
    # dense; saying so here spares the loop its 0/0.
    dense: set[Hashable] = set()
    if default_sparsity == 0:
        dense, raw = set(raw), {}
    scale = 0.0
    while raw:
        budget = sum(sizes[name] - zeros[name] for name in raw) - sum(zeros[n] for n in dense)
        scale = budget / sum(raw[name] * sizes[name] for name in raw)
        highest = max(raw.values())
        if highest * scale <= 1:
            break
        full = {name for name, value in raw.items() if value == highest}
        dense |= full
        raw = {name: value for name, value in raw.items() if name not in full}
    if scale < 0:
        raise ValueError(
            f"Default sparsity {default_sparsity} cannot be reached: the layers that this rule "
            "keeps dense hold more weights than the budget"
        )
    return {
        name: custom[name]
        if name in custom
        else (0.0 if name in dense else 1.0 - scale * raw[name])
        for name in var_shape_dict
    }


@dataclasses.dataclass(frozen=True)
class Distribution:
    """A rule bound to a sparsity: what `sparsity_distribution_fn` of an updater holds.

    A call is JaxPruner's: params, and keywords that take the place of its own.

    Attributes:
      rule: `uniform`, `erk`, or another function of params and keywords -> tree of sparsities.
      sparsity: overall share of weights to remove; None: the rule has one of its own, or none.
      filter_fn: see `uniform`; None: the rule's default.
      custom_sparsity_map: see `uniform`.
    """

    rule: Callable[..., Any]
    sparsity: Any = None
    filter_fn: FilterFnType | None = None
    custom_sparsity_map: CustomSparsityMapType | None = None

    def __post_init__(self):
        # What `inspect.signature` finds is that of a `functools.partial`, as in JaxPruner.
        with contextlib.suppress(TypeError, ValueError):
            signature = inspect.signature(functools.partial(self.rule, **self._bound))
            object.__setattr__(self, "__signature__", signature)

    @classmethod
    def of(cls, function: Any) -> "Distribution":
        """Returns the distribution that a function is: itself, a `functools.partial`, or any."""
        if isinstance(function, cls):
            return function
        bound = function.keywords if isinstance(function, functools.partial) else {}
        return cls(
            function,
            sparsity=bound.get("sparsity"),
            filter_fn=bound.get("filter_fn"),
            custom_sparsity_map=bound.get("custom_sparsity_map"),
        )

    @property
    def _bound(self) -> dict[str, Any]:
        fields = ("sparsity", "filter_fn", "custom_sparsity_map")
        return {name: value for name in fields if (value := getattr(self, name)) is not None}

    def __call__(self, params: PyTree, **keywords: Any) -> PyTree:
        """Returns the sparsities, with keywords of the rule in place of this object's."""
        return self.rule(params, **{**self._bound, **keywords})

    def sparsities(self, params: PyTree) -> PyTree:
        """Returns the tree of floats, None for layers without a mask."""
        return self(params)

    def counts(self, params: PyTree, masks: PyTree = None) -> PyTree:
        """Returns the tree of exact numbers of active weights, None for layers without a mask.

        Args:
          params: the params.
          masks: masks that exist already: a layer without one takes no part. None: not known.
        """
        if masks is not None:
            return self.leaving_dense(param_paths.without_mask(masks, params)).counts(params)
        return active_counts(params, self.sparsities(params), self.requested)

    def leaving_dense(self, paths: Iterable[Any]) -> "Distribution":
        """Returns the distribution over the layers that are not at these paths.

        Their weights take no part in the budget of the others, where the rule has a `filter_fn`.
        """
        out = set(paths)
        if not out:
            return self
        rule = self.filter_fn or MASKABLE_FILTER_FN
        custom = self.custom_sparsity_map
        keywords = getattr(self, "__signature__", inspect.Signature()).parameters
        if "filter_fn" in keywords:
            texts = set(map(param_paths.text, out))
            left = {
                path: value
                for path, value in (custom or {}).items()
                if (path if isinstance(path, str) else param_paths.text(path)) not in texts
            }
            return dataclasses.replace(
                self,
                filter_fn=maskable.without(rule, out),
                custom_sparsity_map=left or None,
            )

        def pruned(params: PyTree, **keywords: Any) -> PyTree:
            targets = self.rule(params, **keywords)
            return param_paths.map_like(lambda p, t: None if p in out else t, params, targets)

        return dataclasses.replace(self, rule=pruned)

    @property
    def requested(self) -> float | None:
        """The one sparsity of all layers together; None if there is no such number."""
        if self.custom_sparsity_map or not isinstance(self.sparsity, (int, float)):
            return None
        return float(self.sparsity)


def requested_sparsity(distribution_fn: Any) -> float | None:
    """Returns the one overall sparsity that a distribution was bound to, if any."""
    return Distribution.of(distribution_fn).requested
