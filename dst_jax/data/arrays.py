"""Whole splits as uint8 arrays: decoded once from TFDS, kept on disk, memory-mapped ever after.

The second start needs neither decoding nor TensorFlow. What lies in the data directory as NumPy
files (`array_files`) is read from there, and a dataset with a function of its own by that. Called
for datasets whose images all have one size; larger ones are streamed (`stream`).
"""

import functools
import hashlib
import io
import json
import os
import pathlib
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from dst_jax.data import array_files, datasets, moving_digits, prepared, tf_images
from dst_jax.data.datasets import Dataset
from dst_jax.errors import TRACEBACK, UserError, failed

_CHUNK = 1024


def load_arrays(
    dataset: Dataset,
    split: str,
    data_dir: os.PathLike | str | None = None,
    cache_dir: os.PathLike | str | None = None,
    limit: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A split, or its first examples, as arrays in the order of the prepared dataset.

    Args:
      dataset: which; all its images must have one size.
      split: a TFDS split, `dataset.train_split` or `dataset.test_split`.
      data_dir: directory of TFDS or of NumPy files; None: TFDS's default.
      cache_dir: where decoded arrays and the digits are kept; None: `default_cache_dir()`.
      limit: number of examples, at most; None: all.

    Returns:
      (images uint8 [N, H, W, 3], labels int32 [N]), both memory-mapped and read-only; clips of the
      moving digits, uint8 [N, T, H, W, 3], are made anew.

    Raises:
      UserError: the dataset is not prepared, damaged, or has images of many sizes.
    """
    if dataset.read is not None:
        images, labels = _own_images(dataset, split)
        return images[:limit], labels[:limit]
    if folder := array_files.directory(dataset, data_dir):
        images, labels = array_files.read(dataset, split, folder)
        return images[:limit], labels[:limit]
    cache = pathlib.Path(cache_dir) if cache_dir else prepared.default_cache_dir()
    images, labels = cached_arrays(prepared.find(dataset, data_dir, cache), split, cache)
    if dataset.clip:
        images = moving_digits.clips_of(images[:limit], dataset.clip.frames)
    return images[:limit], labels[:limit]


def num_examples(
    dataset: Dataset,
    split: str,
    data_dir: os.PathLike | str | None = None,
    cache_dir: os.PathLike | str | None = None,
) -> int:
    """The number of examples in a split, without reading it.

    Raises:
      UserError: the dataset is not prepared, or has no such split.
    """
    if dataset.read is not None:
        return len(_own_images(dataset, split)[1])
    if folder := array_files.directory(dataset, data_dir):
        return len(array_files.read(dataset, split, folder)[1])
    cache = pathlib.Path(cache_dir) if cache_dir else prepared.default_cache_dir()
    return prepared.check_split(prepared.find(dataset, data_dir, cache), split)


def _own_images(dataset: Dataset, split: str) -> tuple[np.ndarray, np.ndarray]:
    """A split that the function of a registered dataset gives, checked, read-only."""
    where = f"read({split!r}) of dataset {dataset.name}"
    assert dataset.read is not None
    try:
        images, labels = map(np.asarray, _called(dataset.read, split))
    except UserError:
        raise
    except Exception as error:  # whatever a user's function raises
        text = failed(error, filter(None, [datasets.REGISTERED_IN.get(dataset.name)]))
        raise UserError(where, text, "(images, labels), two NumPy arrays", TRACEBACK) from error
    names = (f"images of {where}", f"labels of {where}")
    images, labels = (part.view() for part in array_files.check(dataset, images, labels, *names))
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


def doubts(dataset: Dataset, held_out: Callable[[int], int] = lambda count: 0) -> list[str]:
    """What is probably wrong with the splits that a function of a user's gives, as sentences.

    Args:
      dataset: which; of one that is in memory by other ways nothing is said.
      held_out: number of training images -> how many of them, the last ones, are held out.

    Raises:
      UserError: see `load_arrays`.
    """
    if dataset.read is None or dataset.train_split == dataset.test_split:
        return []
    images, labels = _own_images(dataset, dataset.train_split)
    tests, test_labels = _own_images(dataset, dataset.test_split)
    name, found = f"data: {dataset.name}", []
    trained = {_mark(image) for image in images}
    if same := sum(_mark(image) in trained for image in tests):
        found.append(
            f"{name} has {same:,} of {len(tests):,} test images in its training images too"
        )
    counts = np.bincount(labels, minlength=dataset.num_classes)
    if absent := np.flatnonzero(counts == 0).tolist():
        scored = np.isin(test_labels, absent).sum()
        listed = ", ".join(map(str, absent[:5])) + (" ..." if len(absent) > 5 else "")
        found.append(
            f"{name} has no training image of {len(absent)} of {dataset.num_classes} classes "
            f"({listed}), and {scored:,} test images of them"
        )
    if number := held_out(len(labels)):
        held, there = len(np.unique(labels[-number:])), len(np.unique(labels))
        if held < there:
            found.append(
                f"{name} holds out its last {number:,} training images, of {held} of {there} "
                "classes: `read` should shuffle them"
            )
    return found


def _mark(image: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest()


@functools.lru_cache(maxsize=4)
def _called(read: Callable[[str], tuple[np.ndarray, np.ndarray]], split: str) -> Any:
    return read(split)


def cached_arrays(
    builder: Any, split: str, cache_dir: pathlib.Path
) -> tuple[np.ndarray, np.ndarray]:
    """The arrays of one split of a prepared dataset, decoded unless the cache has them."""
    count = prepared.check_split(builder, split)
    features = builder.info.features
    shape = features["image"].shape if "image" in features else (None,)
    if None in shape:
        raise UserError(
            "config.data.input",
            f"resident, but {builder.name} has images of many sizes, or videos",
            "a dataset whose images have one size",
            "Use --config.data.input=stream",
        )
    expected: dict[str, tuple[tuple[int, ...], type]] = {
        "images": ((count, *shape), np.uint8),
        "labels": ((count,), np.int32),
    }
    folder = cache_dir / "arrays"
    config = builder.builder_config.name if builder.builder_config else "default"
    stem = f"{builder.name}-{config}-{builder.version}-{split}-{fingerprint(builder, split)}"
    paths = {name: folder / f"{stem}.{name}.npy" for name in expected}
    found = {name: _open_valid(paths[name], *expected[name]) for name in expected}
    if any(array is None for array in found.values()):
        folder.mkdir(parents=True, exist_ok=True)
        _decode_to(paths, expected, builder, split)
        found = {name: _open_valid(paths[name], *expected[name]) for name in expected}
    if found["images"] is None or found["labels"] is None:
        raise UserError(
            "cache_dir", f"{folder}, whose files cannot be read back", "a usable directory"
        )
    return found["images"], found["labels"]


def fingerprint(builder: Any, split: str) -> str:
    """Changes with the place and the files of the prepared dataset: no stale cache is ever used."""
    info = builder.info.splits[split]
    facts: list[Any] = [os.fspath(builder.data_path), list(info.shard_lengths)]
    for path in info.filepaths:
        stat = path.stat()
        facts.append((path.name, stat.length, stat.mtime))
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=8).hexdigest()


def _open_valid(path: pathlib.Path, shape: tuple[int, ...], dtype: type) -> np.ndarray | None:
    """Memory-maps an entry of the cache, or None where it is missing or not what it should be."""
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape and array.dtype == dtype else None


def _decode_to(
    paths: dict[str, pathlib.Path],
    expected: dict[str, tuple[tuple[int, ...], type]],
    builder: Any,
    split: str,
) -> None:
    """Decodes a split straight into files, then renames them to `paths`.

    Each file is replaced in one atomic rename, and every process would write the same bytes, so
    processes that start together and readers of a damaged entry do not disturb each other.
    """
    unique = uuid.uuid4().hex[:8]
    parts = {name: path.with_name(f"{path.name}.{unique}.part") for name, path in paths.items()}
    total = expected["labels"][0][0]
    done = 0
    try:
        arrays = {
            name: np.lib.format.open_memmap(parts[name], "w+", dtype, shape)
            for name, (shape, dtype) in expected.items()
        }
        for images, labels in _with_progress(_chunks(builder, split), total, builder, split):
            stop = done + len(labels)
            if stop <= total:
                arrays["images"][done:stop], arrays["labels"][done:stop] = images, labels
            done = stop
        if done != total:
            raise UserError(
                os.fspath(builder.data_path),
                f"{done} examples in split {split!r}",
                f"{total}, as its dataset_info.json says",
                "Delete the directory and prepare the dataset again",
            )
        for array in arrays.values():
            array.flush()
        for name, part in parts.items():
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(paths[name])
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _chunks(builder: Any, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Decoded (images uint8 [n, H, W, 3], labels [n]) in the order of the files."""
    if builder.info.file_format.value == "array_record":
        import tensorflow_datasets as tfds

        # TFDS would decode with OpenCV where there is one, which is not Pillow bit by bit.
        source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
        for start in range(0, len(source), _CHUNK):
            examples = source.__getitems__(range(start, min(start + _CHUNK, len(source))))
            yield (
                np.stack([_decode(example["image"]) for example in examples]),
                np.array([example["label"] for example in examples], np.int32),
            )
        return
    tf, records = prepared.open_records(builder, split)
    examples = records.map(
        lambda record: (tf_images.decode(tf, record["image"]), record["label"]),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    try:
        yield from examples.batch(_CHUNK).prefetch(2).as_numpy_iterator()
    except tf.errors.OpError as error:
        raise prepared.unreadable(builder, error) from error


def _decode(encoded: bytes) -> np.ndarray:
    """Decodes a JPEG or PNG to uint8 [height, width, 3]."""
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert("RGB"))


def _with_progress(
    chunks: Iterator[tuple[np.ndarray, np.ndarray]], total: int, builder: Any, split: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tells on standard error what takes seconds, once it has taken two."""
    told, done = time.monotonic(), 0
    for chunk in chunks:
        yield chunk
        done += len(chunk[1])
        if time.monotonic() - told > 2:
            told = time.monotonic()
            name = f"{builder.name}/{split}"
            print(f"decoding {name} once: {done:,} of {total:,} images", file=sys.stderr)
