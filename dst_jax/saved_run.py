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

from dst_jax import config as config_lib
from dst_jax import data, sparsity, user_files
from dst_jax.errors import UserError
from dst_jax.models.leaf_paths import by_path
from dst_jax.runtime import checkpoint
from dst_jax.runtime.run_dir import CHECKPOINTS, read_json
from dst_jax.training import build
from dst_jax.training import step as step_lib


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
        (`step.forward_network`).
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
        return jax.tree_util.Partial(build.logits_function(self.config), variables)


def load_run(workdir: str | Path, step: int | None = None) -> Run:
    """Reads a run back from its directory.

    Args:
      workdir: the run directory, local or on any storage that Orbax reads, as gs://bucket/run.
      step: the checkpoint to read; None: the latest.

    Raises:
      UserError: a file is missing or damaged, or what a file of yours registered is not registered
        in this process; the text names it.
    """
    directory: Any = epath.Path(workdir)
    _refuse_directory_of_runs(directory)
    config = config_lib.completed(
        read_json(directory / "config.json"), str(directory / "config.json")
    )
    user_files.check(directory, user_files.training_of(config), python=True)
    user_files.warn_if_changed(directory)
    state = checkpoint.read(directory / CHECKPOINTS, step)
    model = build.model(config)
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
    where, hint = f"{workdir}/checkpoints", "Is it the checkpoint of another program or config?"
    if lacking := [name for name in ("step", "params", "sparse") if name not in state]:
        raise UserError(where, f"a checkpoint without {', '.join(lacking)}", "one of dst_jax", hint)
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
            hint,
        )


def _shapes(params: Any) -> dict[str, tuple[int, ...]]:
    return {path: tuple(leaf.shape) for path, leaf in by_path(params).items()}


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
    if not build.algorithm_of(config).keeps_dense_weights:
        return _masked(params, masks), masks
    # JaxPruner's own updaters are refused with these algorithms, so ours it was.
    updater = build.updater(config)
    found = sparsity.SparseState(
        masks=_with_none(params, masks),
        target_sparsities=_with_none(params, sparse.get("target_sparsities", {})),
    )
    network = jax.jit(lambda *trees: step_lib.forward_network(updater, *trees))
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
