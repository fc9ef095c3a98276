"""The corrupted images of a condition that come from files, each matched to its clean image.

A set that TFDS has prepared is read in its own order where it is scored whole; of a part of the
clean images, and of published files, each image is found by its identity, or refused. Called by
`scorer`.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from dst_jax import data
from dst_jax.data import corrupted, corrupted_files, corrupted_index
from dst_jax.errors import UserError
from dst_jax.robustness.array_batches import HostBatch
from dst_jax.robustness.images import Batch, Source
from dst_jax.robustness.records import Condition
from dst_jax.robustness.suites import Plan


class CleanFacts(NamedTuple):
    """The clean images that were scored: ids and labels, int32 [N], in the order of the ids."""

    id: np.ndarray
    label: np.ndarray


def batches(
    source: Source,
    plan: Plan,
    condition: Condition,
    clean: CleanFacts,
    size: int,
    data_dir: Any,
    cache_dir: Any,
    prefix: str = "",
) -> Iterable[HostBatch]:
    """The images of a condition, `size` a batch, with the ids of the clean images where matched.

    Raises:
      UserError: an image has no counterpart, or it cannot be told.
    """
    if plan.files:
        files = corrupted_files.open_corrupted(plan.files)
        if _of_other_images(source):
            return files.own_batches(condition, len(clean.id), source.side, size)
        names = _names(source, clean, plan.files, prefix)
        wanted = corrupted_files.CleanImages(names, clean.label, clean.id, source.side)
        return files.batches(condition, wanted, size)
    assert source.dataset is not None
    if source.part:
        names = _names(source, clean, plan.prepared, prefix)
        return corrupted.matched_batches(
            *(source.dataset, condition, names, clean.label, clean.id, size, data_dir, cache_dir),
            suite=plan.prepared,
        )
    return _in_own_order(source.dataset, plan, condition, len(clean.id), size, data_dir, cache_dir)


def check(plan: Plan, condition: Condition, clean: CleanFacts, found: CleanFacts) -> None:
    """Raises UserError where a set that was scored whole holds other labels than the clean one."""
    if not np.array_equal(np.sort(found.label), np.sort(clean.label)):
        where = f"{plan.prepared or plan.files} {condition.corruption} {condition.severity}"
        raise UserError(where, "other labels than the clean images have", "the images of that set")


def check_clean(
    source: Source, plan: Plan, clean: CleanFacts, batches: Iterable[Batch], prefix: str = ""
) -> None:
    """Refuses clean images that are not those which files of `dst-jax corrupt` were made of.

    Args:
      source: where the clean images come from.
      plan: which files.
      clean: ids and labels.
      batches: the clean images.
      prefix: what stands before an argument's name in the text of an error.

    Raises:
      UserError: they are others, or were resized or cropped in another way.
    """
    files = corrupted_files.open_corrupted(plan.files) if plan.files else None
    if files is None or files.index is None or _of_other_images(source):
        return
    rows = files.rows(_names(source, clean, plan.files, prefix))
    of_id = dict(zip(clean.id.tolist(), rows.tolist(), strict=True))
    alike = 0
    for batch in batches:
        images = np.asarray(batch.rows["image"])[batch.real]
        expected = files.index.grey[[of_id[i] for i in batch.id[batch.real].tolist()]]
        ours = corrupted_index.grey_of(images)
        alike += int(corrupted_index.look_alike(ours, expected).sum())
    if alike != len(clean.id):
        raise UserError(
            f"{prefix}source",
            f"{plan.files}, made of other images than {len(clean.id) - alike:,} of the "
            f"{len(clean.id):,} clean ones",
            "the images that were corrupted, of the same size and crop (--side, --resize)",
        )


def _of_other_images(source: Source) -> bool:
    """Whether the published set was made from other images than the clean ones, as Tiny's was."""
    dataset = data.DATASETS.get(source.name)
    other = dataset is not None and any(each.own_images for each in dataset.corrupted_sets)
    if other and source.part:
        found = f"a part of {source.name}, whose corrupted set has other images"
        raise UserError("max_images, image_ids", found, "all images of both")
    return other


def _names(source: Source, clean: CleanFacts, files: str, prefix: str) -> list[str]:
    if source.names is None:
        return clean.id.astype(str).tolist()
    names = source.names()
    if names is None:
        raise UserError(
            f"{prefix}source",
            f"{files} for a part of {source.name}, or read from files: images without names",
            f"{source.name} whole and prepared for TFDS, or images whose names are known",
        )
    return names[clean.id].tolist()


def _in_own_order(
    dataset: data.Dataset,
    plan: Plan,
    condition: Condition,
    count: int,
    size: int,
    data_dir: Any,
    cache_dir: Any,
) -> Iterable[HostBatch]:
    """All images of a condition of a prepared set, which is as large as the clean one."""
    if not dataset.resident:
        return data.corrupted_batches(
            dataset, *condition, size, data_dir, limit=count, suite=plan.prepared
        )
    images, labels = data.load_corrupted(
        dataset, *condition, data_dir, cache_dir, suite=plan.prepared
    )
    return data.eval_batches(images[:count], labels[:count], size)
