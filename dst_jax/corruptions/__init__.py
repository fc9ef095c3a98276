"""Corruptions of images as pure JAX functions: jit, vmap, any device.

Common corruptions (Hendrycks & Dietterich 2019), C-bar (Mintun et al. 2021), the depth-free ones of
3DCC (Kar et al. 2022): `SUITES` names them. Of video (Schiappa et al. 2023): `corruptions.video`.

    keys = corruptions.example_keys(seed, "fog", severity, image_ids)
    images = corruptions.corrupt("fog", images, keys, severity, "cifar32")

Nothing here imports from the rest of dst_jax; anything that scores a model may use it alone.
"""

from dst_jax.corruptions.base import Corruption, columns, no_draw
from dst_jax.corruptions.constants import PRESET_SIZES, PRESETS
from dst_jax.corruptions.jpeg import jpeg85, saved_as_jpeg
from dst_jax.corruptions.registry import (
    BENCHMARK,
    CORRUPTIONS,
    EXTRA,
    REVISED,
    SUITES,
    corrupt,
    example_keys,
    register_corruption,
)

__all__ = [
    "BENCHMARK",
    "CORRUPTIONS",
    "EXTRA",
    "PRESETS",
    "PRESET_SIZES",
    "REVISED",
    "SUITES",
    "Corruption",
    "columns",
    "corrupt",
    "example_keys",
    "jpeg85",
    "no_draw",
    "register_corruption",
    "saved_as_jpeg",
]
