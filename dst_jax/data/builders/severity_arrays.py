"""Builders of CIFAR-10-C and CIFAR-100-C: one .npy a corruption, the five severities in a row.

Rows [(s - 1) N, s N) are severity s, and `labels.npy` holds the N labels five times (Hendrycks and
Dietterich 2019). Nothing is unpickled. Called by `dst_jax.data.prepare`.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from dst_jax.data import datasets
from dst_jax.data.builders.archive import Archive, join
from dst_jax.data.builders.published import Examples, Published, conditions, png

_LABELS = "labels.npy"


class SeverityArrays(Published):
    """A corrupted test set published as arrays.

    Attributes:
      NUM_CLASSES: of the labels.
      NUM_IMAGES: N, the images of one condition.
    """

    SIZE = 32
    NUM_CLASSES = 0
    NUM_IMAGES = 10_000

    @classmethod
    def check(cls, source: Archive, configs: Sequence[Any]) -> None:
        """Looks for the labels and one array a corruption."""
        if source.sequential:
            raise source.error("a compressed tar", "a folder or a plain tar", "Unpack it first")
        found = set(source.files(_folder(source)))
        wanted = dict.fromkeys(f"{config.corruption}.npy" for config in configs)
        missing = [name for name in wanted if name not in found]
        if missing:
            raise source.error(
                f"no {', '.join(missing)}",
                f"all of {len(wanted)} arrays",
                "Download it again, or name the corruptions to prepare with --only",
            )

    def _info(self) -> tfds.core.DatasetInfo:
        return self.info_of(tfds.features.ClassLabel(num_classes=self.NUM_CLASSES))

    def _split_generators(self, dl_manager: Any) -> dict[str, Examples]:
        del dl_manager  # nothing to download
        return {"test": self._generate_examples()}

    def _generate_examples(self) -> Examples:
        folder, condition = _folder(self.source), self.builder_config
        labels = self._labels(join(folder, _LABELS))
        shape = (5 * self.NUM_IMAGES, self.SIZE, self.SIZE, 3)
        path = join(folder, f"{condition.corruption}.npy")
        images = _load(self.source, path, shape, "uint8")
        start = (condition.severity - 1) * self.NUM_IMAGES
        for i in range(self.NUM_IMAGES):
            image = Image.fromarray(images[start + i])
            yield i, {"image": png(image), "label": int(labels[i])}

    def _labels(self, path: str) -> np.ndarray:
        """The labels of one severity, integers [N]."""
        shape = (5 * self.NUM_IMAGES,)
        labels = _load(self.source, path, shape, "integer")
        low, high = labels.min(), labels.max()
        if (low, high) != (0, self.NUM_CLASSES - 1):
            expected = f"labels 0..{self.NUM_CLASSES - 1}"
            raise self.source.error(f"labels {low}..{high} in {path}", expected)
        rows = labels.reshape(5, self.NUM_IMAGES)
        if (rows != rows[0]).any():
            found = f"labels of severities that differ in {path}"
            raise self.source.error(found, "the same labels five times")
        return rows[0]


def _folder(source: Archive) -> str:
    folder = source.find_file(_LABELS)
    if folder is None:
        raise source.error(f"no {_LABELS}", "the published arrays and their labels.npy")
    return folder


def _load(source: Archive, path: str, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """An array from a .npy file; shape and type are compared before anything is allocated.

    Args:
      source: where it lies.
      path: its path there.
      shape: what it must have.
      kind: "uint8", or "integer" for any integers.

    Raises:
      UserError: it is anything else.
    """
    file = io.BytesIO(source.read_one(path))
    try:
        version = np.lib.format.read_magic(file)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        found_shape, _, found_dtype = reader(file)
    except (ValueError, KeyError) as error:
        raise source.error(f"{path}, which is no array", "a .npy file") from error
    fits = found_dtype == np.uint8 if kind == "uint8" else np.issubdtype(found_dtype, np.integer)
    if found_shape != shape or not fits:
        found = f"{found_dtype} {list(found_shape)} in {path}"
        raise source.error(found, f"{kind} {list(shape)}")
    file.seek(0)
    try:
        return np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        found = f"{path}, which ends too early"
        raise source.error(found, f"{kind} {list(shape)}", "Download it again") from error


class Cifar10Corrupted(SeverityArrays):
    """CIFAR-10-C, in the name and layout of TFDS's own `cifar10_corrupted`."""

    DOWNLOAD = "CIFAR-10-C.tar of https://zenodo.org/records/2535967"
    BUILDER_CONFIGS = conditions(datasets.corrupted_set(datasets.get("cifar10")))
    NUM_CLASSES = 10


class Cifar100Corrupted(SeverityArrays):
    """CIFAR-100-C: the test images of CIFAR-100 under 19 corruptions of 5 severities."""

    DOWNLOAD = "CIFAR-100-C.tar of https://zenodo.org/records/3555552"
    BUILDER_CONFIGS = conditions(datasets.corrupted_set(datasets.get("cifar100")))
    NUM_CLASSES = 100
