"""Common corruptions (Hendrycks & Dietterich 2019) as pure JAX functions: jit, vmap, any device.

    keys = corruptions.example_keys(seed, "fog", severity, image_ids)
    images = corruptions.corrupt("fog", images, keys, severity, "cifar32")

Nothing here imports from the rest of dst_jax; anything that scores a model may use it alone.
"""

from dst_jax.corruptions.base import Corruption
from dst_jax.corruptions.constants import PRESET_SIZES, PRESETS
from dst_jax.corruptions.jpeg import jpeg85
from dst_jax.corruptions.registry import BENCHMARK, CORRUPTIONS, EXTRA, corrupt, example_keys

__all__ = [
    "BENCHMARK",
    "CORRUPTIONS",
    "EXTRA",
    "PRESETS",
    "PRESET_SIZES",
    "Corruption",
    "corrupt",
    "example_keys",
    "jpeg85",
]
