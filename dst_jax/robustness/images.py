"""Where the images of an evaluation come from, and how they get onto the devices: once.

A dataset's name, a folder, arrays, or batches of any size become batches of one size, padded at the
end with weight 0; no image is dropped that was not left out by name. Clean images stay on the
devices if they fit there. Called by `evaluation`; nothing here renders or predicts.
"""

import itertools
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from dst_jax import corruptions, data
from dst_jax.data import array_files, image_names
from dst_jax.data.evaluation import padded
from dst_jax.data.image_files import ImageFiles
from dst_jax.errors import UserError
from dst_jax.robustness import dataset_text, selection
from dst_jax.robustness.array_batches import EXPECTED, HostBatch, parts_of, rebatch
from dst_jax.robustness.records import checksum
from dst_jax.runtime.devices import Devices


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
      names: gives the identity of each image of the whole test set, by its id: the name of its
        file, or its number in the published test set; None where nothing on record tells. None in
        place of the function: an image is its id.
      part: whether images were left out.
      grey: whether the images were given in grey; they are read as RGB of three equal channels.
    """

    name: str
    dataset: data.Dataset | None
    side: tuple[int, ...]
    total: int | None
    read: Callable[[int], Iterable[HostBatch]]
    by_pixels: bool = True
    repeatable: bool = True
    names: Callable[[], np.ndarray | None] | None = None
    part: bool = False
    grey: bool = False

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
    dataset: Any,
    name: str,
    max_images: int,
    data_dir: Any,
    cache_dir: Any,
    prefix: str = "",
    *,
    image_ids: Any = (),
    labels: Collection[int] | None = None,
    scale: str = "",
) -> Source:
    """Opens clean images.

    Args:
      dataset: a name in `data.DATASETS`; "folder:PATH" or "arrays:FILES", see `dataset_text`, or
        what `folders.folder` gives; arrays
        (images, labels [N]); or an iterable of batches of any sizes, each (images, labels) or
        {"image", "label"} with an optional "id" (whole numbers; by default images are numbered
        from 0). Images are uint8 [N, H, W, 3], grey [N, H, W] or [N, H, W, 1], or floats.
      name: what images without a name are, such as "imagenet2012".
      max_images: the first so many only; 0: all.
      data_dir: where TFDS datasets are prepared.
      cache_dir: where decoded arrays are cached.
      prefix: what stands before an argument's name in the text of an error.
      image_ids: these images only, see `selection.chosen_rows`; empty: all.
      labels: images of these labels only; None: all.
      scale: "unit": arrays are floats in [0, 1], see `array_batches.parts_of`.

    Raises:
      UserError: it is none of these.
    """
    wanted = selection.Wanted(max_images or None, image_ids, labels, f"{prefix}image_ids")
    if isinstance(dataset, str):
        dataset = dataset_text.opened(dataset, f"{prefix}dataset")
    if isinstance(dataset, str | ImageFiles) and scale:
        raise UserError(f"{prefix}scale", scale, "nothing: files hold whole levels")
    if isinstance(dataset, str):
        return _named(dataset, wanted, data_dir, cache_dir, prefix)
    if isinstance(dataset, ImageFiles):
        return _files(dataset, name, wanted)
    if isinstance(dataset, tuple) and len(dataset) == 2 and hasattr(dataset[0], "ndim"):
        return _arrays(dataset, name, wanted, scale)
    if not isinstance(dataset, Iterable):
        raise UserError(f"{prefix}dataset", type(dataset).__name__, EXPECTED)
    return _batches(dataset, name, wanted, scale)


def _named(
    name: str, wanted: selection.Wanted, data_dir: Any, cache_dir: Any, prefix: str
) -> Source:
    if name not in data.DATASETS:
        known = ", ".join(sorted(data.DATASETS))
        raise UserError(f"{prefix}dataset", name, f"one of {known}, or folder:PATH")
    dataset = data.get(name)
    clip, split = dataset.clip, dataset.test_split
    side = (clip.frames, clip.side, clip.side) if clip else dataset.image_shape[:-1]
    count = data.num_examples(dataset, split, data_dir, cache_dir)

    def identities() -> image_names.Names | None:
        return image_names.of_dataset(dataset, data_dir, cache_dir)

    def names() -> np.ndarray | None:
        known = identities()
        return None if known is None else known.names

    known_labels = None
    if dataset.resident and (wanted.labels is not None or selection.is_given(wanted.ids)):
        known_labels = data.load_arrays(dataset, split, data_dir, cache_dir)[1]
    rows = wanted.rows(count, identities, known_labels)
    total = count if rows is None else len(rows)
    first = rows is None or rows[-1] == total - 1  # the first so many, or all

    def read(size: int) -> Iterable[HostBatch]:
        if not dataset.resident:
            chosen = None if first else rows
            limit = total if first else None
            stream = data.stream_eval_batches(dataset, data_dir, size, limit=limit, rows=chosen)
            return stream if wanted.labels is None else rebatch(stream, size, labels=wanted.labels)
        limit = total if first else None
        images, labels = data.load_arrays(dataset, split, data_dir, cache_dir, limit)
        return _row_batches(images, labels, None if first else rows, size)

    # Anybody's images may lie there as NumPy files under the name, or be read by a function.
    by_pixels = dataset.read is not None or array_files.directory(dataset, data_dir) is not None
    by_label = wanted.labels is not None
    return Source(
        *(name, dataset, side, None if by_label and not dataset.resident else total, read),
        by_pixels=by_pixels,
        names=names,
        part=by_label or total < count,
    )


def _files(files: ImageFiles, name: str, wanted: selection.Wanted) -> Source:
    count = len(files.names)

    def identities() -> image_names.Names:
        return image_names.Names(np.array(files.names), np.arange(count))

    rows = wanted.rows(count, identities, files.labels)
    return Source(
        *(name, None, (files.side, files.side), count if rows is None else len(rows)),
        read=lambda size: files.batches(size, rows),
        names=lambda: identities().names,
        part=rows is not None,
    )


def _arrays(pair: tuple[Any, Any], name: str, wanted: selection.Wanted, scale: str) -> Source:
    images, labels, _, grey = parts_of(pair, 0, scale)
    rows = wanted.rows(len(labels), lambda: image_names.of_rows(len(labels)), labels)

    return Source(
        *(name, None, images.shape[1:3], len(labels) if rows is None else len(rows)),
        read=lambda size: _row_batches(images, labels, rows, size),
        part=rows is not None,
        grey=grey,
    )


def _row_batches(
    images: np.ndarray, labels: np.ndarray, rows: np.ndarray | None, size: int
) -> Iterator[HostBatch]:
    if rows is None or rows[-1] == len(rows) - 1:  # all, or the first so many: no copies
        count = len(labels) if rows is None else len(rows)
        yield from data.eval_batches(images[:count], labels[:count], size)
        return
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield padded(images[part], labels[part], part, size)


def _batches(given: Iterable[Any], name: str, wanted: selection.Wanted, scale: str) -> Source:
    repeatable = iter(given) is not given
    iterator = iter(given)
    first = next(iterator, None)
    if first is None:
        raise UserError("dataset", "no batch at all", EXPECTED)
    parts = parts_of(first, 0, scale)
    remaining = [itertools.chain([first], iterator)]
    ids: list[int] | None = None
    limit = wanted.limit
    if selection.is_given(wanted.ids):
        entries = selection.entries_of(wanted.ids, wanted.where)[:limit]
        if isinstance(entries[0], str):
            raise UserError(wanted.where, "names", "numbers: batches have no names")
        ids, limit = [int(entry) for entry in entries], None

    def read(size: int) -> Iterable[HostBatch]:
        batches = remaining.pop() if remaining else given
        return rebatch(batches, size, limit, scale=scale, ids=ids, labels=wanted.labels)

    return Source(
        *(name, None, parts.images.shape[1:3], None, read),
        repeatable=repeatable,
        part=ids is not None or limit is not None or wanted.labels is not None,
        grey=parts.grey,
    )


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
            elif not used and self._source.by_pixels:
                self._check_again(host)
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

    def _check_again(self, host: HostBatch) -> None:
        """Refuses a first batch that was another one in the first pass."""
        if any(self._pixels.get(i) != found for i, found in _checksums(host).items()):
            raise UserError(
                "dataset",
                "other images in a second pass over it",
                "the same ones in the same order, as of a DataLoader without shuffle and without "
                "random transforms",
            )


def put(host: HostBatch, devices: Devices) -> Batch:
    """Lays a batch over the devices."""
    rows = {name: host[name] for name in ("image", "label", "id")}
    return Batch(
        devices.shard_rows(rows), np.asarray(host["label"]), host["id"], host["weight"] > 0
    )
