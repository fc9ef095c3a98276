"""Published corrupted sets read where they were unpacked, without a copy for TFDS.

    PATH/CORRUPTION/SEVERITY/CLASS/IMAGE   ImageNet-C, -C-bar, -3DCC, Tiny-ImageNet-C; corruptions
                                           may lie two levels deeper, as in noise/
    PATH/CORRUPTION.npy, PATH/labels.npy   CIFAR-10-C, CIFAR-100-C, CIFAR-10-C-bar: severity after
                                           severity

Each image is found by its identity, the name of its file or the number of its row, never by the
order of the files. Called by `robustness.suites` and `robustness.corrupted_images`.
"""

import json
import os
import re
import shlex
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dst_jax.data import corrupted_index, image_files, matching
from dst_jax.data.evaluation import padded
from dst_jax.errors import UserError

_LABELS = "labels.npy"
_FOLDERS = "CORRUPTION/SEVERITY/CLASS/IMAGE as of ImageNet-C"
_LAYOUTS = f"{_FOLDERS}, or the .npy files of CIFAR-10-C"
_SEVERITIES = "12345"
_MANIFEST = "manifest.json"

Batches = Iterator[dict[str, np.ndarray]]  # as `data.eval_batches` gives them
Condition = tuple[str, int]  # corruption, severity


class CleanImages(NamedTuple):
    """The clean images whose counterparts are asked for.

    Attributes:
      names: str [N], their identity: paths of files, or numbers of rows.
      labels: int [N].
      ids: int [N].
      side: (height, width).
    """

    names: Sequence[str]
    labels: np.ndarray
    ids: np.ndarray
    side: tuple[int, ...]


class CorruptedFiles:
    """A corrupted set in a published layout.

    Attributes:
      path: where it lies, as it was given.
      conditions: the (corruption, severity) that are there, sorted.
      index: what `dst-jax corrupt` wrote down of the clean images, if it made the set.
    """

    path: Path
    conditions: tuple[Condition, ...]
    index: corrupted_index.Index | None = None

    @property
    def corruptions(self) -> tuple[str, ...]:
        """The corruptions that are there, each once."""
        return tuple(dict.fromkeys(name for name, _ in self.conditions))

    def checksum(self, corruptions: Sequence[str]) -> str:
        """What tells files of other content apart: 8 hexadecimal digits.

        Of the first image of each of these corruptions at the lowest severity that is there.
        """
        total = 0
        for name in corruptions:
            levels = [severity for found, severity in self.conditions if found == name]
            if levels:
                total = zlib.crc32(self._first(name, min(levels)), total)
        return f"{total:08x}"

    def _first(self, corruption: str, severity: int) -> bytes:
        raise NotImplementedError

    def rows(self, names: Sequence[str]) -> np.ndarray:
        """The numbers in `index` of clean images: int64 [N].

        Raises:
          UserError: one is not there.
        """
        assert self.index is not None
        where = str(self.path / corrupted_index.NAME)
        if not all(name.isdecimal() for name in names):
            return np.array(matching.rows(names, self.index.names, where))
        if (last := max(map(int, names))) >= len(self.index.names):
            found = f"{len(self.index.names)} images, none for the clean image {last}"
            raise UserError(where, found, "a row for each")
        return np.array([int(name) for name in names])

    def batches(self, condition: Condition, clean: CleanImages, size: int) -> Batches:
        """The images of a condition that belong to clean ones, `size` in a batch.

        Raises:
          UserError: the counterpart of an image is not there, is ambiguous, has another label or
            another size, or cannot be read.
        """
        raise NotImplementedError

    def own_batches(
        self, condition: Condition, count: int, side: tuple[int, ...], size: int
    ) -> Batches:
        """All images of a condition in the order of their names, of a set without clean ones.

        Labels are the places of the classes' folders in alphabetic order, ids count from 0.

        Raises:
          UserError: it has not `count` images of (height, width) `side`, or one cannot be read.
        """
        raise UserError(str(self.path), "files without names", f"a folder with {_FOLDERS}")


def open_corrupted(path: str | os.PathLike) -> CorruptedFiles:
    """Looks at which conditions a folder holds; images are looked for when they are read.

    Raises:
      UserError: there is no such folder, or no condition in it.
    """
    top = Path(path).expanduser()
    if not top.is_dir():
        found = "an archive" if top.is_file() else "no folder there"
        hint = _unpack(top, top.parent) if top.is_file() else ""
        raise UserError(str(path), found, f"a folder with {_LAYOUTS}", hint)
    for folder in (top, *_below(top)):
        index = corrupted_index.read(folder)
        if (folder / _LABELS).is_file() or (index and any(folder.glob("*.npy"))):
            return _Arrays(top, folder, index)
    folders: dict[str, dict[int, Path]] = {}
    level = [top]
    for _ in range(3):
        below = [folder for parent in level for folder in _below(parent)]
        level = []
        for folder in below:
            if severities := _severities(folder):
                folders.setdefault(folder.name, severities)
            else:
                level.append(folder)
    if not folders:
        archives = sorted(file for file in top.iterdir() if ".tar" in file.suffixes)
        hint = _unpack(archives[0], top) if archives else ""
        raise UserError(str(path), "no corruption in it", _LAYOUTS, hint)
    return _Folders(top, folders)


def _unpack(archive: Path, folder: Path) -> str:
    return f"Unpack it first: tar -xf {shlex.quote(str(archive))} -C {shlex.quote(str(folder))}"


def _below(folder: Path) -> list[Path]:
    return sorted(Path(e.path) for e in os.scandir(folder) if e.is_dir() and e.name[0] != ".")


def _severities(folder: Path) -> dict[int, Path]:
    """Severity -> its folder: 1 to 5, or five levels as 4.75, which C-bar's generator writes."""
    found = {int(s): folder / s for s in _SEVERITIES if (folder / s).is_dir()}
    if not found:
        levels = [path for path in _below(folder) if re.fullmatch(r"\d+\.\d\d", path.name)]
        if len(levels) == len(_SEVERITIES):
            found = dict(enumerate(sorted(levels, key=lambda path: float(path.name)), 1))
    return found


class _Folders(CorruptedFiles):
    def __init__(self, path: Path, folders: Mapping[str, Mapping[int, Path]]):
        self.path, self._folders = path, folders
        self.index = corrupted_index.read(path)
        self.conditions = tuple((name, s) for name in sorted(folders) for s in folders[name])

    def _images(self, corruption: str, severity: int) -> tuple[Path, list[str]]:
        folder = self._folders[corruption][severity]
        return folder, sorted(image_files.image_names(folder, ["."]))

    def _first(self, corruption: str, severity: int) -> bytes:
        folder, names = self._images(corruption, severity)
        if not names:
            raise UserError(str(folder), "no image", "CLASS/IMAGE")
        return (folder / names[0]).read_bytes()

    def batches(self, condition: Condition, clean: CleanImages, size: int) -> Batches:
        folder, there = self._images(*condition)
        names = clean.names
        if self.index:
            names = [self.index.names[row] for row in self.rows(names)]
        wanted = matching.rows(*matching.without_zeros(names, there), str(folder))
        paths = [there[row] for row in wanted]
        classes: dict[str, int] = {}
        for path, label in zip(paths, clean.labels, strict=True):
            parent = path.rpartition("/")[0]
            if classes.setdefault(parent, int(label)) != label and parent:
                found = f"{path}, whose clean image has another label than others of {parent}"
                raise UserError(str(folder), found, "the images of the clean set")
        return _decoded(folder, paths, clean.labels, clean.ids, clean.side, size)

    def own_batches(
        self, condition: Condition, count: int, side: tuple[int, ...], size: int
    ) -> Batches:
        folder, paths = self._images(*condition)
        if len(paths) != count:
            raise UserError(str(folder), f"{len(paths)} images", f"{count}, as in the clean set")
        classes = sorted({path.partition("/")[0] for path in paths})
        labels = np.array([classes.index(path.partition("/")[0]) for path in paths])
        return _decoded(folder, paths, labels, np.arange(count), side, size)


def _decoded(
    folder: Path,
    paths: Sequence[str],
    labels: np.ndarray,
    ids: np.ndarray,
    side: tuple[int, ...],
    size: int,
) -> Batches:
    def read(path: str) -> np.ndarray:
        image = image_files.opened(folder / path)
        if image.size != (side[1], side[0]):
            found = f"{image.size[0]}x{image.size[1]} pixels"
            expected = f"{side[1]}x{side[0]}, as the clean images"
            raise UserError(str(folder / path), found, expected)
        return np.asarray(image)

    return image_files.decoded(paths, read, labels, ids, size)


class _Arrays(CorruptedFiles):
    def __init__(self, path: Path, folder: Path, index: corrupted_index.Index | None):
        self.path, self._folder, self.index = path, folder, index
        names = sorted(file.stem for file in folder.glob("*.npy") if file.name != _LABELS)
        self._levels = _levels(folder / _MANIFEST)
        blocks = len(self._levels)
        self._labels = None  # as where `corrupt` was given none
        rows = len(index.names) * blocks if index else 0
        if (folder / _LABELS).is_file():
            self._labels = _load(folder / _LABELS)
            rows = self._labels.shape[0] if self._labels.ndim == 1 else 1
            if self._labels.dtype.kind not in "iu" or rows % blocks:
                found = f"{self._labels.dtype} {list(self._labels.shape)}"
                expected = f"whole numbers [{blocks} N], the labels of {blocks} severities"
                raise UserError(str(folder / _LABELS), found, expected)
        self._rows, self._count = rows, rows // blocks
        self.conditions = tuple((name, level) for name in names for level in self._levels)
        if not names:
            raise UserError(str(path), f"{_LABELS} alone", _LAYOUTS)

    def _open(self, corruption: str) -> np.ndarray:
        path = self._folder / f"{corruption}.npy"
        images = _load(path)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[::3] != (self._rows, 3):
            found = f"{images.dtype} {list(images.shape)}"
            listed = _LABELS if self._labels is not None else "severity and image"
            expected = f"uint8 [{self._rows}, H, W, 3], an image per row of {listed}"
            raise UserError(str(path), found, expected)
        return images

    def _first(self, corruption: str, severity: int) -> bytes:
        return self._open(corruption)[self._levels.index(severity) * self._count].tobytes()

    def batches(self, condition: Condition, clean: CleanImages, size: int) -> Batches:
        images = self._open(condition[0])
        path = str(self._folder / f"{condition[0]}.npy")
        if images.shape[1:3] != tuple(clean.side):
            found = f"images of {list(images.shape[1:3])}"
            raise UserError(path, found, f"{list(clean.side)}, as the clean images")
        names = clean.names
        if self.index and not all(name.isdecimal() for name in names):
            names = self.rows(names).astype(str).tolist()
        outside = [name for name in names if not name.isdecimal() or int(name) >= self._count]
        if outside:
            found = f"{self._count} images per severity, none for the clean image {outside[0]}"
            raise UserError(path, found, "a row for each, by its number in the published test set")
        start = self._levels.index(condition[1]) * self._count
        rows = np.array([int(name) for name in names]) + start
        if self._labels is not None:
            matching.check_labels(clean.labels, self._labels[rows], path)
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            yield padded(images[rows[part]], clean.labels[part], clean.ids[part], size)


def _levels(manifest: Path) -> tuple[int, ...]:
    """The severities of the blocks: 1 to 5, or what a manifest of `dst-jax corrupt` says."""
    try:
        found = json.loads(manifest.read_text())
        (levels,) = {tuple(each["severities"]) for each in found["corruptions"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return tuple(map(int, _SEVERITIES))
    return levels


def _load(path: Path) -> np.ndarray:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise ValueError("an archive of several arrays")
        return found
    except (OSError, ValueError, EOFError) as error:
        text = (str(error).splitlines() or [""])[0][:200]
        raise UserError(str(path), f"what cannot be read ({text})", "a .npy file") from None
