"""The datasets: what each is called in TFDS, its shape, normalisation and splits.

A dataset is one entry of `DATASETS`; the tests loop over it. Reading is elsewhere in this package
(`arrays`, `resident`, `stream`, `evaluation`); here is nothing but facts.
"""

import dataclasses
from collections.abc import Mapping

from dst_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class CorruptedSet:
    """A TFDS dataset with one config a corruption and severity, such as `fog_3`.

    Attributes:
      tfds_name: name in TFDS.
      split: its only split.
      synonyms: TFDS's name of a corruption -> the name in `dst_jax.corruptions`, where they differ.
    """

    tfds_name: str
    split: str
    synonyms: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Facts about one dataset.

    Attributes:
      name: name here and in TFDS.
      num_classes: number of labels, 0 .. num_classes - 1.
      image_shape: [height, width, channels] of what a pipeline yields.
      mean: mean of each channel of the training images, in units of [0, 1].
      std: standard deviation of each channel, in the same units.
      train_split: TFDS split to train on.
      test_split: TFDS split to report on; never used to choose anything.
      preset: preset of `dst_jax.corruptions` that fits the image size.
      augment: the usual augmentation of the training images, one of `AUGMENTATIONS`.
      resident: whether all decoded images fit on a device; otherwise they are streamed. Only then
        do all stored images have `image_shape`.
      corrupted: the published corrupted test set that TFDS reads, or None.
    """

    name: str
    num_classes: int
    image_shape: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    train_split: str
    test_split: str
    preset: str
    augment: str
    resident: bool
    corrupted: CorruptedSet | None = None


DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        # 1,797 handwritten digits that scikit-learn carries; statistics of our own training split.
        Dataset(
            name="digits",
            num_classes=10,
            image_shape=(32, 32, 3),
            mean=(0.3059, 0.3059, 0.3059),
            std=(0.3237, 0.3237, 0.3237),
            train_split="train",
            test_split="test",
            preset="cifar32",
            augment="crop",  # a mirrored 2 is no 2
            resident=True,
        ),
        # Statistics over all pixels of the 50,000 training images.
        Dataset(
            name="cifar10",
            num_classes=10,
            image_shape=(32, 32, 3),
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
            train_split="train",
            test_split="test",
            preset="cifar32",
            augment="crop_flip",
            resident=True,
            corrupted=CorruptedSet(
                "cifar10_corrupted",
                "test",
                {"elastic": "elastic_transform", "frosted_glass_blur": "glass_blur"},
            ),
        ),
        # The statistics that torchvision's reference training uses.
        Dataset(
            name="imagenet2012",
            num_classes=1000,
            image_shape=(224, 224, 3),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            train_split="train",
            test_split="validation",
            preset="imagenet224",
            augment="resized_crop_flip",
            resident=False,
            corrupted=CorruptedSet("imagenet2012_corrupted", "validation"),
        ),
    )
}


def get(name: str) -> Dataset:
    """The dataset of that name.

    Raises:
      UserError: there is none; the text lists those that there are.
    """
    if name not in DATASETS:
        raise UserError("config.data.name", name, f"one of {', '.join(sorted(DATASETS))}")
    return DATASETS[name]
