"""The published corrupted test sets that TFDS reads: CIFAR-10-C and TFDS's ImageNet-C.

Each corruption and severity is a config of its own, `fog_3`; the default config of
`cifar10_corrupted` is an almost clean one and is never used. Called by `dst_jax.evaluate`.
"""

import os
import pathlib
import re
from collections.abc import Iterator

import numpy as np

from dst_jax.data import arrays, evaluation, prepared
from dst_jax.data.datasets import CorruptedSet, Dataset
from dst_jax.errors import UserError


def prepared_conditions(
    dataset: Dataset, data_dir: os.PathLike | str | None = None
) -> list[tuple[str, int]]:
    """The conditions of the dataset's corrupted test set that are prepared on disk.

    Args:
      dataset: the clean dataset.
      data_dir: TFDS directory; None: TFDS's default.

    Returns:
      (corruption, severity) pairs in the names of `dst_jax.corruptions`, sorted; empty where
      nothing is prepared or TFDS has no corrupted version of the dataset.
    """
    if dataset.corrupted is None:
        return []
    folder = prepared.tfds_dir(data_dir) / dataset.corrupted.tfds_name
    if not folder.is_dir():
        return []
    found = []
    for config in folder.iterdir():
        name, _, severity = config.name.rpartition("_")
        # What TFDS has not finished writing lies in `<version>.incomplete...`.
        finished = config.is_dir() and any(
            re.fullmatch(r"\d+\.\d+\.\d+", version.name) for version in config.iterdir()
        )
        if finished and re.fullmatch("[1-5]", severity):
            found.append((dataset.corrupted.synonyms.get(name, name), int(severity)))
    return sorted(found)


def load_corrupted(
    dataset: Dataset,
    corruption: str,
    severity: int,
    data_dir: os.PathLike | str | None = None,
    cache_dir: os.PathLike | str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The corrupted test images of one condition, decoded once and memory-mapped after that.

    The decoded arrays of all conditions take 2.9 GB for CIFAR-10-C, but 7.5 GB each for ImageNet:
    use `corrupted_batches` there.

    Args:
      dataset: the clean dataset.
      corruption: a name of `dst_jax.corruptions`.
      severity: 1..5.
      data_dir: TFDS directory; None: TFDS's default.
      cache_dir: where the decoded arrays are kept; None: `default_cache_dir()`.

    Returns:
      (images uint8 [N, H, W, 3], labels int32 [N]), in the order of the prepared dataset.

    Raises:
      UserError: this condition is not prepared, or damaged.
    """
    corrupted = _corrupted(dataset)
    builder = prepared.find_config(
        corrupted.tfds_name, _config(corrupted, corruption, severity), data_dir
    )
    cache = pathlib.Path(cache_dir) if cache_dir else prepared.default_cache_dir()
    return arrays.cached_arrays(builder, corrupted.split, cache)


def corrupted_batches(
    dataset: Dataset,
    corruption: str,
    severity: int,
    batch_size: int,
    data_dir: os.PathLike | str | None = None,
    *,
    limit: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """The corrupted test images of one condition as a stream that keeps nothing on disk.

    Arguments are those of `load_corrupted`, batches those of `stream_eval_batches`.
    """
    corrupted = _corrupted(dataset)
    builder = prepared.find_config(
        corrupted.tfds_name, _config(corrupted, corruption, severity), data_dir
    )
    size = dataset.image_shape[0]
    return evaluation.stream_builder(builder, corrupted.split, size, batch_size, limit)


def _corrupted(dataset: Dataset) -> CorruptedSet:
    if dataset.corrupted is None:
        raise UserError(
            "config.data.name",
            dataset.name,
            "a dataset with a corrupted test set in TFDS (cifar10, ...)",
        )
    return dataset.corrupted


def _config(corrupted: CorruptedSet, corruption: str, severity: int) -> str:
    """TFDS's name of a condition."""
    theirs = {ours: name for name, ours in corrupted.synonyms.items()}
    return f"{theirs.get(corruption, corruption)}_{severity}"
