"""What a corruption is made of: the dataclass, the choice by severity and the cast to uint8.

No corruption lives here. Every module of corruptions builds `Corruption` objects from this file;
`registry.py` collects and runs them.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.corruptions.constants import Rows

Cast = Literal["truncate", "round"]
Constants = Mapping[str, Any]
Draws = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Corruption:
    """One corruption of one image: a random draw and a deterministic function of it.

    `constants` chooses what a severity needs (numbers, kernels, indices); `draw` makes everything
    random; `apply` is deterministic, so that it can be tested with the draws of another
    implementation.

    Attributes:
      name: its name in `CORRUPTIONS`.
      group: 'noise', 'blur', 'weather' or 'digital': the 15 of the benchmark; 'extra': its 4
        validation corruptions; 'bar': ImageNet-C-bar and CIFAR-10-C-bar; '3d': 3D Common
        Corruptions; 'procedural': ours, in no benchmark; 'own': one that a user registered.
      constants: `(rows, shape [H, W], severity, **options)` -> dict. `rows` are the five published
        rows of a preset; `severity` may be traced.
      draw: (key, shape [H, W], constants) -> dict of arrays.
      apply: (image [H, W, 3] uint8, draws, constants) -> [H, W, 3] float32 in [0, 255].
      options: the names of the keyword arguments that `constants` takes from the caller.
      needs_map: whether `apply` finds in its draws a "map" that the caller gives: one number per
        pixel, [H, W] float32, such as a depth.
    """

    name: str
    group: Literal["noise", "blur", "weather", "digital", "extra", "bar", "3d", "procedural", "own"]
    constants: Callable[..., dict[str, Any]]
    apply: Callable[[jax.Array, Draws, Constants], jax.Array]
    draw: Callable[[jax.Array, tuple[int, int], Constants], dict[str, jax.Array]]
    options: tuple[str, ...] = ()
    needs_map: bool = False


def no_draw(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict[str, jax.Array]:
    """The draw of a deterministic corruption."""
    del key, shape, constants
    return {}


def by_severity(rows: Sequence[Any] | np.ndarray, severity: jax.Array | int) -> jax.Array:
    """Chooses the entry of a severity from five equally shaped ones: float32 or int32.

    All five become one array, so that a traced severity serves them all with one program.
    """
    table = np.stack([np.asarray(row) for row in rows])
    is_float = np.issubdtype(table.dtype, np.floating)
    table = table.astype(np.float32 if is_float else np.int32)
    return jnp.asarray(table)[severity - 1]


def look_up(table: jax.Array, index: jax.Array) -> jax.Array:
    """Entries [.., *rest] of a table [N, *rest] at [..] positions that are known to lie in 0..N-1.

    Plain indexing would count negative positions from the end and guard against others, which takes
    up to twice the time.
    """
    return table.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def columns(*names: str) -> Callable[..., dict[str, Any]]:
    """Makes the `constants` function of a corruption whose rows are plain numbers with names."""

    def constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
        del shape
        table = np.asarray(rows, np.float64).reshape(5, len(names))
        return {name: by_severity(table[:, i], severity) for i, name in enumerate(names)}

    return constants


def to_uint8(image: jax.Array, cast: Cast) -> jax.Array:
    """Clips [..] float to [0, 255] and casts it to uint8: the only cast of an output.

    Args:
      image: [..] float32, grey levels.
      cast: 'truncate' as ImageNet-C, CIFAR-C and Tiny-ImageNet-C were written; 'round' (half to
        even) as TensorFlow Datasets builds them.

    Raises:
      ValueError: if `cast` is neither.
    """
    if cast not in ("truncate", "round"):
        raise ValueError(f"cast must be 'truncate' or 'round', not {cast!r}")
    image = jnp.clip(image, 0.0, 255.0)
    return (jnp.round(image) if cast == "round" else image).astype(jnp.uint8)
