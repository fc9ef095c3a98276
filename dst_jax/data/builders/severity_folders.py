"""Builders of ImageNet-C, ImageNet-C-bar, ImageNet-3DCC and Tiny-ImageNet-C from their folders.

All are published as corruption/severity/wnid/*.JPEG; a label is the place of its wnid in alphabetic
order, as in TFDS's `imagenet2012`. Called by `dst_jax.data.prepare`.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from dst_jax.data import datasets
from dst_jax.data.builders.archive import Archive, join
from dst_jax.data.builders.published import Examples, Published, conditions, encoded


class SeverityFolders(Published):
    """A corrupted test set published as folders of images.

    Attributes:
      NUM_CLASSES: number of wnids.
      IMAGES_PER_CLASS: images of one wnid in one condition.
    """

    FILE_FORMAT = "tfrecord"
    SIZE = 224
    NUM_CLASSES = 1000
    IMAGES_PER_CLASS = 50

    @classmethod
    def check(cls, source: Archive, configs: Sequence[Any]) -> None:
        """Looks for the folder of each severity of each corruption, and the wnids in them."""
        if source.sequential:
            raise source.error("a compressed tar", "a folder or a plain tar", "Unpack it first")
        folders = _corruption_folders(source, configs)
        wanted = dict.fromkeys(config.corruption for config in configs)
        lacking = [
            config
            for config in configs
            if str(config.severity) not in source.folders(folders.get(config.corruption, "?"))
        ]
        if lacking:
            partly = {config.corruption for config in lacking}
            missing = dict.fromkeys(
                f"{config.corruption}/{config.severity}"
                if config.corruption in folders
                else config.corruption
                for config in lacking
            )
            there = dict.fromkeys(
                config.name if config.corruption in partly else config.corruption
                for config in configs
                if config not in lacking
            )
            some = (
                f", or prepare what is there with --only={','.join(sorted(there))}" if there else ""
            )
            raise source.error(
                f"no folder {', '.join(missing)}",
                f"all of {len(wanted)} corruptions, each with folders 1 to 5",
                f"Download the rest{some}",
            )
        first: list[str] = []
        for config in configs:
            folder = join(folders[config.corruption], str(config.severity))
            wnids = source.folders(folder)
            first = first or wnids
            if len(wnids) != cls.NUM_CLASSES or wnids != first:
                found = f"{len(wnids)} folders in {folder}"
                raise source.error(found, f"the same {cls.NUM_CLASSES} in each, one per class")

    def _info(self) -> tfds.core.DatasetInfo:
        # TFDS keeps no names for the 1,000 classes of its own corrupted set either.
        label = tfds.features.ClassLabel(num_classes=self.NUM_CLASSES)
        return self.info_of(label, file_name=tfds.features.Text())

    def _split_generators(self, dl_manager: Any) -> dict[str, Examples]:
        del dl_manager  # nothing to download
        return {"validation": self._generate_examples()}

    def _generate_examples(self) -> Examples:
        condition = self.builder_config
        root = _corruption_folders(self.source, [condition])[condition.corruption]
        labels: dict[str, int] = {}
        for label, wnid in enumerate(self.source.folders(join(root, str(condition.severity)))):
            folder = join(root, str(condition.severity), wnid)
            names = self.source.files(folder)
            if len(names) != self.IMAGES_PER_CLASS:
                found = f"{len(names)} images in {folder}"
                raise self.source.error(found, f"{self.IMAGES_PER_CLASS}", "Download it again")
            labels |= {join(folder, name): label for name in names}
        for path, content in self.source.read(labels):
            # The same in all conditions, so that TFDS brings them into the same order.
            name = "/".join(path.split("/")[-2:])
            image = encoded(self.source, path, content, self.SIZE)
            yield name, {"image": image, "label": labels[path], "file_name": name}


def _corruption_folders(source: Archive, configs: Sequence[Any]) -> dict[str, str]:
    """Corruption -> its folder, wherever it lies near the top (noise/gaussian_noise, ...)."""
    names = {config.corruption for config in configs}
    found: dict[str, str] = {}
    level = [""]
    for _ in range(3):
        below = [join(folder, name) for folder in level for name in source.folders(folder)]
        for folder in below:
            name = folder.rpartition("/")[2]
            if name in names and set("12345") & set(source.folders(folder)):
                found.setdefault(name, folder)
        level = [folder for folder in below if folder not in found.values()]
    return found


def _configs(dataset: str, name: str) -> list[Any]:
    return conditions(datasets.corrupted_set(datasets.get(dataset), name))


class ImagenetC(SeverityFolders):
    """ImageNet-C as published, not as TFDS's `imagenet2012_corrupted` renders it."""

    DOWNLOAD = "noise, blur, weather, digital and extra.tar of https://zenodo.org/records/2235448"
    BUILDER_CONFIGS = _configs("imagenet2012", "imagenet_c")


class ImagenetCBar(SeverityFolders):
    """ImageNet-C-bar of Mintun et al. 2021: 10 corruptions unlike those of ImageNet-C."""

    DOWNLOAD = (
        "imagenet_c_bar.tar.gz, unpacked "
        "(linked from https://github.com/facebookresearch/augmentation-corruption)"
    )
    BUILDER_CONFIGS = _configs("imagenet2012", "imagenet_c_bar")


class Imagenet3dcc(SeverityFolders):
    """ImageNet-3DCC of Kar et al. 2022: 12 corruptions that know the scene's depth."""

    name = "imagenet_3dcc"
    DOWNLOAD = "the 12 tar.gz of https://datasets.epfl.ch/3dcc/index.html, unpacked"
    BUILDER_CONFIGS = _configs("imagenet2012", "imagenet_3dcc")


class TinyImagenetCorrupted(SeverityFolders):
    """Tiny-ImageNet-C: made from images of ImageNet's validation set, not of Tiny-ImageNet's."""

    DOWNLOAD = "Tiny-ImageNet-C.tar and its extra tar of https://zenodo.org/records/2536630"
    BUILDER_CONFIGS = _configs("tiny_imagenet", "tiny_imagenet_corrupted")
    FILE_FORMAT = "array_record"
    SIZE = 64
    NUM_CLASSES = 200
