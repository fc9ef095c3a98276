"""A finished or running run, read back from its directory: `dst_jax.load_run(workdir)`.

Gives everything that a notebook, `robustness`, `analysis` and `report` ask of a run, on one device,
whatever it was trained on.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from dst_jax import checkpoint, data, models, sparsity, updaters
from dst_jax import config as config_lib
from dst_jax.errors import UserError
from dst_jax.workdir import read_json


@dataclasses.dataclass(frozen=True)
class Run:
    """A run as it stands in its latest checkpoint.

    Attributes:
      workdir: where it lies.
      config: the resolved config.
      step: completed batches of the checkpoint.
      model: the Flax module.
      params: float32 weights, masked: those to evaluate, so their running average where the config
        has `train.ema`, and what the next forward pass would use where masks are drawn for each
        (`updaters.forward_network`).
      batch_stats: BatchNorm's running statistics, averaged likewise; {} without BatchNorm.
      masks: those of params; uint8 arrays, nested like them, only where a leaf is maskable.
      union: like masks, 1 where a weight has been active so far.
      metrics: the lines of metrics.jsonl.
    """

    workdir: Path
    config: Mapping[str, Any]
    step: int
    model: Any
    params: Any
    batch_stats: Any
    masks: Any
    union: Any
    metrics: list[dict[str, Any]]

    @property
    def predict(self) -> Callable[[jax.Array], jax.Array]:
        """Maps images uint8 [B, H, W, 3] to logits float32 [B, classes].

        It is a pytree whose leaves are the weights, so `jax.jit` takes it as an argument.
        """
        variables = {"params": self.params, "batch_stats": self.batch_stats}
        return jax.tree_util.Partial(logits_function(self.config), variables)


def create_model(config: Mapping[str, Any]) -> Any:
    """The Flax module of a resolved config.

    Raises:
      UserError: the model lacks an option that the config sets.
    """
    options = {name: config["model"][name] for name in ("width", "depth") if config["model"][name]}
    if config["model"]["stem"] != "published":
        options["stem"] = config["model"]["stem"]
    for name in ("dropout", "drop_path"):
        if config["model"][name] >= 0:
            options[name] = config["model"][name]
    if config["model"]["zero_init_residual"] != "published":
        options["zero_init_residual"] = config["model"]["zero_init_residual"] == "yes"
    return models.create(
        config["model"]["name"],
        data.get(config["data"]["name"]).num_classes,
        dtype=jnp.dtype(config["model"]["dtype"]),
        **options,
    )


def logits_function(config: Mapping[str, Any]) -> Callable[[Any, jax.Array], jax.Array]:
    """The function (variables, images uint8 [B, H, W, 3]) -> logits of a config's network.

    Clips are uint8 [B, T, H, W, 3]; of frames larger than the network takes it sees the middle.
    Of configs with the same network and dataset it is one function, so that runs share a compiled
    program.
    """
    name, options = config["data"]["name"], config["model"]
    dataset = data.get(name)
    key = json.dumps([name, options], sort_keys=True)
    # Under the same names something else may have been registered since.
    registered = (dataset, models.MODELS.get(options["name"]))
    if key not in _FUNCTIONS or _FUNCTIONS[key][0] != registered:
        function = _new_logits_function(create_model(config), dataset, jnp.dtype(options["dtype"]))
        _FUNCTIONS[key] = (registered, function)
    return _FUNCTIONS[key][1]


_FUNCTIONS: dict[str, tuple[Any, Callable[[Any, jax.Array], jax.Array]]] = {}


def _new_logits_function(
    model: Any, dataset: data.Dataset, dtype: Any
) -> Callable[[Any, jax.Array], jax.Array]:
    def logits(variables: Any, images: jax.Array) -> jax.Array:
        if dataset.clip:
            images = _middle(images, dataset.image_shape[-2])
        normal = data.normalise(images, dataset, dtype)
        return model.apply(variables, normal, train=False)

    return logits


def _middle(frames: jax.Array, size: int) -> jax.Array:
    """The central square of clips [B, T, H, W, 3], where they are larger than it."""
    height, width = frames.shape[-3:-1]
    top, left = max(height - size, 0) // 2, max(width - size, 0) // 2
    return frames[..., top : top + size, left : left + size, :]


def load_run(workdir: str | Path, step: int | None = None) -> Run:
    """Reads a run back from its directory.

    Args:
      workdir: the run directory, local or on any storage that Orbax reads, as gs://bucket/run.
      step: the checkpoint to read; None: the latest.

    Raises:
      UserError: a file is missing or damaged; the text names it.
    """
    directory: Any = epath.Path(workdir)
    _refuse_directory_of_runs(directory)
    config = config_lib.completed(
        read_json(directory / "config.json"), str(directory / "config.json")
    )
    state = checkpoint.read(directory / "checkpoints", step)
    model = create_model(config)
    _check_network(directory, model, data.get(config["data"]["name"]).image_shape, state)
    evaluated = state.get("ema") or state
    params, masks = _evaluated(config, evaluated["params"], state)
    return Run(
        workdir=directory,
        config=config,
        step=int(state["step"]),
        model=model,
        params=params,
        batch_stats=evaluated.get("batch_stats", {}),
        masks=masks,
        union=state.get("union", {}),
        metrics=_history(directory / "metrics.jsonl"),
    )


def _refuse_directory_of_runs(directory: Any) -> None:
    """Raises UserError, with the runs inside, where there is no run but there are some below."""
    if (directory / "config.json").exists():
        return
    if inside := sorted(path.parent.name for path in directory.glob("*/config.json")):
        more = f" and {len(inside) - 20} more" if len(inside) > 20 else ""
        raise UserError(
            str(directory),
            f"a directory of {len(inside)} runs",
            "one of them: " + ", ".join(inside[:20]) + more,
        )


def _check_network(
    workdir: Path, model: Any, image_shape: tuple[int, ...], state: Mapping[str, Any]
) -> None:
    """Raises UserError unless a checkpoint holds a state of ours, of the config's network."""
    where, mend = f"{workdir}/checkpoints", "Is it the checkpoint of another program or config?"
    if lacking := [name for name in ("step", "params", "sparse") if name not in state]:
        raise UserError(where, f"a checkpoint without {', '.join(lacking)}", "one of dst_jax", mend)
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    wanted = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    expected, found = map(_shapes, (wanted, state["params"]))
    if expected != found:
        name = min(
            path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)
        )
        raise UserError(
            f"{where}: {name}",
            f"shape {found.get(name, 'nothing')}",
            f"{expected.get(name, 'nothing')}, as the network of config.json has it",
            mend,
        )


def _shapes(params: Any) -> dict[str, tuple[int, ...]]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in jax.tree.leaves_with_path(params)
    }


def _history(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without those that a kill has cut short."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def _evaluated(config: Mapping[str, Any], params: Any, state: Mapping[str, Any]) -> tuple[Any, Any]:
    """The weights that are evaluated of a checkpoint, and their masks without None leaves."""
    sparse = state["sparse"]
    masks = sparse.get("masks", {})
    if not updaters.algorithm_of(config).keeps_dense_weights:
        return _masked(params, masks), masks
    # JaxPruner's own updaters are refused with these algorithms, so ours it was.
    updater = updaters.create_updater(config)
    found = sparsity.SparseState(
        masks=_with_none(params, masks),
        target_sparsities=_with_none(params, sparse.get("target_sparsities", {})),
    )
    network = jax.jit(lambda *trees: updaters.forward_network(updater, *trees))
    params, masks = jax.tree.map(np.asarray, network(params, found, state["step"]))
    return params, _without_none(masks)


def _with_none(params: Any, tree: Any) -> Any:
    """A tree of a checkpoint, which holds no None leaves, in the structure of params."""
    if not isinstance(params, Mapping):
        return tree
    return {name: _with_none(part, (tree or {}).get(name)) for name, part in params.items()}


def _without_none(tree: Any) -> Any:
    """The reverse of `_with_none`; dictionaries that become empty go as well."""
    if not isinstance(tree, Mapping):
        return tree
    parts = {name: _without_none(part) for name, part in tree.items()}
    return {name: part for name, part in parts.items() if jax.tree.leaves(part)}


def _masked(params: Any, masks: Any) -> Any:
    """Multiplies weights by their masks."""
    if not isinstance(params, Mapping):
        return params * masks
    return {
        name: _masked(part, masks[name]) if name in masks else part for name, part in params.items()
    }
