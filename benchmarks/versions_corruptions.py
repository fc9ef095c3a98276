"""What `benchmarks.versions` records of corruptions: real images through each, at every severity.

The images are the two photographs that scikit-learn carries, averaged over blocks of whole numbers
of pixels in integers. Yields (name, uint8 [severity, image, H, W, 3]).
"""

import os
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax import corruptions
from dst_jax.corruptions import video
from dst_jax.corruptions.constants import ROWS

Recorded = Iterator[tuple[str, np.ndarray]]
_PRESETS = {32: "cifar32", 64: "tiny64", 224: "imagenet224"}
# At 64 and 224 pixels: one of each way to compute that is not pointwise alone.
LARGER = (
    *("gaussian_noise", "glass_blur", "motion_blur", "snow", "fog", "elastic_transform"),
    *("jpeg_compression", "spatter", "saturate", "plasma_noise"),
)


def photographs(size: int) -> np.ndarray:
    """Eight images uint8 [8, size, size, 3]: four corners of each photograph, shrunk."""
    from sklearn import datasets

    block = max(1, 384 // size)
    side = block * size
    images = []
    for photograph in datasets.load_sample_images().images:
        height, width, _ = photograph.shape
        for top in (0, height - side):
            for left in (0, width - side):
                part = photograph[top : top + side, left : left + side].astype(np.uint32)
                blocks = part.reshape(size, block, size, block, 3).sum(axis=(1, 3))
                images.append((blocks // block**2).astype(np.uint8))
    return np.stack(images)


def _maps(size: int) -> np.ndarray:
    """Depths in [0, 1], exact in float32: a ramp from the top to the bottom."""
    ramp = np.broadcast_to(np.arange(size, dtype=np.float32)[:, None] / 256, (size, size))
    return np.stack([ramp] * 8)


def images(sizes: Sequence[int], frost_dir: str | None) -> Recorded:
    """Every corruption at 32 pixels, those of `LARGER` at the other sizes."""
    for size in sizes:
        originals = jnp.asarray(photographs(size))
        yield f"photographs/{size}", np.asarray(originals)
        for name, corruption in corruptions.CORRUPTIONS.items():
            lacks = name == "frost" and (frost_dir is None or not os.path.isdir(frost_dir))
            if lacks or (size != 32 and name not in LARGER):
                continue
            preset = _PRESETS[size] if _PRESETS[size] in ROWS[name] else next(iter(ROWS[name]))
            maps = jnp.asarray(_maps(size)) if corruption.needs_map else None
            outputs = []
            for severity in range(1, 6):
                keys = corruptions.example_keys(11, name, severity, jnp.arange(8))
                outputs.append(
                    corruptions.corrupt(
                        name, originals, keys, severity, preset, frost_dir=frost_dir, maps=maps
                    )
                )
            yield f"corruptions_{size}/{name}", np.stack(outputs)


def clips() -> Recorded:
    """Every perturbation of video, on a clip of eight frames of a moving crop, 32 pixels."""
    wide = photographs(64)[0]
    frames = jnp.asarray(np.stack([wide[2 * t : 2 * t + 32, 3 * t : 3 * t + 32] for t in range(8)]))
    for name in video.PERTURBATIONS:
        outputs = [
            video.perturb(name, frames, jax.random.key(11), severity) for severity in range(1, 6)
        ]
        yield f"video/{name}", np.stack(outputs)
