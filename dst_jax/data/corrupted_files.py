"""Published corrupted sets read where they were unpacked, without a copy for TFDS.

    PATH/CORRUPTION/SEVERITY/CLASS/IMAGE   ImageNet-C, -C-bar, -3DCC, Tiny-ImageNet-C; corruptions
                                           may lie two levels deeper, as in noise/
    PATH/CORRUPTION.npy, PATH/labels.npy   CIFAR-10-C, CIFAR-100-C: severity after severity

Each image is found by its identity, the name of its file or the number of its row, never by the
order of the files. Called by `robustness.suites` and `robustness.corrupted_images`.
"""

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from dst_jax.data import image_files
from dst_jax.data.evaluation import padded
from dst_jax.data.image_names import stem
from dst_jax.errors import UserError

_LABELS = "labels.npy"
_FOLDERS = "CORRUPTION/SEVERITY/CLASS/IMAGE as of ImageNet-C"
_LAYOUTS = f"{_FOLDERS}, or the .npy files of CIFAR-10-C"
_SEVERITIES = "12345"
_MANIFEST = "manifest.json"


class CorruptedFiles:
    """A corrupted set in a published layout.

    Attributes:
      path: where it lies, as it was given.
      conditions: the (corruption, severity) that are there, sorted.
    """

    path: Path
    conditions: tuple[tuple[str, int], ...]

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

    def batches(
        self,
        condition: tuple[str, int],
        names: Sequence[str],
        labels: np.ndarray,
        ids: np.ndarray,
        side: tuple[int, ...],
        size: int,
    ) -> Iterator[dict[str, np.ndarray]]:
        """The images of a condition that belong to clean ones, as `data.eval_batches` gives them.

        Args:
          condition: one of `conditions`.
          names: str [N], the identity of the clean images: paths of files, or numbers of rows.
          labels: int [N], theirs.
          ids: int [N], theirs.
          side: (height, width) of the clean images.
          size: images in a batch.

        Raises:
          UserError: the counterpart of an image is not there, is ambiguous, has another label or
            another size, or cannot be read.
        """
        raise NotImplementedError

    def own_batches(
        self, condition: tuple[str, int], count: int, side: tuple[int, ...], size: int
    ) -> Iterator[dict[str, np.ndarray]]:
        """All images of a condition in the order of their names, of a set without clean ones.

        Labels are the places of the classes' folders in alphabetic order, ids count from 0.

        Args:
          condition: one of `conditions`.
          count: images that it must have.
          side: (height, width) that they must have.
          size: images in a batch.

        Raises:
          UserError: it has another number of images, or one cannot be read.
        """
        raise UserError(str(self.path), "files without names", f"a folder with {_FOLDERS}")


def open_corrupted(path: str | os.PathLike) -> CorruptedFiles:
    """Looks at which conditions a folder holds; images are looked for when they are read.

    Raises:
      UserError: there is no such folder, or no condition in it.
    """
    top = Path(path).expanduser()
    if not top.is_dir():
        hint = "Unpack it first" if top.is_file() else ""
        raise UserError(str(path), "no folder there", f"a folder with {_LAYOUTS}", hint)
    for folder in (top, *_below(top)):
        if (folder / _LABELS).is_file():
            return _Arrays(top, folder)
    folders: dict[str, Path] = {}
    level = [top]
    for _ in range(3):
        below = [folder for parent in level for folder in _below(parent)]
        for folder in below:
            if any((folder / severity).is_dir() for severity in _SEVERITIES):
                folders.setdefault(folder.name, folder)
        found = set(folders.values())
        level = [folder for folder in below if folder not in found]
    if not folders:
        raise UserError(str(path), "no corruption in it", _LAYOUTS)
    return _Folders(top, folders)


def _below(folder: Path) -> list[Path]:
    return sorted(Path(e.path) for e in os.scandir(folder) if e.is_dir() and e.name[0] != ".")


class _Folders(CorruptedFiles):
    def __init__(self, path: Path, folders: Mapping[str, Path]):
        self.path, self._folders = path, folders
        self.conditions = tuple(
            (name, int(severity))
            for name, folder in sorted(folders.items())
            for severity in _SEVERITIES
            if (folder / severity).is_dir()
        )

    def _first(self, corruption: str, severity: int) -> bytes:
        folder = self._folders[corruption] / str(severity)
        names = sorted(image_files.image_names(folder, ["."]))
        if not names:
            raise UserError(str(folder), "no image", "CLASS/IMAGE")
        return (folder / names[0]).read_bytes()

    def batches(
        self,
        condition: tuple[str, int],
        names: Sequence[str],
        labels: np.ndarray,
        ids: np.ndarray,
        side: tuple[int, ...],
        size: int,
    ) -> Iterator[dict[str, np.ndarray]]:
        folder = self._folders[condition[0]] / str(condition[1])
        there = image_files.image_names(folder, ["."])
        paths = [there[row] for row in matching_rows(names, there, str(folder))]
        classes: dict[str, int] = {}
        for path, label in zip(paths, labels, strict=True):
            parent = path.rpartition("/")[0]
            if classes.setdefault(parent, int(label)) != label and parent:
                found = f"{path}, whose clean image has another label than others of {parent}"
                raise UserError(str(folder), found, "the images of the clean set")
        return _decoded(folder, paths, labels, ids, side, size)

    def own_batches(
        self, condition: tuple[str, int], count: int, side: tuple[int, ...], size: int
    ) -> Iterator[dict[str, np.ndarray]]:
        folder = self._folders[condition[0]] / str(condition[1])
        paths = sorted(image_files.image_names(folder, ["."]))
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
) -> Iterator[dict[str, np.ndarray]]:
    def read(path: str) -> np.ndarray:
        image = image_files.opened(folder / path)
        if image.size != (side[1], side[0]):
            found = f"{image.size[0]}x{image.size[1]} pixels"
            expected = f"{side[1]}x{side[0]}, as the clean images"
            raise UserError(str(folder / path), found, expected)
        return np.asarray(image)

    return image_files.decoded(paths, read, labels, ids, size)


class _Arrays(CorruptedFiles):
    def __init__(self, path: Path, folder: Path):
        self.path, self._folder = path, folder
        self._labels = _load(folder / _LABELS)
        names = sorted(file.stem for file in folder.glob("*.npy") if file.name != _LABELS)
        self._levels = _levels(folder / _MANIFEST)
        blocks = len(self._levels)
        rows = self._labels.shape[0] if self._labels.ndim == 1 else 1
        if self._labels.dtype.kind not in "iu" or rows % blocks:
            found = f"{self._labels.dtype} {list(self._labels.shape)}"
            expected = f"whole numbers [{blocks} N], the labels of {blocks} severities"
            raise UserError(str(folder / _LABELS), found, expected)
        self._count = rows // blocks
        self.conditions = tuple((name, level) for name in names for level in self._levels)
        if not names:
            raise UserError(str(path), f"{_LABELS} alone", _LAYOUTS)

    def _open(self, corruption: str) -> np.ndarray:
        path = self._folder / f"{corruption}.npy"
        images = _load(path)
        rows = len(self._labels)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[::3] != (rows, 3):
            found = f"{images.dtype} {list(images.shape)}"
            expected = f"uint8 [{rows}, H, W, 3], an image per row of {_LABELS}"
            raise UserError(str(path), found, expected)
        return images

    def _first(self, corruption: str, severity: int) -> bytes:
        return self._open(corruption)[self._levels.index(severity) * self._count].tobytes()

    def batches(
        self,
        condition: tuple[str, int],
        names: Sequence[str],
        labels: np.ndarray,
        ids: np.ndarray,
        side: tuple[int, ...],
        size: int,
    ) -> Iterator[dict[str, np.ndarray]]:
        images = self._open(condition[0])
        path = str(self._folder / f"{condition[0]}.npy")
        if images.shape[1:3] != tuple(side):
            found = f"images of {list(images.shape[1:3])}"
            raise UserError(path, found, f"{list(side)}, as the clean images")
        outside = [name for name in names if not name.isdecimal() or int(name) >= self._count]
        if outside:
            found = f"{self._count} images per severity, none for the clean image {outside[0]}"
            raise UserError(path, found, "a row for each, by its number in the published test set")
        start = self._levels.index(condition[1]) * self._count
        rows = np.array([int(name) for name in names]) + start
        check_labels(labels, self._labels[rows], path)
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            yield padded(images[rows[part]], labels[part], ids[part], size)


def _levels(manifest: Path) -> tuple[int, ...]:
    """The severities of the blocks: 1 to 5, or what a manifest of `dst-jax corrupt` says."""
    try:
        found = json.loads(manifest.read_text())
        (levels,) = {tuple(each["severities"]) for each in found["corruptions"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return tuple(map(int, _SEVERITIES))
    return levels


def matching_rows(wanted: Sequence[str], there: Sequence[str], where: str) -> list[int]:
    """Where images lie in another list, by class and file name or, if that is not it, file name.

    Endings do not count: the published copies of a PNG may be JPEGs.

    Args:
      wanted: paths of files, N.
      there: paths of files, M.
      where: what an error calls the list.

    Returns:
      N indices into `there`.

    Raises:
      UserError: one is missing, or a name is there twice.
    """
    problem = ""
    for depth in (2, 1):
        asked, found = ([_key(name, depth) for name in list_] for list_ in (wanted, there))
        row_of = {key: row for row, key in enumerate(found)}
        missing = [name for name, key in zip(wanted, asked, strict=True) if key not in row_of]
        if not missing and len(row_of) == len(found) and len(set(asked)) == len(asked):
            return [row_of[key] for key in asked]
        problem = f"{len(wanted) - len(missing)} of {len(wanted)} images"
        problem += f", not {missing[0]}" if missing else ", and several of the same name"
    raise UserError(where, problem, "the counterpart of every clean image, by the name of its file")


def _key(name: str, depth: int) -> str:
    parts = name.split("/")
    return "/".join([*parts[-depth:-1], stem(parts[-1])] if depth > 1 else [stem(parts[-1])])


def check_labels(clean: np.ndarray, corrupted: np.ndarray, where: str) -> None:
    """Raises UserError unless the labels of matched images agree."""
    agree = int(np.sum(np.asarray(clean) == np.asarray(corrupted)))
    if agree != len(clean):
        raise UserError(
            where,
            f"images of which {agree} of {len(clean)} have the label of the clean image",
            "the images of the clean set, in its published order",
        )


def _load(path: Path) -> np.ndarray:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise ValueError("an archive of several arrays")
        return found
    except (OSError, ValueError, EOFError) as error:
        text = (str(error).splitlines() or [""])[0][:200]
        raise UserError(str(path), f"what cannot be read ({text})", "a .npy file") from None
