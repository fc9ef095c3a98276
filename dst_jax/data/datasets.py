"""The datasets: what each is called in TFDS, its shape, normalisation and splits.

A dataset is one entry of `DATASETS`, over which the tests loop, or is added by `register_dataset`.
Reading is elsewhere in this package (`arrays`, `resident`, `stream`, `evaluation`), preparing in
`builders`; here is nothing but facts.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from dst_jax import registration
from dst_jax.data import benchmarks
from dst_jax.data.benchmarks import C_BAR, COMMON, TEST_IMAGES, THREE_D_FILES
from dst_jax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

VIDEO = "video"  # the preset of clips: perturbations of `dst_jax.corruptions.video`

# The datasets that TFDS lacks: `python -m dst_jax.data.prepare` prepares them.
NOT_IN_TFDS = frozenset(
    {
        "cifar100_corrupted",
        "tiny_imagenet",
        "tiny_imagenet_corrupted",
        "imagenet_c",
        "imagenet_c_bar",
        "imagenet_3dcc",
    }
)


@dataclasses.dataclass(frozen=True)
class CorruptedSet:
    """A TFDS dataset with one config per corruption and severity, such as `fog_3`.

    Attributes:
      tfds_name: name in TFDS, or of a builder of ours in the same layout.
      split: its only split.
      corruptions: all that it has, in our names; each at severities 1 to 5.
      synonyms: TFDS's name of a corruption -> the name in `dst_jax.corruptions`, where they differ.
      own_images: whether it was made from other images than those of the clean test set.
    """

    tfds_name: str
    split: str
    corruptions: tuple[str, ...] = COMMON
    synonyms: Mapping[str, str] = dataclasses.field(default_factory=dict)
    own_images: bool = False

    def config(self, corruption: str, severity: int) -> str:
        """TFDS's name of the config of a condition."""
        theirs = {ours: name for name, ours in self.synonyms.items()}
        return f"{theirs.get(corruption, corruption)}_{severity}"


@dataclasses.dataclass(frozen=True)
class Clip:
    """How a video becomes a clip; the rule is in `tf_clips`.

    Attributes:
      frames: T, frames of a clip, at least 2.
      stride: frames of the video from one frame of the clip to the next, about.
      side: height and width of the stored frames in pixels. Perturbations are rendered at this
        size, and networks see the central part of it that is as large as `image_shape`.
    """

    frames: int
    stride: int
    side: int


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Facts about one dataset.

    Attributes:
      name: name here, and in TFDS unless `tfds_name` is given.
      num_classes: number of labels, 0 .. num_classes - 1.
      image_shape: [height, width, channels] of what a pipeline yields; of clips of videos [frames,
        height, width, channels].
      mean: mean of each channel of the training images, in units of [0, 1].
      std: standard deviation of each channel, in the same units.
      num_train: training images as published; what is trained on is counted in the data.
      train_split: TFDS split to train on.
      test_split: TFDS split to report on; never used to choose anything.
      preset: preset of `dst_jax.corruptions` that fits the image size; `VIDEO` for clips.
      augment: the usual augmentation of the training images, one of `AUGMENTATIONS`.
      resident: whether all decoded images fit on a device; otherwise they are streamed. Only then
        do all stored images have `image_shape`.
      corrupted_sets: its corrupted test sets: the published files first, in the order in which
        `eval.source=auto` looks for them, then what TFDS renders.
      tfds_name: name in TFDS with its config, `name/config`; empty: `name`.
      clip: how videos become clips; None: images.
      class_names: of the labels, in their order, where they are known. A run remembers them, and is
        not scored or resumed with others.
      read: split -> (images uint8 [N, H, W, 3], labels int [N]), of a dataset that a user registers
        and that is in no TFDS directory; None: it is. Called once per split and process.
    """

    name: str
    num_classes: int
    image_shape: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    num_train: int
    train_split: str = "train"
    test_split: str = "test"
    preset: str = "cifar32"
    augment: str = "none"
    resident: bool = True
    corrupted_sets: tuple[CorruptedSet, ...] = ()
    tfds_name: str = ""
    clip: Clip | None = None
    class_names: tuple[str, ...] = ()
    read: "Callable[[str], tuple[np.ndarray, np.ndarray]] | None" = dataclasses.field(
        default=None, compare=False, repr=False
    )

    @property
    def published(self) -> tuple[CorruptedSet, ...]:
        """Its corrupted sets that are the published files: not what TFDS renders itself."""
        return tuple(c for c in self.corrupted_sets if c.tfds_name != "imagenet2012_corrupted")

    @property
    def num_test(self) -> int:
        """Test images as published; 0: not known."""
        return TEST_IMAGES.get(self.name, 0)


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
            num_train=1437,
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
            num_train=50_000,
            train_split="train",
            test_split="test",
            preset="cifar32",
            augment="crop_flip",
            resident=True,
            corrupted_sets=(
                CorruptedSet(
                    "cifar10_corrupted",
                    "test",
                    synonyms={"elastic": "elastic_transform", "frosted_glass_blur": "glass_blur"},
                ),
            ),
        ),
        # Statistics over all pixels of the 50,000 training images.
        Dataset(
            name="cifar100",
            num_classes=100,
            image_shape=(32, 32, 3),
            mean=(0.5071, 0.4865, 0.4409),
            std=(0.2673, 0.2564, 0.2762),
            num_train=50_000,
            train_split="train",
            test_split="test",
            preset="cifar32",
            augment="crop_flip",
            resident=True,
            corrupted_sets=(CorruptedSet("cifar100_corrupted", "test"),),
        ),
        # Statistics over all pixels of the 100,000 training images, at each size.
        Dataset(
            name="tiny_imagenet",
            num_classes=200,
            image_shape=(64, 64, 3),
            mean=(0.4802, 0.4481, 0.3975),
            std=(0.2770, 0.2691, 0.2821),
            num_train=100_000,
            train_split="train",
            test_split="validation",
            preset="tiny64",
            augment="crop_flip",
            resident=True,
            corrupted_sets=(
                CorruptedSet("tiny_imagenet_corrupted", "validation", own_images=True),
            ),
            tfds_name="tiny_imagenet/64x64",
        ),
        Dataset(
            name="tiny_imagenet32",
            num_classes=200,
            image_shape=(32, 32, 3),
            mean=(0.4806, 0.4486, 0.3983),
            std=(0.2521, 0.2448, 0.2590),
            num_train=100_000,
            train_split="train",
            test_split="validation",
            preset="cifar32",
            augment="crop_flip",
            resident=True,
            tfds_name="tiny_imagenet/32x32",
        ),
        # The statistics that torchvision's reference training uses.
        Dataset(
            name="imagenet2012",
            num_classes=1000,
            image_shape=(224, 224, 3),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            num_train=1_281_167,
            train_split="train",
            test_split="validation",
            preset="imagenet224",
            augment="resized_crop_flip",
            resident=False,
            corrupted_sets=(
                CorruptedSet("imagenet_c", "validation"),
                CorruptedSet("imagenet_c_bar", "validation", C_BAR),
                CorruptedSet("imagenet_3dcc", "validation", THREE_D_FILES),
                CorruptedSet("imagenet2012_corrupted", "validation"),  # rendered by TFDS
            ),
        ),
        # TFDS's first of the three official splits, 9,537 + 3,783 videos of 101 actions, frames
        # brought to 256x256 when it is prepared. Statistics: those of pytorchvideo's models.
        Dataset(
            name="ucf101",
            num_classes=101,
            image_shape=(8, 224, 224, 3),
            num_train=9_537,
            mean=(0.45, 0.45, 0.45),
            std=(0.225, 0.225, 0.225),
            train_split="train",
            test_split="test",
            preset=VIDEO,
            augment="clip_crop_flip",
            resident=False,
            tfds_name="ucf101/ucf101_1_256",
            clip=Clip(frames=8, stride=8, side=256),
        ),
        # The digits, sliding: needs no download, for the toy form of video cards.
        Dataset(
            name="moving_digits",
            num_classes=10,
            image_shape=(8, 32, 32, 3),
            num_train=1437,
            mean=(0.2982, 0.2982, 0.2982),
            std=(0.3266, 0.3266, 0.3266),
            train_split="train",
            test_split="test",
            preset=VIDEO,
            augment="none",
            resident=True,
            tfds_name="digits",
            clip=Clip(frames=8, stride=8, side=32),
        ),
    )
}


REGISTERED_IN: dict[str, str] = {}  # name -> file, of the datasets that users registered


def register_dataset(dataset: Dataset) -> None:
    """Makes a dataset of yours available to configs, as `data.name`.

    Args:
      dataset: its facts. Its images come from `dataset.read`, or else from a TFDS directory or
        NumPy files, as those of any dataset here. `image_folder` makes one of a folder of images.

    Raises:
      UserError: the name is taken by a dataset of dst_jax or by another file.
    """
    registration.claim("dataset", dataset.name, DATASETS, REGISTERED_IN)
    DATASETS[dataset.name] = dataset


def get(name: str) -> Dataset:
    """The dataset of that name.

    Raises:
      UserError: there is none; the text lists those that there are.
    """
    if name not in DATASETS:
        raise UserError("config.data.name", name, f"one of {', '.join(sorted(DATASETS))}")
    return DATASETS[name]


def benchmark_of(suite: str, dataset: str) -> benchmarks.Benchmark:
    """The benchmark that scores of a suite belong to; see `benchmarks.of`.

    Args:
      suite: what was scored, as the scores name it; the name of a prepared corrupted set too.
      dataset: the clean test set, "" for images without a name.
    """
    sets = DATASETS[dataset].corrupted_sets if dataset in DATASETS else ()
    held = next((c.corruptions for c in sets if c.tfds_name == suite), ())
    return benchmarks.of(suite, dataset, held)


def is_resident(dataset: Dataset, choice: str) -> bool:
    """Whether `config.data.input` = `choice` keeps the training images on the device."""
    return choice == "resident" or (choice == "auto" and dataset.resident)


def corrupted_set(dataset: Dataset, name: str | None = None) -> CorruptedSet:
    """The corrupted test set of that name, or the first.

    Raises:
      UserError: the dataset has none, or none of that name.
    """
    for corrupted in dataset.corrupted_sets:
        if name in (None, corrupted.tfds_name):
            return corrupted
    if name is None:
        raise UserError(
            "config.data.name", dataset.name, "a dataset with a corrupted test set (cifar10, ...)"
        )
    known = ", ".join(corrupted.tfds_name for corrupted in dataset.corrupted_sets) or "none"
    raise UserError("corrupted set", name, f"one of those of {dataset.name}: {known}")
