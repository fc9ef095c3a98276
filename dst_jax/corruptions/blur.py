"""Blurs: Gaussian blur.

Called through the registry only.
"""

from typing import Any

import jax
import jax.numpy as jnp

from dst_jax.corruptions.base import Constants, Corruption, Draws, by_severity, no_draw
from dst_jax.corruptions.constants import Rows
from dst_jax.corruptions.filters import filter_image, gaussian_matrix


def _gaussian_matrices(sigmas: Any, shape: tuple[int, int], severity: Any) -> dict[str, jax.Array]:
    """The matrices of a Gaussian filter whose border repeats the edge, cut at 4 deviations."""
    return {
        axis: by_severity([gaussian_matrix(size, s, "edge", 4.0) for s in sigmas], severity)
        for axis, size in zip(("rows", "cols"), shape, strict=True)
    }


def _gaussian_blur(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    del draws
    return filter_image(image.astype(jnp.float32), constants["rows"], constants["cols"])


def _gaussian_blur_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    return _gaussian_matrices(rows, shape, severity)


GAUSSIAN_BLUR = Corruption(
    "gaussian_blur", "extra", _gaussian_blur_constants, _gaussian_blur, no_draw
)
