"""How many values of the common corruptions are a grey level off, over many photographs.

    python -m benchmarks.exactness --data_dir=TFDS --frost_dir=DIR [--sizes 32 64 224] \
        [--images 500 200 100] [--only NAME ...] [--out FILE]

Renders test images of CIFAR-10 (32 pixels) and ImageNet (224; shrunk to 64) with our float32 and
with `common_numpy`'s float64 on equal draws, at every severity, and prints for each corruption and
size the largest difference, the share of values that differ in the worst image, and that over all.
`common_numpy` gives the recorded outputs of the published scripts (`tests/corruptions`), so OpenCV
5 and scikit-image must be installed. glass_blur, a loop over pixels there, is compared on a tenth
of the images.
"""

import argparse
import functools
import importlib.metadata
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from benchmarks import common_numpy, given_draws, timing
from dst_jax import corruptions, data
from dst_jax.corruptions.base import to_uint8
from dst_jax.corruptions.constants import ROWS
from dst_jax.corruptions.weather import FROST_FILES

PRESETS = {32: "cifar32", 64: "tiny64", 224: "imagenet224"}
BATCH = 10


def photographs(size: int, number: int, data_dir: str) -> np.ndarray:
    """Test images uint8 [number, size, size, 3], the first of the split."""
    name = "cifar10" if size == 32 else "imagenet2012"
    batches = data.stream_eval_batches(data.get(name), data_dir, 50, limit=number)
    images = np.concatenate([batch["image"][batch["weight"] > 0] for batch in batches])
    if size == 64:
        shrunk = [Image.fromarray(image).resize((64, 64)) for image in images]
        images = np.stack([np.asarray(image) for image in shrunk])
    return images


@functools.cache
def programs(name: str, size: int, frost_dir: str) -> tuple[Any, Any]:
    """(keys, severity) -> draws, and (images, draws, severity) -> uint8 images; both of batches."""
    corruption, rows = corruptions.CORRUPTIONS[name], ROWS[name][PRESETS[size]]
    known = {"frost_dir": frost_dir, "coords": "exact"}
    options = {option: known[option] for option in corruption.options}
    shape = (size, size)

    def draw(keys: jax.Array, severity: jax.Array) -> Any:
        constants = corruption.constants(rows, shape, severity, **options)
        return jax.vmap(lambda key: corruption.draw(key, shape, constants))(keys)

    def apply(images: jax.Array, draws: Any, severity: jax.Array) -> jax.Array:
        constants = corruption.constants(rows, shape, severity, **options)
        found = jax.vmap(lambda image, own: corruption.apply(image, own, constants))(images, draws)
        return to_uint8(found, "truncate")

    return jax.jit(draw), jax.jit(apply)


def shares(name: str, images: np.ndarray, frost_dir: str) -> Iterator[tuple[int, float]]:
    """Of each image and severity: the largest difference, the share of values that differ."""
    size = images.shape[1]
    draw, apply = programs(name, size, frost_dir)
    for severity in range(1, 6):
        row = ROWS[name][PRESETS[size]][severity - 1]
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            ids = jnp.arange(start, start + len(batch))
            keys = corruptions.example_keys(0, name, severity, ids)
            draws = draw(keys, jnp.int32(severity))
            found = np.asarray(apply(jnp.asarray(batch), draws, jnp.int32(severity)))
            host = jax.device_get(draws)
            for i, image in enumerate(batch):
                own = {key: np.asarray(value)[i] for key, value in host.items()}
                expected = given_draws.reference(name, image, row, own)
                difference = np.abs(found[i].astype(int) - expected.astype(int))
                yield int(difference.max()), float((difference > 0).mean())


def line(name: str, size: int, images: np.ndarray, frost_dir: str) -> str:
    """One line of the table."""
    images = images[: max(1, len(images) // 10)] if name == "glass_blur" else images
    found = list(shares(name, images, frost_dir))
    largest, every = max(d for d, _ in found), np.array([share for _, share in found])
    figures = f"{largest} | {every.max():.2g} | {every.mean():.2g}"
    return f"| `{name}` | {size} | {len(images)} | {figures} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True, help="directory of TFDS")
    parser.add_argument("--frost_dir", required=True, help="directory of the photographs of frost")
    parser.add_argument("--sizes", nargs="+", type=int, default=list(PRESETS), choices=PRESETS)
    parser.add_argument("--images", nargs="+", type=int, default=[500, 200, 100], help="per size")
    parser.add_argument("--only", nargs="+", default=list(common_numpy.FUNCTIONS))
    parser.add_argument("--out", type=Path, help="write the table to this file as well")
    options = parser.parse_args()
    if common_numpy.cv2 is None or "skimage" not in common_numpy.rgb2hsv.__module__:
        parser.error("needs OpenCV 5 and scikit-image: without them it is another reference")
    for name in FROST_FILES:
        picture = Image.open(Path(options.frost_dir) / name).convert("RGB")
        common_numpy.FROST_BANK.append(np.asarray(picture))

    rows = ["| corruption | px | images | largest | worst share | mean share |", "|---" * 6 + "|"]
    print("\n".join(rows), flush=True)
    start = time.monotonic()
    for size, number in zip(options.sizes, options.images, strict=True):
        images = photographs(size, number, options.data_dir)
        for name in options.only:
            rows.append(line(name, size, images, options.frost_dir))
            print(rows[-1], flush=True)
    found = timing.circumstances()
    packages = {
        package: importlib.metadata.version(package)
        for package in ("opencv-python-headless", "scikit-image", "scipy", "Pillow")
    }
    versions = ", ".join(f"{k} {v}" for k, v in {**found["versions"], **packages}.items())
    rows += [
        "",
        "Five severities of each image. largest: difference in grey levels; shares: of values that"
        " differ, in the worst image and severity, and over all.",
        "",
        f"{found['hardware']}, {found['processor']}; {found['date']}; {versions};"
        f" {time.monotonic() - start:.0f} s on a shared machine;"
        f" `{' '.join(['python -m benchmarks.exactness', *sys.argv[1:]])}`",
        "",
    ]
    print("\n".join(rows[-5:]))
    if options.out:
        options.out.write_text("\n".join(rows))


if __name__ == "__main__":
    main()
