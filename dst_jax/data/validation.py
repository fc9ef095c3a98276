"""The training images that are held out, for everything that must be chosen without the test set.

They are the last ones of the prepared training split, whose order TFDS has shuffled once when it
wrote the files: the same images in every run, whatever its seed. Called by
`build`, `stream` and `run_configs`.
"""

import os
from collections.abc import Iterator

import numpy as np

from dst_jax.data import arrays, evaluation, prepared
from dst_jax.data.datasets import Dataset


def num_held_out(count: int, share: float) -> int:
    """How many of `count` training images a share of them is, at least one if it is not 0."""
    return max(1, round(count * share)) if share else 0


def held_out_batches(
    dataset: Dataset,
    share: float,
    batch_size: int,
    data_dir: os.PathLike | str | None = None,
    cache_dir: os.PathLike | str | None = None,
    *,
    resident: bool,
) -> Iterator[dict[str, np.ndarray]]:
    """The held-out images as batches in the format of `evaluation.eval_batches`, none dropped.

    Args:
      dataset: which; the images are of its training split.
      share: `config.data.validation`, above 0.
      batch_size: B.
      data_dir: TFDS directory; None: TFDS's default.
      cache_dir: where decoded arrays are kept; None: `default_cache_dir()`.
      resident: whether the dataset is read whole or streamed.

    Raises:
      UserError: the dataset is not prepared or damaged.
    """
    split = dataset.train_split
    if resident:
        images, labels = arrays.load_arrays(dataset, split, data_dir, cache_dir)
        kept = len(labels) - num_held_out(len(labels), share)
        return evaluation.eval_batches(images[kept:], labels[kept:], batch_size)
    count = prepared.check_split(prepared.find_clean(dataset, data_dir), split)
    kept = count - num_held_out(count, share)
    return evaluation.stream_eval_batches(dataset, data_dir, batch_size, split=f"{split}[{kept}:]")
