"""The corrupted test sets on disk: CIFAR-10-C, ImageNet-C and the others that are published.

Each corruption and severity is a config of its own, `fog_3`; the default config of
`cifar10_corrupted` is an almost clean one and is never used. Called by `robustness.images`.
"""

import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from dst_jax.data import arrays, evaluation, prepared
from dst_jax.data.datasets import CorruptedSet, Dataset, corrupted_set


def prepared_conditions(
    dataset: Dataset, data_dir: os.PathLike | str | None = None, *, suite: str | None = None
) -> list[tuple[str, int]]:
    """The conditions of a corrupted test set of the dataset that are prepared on disk.

    Args:
      dataset: the clean dataset.
      data_dir: TFDS directory; None: TFDS's default.
      suite: the corrupted set, a `tfds_name` in `dataset.corrupted_sets`; None: the first.

    Returns:
      (corruption, severity) pairs in our names, sorted; empty where nothing is prepared or the
      dataset has no corrupted version.

    Raises:
      UserError: the dataset has no corrupted set of that name.
    """
    if suite is None and not dataset.corrupted_sets:
        return []
    corrupted = corrupted_set(dataset, suite)
    folder = prepared.tfds_dir(data_dir) / corrupted.tfds_name
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
            found.append((corrupted.synonyms.get(name, name), int(severity)))
    return sorted(found)


def load_corrupted(
    dataset: Dataset,
    corruption: str,
    severity: int,
    data_dir: os.PathLike | str | None = None,
    cache_dir: os.PathLike | str | None = None,
    *,
    suite: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The corrupted test images of one condition, decoded once and memory-mapped after that.

    The decoded arrays of all conditions take 2.9 GB for CIFAR-10-C, but 7.5 GB each for ImageNet:
    use `corrupted_batches` there.

    Args:
      dataset: the clean dataset.
      corruption: one of the set's `corruptions`.
      severity: 1..5.
      data_dir: TFDS directory; None: TFDS's default.
      cache_dir: where the decoded arrays are kept; None: `default_cache_dir()`.
      suite: the corrupted set, a `tfds_name` in `dataset.corrupted_sets`; None: the first.

    Returns:
      (images uint8 [N, H, W, 3], labels int32 [N]). Rows of all conditions of a set come in the
      same order, which is that of the prepared dataset.

    Raises:
      UserError: this condition is not prepared, or damaged.
    """
    corrupted, builder = _find(dataset, corruption, severity, data_dir, suite)
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
    suite: str | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """The corrupted test images of one condition as a stream that keeps nothing on disk.

    Arguments are those of `load_corrupted`, batches those of `stream_eval_batches`.
    """
    corrupted, builder = _find(dataset, corruption, severity, data_dir, suite)
    return evaluation.stream_builder(dataset, builder, corrupted.split, batch_size, limit)


def _find(
    dataset: Dataset,
    corruption: str,
    severity: int,
    data_dir: os.PathLike | str | None,
    suite: str | None,
) -> tuple[CorruptedSet, Any]:
    corrupted = corrupted_set(dataset, suite)
    config = corrupted.config(corruption, severity)
    return corrupted, prepared.find_config(corrupted.tfds_name, config, data_dir)
