"""Clips of videos that are perturbed along time: the whole video first, then its clip is taken.

A perturbation along time is an order of the video's frames. So the video is never held: its frames
stay encoded, and what the clip shows of the reordered video is decoded, T frames for each order.
Called by `robustness.whole_videos`; `tf_clips` has the rule by which frames are taken.
"""

import dataclasses
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from dst_jax.data import arrays, moving_digits, prepared, tf_images
from dst_jax.data.datasets import Clip, Dataset
from dst_jax.data.evaluation import eval_batches

# (frames of the video, its number in the split) -> orders of its frames
Orders = Callable[[int, int], Sequence[np.ndarray]]


def central_frames(length: int, clip: Clip) -> np.ndarray:
    """The frames [T] that the clip for evaluation shows of a video of `length` frames."""
    window = min(length, clip.frames * clip.stride)
    return (length - window) // 2 + np.arange(clip.frames) * (window - 1) // (clip.frames - 1)


def perturbed_clips(
    dataset: Dataset,
    orders: Orders,
    ids: Collection[int],
    batch_size: int,
    data_dir: os.PathLike | str | None = None,
    cache_dir: os.PathLike | str | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """The clips for evaluation of the test set's videos, of each reordered in R ways.

    Held at a time are B x R x T frames, twice while they become a batch (2 x 100 MB for `ucf101`
    with batches of 16 and the four severities of its benchmark), and for each core that decodes the
    encoded frames of one video.

    Args:
      dataset: of videos, see `array_files.has_whole_videos`.
      orders: which frames a video shows, in R ways; an order may have fewer than the video.
      ids: the numbers of the videos that are wanted.
      batch_size: B.
      data_dir: directory of TFDS; None: TFDS's default.
      cache_dir: where the digits are kept; None: the default.

    Yields:
      Batches as of `eval_batches`, in the order of the ids, with images uint8 [B, R, T, side, side,
      3].

    Raises:
      UserError: the dataset is not prepared, damaged, or TensorFlow is missing.
    """
    clip = dataset.clip
    assert clip is not None

    def shown(length: int, number: int) -> np.ndarray:
        """Frame numbers int64 [R, T]."""
        found = orders(int(length), int(number))
        return np.stack([order[central_frames(len(order), clip)] for order in found])

    wanted = sorted(ids)
    if dataset.resident:
        examples = _of_digits(dataset, shown, wanted, data_dir, cache_dir)
    else:
        examples = _streamed(dataset, shown, wanted, data_dir)
    images: list[np.ndarray] = []
    labels: list[int] = []
    for done, (frames, label) in enumerate(examples, start=1):
        images.append(frames)
        labels.append(label)
        if len(labels) == batch_size or done == len(wanted):
            (batch,) = eval_batches(np.stack(images), np.array(labels), batch_size)
            numbers = np.zeros(batch_size, np.int32)
            numbers[: len(labels)] = wanted[done - len(labels) : done]
            yield {**batch, "id": numbers}
            images, labels = [], []


def _of_digits(
    dataset: Dataset,
    shown: Callable[[int, int], np.ndarray],
    wanted: list[int],
    data_dir: Any,
    cache_dir: Any,
) -> Iterator[tuple[np.ndarray, int]]:
    still = dataclasses.replace(dataset, clip=None)
    images, labels = arrays.load_arrays(still, dataset.test_split, data_dir, cache_dir)
    for number in wanted:
        frames = shown(moving_digits.LENGTH, number)
        yield moving_digits.frames_of(images[number], number, frames), int(labels[number])


def _streamed(
    dataset: Dataset, shown: Callable[[int, int], np.ndarray], wanted: list[int], data_dir: Any
) -> Iterator[tuple[np.ndarray, int]]:
    builder = prepared.find_clean(dataset, data_dir)
    total = prepared.check_split(builder, dataset.test_split)
    tf, records = prepared.open_records(builder, dataset.test_split)
    is_wanted = tf.constant(np.isin(np.arange(total), wanted))
    clip = dataset.clip
    assert clip is not None

    def decode(number: Any, record: Any) -> tuple[Any, Any]:
        encoded = record["image"]
        frames = tf.numpy_function(shown, [tf.shape(encoded)[0], number], tf.int64)
        once, where = tf.unique(tf.reshape(frames, [-1]))  # a frame may be shown many times
        decoded = tf.map_fn(
            lambda frame: tf_images.decode(tf, frame),
            tf.gather(encoded, once),
            fn_output_signature=tf.TensorSpec([None, None, 3], tf.uint8),
        )
        return tf.gather(decoded, tf.reshape(where, tf.shape(frames))), record["label"]

    examples = records.enumerate().filter(lambda number, _: is_wanted[number])
    examples = examples.map(decode, num_parallel_calls=tf.data.AUTOTUNE).prefetch(1)
    try:
        for images, label in examples.as_numpy_iterator():
            yield images, int(label)
    except tf.errors.OpError as error:
        raise prepared.unreadable(builder, error) from error
