"""Draws the 19 common corruptions at 5 severities on one photograph: the figure of the README.

    python -m dst_jax.corruptions.gallery --out=docs/gallery.jpg [--frost_dir=DIR]

The photograph is one of the two that scikit-learn carries, at 224 pixels. Run by hand.
"""

import argparse
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dst_jax.corruptions.registry import BENCHMARK, EXTRA, corrupt, example_keys

_SIDE = 224  # of the images that are corrupted
_SHOWN = 144  # of the images in the figure
_LABEL = 148  # width of the column of names
_HEADER = 22
_GAP = 2
_BLOCKS = 2  # columns of corruptions


def photograph(name: str = "china.jpg") -> np.ndarray:
    """A photograph of scikit-learn's, cut square from the middle: [224, 224, 3] uint8."""
    from sklearn.datasets import load_sample_image

    image = load_sample_image(name)
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    square = Image.fromarray(image[top : top + side, left : left + side])
    return np.asarray(square.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))


def severities(
    name: str, image: np.ndarray, frost_dir: str | os.PathLike | None = None, seed: int = 0
) -> list[np.ndarray]:
    """The five severities of a corruption with the constants of ImageNet-C.

    Args:
      name: a common corruption.
      image: [224, 224, 3] uint8.
      frost_dir: the directory of the photographs of frost, for 'frost'.
      seed: of the random numbers.

    Returns:
      Five [224, 224, 3] uint8.
    """
    found = []
    for severity in range(1, 6):
        keys = example_keys(seed, name, severity, jnp.zeros(1, jnp.int32))
        images = jnp.asarray(image)[None]
        corrupted = corrupt(name, images, keys, severity, "imagenet224", frost_dir=frost_dir)
        found.append(np.asarray(corrupted[0]))
    return found


def draw(image: np.ndarray, frost_dir: str | os.PathLike | None = None) -> Image.Image:
    """The figure: two blocks of rows, a corruption a row, a severity a column.

    Args:
      image: [224, 224, 3] uint8.
      frost_dir: as for `severities`; without it the row of frost says what it needs.
    """
    names = (*BENCHMARK, *EXTRA)
    rows = -(-(len(names) + 1) // _BLOCKS)  # the original takes the last place
    width = _LABEL + 5 * (_SHOWN + _GAP)
    figure = Image.new("RGB", (_BLOCKS * width, _HEADER + rows * (_SHOWN + _GAP)), "white")
    pen, font = ImageDraw.Draw(figure), ImageFont.load_default(14)

    def show(picture: np.ndarray, left: int, top: int) -> None:
        small = Image.fromarray(picture).resize((_SHOWN, _SHOWN), Image.Resampling.LANCZOS)
        figure.paste(small, (left, top))

    def write(text: str, left: float, top: float, anchor: str = "lm") -> None:
        pen.text((left, top), text, "black", font, anchor)

    for block in range(_BLOCKS):
        for column in range(5):
            middle = block * width + _LABEL + column * (_SHOWN + _GAP) + _SHOWN / 2
            write(f"severity {column + 1}", middle, _HEADER / 2, "mm")
    for i, name in enumerate((*names, "original")):
        left, top = i // rows * width, _HEADER + i % rows * (_SHOWN + _GAP)
        write(name, left + 6, top + _SHOWN / 2)
        if name == "frost" and frost_dir is None:
            write("needs photographs: --frost_dir", left + _LABEL + 6, top + _SHOWN / 2)
            continue
        pictures = [image] if name == "original" else severities(name, image, frost_dir)
        for column, picture in enumerate(pictures):
            show(picture, left + _LABEL + column * (_SHOWN + _GAP), top)
    return figure


def main(arguments: list[str] | None = None) -> None:
    """Writes the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a .jpg, .png or .webp file")
    parser.add_argument("--photograph", default="china.jpg", choices=["china.jpg", "flower.jpg"])
    parser.add_argument("--frost_dir", help="directory of the photographs of frost")
    options = parser.parse_args(arguments)
    figure = draw(photograph(options.photograph), options.frost_dir)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    part = options.out.with_name(f".{os.getpid()}.{options.out.name}")
    figure.save(part, quality=80)
    os.replace(part, options.out)


if __name__ == "__main__":
    main()
