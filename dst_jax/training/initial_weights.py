"""`model.init_from`: a training that starts from the weights of another one.

They come from a file `.safetensors`, of `run.export` or of a PyTorch network, or from the directory
of a finished run. The run records their SHA-256 (`model.init_sha256`), by which a second start and
the report know them; a training that is resumed does not read them again. Also the first masks by
magnitude, which such a training may want. Called by `run_configs` and `loop`.
"""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from dst_jax import sparsity, user_files
from dst_jax.errors import UserError
from dst_jax.models import safetensors_files, torch_weights, weight_files
from dst_jax.runtime import checkpoint, run_dir
from dst_jax.training import build, ema, evaluated
from dst_jax.training.step import Recipe, TrainState

Config = Mapping[str, Any]
FIELD = "config.model.init_from"
_DIGEST = "config.model.init_sha256"
_MEND = "--config.model.init_fresh='^{}$' draws that leaf anew, '^classifier/' the classifier"


def recorded(config: Config, workdir: Path) -> str:
    """The SHA-256 of the weights that a run starts from, or was started from; "" without any.

    Where the run has begun and the weights are gone, what it recorded: it needs them no more.

    Args:
      config: the resolved config of the call.
      workdir: the run directory; it need not exist.

    Raises:
      UserError: the weights are not there, or are not those that `init_sha256` names.
    """
    name, wanted = config["model"]["init_from"], config["model"]["init_sha256"]
    if not name:
        return ""
    if (workdir / "config.json").exists() and not Path(name).exists():
        return wanted or run_dir.read_config(workdir)["model"]["init_sha256"]
    found = _digest_of(name)
    if wanted and wanted != found:
        raise UserError(_DIGEST, wanted, f"{found}, which {name} has")
    return found


def check(config: Config) -> None:
    """Checks that a new training can start from the weights that its config names.

    Raises:
      UserError: they are not there, or leaves are missing, unexpected or of another shape.
    """
    if config["model"]["init_from"]:
        _leaves(config, build.shapes(config))


def into(config: Config, variables: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Variables of a network with the weights that its config starts from.

    Args:
      config: the resolved config.
      variables: {"params": ..., "batch_stats": ...}, drawn; what `init_fresh` matches stays.

    Returns:
      The variables, and a sentence on what is from where.

    Raises:
      UserError: as `check`; or the weights are not those that the config's `init_sha256` names.
    """
    model = config["model"]
    if model["init_sha256"] and _digest_of(model["init_from"]) != model["init_sha256"]:
        found = f"other weights than when the run began (SHA-256 {model['init_sha256'][:12]})"
        raise UserError(f"{FIELD}={model['init_from']}", found, "the same")
    loaded = _leaves(config, variables)
    leaves = {**traverse_util.flatten_dict(dict(variables), sep="/"), **loaded}
    drawn = [path.partition("/")[2] for path in leaves if path not in loaded]
    text = f"weights: {len(loaded)} of {len(leaves)} leaves from {model['init_from']}"
    text += f" (SHA-256 {(model['init_sha256'] or _digest_of(model['init_from']))[:12]})"
    if drawn:
        text += "; drawn anew, as init_fresh says: " + ", ".join(drawn)
    return traverse_util.unflatten_dict(leaves, sep="/"), text


def by_magnitude(state: TrainState, params: Any, recipe: Recipe) -> TrainState:
    """Replaces the first masks: in each layer the largest weights, as many as were drawn.

    Args:
      state: the state before the first step.
      params: the dense weights.
      recipe: the run's recipe.
    """
    drawn = state.sparse.masks
    counts = sparsity.mask_trees.map_masks(
        lambda mask: None if mask is None else mask.sum(dtype=jnp.int32), drawn
    )
    masks = sparsity.mask_trees.topk_tree(sparsity.mask_trees.magnitudes(params), counts)
    sparse = state.sparse._replace(masks=masks)
    params = recipe.updater.post_gradient_update(params, sparse)
    average = ema.init(recipe.ema, params, state.batch_stats, masks)
    return dataclasses.replace(state, params=params, sparse=sparse, union=masks, ema=average)


def _leaves(config: Config, variables: Any) -> dict[str, np.ndarray]:
    """The leaves, by path, that the weights of a config give its network, whose shapes fit.

    Args:
      config: the resolved config.
      variables: of the network, or their shapes.
    """
    name, pattern = config["model"]["init_from"], config["model"]["init_fresh"]
    where = f"{FIELD}={name}"

    def fresh(path: str) -> bool:
        return bool(pattern) and re.search(pattern, path) is not None

    if Path(name).is_dir():
        params, batch_stats = _of_run(Path(name))
        found = weight_files.dense(params, batch_stats)[0]
    else:
        _check_file(Path(name))
        arrays, metadata = safetensors_files.read(name)
        if not weight_files.is_ours(arrays):
            own = config["model"]["name"]
            torch_weights.check_name(own, "config.model.name")
            tensors, module = torch_weights.named(own, arrays), build.model(config)
            return torch_weights.convert(
                own, module, variables, tensors, metadata, where, fresh, _MEND
            )
        trees = weight_files.decoded(arrays, metadata, where)
        found = weight_files.dense(trees["params"], trees["batch_stats"])[0]
    wanted = traverse_util.flatten_dict(dict(variables), sep="/")
    return _fitting(found, wanted, fresh, where)


def _fitting(found: Mapping[str, Any], wanted: Mapping[str, Any], fresh: Any, where: str) -> Any:
    """Those of `found` that the network needs, after a check that nothing else is different."""
    found = {path: leaf for path, leaf in found.items() if not fresh(path.partition("/")[2])}
    own = {path: leaf for path, leaf in wanted.items() if not fresh(path.partition("/")[2])}
    parts = (("no", own.keys() - found.keys()), ("besides it", found.keys() - own.keys()))
    if any(paths for _, paths in parts):
        text = "; ".join(f"{what} {_listed(paths)}" for what, paths in parts if paths)
        raise UserError(where, text, "the leaves of the network of config.model")
    for path, leaf in found.items():
        if leaf.shape != own[path].shape:
            short = path.partition("/")[2]
            shapes = f"shape {list(leaf.shape)}", f"{list(own[path].shape)}, as config.model has it"
            raise UserError(f"{where}: {short}", *shapes, _MEND.format(re.escape(short)))
    return found


def _listed(paths: Iterable[str]) -> str:
    names = sorted(path.partition("/")[2] for path in paths)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _check_file(path: Path) -> None:
    if not path.is_file():
        expected = "a file .safetensors, or the directory of a finished run"
        raise UserError(f"{FIELD}={path}", "nothing there", expected)
    safetensors_files.check_name(path, FIELD)


def _of_run(directory: Path) -> tuple[Any, Any]:
    """Weights and statistics that are evaluated of a finished run."""
    config = run_dir.read_config(directory)
    user_files.check(directory, user_files.training_of(config))
    state = checkpoint.read(directory / run_dir.CHECKPOINTS)
    step, total = int(state["step"]), config["train"]["steps"]
    if step != total:
        found = f"a training at step {step} of {total}"
        hint = "Finish it with --mode=train, or export the checkpoint: dst-jax export"
        raise UserError(f"{FIELD}={directory}", found, "a finished training", hint)
    return evaluated.network(config, state)[:2]


def _digest_of(name: str) -> str:
    """SHA-256 of a file, or of the arrays of a run, as `weights` in its model.json."""
    path = Path(name)
    if path.is_dir():
        steps = run_dir.checkpoint_steps(path)
        return _digest_of_run(path, (steps or [0])[-1])
    _check_file(path)
    stamp = path.stat()
    return _digest_of_file(path, stamp.st_mtime_ns, stamp.st_size)


# A sweep asks for each of its runs.
@functools.lru_cache(maxsize=8)
def _digest_of_file(path: Path, changed: int, size: int) -> str:
    del changed, size
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=8)
def _digest_of_run(directory: Path, step: int) -> str:
    del step
    params, batch_stats = _of_run(directory)
    content = hashlib.sha256()
    for leaf in jax.tree.leaves({"params": params, "batch_stats": batch_stats}):
        leaf = np.asarray(leaf)
        content.update(f"{leaf.dtype}{leaf.shape}".encode())
        content.update(np.ascontiguousarray(leaf).tobytes())
    return content.hexdigest()
