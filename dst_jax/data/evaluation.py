"""Batches for evaluation: uint8 images in the order of the split, padded at the end, none dropped.

From arrays (small datasets) or from a stream (ImageNet). Called by `robustness.images` and by
whoever scores a model.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from dst_jax.data import prepared, tf_clips, tf_images
from dst_jax.data.datasets import Dataset
from dst_jax.errors import UserError


def eval_batches(
    images: np.ndarray, labels: np.ndarray, batch_size: int
) -> Iterator[dict[str, np.ndarray]]:
    """Cuts arrays into batches of one size.

    Args:
      images: uint8 [N, H, W, 3].
      labels: int [N].
      batch_size: B.

    Yields:
      {"image": uint8 [B, H, W, 3], "label": int32 [B], "id": int32 [B], "weight": float32 [B]}. The
      id is the index in the arrays. Padding has weight 0, label 0, a black image and ids from N on.
    """
    total = len(labels)
    for start in range(0, total, batch_size):
        stop = min(start + batch_size, total)
        yield padded(images[start:stop], labels[start:stop], np.arange(start, stop), batch_size)


def stream_eval_batches(
    dataset: Dataset,
    data_dir: os.PathLike | str | None,
    batch_size: int,
    *,
    split: str | None = None,
    limit: int | None = None,
    rows: np.ndarray | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of a dataset that is too large for memory; the format is that of `eval_batches`.

    Images of many sizes are brought to `dataset.image_shape` by the recipe of ImageNet-C:
    antialiased bilinear resize of the shorter side to 256 (for 224), then the central crop. Of a
    video it is the central clip (`tf_clips`), uint8 [T, side, side, 3] in the size that is stored.

    Args:
      dataset: which.
      data_dir: TFDS directory; None: TFDS's default.
      batch_size: B.
      split: a TFDS split, or a part of one; None: the test split.
      limit: number of examples, at most; None: all.
      rows: the numbers of the examples to read, int [M], ascending; None: all. Theirs are the ids.

    Raises:
      UserError: the dataset is not prepared, damaged, or TensorFlow is missing.
    """
    builder = prepared.find_clean(dataset, data_dir)
    return stream_builder(dataset, builder, split or dataset.test_split, batch_size, limit, rows)


def stream_builder(
    dataset: Dataset,
    builder: Any,
    split: str,
    batch_size: int,
    limit: int | None,
    rows: np.ndarray | None = None,
    named: Mapping[str, int] | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """The batches of `stream_eval_batches` from the builder of the dataset or a corrupted one.

    With `named`, only the images of these names are read, in the order of the files: name without
    folder and ending -> id.
    """
    total = prepared.check_split(builder, split)
    total = total if limit is None else min(limit, total)
    tf, records = prepared.open_records(builder, split, names=named is not None)
    clip, size = dataset.clip, dataset.image_shape[-2]
    shape = None if clip else builder.info.features["image"].shape

    def decode(record: Any, number: Any) -> tuple[Any, Any, Any]:
        if clip:
            return tf_clips.central(tf, record["image"], clip), record["label"], number
        image = tf_images.decode(tf, record["image"])
        if shape != (size, size, 3):
            image = tf_images.central_crop(tf, image, size)
        return tf.ensure_shape(image, [size, size, 3]), record["label"], number

    if named is not None:
        examples, total = _named(tf, records, named), len(named)
    else:
        numbered = records.take(total).enumerate()
        if rows is not None:
            wanted = tf.constant(np.isin(np.arange(total), rows))
            numbered = numbered.filter(lambda number, record: wanted[number])
            total = len(rows)
        examples = numbered.map(lambda number, record: (record, number))
    examples = examples.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    batches = examples.batch(batch_size).prefetch(2).as_numpy_iterator()
    return _numbered(tf, builder, batches, batch_size, total, named is not None)


def _named(tf: Any, records: Any, named: Mapping[str, int]) -> Any:
    """(record, id) of the records whose file has one of the names."""
    keys = tf.constant(list(named), tf.string)
    values = tf.constant(list(named.values()), tf.int64)
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), -1)

    def with_id(record: Any) -> tuple[Any, Any]:
        name = tf.strings.regex_replace(record["file_name"], r"^.*/|\.[A-Za-z]+$", "")
        return record, table.lookup(name)

    return records.map(with_id).filter(lambda record, number: number >= 0)


def _numbered(
    tf: Any, builder: Any, batches: Iterable[Any], batch_size: int, total: int, named: bool
) -> Iterator[dict[str, np.ndarray]]:
    start = 0
    try:
        for images, labels, ids in batches:
            yield padded(images, labels, ids, batch_size)
            start += len(labels)
    except tf.errors.OpError as error:
        raise prepared.unreadable(builder, error) from error
    if start != total and named:
        found = f"{start} of {total} images"
        expected = "the counterpart of every clean image, by the name of its file"
        raise UserError(os.fspath(builder.data_path), found, expected)
    if start != total:
        raise UserError(
            os.fspath(builder.data_path),
            f"{start} examples",
            f"{total}, as its dataset_info.json says",
            "Delete the directory and prepare the dataset again",
        )


def padded(
    images: np.ndarray, labels: np.ndarray, ids: np.ndarray, batch_size: int
) -> dict[str, np.ndarray]:
    """One batch in the format of `eval_batches`; the ids of padding follow the largest one.

    Args:
      images: uint8 [n, H, W, 3], n <= B.
      labels: int [n].
      ids: int [n].
      batch_size: B.
    """
    count = len(labels)
    missing = batch_size - count
    if missing:
        images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
        labels = np.concatenate([labels, np.zeros(missing, labels.dtype)])
        ids = np.concatenate([ids, np.max(ids, initial=-1) + 1 + np.arange(missing)])
    return {
        "image": np.asarray(images),
        "label": np.asarray(labels, np.int32),
        "id": np.asarray(ids, np.int32),
        "weight": (np.arange(batch_size) < count).astype(np.float32),
    }
