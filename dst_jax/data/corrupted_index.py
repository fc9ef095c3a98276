"""`images.csv` of what `dst-jax corrupt` wrote: which images were corrupted, and how grey they are.

By it an evaluation finds the counterpart of each clean image, whatever the layout of the files, and
refuses clean images that are not those which were corrupted, or were resized in another way.
Written by `rendering.render`, read by `corrupted_files`.
"""

import csv
import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dst_jax.errors import UserError

NAME = "images.csv"
_COLUMNS = ("id", "path", "label", "grey")
_GRID = 4  # an image is told by the mean grey levels of so many by so many parts
# Two decoders of one JPEG differ by less in such a mean, two photographs by far more.
_LEVELS = 3


class Index(NamedTuple):
    """The images of a directory, in the order of their numbers.

    Attributes:
      names: the relative paths, with `/`; of an array the rows, as text.
      labels: int64 [N]; None where they are not known.
      grey: uint8 [N, 16], see `grey_of`.
    """

    names: list[str]
    labels: np.ndarray | None
    grey: np.ndarray


def grey_of(images: np.ndarray) -> np.ndarray:
    """Mean grey levels of 4 x 4 parts of each image: uint8 [N, 16] of uint8 [N, H, W, 3]."""
    means = images.mean(-1, dtype=np.float32)
    for axis in (1, 2):
        size = images.shape[axis]
        edges = [*(size * part // _GRID for part in range(_GRID)), size]
        parts = [
            np.take(means, range(low, max(high, low + 1)), axis).mean(axis, keepdims=True)
            for low, high in itertools.pairwise(edges)
        ]
        means = np.concatenate(parts, axis)
    return np.rint(means.reshape(len(images), _GRID**2)).astype(np.uint8)


def look_alike(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Bool [N], whether images of these means may be the same: uint8 [N, 16] each."""
    return np.abs(ours.astype(np.int16) - theirs).max(-1) <= _LEVELS


def table(names: Sequence[str], labels: np.ndarray | None, grey: np.ndarray) -> bytes:
    """The content of `images.csv`: id, path, label ("" where it is not known), grey levels."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    cells = [""] * len(names) if labels is None else labels.tolist()
    levels = (bytes(row).hex() for row in grey)
    writer.writerows(zip(range(len(names)), names, cells, levels, strict=True))
    return text.getvalue().encode("utf-8", "surrogateescape")


def read(folder: Path) -> Index | None:
    """What a folder's `images.csv` says; None where there is none.

    Raises:
      UserError: it is not one of ours, or damaged.
    """
    path = folder / NAME
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        labels = [row["label"] for row in rows]
        grey = [list(bytes.fromhex(row["grey"])) for row in rows]
        return Index(
            [row["path"] for row in rows],
            None if "" in labels else np.array(labels, np.int64),
            np.array(grey, np.uint8).reshape(len(rows), _GRID**2),
        )
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        expected = ",".join(_COLUMNS) + " as dst-jax corrupt writes it"
        raise UserError(str(path), f"an unreadable table ({error})", expected) from None
