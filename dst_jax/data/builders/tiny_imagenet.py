"""The builder of Tiny-ImageNet: 200 classes, 100,000 training and 10,000 validation images.

Published as train/wnid/images/*.JPEG, val/images/*.JPEG and val/val_annotations.txt; its test split
has no labels and is left out. Called by `dst_jax.data.prepare`.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from PIL import Image

from dst_jax.data.builders import published
from dst_jax.data.builders.archive import Archive, join

_WNIDS = "wnids.txt"
_ANNOTATIONS = "val_annotations.txt"


@dataclasses.dataclass(eq=False)
class SizeConfig(tfds.core.BuilderConfig):
    """The config of one image size, in pixels."""

    size: int = 0


class Counts(NamedTuple):
    """How many wnids there are, training images of each, and validation images of all."""

    classes: int
    train_per_class: int
    validation: int


class TinyImagenet(published.Published):
    """Tiny-ImageNet of Stanford's CS231n; a label is the place of its wnid in alphabetic order.

    Attributes:
      PUBLISHED_SIZE: side of the published images.
      COUNTS: of the published files.
    """

    DOWNLOAD = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
    BUILDER_CONFIGS = [  # noqa: RUF012 - as TFDS declares it
        SizeConfig(name="64x64", description="As published.", size=64),
        SizeConfig(name="32x32", description="Box filter, as imagenet_resized.", size=32),
    ]
    PUBLISHED_SIZE = 64
    COUNTS = Counts(200, 500, 10_000)

    @property
    def SIZE(self) -> int:  # type: ignore[override]  # noqa: N802
        """Side of the prepared images."""
        return self.builder_config.size

    @classmethod
    def check(cls, source: Archive, configs: Sequence[Any]) -> None:
        """Looks for all images and the labels of the validation images."""
        del configs  # they are made from the same files
        _read_labels(cls.COUNTS, source)

    def _info(self) -> tfds.core.DatasetInfo:
        wnids = _read_labels(self.COUNTS, self.source).wnids
        return self.info_of(tfds.features.ClassLabel(names=wnids))

    def _split_generators(self, dl_manager: Any) -> dict[str, published.Examples]:
        del dl_manager  # nothing to download
        labels = _read_labels(self.COUNTS, self.source)
        return {
            "train": self._generate_examples(labels.train),
            "validation": self._generate_examples(labels.validation),
        }

    def _generate_examples(self, labels: dict[str, int]) -> published.Examples:
        for path, content in self.source.read(labels):
            name = path.rpartition("/")[2]
            yield name, {"image": self._encoded(path, content), "label": labels[path]}

    def _encoded(self, path: str, content: bytes) -> bytes:
        """The image file in the size of the config; a copy that has this size stays as it is."""
        size, larger = self.SIZE, self.PUBLISHED_SIZE
        image = published.open_image(self.source, path, content)
        if size == larger or image.size != (larger, larger):
            hint = "Prepare a smaller copy with --only=32x32" if size == larger else ""
            return published.encoded(self.source, path, content, size, hint)
        return published.png(image.convert("RGB").resize((size, size), Image.Resampling.BOX))


class _Labels(NamedTuple):
    """The wnids in alphabetic order, and path -> label of the images of each split."""

    wnids: list[str]
    train: dict[str, int]
    validation: dict[str, int]


@functools.lru_cache(maxsize=1)  # several callers, and a compressed tar takes seconds to read
def _read_labels(counts: Counts, source: Archive) -> _Labels:
    """Compares the list of files with what is published, and labels the images."""
    root = source.find_file(_WNIDS)
    if root is None:
        raise source.error(f"no {_WNIDS}", "the published tiny-imagenet-200")
    annotations = join(root, "val", _ANNOTATIONS)
    if _ANNOTATIONS not in source.files(join(root, "val")):
        raise source.error(f"no {annotations}", "the published validation set")
    texts = dict(source.read([join(root, _WNIDS), annotations]))
    wnids = sorted(set(_text(texts[join(root, _WNIDS)]).split()))
    if len(wnids) != counts.classes:
        raise source.error(f"{len(wnids)} wnids in {_WNIDS}", f"{counts.classes}")

    train: dict[str, int] = {}
    for label, wnid in enumerate(wnids):
        folder = join(root, "train", wnid, "images")
        names = source.files(folder)
        if len(names) != counts.train_per_class:
            found = f"{len(names)} images in {folder}"
            raise source.error(found, f"{counts.train_per_class}", "Download or unpack it again")
        train |= {join(folder, name): label for name in names}

    folder = join(root, "val", "images")
    validation: dict[str, int] = {}
    for line in _text(texts[annotations]).splitlines():
        name, wnid = [*line.split(), "", ""][:2]  # val_0.JPEG n03444034 0 32 44 62
        if wnid not in wnids:
            raise source.error(f"line {line[:80]!r} in {_ANNOTATIONS}", f"a wnid of {_WNIDS}")
        validation[join(folder, name)] = wnids.index(wnid)
    images = {join(folder, name) for name in source.files(folder)}
    if validation.keys() != images or len(images) != counts.validation:
        raise source.error(
            f"{len(images)} images in {folder} and {len(validation)} labels",
            f"{counts.validation} images, each with a label in {_ANNOTATIONS}",
            "Download or unpack it again",
        )
    return _Labels(wnids, train, validation)


def _text(content: bytes) -> str:
    return content.decode(errors="replace")
