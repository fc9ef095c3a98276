"""The images that are corrupted: a folder of any tree, or an array file. Read, sized, numbered.

The number of an image (its id, from which its random numbers are drawn) is its position in the
sorted list of the relative paths, as text with `/`, from 0; in an array its row. Called by
`render`.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dst_jax.data.image_files import ENDINGS, cropped, image_names, opened
from dst_jax.errors import UserError


class Inputs(NamedTuple):
    """Images that can be read, each by its number.

    Attributes:
      kind: "folder" or "array".
      names: the relative paths of a folder's images, sorted; empty for an array.
      labels: int64 [N], or None where they are not known.
      classes: the folders that number the labels of a folder's images; empty for an array.
      sizes: (height, width) of each as `read` gives it.
      digest: SHA-256 of all that is read, file names included.
      read: number -> uint8 [H, W, 3].
    """

    kind: str
    names: tuple[str, ...]
    labels: np.ndarray | None
    classes: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    digest: str
    read: Callable[[int], np.ndarray]


def open_inputs(
    source: str | os.PathLike, labels: str, side: int, resize: int, pool: Executor
) -> Inputs:
    """Opens a folder of images or an array file, and looks at every file once.

    Args:
      source: a folder, or a `.npy` of uint8 [N, H, W, 3].
      labels: a `.npy` of whole numbers [N], for an array; "": none.
      side: height and width that a folder's images get, see `data.image_files.cropped`; 0: as they
        are, each in its own size.
      resize: the shorter side before the central square is taken; 0: `side`.
      pool: reads files side by side.

    Raises:
      UserError: it is neither, or an image cannot be read.
    """
    path = Path(source)
    if path.suffix == ".npy":
        if side or resize:
            flag = "--side" if side else "--resize"
            raise UserError(flag, "an array file", "a folder, whose images have sizes of their own")
        return _array(path, labels)
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise UserError(str(path), found, "a folder of images, or a .npy of uint8 [N, H, W, 3]")
    if labels:
        raise UserError("--labels", "a folder of images", "no labels: its folders are the classes")
    if resize and not 0 < side <= resize:
        raise UserError("--resize", f"{resize} with --side={side}", "at least a side that is given")
    return _folder(path, side, resize or side, pool)


def _array(path: Path, labels_path: str) -> Inputs:
    images = _load(path)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not len(images):
        found = f"{images.dtype} {list(images.shape)}"
        raise UserError(str(path), found, "images uint8 [N, H, W, 3], 0 to 255, RGB")
    labels = None
    if labels_path:
        labels = np.asarray(_load(Path(labels_path)))
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            found = f"{labels.dtype} {list(labels.shape)} for {len(images):,} images"
            raise UserError(f"--labels={labels_path}", found, "one whole number per image")
        labels = labels.astype(np.int64)
    height, width = map(int, images.shape[1:3])
    digest = hashlib.sha256(_digest_of_file(path).encode())
    digest.update(b"" if labels is None else labels.tobytes())
    sizes = ((height, width),) * len(images)
    return Inputs("array", (), labels, (), sizes, digest.hexdigest(), lambda i: np.array(images[i]))


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(str(path), "no such file", "a .npy file") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(str(path), f"an unreadable file ({error})", "a .npy file") from None


def _folder(path: Path, side: int, resize: int, pool: Executor) -> Inputs:
    names = relative_paths(path)
    if not names:
        raise UserError(str(path), "no image", "files *" + ", *".join(ENDINGS) + ", in any tree")

    def look(name: str) -> tuple[tuple[int, int], str]:
        try:
            with Image.open(path / name) as file:
                width, height = file.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            opened(path / name)  # which tells what it is
            raise
        return (side, side) if side else (height, width), _digest_of_file(path / name)

    def read(index: int) -> np.ndarray:
        image = opened(path / names[index])
        return cropped(image, side, resize) if side else np.asarray(image)

    sizes, digests = zip(*pool.map(look, names), strict=True)
    labels, classes = _classes(names)
    lines = (f"{name}\n{digest}\n" for name, digest in zip(names, digests, strict=True))
    return Inputs(
        "folder", tuple(names), labels, classes, tuple(sizes), _digest_of_text(lines), read
    )


def relative_paths(folder: Path) -> list[str]:
    """The images of a folder as texts with `/`, sorted: the place of each is its number."""
    return sorted(image_names(folder, ["."]))


def _classes(names: Sequence[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels by the outermost folder, numbered by name; none where an image lies in no folder."""
    if any("/" not in name for name in names):
        return None, ()
    folders = [name.partition("/")[0] for name in names]
    classes = sorted(set(folders))
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number[name] for name in folders], np.int64), tuple(classes)


def _digest_of_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of_text(lines: Iterable[str]) -> str:
    content = hashlib.sha256()
    for line in lines:
        content.update(line.encode("utf-8", "surrogateescape"))
    return content.hexdigest()
