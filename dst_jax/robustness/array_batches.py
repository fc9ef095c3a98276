"""Arrays of the caller as uint8 RGB in batches of one size: checked, floats and grey converted.

What cannot be told from an array, as the range of floats, is declared and never guessed. Called by
`images`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from dst_jax import data
from dst_jax.errors import UserError

HostBatch = Mapping[str, np.ndarray]
EXPECTED = (
    "a dataset's name, folder:PATH, (images uint8 [N, H, W, 3], labels [N]), or batches of such "
    'pairs or of {"image", "label"}'
)
UNIT = "unit"  # scale: floats in [0, 1]
_LARGEST = 2**31 - 1  # a label or id


class Parts(NamedTuple):
    """One batch of the caller's: uint8 [n, H, W, 3]; labels, ids int32 [n]; whether it was grey."""

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    grey: bool


def parts_of(batch: Any, start: int, scale: str = "") -> Parts:
    """Takes a batch apart and checks it; padding is left out.

    Args:
      batch: (images, labels), or {"image", "label"} with an optional "id" and "weight".
      start: id of its first image, where it has none.
      scale: "" for uint8; "unit" for floats in [0, 1], each of which becomes the nearest of the
        256 levels n / 255, ties to the even one.

    Raises:
      UserError: it is none of these.
    """
    try:
        if isinstance(batch, Mapping):
            images, labels = batch["image"], batch["label"]
        else:
            images, labels = batch
        if hasattr(images, "convert") and hasattr(images, "size"):  # Pillow's
            raise UserError(
                "dataset",
                "examples with a Pillow image each",
                "robustness.pil_images(dataset, side=...), which resizes and batches them",
            )
        images, labels = np.asarray(images), np.asarray(labels)
    except (KeyError, TypeError, ValueError):
        raise UserError("dataset", f"a batch that is {_kind(batch)}", EXPECTED) from None
    grey = is_grey(images)
    images = as_rgb(images, scale)
    whole = np.issubdtype(labels.dtype, np.integer) and not (labels > _LARGEST).any()
    if labels.shape != images.shape[:1] or not whole:
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
        known = ids.shape == labels.shape and np.issubdtype(ids.dtype, np.integer)
        if not known or (ids < 0).any() or (ids > _LARGEST).any():
            found = f"ids {ids.dtype} {list(ids.shape)} for {len(images)} images"
            raise UserError("dataset", found, f"one whole number per image, 0 to {_LARGEST}")
        real = np.asarray(batch.get("weight", np.ones(len(labels)))) > 0
        images, labels, ids = images[real], labels[real], ids[real]
    return Parts(images, labels.astype(np.int32), ids.astype(np.int32), grey)


def _kind(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return "a mapping with the keys " + ", ".join(map(str, batch))
    return f"a {type(batch).__name__}"


def is_grey(images: np.ndarray) -> bool:
    """Whether an array has the shape of grey images, [N, H, W] or [N, H, W, 1]."""
    return images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 1)


def as_rgb(images: np.ndarray, scale: str = "") -> np.ndarray:
    """Images as uint8 [N, H, W, 3]: grey ones three times, floats of `scale` in whole levels.

    Raises:
      UserError: shape, type or range are none that is taken.
    """
    if scale not in ("", UNIT):
        raise UserError("scale", scale, f'"{UNIT}" for floats in [0, 1], or nothing for uint8')
    found = f"images {images.dtype} {list(images.shape)}"
    channels = images.shape[-1] if images.ndim == 4 else 0
    if images.ndim == 4 and channels not in (1, 3) and images.shape[1] in (1, 3):
        expected = "[N, H, W, 3]: images.transpose(0, 2, 3, 1)"
        raise UserError("dataset", f"{found}: NCHW", expected)
    floats = np.issubdtype(images.dtype, np.floating)
    if not (is_grey(images) or channels == 3) or not (
        floats if scale else images.dtype == np.uint8
    ):
        expected = "uint8 [N, H, W, 3], 0 to 255: `predict` normalises them; or grey [N, H, W]"
        hint = 'For floats in [0, 1] say scale="unit"' if floats and not scale else ""
        if channels == 4:
            hint = "images[..., :3] drops an alpha channel"
        if scale:
            expected, hint = 'floats [N, H, W, 3] in [0, 1], as scale="unit" says', ""
        raise UserError("dataset", found, f"images {expected}", hint)
    if scale:
        low, high = (images.min(), images.max()) if images.size else (0.0, 0.0)
        if not (low >= 0 and high <= 1):  # NaN is neither
            raise UserError("dataset", f"floats from {low:g} to {high:g}", "those of [0, 1]")
        images = np.rint(images.astype(np.float32) * np.float32(255)).astype(np.uint8)
    if images.size and images.max() == 1:
        hint = "Were they divided by 255 once too often, or floats in [0, 1] cast to uint8?"
        raise UserError("dataset", "no level above 1 of 255", "levels 0 to 255", hint)
    if is_grey(images):
        images = images[..., None] if images.ndim == 3 else images
        images = np.repeat(images, 3, axis=-1)
    return images


def rebatch(
    batches: Iterable[Any],
    size: int,
    limit: int | None = None,
    *,
    scale: str = "",
    ids: Collection[int] | None = None,
    labels: Collection[int] | None = None,
) -> Iterator[HostBatch]:
    """Makes batches of one size of batches of any; see `data.eval_batches` for the format.

    Args:
      batches: see `parts_of`.
      size: images in each that is given.
      limit: the first so many images only; None: all.
      scale: see `parts_of`.
      ids: leave out images of other ids; None: none.
      labels: leave out images of other labels; None: none.
    """
    pending: list[tuple[np.ndarray, ...]] = []
    start = 0
    grey: bool | None = None

    def take(count: int) -> HostBatch:
        whole = [np.concatenate(parts) for parts in zip(*pending, strict=True)]
        pending[:] = [tuple(part[count:] for part in whole)]
        images, labels_, ids_ = (part[:count] for part in whole)
        (batch,) = data.eval_batches(images, labels_, size)
        padded = np.zeros(size, np.int32)
        padded[: len(ids_)] = ids_
        return {**batch, "id": padded}

    for batch in batches:
        *arrays, is_grey_ = parts_of(batch, start, scale)
        parts: tuple[np.ndarray, ...] = tuple(arrays)
        if grey not in (None, is_grey_):
            raise UserError("dataset", "grey batches and batches in colour", "images of one kind")
        grey = is_grey_
        if limit is not None:
            parts = tuple(part[: limit - start] for part in parts)
        start += len(parts[1])
        if pending and pending[0][0].shape[1:] != parts[0].shape[1:]:
            raise UserError(
                "dataset",
                f"images of {list(parts[0].shape[1:])} after {list(pending[0][0].shape[1:])}",
                "images of one size",
            )
        for wanted, column in ((labels, 1), (ids, 2)):
            if wanted is not None:
                kept = np.isin(parts[column], list(wanted))
                parts = tuple(part[kept] for part in parts)
        pending.append(parts)
        while sum(len(part[1]) for part in pending) >= size:
            yield take(size)
        if limit is not None and start >= limit:
            break
    rest = sum(len(part[1]) for part in pending)
    if rest:
        yield take(rest)
