"""Images that are no arrays: a folder of image files, or examples with a Pillow image each.

`evaluate` takes what these give as its dataset; both are read as a stream. Called by users, and by
`dataset_text` for `folder:PATH`.
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from dst_jax.data.image_files import CROP, RESIZE, ImageFiles, as_rgb, cropped, find_images
from dst_jax.errors import UserError

_CHUNK = 64


def folder(
    path: str | os.PathLike,
    *,
    image_list: str | os.PathLike = "",
    class_names: Sequence[str] = (),
    side: int = 0,
    resize: int = 0,
) -> ImageFiles:
    """A folder of images as a dataset of `evaluate`; decoded anew for each pass if it is large.

    Args:
      path: a folder of classes, `PATH/CLASS/IMAGE`; with a list, any folder.
      image_list: a text file with a line `PATH LABEL` per image; "": the classes are the folders.
      class_names: the classes in the order of their labels; empty: the folders, sorted by name.
      side: height and width that the images get; 0: ImageNet's recipe, the shorter side to 256
        pixels and the central 224.
      resize: the shorter side before the central square is taken; 0: `side`.

    Raises:
      UserError: see `data.image_files.find_images`.
    """
    return find_images(
        path, image_list=image_list, class_names=class_names, side=side, resize=resize
    )


class PilImages:
    """What `pil_images` gives: batches of arrays, made anew each time it is iterated."""

    def __init__(self, examples: Iterable[Any], side: int, resize: int, image: str, label: str):
        self._examples, self._side, self._resize = examples, side, resize
        self._image, self._label = image, label

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        examples = iter(self._examples)
        while chunk := list(itertools.islice(examples, _CHUNK)):
            pairs = [self._pair(example) for example in chunk]
            images = [cropped(as_rgb(image), self._side, self._resize) for image, _ in pairs]
            yield {"image": np.stack(images), "label": np.array([label for _, label in pairs])}

    def _pair(self, example: Any) -> tuple[Any, Any]:
        try:
            image, label = (
                example
                if isinstance(example, tuple)
                else (
                    example[self._image],
                    example[self._label],
                )
            )
            if hasattr(image, "convert"):
                return image, label
        except (KeyError, TypeError, ValueError):
            pass
        found = list(example) if isinstance(example, dict) else type(example).__name__
        expected = (
            f"{{{self._image!r}: a Pillow image, {self._label!r}: a whole number}}, or a pair"
        )
        raise UserError("pil_images", found, expected)


def pil_images(
    examples: Iterable[Any],
    *,
    side: int = 0,
    resize: int = 0,
    image: str = "image",
    label: str = "label",
) -> PilImages:
    """Examples with a Pillow image each as a dataset of `evaluate`.

    As a dataset of Hugging Face's `datasets` yields them, or one of torchvision's without a
    transform: `{"image": image, "label": 3}`, or `(image, 3)`. Neither library is needed here.

    Args:
      examples: can be iterated again, if not all fit on the devices.
      side: see `folder`.
      resize: see `folder`.
      image: key of the image.
      label: key of the label.
    """
    if not side:
        side, resize = CROP, resize or RESIZE
    return PilImages(examples, side, resize or side, image, label)
