"""Where the images of an evaluation come from, and how they get onto the devices: once.

A dataset's name, arrays, or batches of any size become batches of one size, padded at the end with
weight 0; no image is dropped. Clean images stay on the devices if they fit there. Called by
`evaluation`; nothing here renders or predicts.
"""

import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from dst_jax import corruptions, data
from dst_jax.data import array_files
from dst_jax.errors import UserError
from dst_jax.robustness.records import checksum
from dst_jax.runtime.devices import Devices

HostBatch = Mapping[str, np.ndarray]
_EXPECTED = (
    "a dataset's name, (images uint8 [N, H, W, 3], labels [N]), or batches of such pairs or of "
    '{"image", "label"}'
)


class Batch(NamedTuple):
    """One batch: images and what goes with them on the devices; the rest on the host.

    Attributes:
      rows: {"image": uint8 [B, H, W, 3], "label": int32 [B], "id": int32 [B]}, on the devices.
      label: int32 [B], on the host, as the following.
      id: int32 [B], the numbers of the images in their dataset.
      real: bool [B], False for padding.
    """

    rows: Mapping[str, jax.Array]
    label: np.ndarray
    id: np.ndarray
    real: np.ndarray


class Source(NamedTuple):
    """Clean images that can be read.

    Attributes:
      name: the dataset's name, "" where it has none.
      dataset: of `dst_jax.data`, None for images of the caller's.
      side: (height, width), of clips (frames, height, width).
      total: number of images, None where only reading tells.
      read: global batch size -> batches in the format of `data.eval_batches`.
      by_pixels: whether the pixels identify the images; else names, numbers and labels do.
      repeatable: whether `read` may be called again.
    """

    name: str
    dataset: data.Dataset | None
    side: tuple[int, ...]
    total: int | None
    read: Callable[[int], Iterable[HostBatch]]
    by_pixels: bool = True
    repeatable: bool = True

    @property
    def preset(self) -> str:
        """The preset of the corruptions that fits the size, or ""."""
        if self.dataset:
            return self.dataset.preset
        fits: dict[tuple[int, ...], str] = {
            (size, size): preset for preset, size in corruptions.PRESET_SIZES.items()
        }
        return fits.get(self.side, "")


def open_source(
    dataset: Any, name: str, max_images: int, data_dir: Any, cache_dir: Any, prefix: str = ""
) -> Source:
    """Opens clean images.

    Args:
      dataset: a name in `data.DATASETS`; or arrays (images uint8 [N, H, W, 3], labels [N]); or an
        iterable of batches of any sizes, each (images, labels) or {"image", "label"} with an
        optional "id" (whole numbers; by default images are numbered from 0).
      name: what images without a name are, such as "imagenet2012".
      max_images: the first so many only; 0: all.
      data_dir: where TFDS datasets are prepared.
      cache_dir: where decoded arrays are cached.
      prefix: what stands before an argument's name in the text of an error.

    Raises:
      UserError: it is none of these.
    """
    limit = max_images or None
    if isinstance(dataset, str):
        return _named(dataset, limit, data_dir, cache_dir, prefix)
    if isinstance(dataset, tuple) and len(dataset) == 2 and hasattr(dataset[0], "ndim"):
        images, labels, _ = _parts(dataset, 0)
        images, labels = images[:limit], labels[:limit]
        return Source(
            name,
            None,
            images.shape[1:3],
            len(labels),
            lambda size: data.eval_batches(images, labels, size),
        )
    if not isinstance(dataset, Iterable):
        raise UserError(f"{prefix}dataset", type(dataset).__name__, _EXPECTED)
    return _batches(dataset, name, limit)


def _named(name: str, limit: int | None, data_dir: Any, cache_dir: Any, prefix: str) -> Source:
    if name not in data.DATASETS:
        raise UserError(f"{prefix}dataset", name, "one of " + ", ".join(sorted(data.DATASETS)))
    dataset = data.get(name)
    clip = dataset.clip
    side = (clip.frames, clip.side, clip.side) if clip else dataset.image_shape[:-1]
    count = data.num_examples(dataset, dataset.test_split, data_dir, cache_dir)
    count = min(count, limit or count)

    def read(size: int) -> Iterable[HostBatch]:
        if not dataset.resident:
            return data.stream_eval_batches(dataset, data_dir, size, limit=count)
        images, labels = data.load_arrays(dataset, dataset.test_split, data_dir, cache_dir, count)
        return data.eval_batches(images, labels, size)

    # Anybody's images may lie there as NumPy files under the name, or be read by a function.
    by_pixels = dataset.read is not None or array_files.directory(dataset, data_dir) is not None
    return Source(name, dataset, side, count, read, by_pixels)


def _batches(given: Iterable[Any], name: str, limit: int | None) -> Source:
    repeatable = iter(given) is not given
    iterator = iter(given)
    first = next(iterator, None)
    if first is None:
        raise UserError("dataset", "no batch at all", _EXPECTED)
    side = _parts(first, 0)[0].shape[1:3]
    remaining = [itertools.chain([first], iterator)]

    def read(size: int) -> Iterable[HostBatch]:
        return rebatch(remaining.pop() if remaining else given, size, limit)

    return Source(name, None, side, None, read, repeatable=repeatable)


def _parts(batch: Any, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(images, labels, ids) of one batch of the caller's, checked; padding is left out."""
    try:
        if isinstance(batch, Mapping):
            images, labels = batch["image"], batch["label"]
        else:
            images, labels = batch
        images, labels = np.asarray(images), np.asarray(labels)
    except (KeyError, TypeError, ValueError):
        raise UserError("dataset", f"a batch that is {_kind(batch)}", _EXPECTED) from None
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise UserError(
            "dataset",
            f"images {images.dtype} {list(images.shape)}",
            "images uint8 [N, H, W, 3], 0 to 255: `predict` normalises them",
        )
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            "dataset",
            f"labels {labels.dtype} {list(labels.shape)} for {len(images)} images",
            "one whole number per image",
        )
    if not len(labels):
        raise UserError("dataset", "no image", "at least one")
    ids: Any = np.arange(start, start + len(labels))
    if isinstance(batch, Mapping):
        ids = np.asarray(batch.get("id", ids))
        real = np.asarray(batch.get("weight", np.ones(len(labels)))) > 0
        images, labels, ids = images[real], labels[real], ids[real]
    return images, labels.astype(np.int32), ids.astype(np.int32)


def _kind(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return "a mapping with the keys " + ", ".join(map(str, batch))
    return f"a {type(batch).__name__}"


def rebatch(batches: Iterable[Any], size: int, limit: int | None = None) -> Iterator[HostBatch]:
    """Makes batches of one size of batches of any; see `data.eval_batches` for the format."""
    pending: list[tuple[np.ndarray, ...]] = []
    start = 0

    def take(count: int) -> HostBatch:
        whole = [np.concatenate(parts) for parts in zip(*pending, strict=True)]
        pending[:] = [tuple(part[count:] for part in whole)]
        images, labels, ids = (part[:count] for part in whole)
        (batch,) = data.eval_batches(images, labels, size)
        padded = np.zeros(size, np.int32)
        padded[: len(ids)] = ids
        return {**batch, "id": padded}

    for batch in batches:
        parts = _parts(batch, start)
        if limit is not None:
            parts = tuple(part[: limit - start] for part in parts)  # type: ignore[assignment]
        start += len(parts[1])
        if pending and pending[0][0].shape[1:] != parts[0].shape[1:]:
            raise UserError(
                "dataset",
                f"images of {list(parts[0].shape[1:])} after {list(pending[0][0].shape[1:])}",
                "images of one size",
            )
        pending.append(parts)
        while sum(len(part[1]) for part in pending) >= size:
            yield take(size)
        if limit is not None and start >= limit:
            break
    rest = sum(len(part[1]) for part in pending)
    if rest:
        yield take(rest)


def identity(source: Source) -> str:
    """What identifies clean images in the key of a score, by reading all of them on the host."""
    parts: list[HostBatch] = []
    pixels: dict[int, int] = {}
    for batch in source.read(1000):
        real = np.asarray(batch["weight"]) > 0
        parts.append({name: np.asarray(batch[name])[real] for name in ("id", "label")})
        if source.by_pixels:
            pixels |= _checksums(batch)
    ids, labels = (np.concatenate([part[name] for part in parts]) for name in ("id", "label"))
    order = np.argsort(ids)
    return f"{checksum(ids[order], labels[order]) ^ _checksum_of_all(pixels):08x}"


def _checksums(host: HostBatch) -> dict[int, int]:
    """Id -> CRC-32 of the image, without padding."""
    rows = zip(host["image"], host["id"], host["weight"], strict=True)
    return {int(i): zlib.crc32(image.tobytes()) for image, i, w in rows if w > 0}


def _checksum_of_all(pixels: Mapping[int, int]) -> int:
    """CRC-32 of the images' own in the order of the ids; 0 of none."""
    if not pixels:
        return 0
    return zlib.crc32(np.array([pixels[i] for i in sorted(pixels)], "<u4").tobytes())


class CleanImages:
    """The clean images as batches on the devices: read once, and kept there if they fit.

    Args:
      source: what to read.
      devices: where to.
      batch_size: images per device.
      budget: bytes that may stay on all devices together; None: a quarter of their memory.
    """

    def __init__(
        self, source: Source, devices: Devices, batch_size: int, budget: int | None = None
    ):
        self._source, self._devices = source, devices
        self._size = batch_size * devices.count
        self._budget = devices.bytes_for_data if budget is None else budget
        self._kept: list[Batch] | None = None
        self._pixels: dict[int, int] = {}

    @property
    def checksum(self) -> int:
        """CRC-32 of the pixels in the order of the ids, once all were read; 0 for those of TFDS.

        Ids and labels identify the images of a dataset that TFDS prepared, whose decoded pixels may
        differ by a level between machines; of the caller's own images, and of NumPy files, only
        the pixels do.
        """
        return _checksum_of_all(self._pixels)

    @property
    def kept(self) -> bool:
        """Whether they lie on the devices, so that another pass costs no reading."""
        return self._kept is not None

    def __call__(self) -> Iterator[Batch]:
        """All batches, in the order of the dataset."""
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Batch] | None = []
        used = 0
        own = self._source.by_pixels and not self._pixels
        for host in self._source.read(self._size):
            batch = put(host, self._devices)
            if own:
                self._pixels |= _checksums(host)
            yield batch
            used += host["image"].nbytes
            if used > self._budget and kept is not None:
                kept = None
                if not self._source.repeatable:
                    raise UserError(
                        "dataset",
                        f"an iterator over more than {self._budget:,} bytes of images",
                        "something that can be iterated again, such as a list or a DataLoader",
                    )
            if kept is not None:
                kept.append(batch)
        self._kept = kept


def put(host: HostBatch, devices: Devices) -> Batch:
    """Lays a batch over the devices."""
    rows = {name: host[name] for name in ("image", "label", "id")}
    return Batch(
        devices.shard_rows(rows), np.asarray(host["label"]), host["id"], host["weight"] > 0
    )


def prepared_batches(
    dataset: data.Dataset,
    condition: tuple[str, int],
    corrupted_set: str,
    count: int,
    size: int,
    data_dir: Any,
    cache_dir: Any,
) -> Iterable[HostBatch]:
    """The first `count` images of a condition of a prepared corrupted set, `size` a batch."""
    if not dataset.resident:
        return data.corrupted_batches(
            dataset, *condition, size, data_dir, limit=count, suite=corrupted_set
        )
    images, labels = data.load_corrupted(
        dataset, *condition, data_dir, cache_dir, suite=corrupted_set
    )
    return data.eval_batches(images[:count], labels[:count], size)
