"""The corrupted test sets on disk: CIFAR-10-C, ImageNet-C and the others that are published.

Each corruption and severity is a config of its own, `fog_3`; the default config of
`cifar10_corrupted` is an almost clean one and is never used. Called by `robustness.images`.
"""

import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dst_jax.data import arrays, evaluation, image_names, matching, prepared
from dst_jax.data.datasets import CorruptedSet, Dataset, corrupted_set
from dst_jax.errors import UserError


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


def matched_batches(
    dataset: Dataset,
    condition: tuple[str, int],
    names: Sequence[str],
    labels: np.ndarray,
    ids: np.ndarray,
    size: int,
    data_dir: os.PathLike | str | None = None,
    cache_dir: os.PathLike | str | None = None,
    *,
    suite: str | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """The images of a condition that belong to some clean ones, found by name or number.

    Args:
      dataset: the clean dataset.
      condition: (corruption, severity).
      names: str [N], what `image_names` calls the clean images.
      labels: int [N], theirs.
      ids: int [N], theirs, which the batches have too.
      size: images in a batch.
      data_dir: TFDS directory; None: TFDS's default.
      cache_dir: where decoded arrays are kept; None: `default_cache_dir()`.
      suite: the corrupted set; None: the first.

    Raises:
      UserError: the set does not tell which image is which, or lacks one, or labels differ.
    """
    corrupted, builder = _find(dataset, *condition, data_dir, suite)
    where = f"{builder.name} {condition[0]} {condition[1]}"
    cache = pathlib.Path(cache_dir) if cache_dir else prepared.default_cache_dir()
    if not dataset.resident:
        stems = [image_names.stem(name) for name in names]
        named = dict(zip(stems, ids.tolist(), strict=True))
        label_of = dict(zip(ids.tolist(), labels.tolist(), strict=True))
        stream = evaluation.stream_builder(
            dataset, builder, corrupted.split, size, None, named=named
        )
        return _with_labels(stream, label_of, where)
    found = image_names.of_split(builder, corrupted.split, cache)
    if found is None:
        raise UserError(where, "images without names", "all images of the clean set (max_images=0)")
    row_of = dict(zip(found.names.tolist(), range(len(found.names)), strict=True))
    missing = [name for name in names if name not in row_of]
    if missing:
        total = f"{len(names) - len(missing)} of {len(names)} images, not {missing[0]}"
        raise UserError(where, total, "the counterpart of every clean image, by its number or name")
    rows = np.array([row_of[name] for name in names])
    images, their_labels = arrays.cached_arrays(builder, corrupted.split, cache)
    matching.check_labels(labels, their_labels[rows], where)
    parts = (slice(start, start + size) for start in range(0, len(rows), size))
    return (evaluation.padded(images[rows[part]], labels[part], ids[part], size) for part in parts)


def _with_labels(
    stream: Iterator[dict[str, np.ndarray]], label_of: dict[int, int], where: str
) -> Iterator[dict[str, np.ndarray]]:
    for batch in stream:
        real = batch["weight"] > 0
        clean = [label_of[number] for number in batch["id"][real].tolist()]
        matching.check_labels(np.array(clean), batch["label"][real], where)
        yield batch


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
