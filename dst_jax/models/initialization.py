"""Initial variables of a module, drawn on the host instead of in a compiled program.

The module is only traced for its shapes, and each leaf is drawn by NumPy from its own law. Flax's
`init` under `jax.jit`, compiled anew, took 46 times the processor's time of this for ResNet-50 (25
s) and 6.7 times for DeiT-B on 2 CPU cores: `python -m benchmarks.draws`. Called by
`dst_jax.models.init`.
"""

import zlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from dst_jax.errors import UserError
from dst_jax.models.initializers import Normal, VarianceScaling

_CONSTANTS: dict[Callable[..., Any], Callable[..., np.ndarray]] = {
    nn.initializers.zeros: np.zeros,
    nn.initializers.ones: np.ones,
}
_STATISTICS = {"mean": nn.initializers.zeros, "var": nn.initializers.ones}  # of BatchNorm


def init(module: nn.Module, seed: int, image_shape: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    """Draws all variables of a module on the host.

    A leaf depends only on the seed, its path and its shape: adding a layer changes no other layer.

    Args:
      module: a model whose layers keep the initialiser of parameter `x` in an attribute `x_init`,
        as Flax's and this package's do. Initialisers are those of `initializers`, Flax's `zeros`
        and `ones`, or any JAX initialiser (slower).
      seed: any integer; its lowest 64 bits count.
      image_shape: [H, W, C] of one image, or [T, H, W, C] of one clip.

    Returns:
      {"params": ..., "batch_stats": ...}, nested dicts of NumPy float32 arrays; `batch_stats` only
      where the module has any.

    Raises:
      UserError: if a leaf's initialiser cannot be told.
    """
    laws: dict[tuple[str, ...], Callable[..., Any]] = {}

    def note_laws(next_call, args, kwargs, context):
        for attribute in context.module.__dataclass_fields__:
            if attribute.endswith("_init"):
                law = getattr(context.module, attribute)
                laws[*context.module.path, attribute.removesuffix("_init")] = law
        return next_call(*args, **kwargs)

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with nn.intercept_methods(note_laws):
        shapes = jax.eval_shape(module.init, jax.random.key(0), images)

    leaves = {}
    for path, leaf in traverse_util.flatten_dict(shapes).items():
        collection, *inner = path
        law = laws.get(tuple(inner)) if collection == "params" else _STATISTICS.get(path[-1])
        if law is None:
            raise UserError(
                f"model: {'/'.join(path)}",
                "a leaf whose initialiser is not known",
                f"a layer that keeps it in an attribute {path[-1]}_init, as Flax's do",
            )
        leaves[path] = _draw(law, seed, "/".join(path), leaf.shape)
    return traverse_util.unflatten_dict(leaves)


def _draw(law: Callable[..., Any], seed: int, path: str, shape: tuple[int, ...]) -> np.ndarray:
    """One leaf, float32 [shape], from the stream that belongs to (seed, path)."""
    if constant := _CONSTANTS.get(law):
        return constant(shape, np.float32)
    stream = zlib.crc32(path.encode())
    if isinstance(law, VarianceScaling | Normal):
        generator = np.random.Generator(
            np.random.Philox(key=np.array([seed % 2**64, stream], np.uint64))
        )
        return law.sample(generator, shape)
    with jax.ensure_compile_time_eval():  # also where the caller is being traced
        key = jax.random.fold_in(jax.random.key(seed % 2**32), stream)
        return np.asarray(law(key, shape, jnp.float32))
