"""Weights of PyTorch networks as variables of ours, and back: names, layouts, BatchNorm.

`torch_names` says what PyTorch calls each of our layers; everything goes by our own leaves, so what
is missing, left over or of another shape is named. A state dict becomes arrays without PyTorch
being imported, and nothing is unpickled. Called by `models.load_torch`, `initial_weights` and
`export`.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from dst_jax import models
from dst_jax.errors import UserError
from dst_jax.models import safetensors_files
from dst_jax.models.torch_names import (
    MEANT,
    NETWORKS,
    RESNET_SYNONYMS,
    SYNONYMS,
    Naming,
    check_name,
)

Arrays = dict[str, np.ndarray]
EPSILON = "bn_epsilon"  # in the metadata of files that we write
_PYTORCH_EPSILON = 1e-5
_KINDS = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


# --- from PyTorch ---


def load(
    name: str, source: Any, bn_epsilon: float | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """See `models.load_torch`."""
    check_name(name, "load_torch")
    where, tensors, metadata = _opened(name, source)
    if "dist_token" in tensors:
        options = {"distilled": True, **options}
    module = models.create(name, 1, **options)
    naming = _naming(name, module, tensors)
    bias = tensors.get(f"{naming(module, 'classifier')}.bias")
    if bias is not None and bias.ndim == 1:
        module = module.clone(num_classes=len(bias))
    size = _image_size(name, module, tensors)
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), image)
    if bn_epsilon is not None:
        metadata = {**metadata, EPSILON: str(bn_epsilon)}
    flat = convert(name, module, shapes, tensors, metadata, where)
    return traverse_util.unflatten_dict(flat, sep="/")


def convert(
    name: str,
    module: Any,
    shapes: Any,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    where: str,
    fresh: Callable[[str], bool] = lambda path: False,
    mend: str = "",
) -> Arrays:
    """Our leaves, by path such as `params/conv1/kernel`, from PyTorch's tensors.

    Args:
      name: a key of `NETWORKS`.
      module: the model.
      shapes: its variables, or their shapes.
      tensors: a state dict, as `_opened` returns it.
      metadata: of its file; `bn_epsilon` is read.
      where: what names the tensors in an error.
      fresh: path of a parameter, without the collection -> whether it is left out.
      mend: what a tensor of another shape is told to do; {} is the path as a regular expression.

    Raises:
      UserError: tensors are missing, unexpected or of another shape.
    """
    naming = _naming(name, module, tensors)
    leaves = traverse_util.flatten_dict(shapes, sep="/")
    names = {path: _torch_name(module, naming, path) for path in leaves}
    wanted = [path for path in leaves if not fresh(path.partition("/")[2])]
    missing = sorted(names[path] for path in wanted if names[path] not in tensors)
    unexpected = sorted(set(tensors) - set(names.values()))
    whose = NETWORKS[name][0]
    if missing or unexpected:
        raise UserError(
            where,
            "; ".join(
                f"{what} {_listed(those)}"
                for what, those in (("no", missing), ("besides it", unexpected))
                if those
            ),
            f"the tensors of {whose}",
            MEANT.get(name, ""),
        )
    found: Arrays = {}
    for path in wanted:
        tensor, expected = tensors[names[path]], _torch_shape(leaves[path].shape, path)
        if tuple(tensor.shape) != expected:
            hints = [mend.format(re.escape(path.partition("/")[2]))]
            if "classifier" not in path:  # which says nothing about whose network it is
                hints.insert(0, MEANT.get(name, ""))
            raise UserError(
                f"{where}: {names[path]}",
                f"shape {list(tensor.shape)}",
                f"{list(expected)}, for {path}",
                ". ".join(filter(None, hints)),
            )
        found[path] = _from_torch(module, path, np.asarray(tensor, np.float32))
    ours, theirs = _epsilon(module), float(metadata.get(EPSILON, _PYTORCH_EPSILON))
    return _with_epsilon(found, theirs, ours)


def _opened(name: str, source: Any) -> tuple[str, Arrays, dict[str, str]]:
    """Where the tensors of a state dict or a file come from, they, and the file's metadata."""
    metadata: dict[str, str] = {}
    if isinstance(source, str | Path):
        where = str(source)
        source, metadata = safetensors_files.read(source)
    elif isinstance(source, Mapping):
        where = "state dict"
        # Training scripts save the weights beside other things.
        inside = [key for key in ("state_dict", "model") if isinstance(source.get(key), Mapping)]
        source = source[inside[0]] if inside else source
    else:
        expected = "a state dict, or the path of a file .safetensors"
        raise UserError("load_torch", type(source).__name__, expected)
    return where, named(name, source), metadata


def named(name: str, state: Mapping[str, Any]) -> Arrays:
    """A state dict as arrays, under the names of the tables; counts of batches are left out."""
    synonyms = SYNONYMS + (RESNET_SYNONYMS if name.startswith("resnet") else ())
    found: Arrays = {}
    for key, tensor in state.items():
        key = str(key)
        if key.endswith("num_batches_tracked"):
            continue
        for theirs, ours in synonyms:
            key = re.sub(theirs, ours, key)
        if hasattr(tensor, "detach"):  # of PyTorch; NumPy has no bfloat16 of its own
            tensor = tensor.detach().cpu().float().numpy()
        found[key] = np.asarray(tensor)
    return found


def _naming(name: str, module: Any, tensors: Mapping[str, Any]) -> Naming:
    """The naming that finds a network's first convolution among the tensors, or the first one."""
    first = {"efficientnet_b0": "stem_conv"}.get(name, "classifier")
    namings = NETWORKS[name][1]
    return next((n for n in namings if f"{n(module, first)}.weight" in tensors), namings[0])


def _image_size(name: str, module: Any, tensors: Mapping[str, np.ndarray]) -> int:
    """An image size that gives the network the leaves that the tensors have."""
    if name.startswith("deit") and (positions := tensors.get("pos_embed")) is not None:
        patches = positions.shape[1] - 1 - module.distilled if positions.ndim == 3 else 1
        return module.patch * max(1, math.isqrt(max(0, patches)))
    if name == "vgg16" and (first := tensors.get("classifier.0.weight")) is not None:
        return 32 * max(1, math.isqrt(first.shape[-1] // (8 * module.width)))
    return 32


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


# --- to PyTorch ---


def to_torch(name: str, module: Any, variables: Mapping[str, Any]) -> tuple[Arrays, dict[str, str]]:
    """The state dict of a model's variables, and what its file says besides.

    `num_batches_tracked` is not in it: `load_state_dict` sets it to 0.

    Args:
      name: a key of `NETWORKS`.
      module: the model.
      variables: {"params": ..., "batch_stats": ...}.
    """
    naming = NETWORKS[name][1][0]
    state = {
        _torch_name(module, naming, path): _to_torch(module, path, np.asarray(leaf))
        for path, leaf in traverse_util.flatten_dict(dict(variables), sep="/").items()
    }
    epsilon = _epsilon(module)
    return state, {} if epsilon is None else {EPSILON: repr(epsilon)}


# --- leaves ---


def _torch_name(module: Any, naming: Naming, path: str) -> str:
    layer, _, leaf = path.partition("/")[2].rpartition("/")
    return f"{naming(module, layer)}.{_KINDS[leaf]}" if layer else leaf


def _torch_shape(shape: tuple[int, ...], path: str) -> tuple[int, ...]:
    if path.endswith("/kernel"):
        return (*shape[:-3:-1], *shape[:-2])
    return tuple(shape)


def _from_torch(module: Any, path: str, tensor: np.ndarray) -> np.ndarray:
    """A kernel [*window, in, out] from a weight [out, in, *window]; other leaves as they are."""
    if not path.endswith("/kernel"):
        return np.array(tensor)
    if tensor.ndim == 4:
        return np.ascontiguousarray(tensor.transpose(2, 3, 1, 0))
    if channels := _flattened(module, path):
        side = math.isqrt(tensor.shape[1] // channels)
        tensor = tensor.reshape(-1, channels, side, side).transpose(0, 2, 3, 1)
        tensor = tensor.reshape(len(tensor), -1)
    return np.ascontiguousarray(tensor.T)


def _to_torch(module: Any, path: str, leaf: np.ndarray) -> np.ndarray:
    """The reverse of `_from_torch`."""
    if not path.endswith("/kernel"):
        return leaf
    if leaf.ndim == 4:
        return np.ascontiguousarray(leaf.transpose(3, 2, 0, 1))
    if channels := _flattened(module, path):
        side = math.isqrt(leaf.shape[0] // channels)
        leaf = leaf.reshape(side, side, channels, -1).transpose(2, 0, 1, 3)
        leaf = leaf.reshape(-1, leaf.shape[-1])
    return np.ascontiguousarray(leaf.T)


def _flattened(module: Any, path: str) -> int:
    """The channels of what a linear layer takes in all its positions, else 0.

    PyTorch flattens channel by channel, we position by position: the units of VGG's first linear
    layer are in another order.
    """
    is_first = path == "params/fc1/kernel" and hasattr(module, "stage_sizes")
    return module.width * 2 ** min(len(module.stage_sizes) - 1, 3) if is_first else 0


def _epsilon(module: Any) -> float | None:
    return getattr(module, "bn_epsilon", None)


def _with_epsilon(leaves: Arrays, theirs: float, ours: float | None) -> Arrays:
    """Scales of BatchNorm for another constant added to the variance: the same outputs.

    The output is scale (x - mean) / sqrt(var + epsilon) + bias. The running variance stays what it
    is, so in training, where a batch's variance is near it, the outputs are about the same too.
    """
    if ours is None or ours == theirs:
        return leaves
    changed = dict(leaves)
    for path, var in leaves.items():
        scale = path.replace("batch_stats/", "params/").removesuffix("var") + "scale"
        if path.endswith("/var") and scale in leaves:
            wide = var.astype(np.float64)
            factor = np.sqrt((wide + ours) / (wide + theirs))
            changed[scale] = (leaves[scale] * factor).astype(np.float32)
    return changed
