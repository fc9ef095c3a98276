"""What the test images of a dataset are called, so that the same images are found in another set.

TFDS writes a split in the order of the hash of its keys. The keys of CIFAR's are the numbers of the
published files and are not stored, so they come from that order; ImageNet's file names are stored
with the images. Numbers count from 0 in the published order: the rows of CIFAR's files; of ImageNet
the classes one after another and the file names in each. Called by `robustness.images` and
`corrupted`.
"""

import hashlib
import os
import pathlib
import re
import uuid
from typing import Any, NamedTuple

import numpy as np

from dst_jax.data import array_files, arrays, prepared
from dst_jax.data.datasets import Dataset

# Those whose keys in TFDS are the numbers of the published rows.
_NUMBERED = frozenset({"cifar10", "cifar100", "cifar10_corrupted", "cifar100_corrupted"})
_NAME = "file_name"  # the feature of ImageNet's sets


class Names(NamedTuple):
    """The identity of each image of a split, by its row.

    Attributes:
      names: str [N]: the number as text, or the path of the file.
      numbers: int [N], in the published order.
    """

    names: np.ndarray
    numbers: np.ndarray


def of_rows(count: int) -> Names:
    """The identity of images that their rows identify."""
    return Names(np.arange(count).astype(str), np.arange(count))


def of_dataset(
    dataset: Dataset, data_dir: os.PathLike | str | None, cache_dir: os.PathLike | str | None
) -> Names | None:
    """The identity of a dataset's test images, in the order in which they are read.

    Of ImageNet all records are read once, without decoding an image, and the names kept in
    `cache_dir`.

    Returns:
      None where nothing but their order in TFDS identifies the images.
    """
    if dataset.read is not None or array_files.directory(dataset, data_dir):
        split = dataset.test_split
        return of_rows(arrays.num_examples(dataset, split, data_dir, cache_dir))
    if dataset.name not in _NUMBERED and (dataset.resident or dataset.clip):
        return None
    builder = prepared.find_clean(dataset, data_dir)
    cache = pathlib.Path(cache_dir) if cache_dir else prepared.default_cache_dir()
    return of_split(builder, dataset.test_split, cache)


def of_split(builder: Any, split: str, cache_dir: pathlib.Path) -> Names | None:
    """The identity of the images of a prepared split; None where it is not on record."""
    count = prepared.check_split(builder, split)
    if builder.name in _NUMBERED:
        numbers = shuffled(count, split)
        return Names(numbers.astype(str), numbers)
    if _NAME not in builder.info.features or builder.info.file_format.value != "tfrecord":
        return None
    names, labels = _stored_names(builder, split, cache_dir)
    order = np.lexsort((names, labels))
    numbers = np.empty(count, np.int64)
    numbers[order] = np.arange(count)
    return Names(names, numbers)


def shuffled(count: int, split: str) -> np.ndarray:
    """The keys 0 .. count - 1 in the order in which TFDS writes them: int64 [N].

    It sorts by the MD5 of the split's name followed by the key (`tfds.core.hashing`).
    """
    hashes = [hashlib.md5(f"{split}{key}".encode()).digest() for key in range(count)]
    return np.array(sorted(range(count), key=hashes.__getitem__), np.int64)


def stem(name: str) -> str:
    """The last part of a path without its ending: what the same image is called in several sets."""
    return re.sub(r"\.[A-Za-z]+$", "", name.rpartition("/")[2])


def _stored_names(
    builder: Any, split: str, cache_dir: pathlib.Path
) -> tuple[np.ndarray, np.ndarray]:
    """(names str [N], labels int [N]) of a split whose records hold the names of the files."""
    path = cache_dir / "names" / f"{builder.name}-{split}-{arrays.fingerprint(builder, split)}.npz"
    try:
        with np.load(path, allow_pickle=False) as found:
            return found["names"], found["labels"]
    except (OSError, ValueError, KeyError, EOFError):
        pass
    tf, records = prepared.open_records(builder, split, names=True)
    pairs = records.map(lambda record: (record[_NAME], record["label"])).batch(1000)
    try:
        parts = list(pairs.as_numpy_iterator())
    except tf.errors.OpError as error:
        raise prepared.unreadable(builder, error) from error
    names = np.concatenate([part[0] for part in parts]).astype(str)
    labels = np.concatenate([part[1] for part in parts])
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{uuid.uuid4().hex[:8]}.part.npz")
    np.savez(new, names=names, labels=labels)
    new.replace(path)
    return names, labels
