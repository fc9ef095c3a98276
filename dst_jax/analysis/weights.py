"""What the weights and masks of a run say, as the arrays of `analysis/weights.npz`.

Gathers `spatial`, `dead_units`, and the spectrum of the first layer from `spectral` over all layers
of a run. Called by `measurements`.
"""

import math
from typing import Any

import numpy as np

from dst_jax.analysis import dead_units, flops, spatial, spectral
from dst_jax.errors import UserError
from dst_jax.models.leaf_paths import by_path
from dst_jax.saved_run import Run

_LIMIT = 1024  # channels along an axis of the kernel map that is kept


def _by_path(tree: Any) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in by_path(tree).items()}


def layer_to_map(kernels: dict[str, np.ndarray], wanted: str = "") -> str:
    """The layer whose kernels are drawn: the one asked for, else the last of more than one pixel.

    Args:
      kernels: path -> [..., in, out], in the order of the network.
      wanted: a path, with or without "/kernel".

    Raises:
      UserError: there is no layer of that name.
    """
    for name in (wanted, f"{wanted}/kernel"):
        if name in kernels:
            return name
    if wanted:
        raise UserError("config.analysis.layer", wanted, "one of " + ", ".join(kernels))
    wide = [path for path, kernel in kernels.items() if math.prod(kernel.shape[:-2]) > 1]
    if len(wide) > 1:
        return wide[-1]
    return max(kernels, key=lambda path: kernels[path].size)


def describe_weights(run: Run, image_shape: tuple[int, int, int], wanted: str) -> dict[str, Any]:
    """The arrays of the part `weights`.

    Args:
      run: the run.
      image_shape: height, width and channels.
      wanted: the layer to map; "": see `layer_to_map`.

    Returns:
      One entry per layer, in their order: `layers` (paths), `size`, `active`, `explored`
      (weights active so far), `outputs`, `dead_outputs`, `dead_inputs`, `path_dead` (outputs on no
      path; -1 where that is not known), `effective` (weights on a path; -1 likewise),
      `stripes_out`, `stripes_in` (NaN where meaningless). Of one layer: `mapped` (its path),
      `taps`, `nonzero`, `magnitude` [out, in], `fan_in`, `fan_out`. Of the first layer: `first`,
      `frequency`, `power`.
    """
    masks, union, params = map(_by_path, (run.masks, run.union, run.params))
    order = dict.fromkeys(cost.path for cost in flops.layer_costs(run.model, image_shape))
    # What multiplies without weights of its own, as attention does, has a cost but no kernel.
    kernels = {path: params[path] for path in order if path in params and params[path].ndim > 1}
    full = {path: masks.get(path, np.ones(k.shape, np.uint8)) for path, k in kernels.items()}
    paths = dead_units.path_dead(run.model, masks, run.params, image_shape) or {}
    stripes = [spatial.stripe_scores(mask) for mask in full.values()]
    dead = [spatial.dead_channels(mask) for mask in full.values()]
    mapped = layer_to_map(kernels, wanted)
    chosen = spatial.kernel_map(kernels[mapped], full[mapped])
    fan_in, fan_out = spatial.fans(full[mapped])
    first = next(iter(kernels))
    frequency, power = spectral.kernel_spectrum(_as_image_kernel(kernels[first], image_shape))
    return {
        "layers": np.array(list(kernels)),
        "maskable": np.array([path in masks for path in kernels]),
        "size": np.array([kernel.size for kernel in kernels.values()]),
        "active": np.array([mask.sum(dtype=np.int64) for mask in full.values()]),
        "explored": np.array([union.get(path, full[path]).sum(dtype=np.int64) for path in kernels]),
        "outputs": np.array([kernel.shape[-1] for kernel in kernels.values()]),
        "dead_outputs": np.array([outputs for outputs, _ in dead]),
        "dead_inputs": np.array([inputs for _, inputs in dead]),
        "path_dead": np.array([int(paths[p].outputs.sum()) if p in paths else -1 for p in kernels]),
        "effective": np.array([paths[p].effective if p in paths else -1 for p in kernels]),
        "stripes_out": np.array([score[0] for score in stripes], float),
        "stripes_in": np.array([score[1] for score in stripes], float),
        "mapped": np.array(mapped),
        "taps": np.array(math.prod(kernels[mapped].shape[:-2])),
        "nonzero": chosen.nonzero[:_LIMIT, :_LIMIT].astype(np.int32),
        "magnitude": chosen.magnitude[:_LIMIT, :_LIMIT].astype(np.float32),
        "fan_in": fan_in,
        "fan_out": fan_out,
        "first": np.array(first),
        "frequency": frequency,
        "power": power,
    }


def _as_image_kernel(kernel: np.ndarray, image_shape: tuple[int, int, int]) -> np.ndarray:
    """The first layer as [kh, kw, C, D]: that of a network of dense layers sees the whole image."""
    if kernel.ndim == 2 and kernel.shape[0] == math.prod(image_shape):
        return kernel.reshape(*image_shape, -1)
    return kernel if kernel.ndim == 4 else kernel.reshape(1, 1, *kernel.shape[-2:])
