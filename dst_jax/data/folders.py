"""A dataset from a folder of image files, one folder per class: FOLDER/SPLIT/CLASS/IMAGE.

All images are decoded at the start of a process and kept in memory, so this is for sets of some
thousand images; larger ones belong in TFDS. Called by a card that registers a dataset.
"""

import functools
import os
from pathlib import Path

import numpy as np
from PIL import Image

from dst_jax.data.datasets import Dataset
from dst_jax.data.image_files import ENDINGS, opened
from dst_jax.errors import UserError

# Side of the images, at most -> the preset of `dst_jax.corruptions` whose constants fit them.
_PRESETS = {48: "cifar32", 144: "tiny64", 260: "imagenet224"}
# Over ImageNet's training images, as torchvision has them.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def image_folder(
    name: str,
    folder: str | os.PathLike,
    side: int,
    *,
    train: str = "train",
    test: str = "test",
    mean: tuple[float, float, float] = _MEAN,
    std: tuple[float, float, float] = _STD,
    augment: str = "crop_flip",
) -> Dataset:
    """The dataset of a folder of images, `FOLDER/SPLIT/CLASS/IMAGE`, for `register_dataset`.

    Classes are numbered in the order of their names, images in that of their paths. An image whose
    shorter side is not `side` pixels is resized to that (bilinear, antialiased), then the central
    square is taken. Grey images, 16 bits and transparency: see `image_files.as_rgb`.

    Args:
      name: of the dataset.
      folder: the folder.
      side: height and width in pixels that the images get.
      train: the folder of the training images in `folder`.
      test: the folder of the test images, with the same classes or some of them.
      mean: mean of each channel of the training images, in units of [0, 1]; by default ImageNet's.
      std: standard deviation of each channel, in the same units.
      augment: the usual augmentation of the training images.

    Raises:
      UserError: a split or its classes are not there.
    """
    root = Path(folder).expanduser().absolute()
    classes = _folders(root / train)
    for other in _folders(root / test):
        if other not in classes:
            raise UserError(
                str(root / test / other), "a class without training images", ", ".join(classes)
            )
    return Dataset(
        name=name,
        num_classes=len(classes),
        image_shape=(side, side, 3),
        mean=mean,
        std=std,
        num_train=len(_files(root / train, classes)),
        train_split=train,
        test_split=test,
        preset=next((preset for top, preset in _PRESETS.items() if side <= top), "inception299"),
        augment=augment,
        class_names=tuple(classes),
        read=functools.partial(_read, root, tuple(classes), side),
    )


def _folders(split: Path) -> list[str]:
    found = sorted(path.name for path in split.glob("*") if path.is_dir())
    if not found:
        raise UserError(str(split), "no folder of a class", "SPLIT/CLASS/IMAGE, as train/cat/1.png")
    return found


def _files(split: Path, classes: list[str] | tuple[str, ...]) -> list[tuple[Path, int]]:
    """(path, label) of all images of a split."""
    return [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((split / name).rglob("*"))
        if path.suffix.lower() in ENDINGS
    ]


def _read(
    root: Path, classes: tuple[str, ...], side: int, split: str
) -> tuple[np.ndarray, np.ndarray]:
    found = _files(root / split, classes)
    images = np.empty((len(found), side, side, 3), np.uint8)
    for image, (path, _) in zip(images, found, strict=True):
        image[:] = _decode(path, side)
    return images, np.array([label for _, label in found], np.int32)


def _decode(path: Path, side: int) -> np.ndarray:
    image = opened(path)
    width, height = image.size
    shorter = min(width, height)
    if shorter != side:
        size = (round(width * side / shorter), round(height * side / shorter))
        image = image.resize(size, Image.Resampling.BILINEAR)
        width, height = image.size
    left, top = (width - side) // 2, (height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))
