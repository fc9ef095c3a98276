"""A small CIFAR-10-C in the layout of the published archive, and TFDS's own builder fed with it."""

import tarfile
from pathlib import Path
from unittest import mock

import numpy as np

N = 20
# In the names of the archive, which are those of `dst_jax.corruptions`.
ARCHIVE = ("glass_blur", "elastic_transform", "fog")
THEIRS = {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic", "fog": "fog"}
CONDITIONS = [("elastic_transform", 5), ("fog", 2), ("glass_blur", 1)]


def arrays() -> dict[str, np.ndarray]:
    """Images [5 * N, 32, 32, 3] of each corruption, severity by severity, and their labels."""
    random = np.random.default_rng(0)
    content = {
        name: random.integers(0, 256, (5 * N, 32, 32, 3), dtype=np.uint8) for name in ARCHIVE
    }
    content["labels"] = np.tile(random.integers(0, 10, N, dtype=np.uint8), 5)
    return content


def prepare(content: dict[str, np.ndarray], source: Path, data_dir: Path) -> None:
    """Packs the archive into `source` and has TFDS prepare `CONDITIONS` from it in `data_dir`."""
    import tensorflow_datasets as tfds

    (source / "CIFAR-10-C").mkdir()
    for name, array in content.items():
        np.save(source / "CIFAR-10-C" / f"{name}.npy", array)
    tar = source / "CIFAR-10-C.tar"
    with tarfile.open(tar, "w") as file:
        file.add(source / "CIFAR-10-C", "CIFAR-10-C")
    tfds.disable_progress_bar()
    with mock.patch.object(
        tfds.download.DownloadManager,
        "download_and_extract",
        lambda manager, url: manager.extract(tar),
    ):
        for name, severity in CONDITIONS:
            config = f"cifar10_corrupted/{THEIRS[name]}_{severity}"
            tfds.builder(config, data_dir=data_dir).download_and_prepare()
