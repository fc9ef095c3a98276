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

from dst_jax.errors import UserError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


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
    source: str | os.PathLike, labels: str, resize: int, crop: int, pool: Executor
) -> Inputs:
    """Opens a folder of images or an array file, and looks at every file once.

    Args:
      source: a folder, or a `.npy` of uint8 [N, H, W, 3].
      labels: a `.npy` of whole numbers [N], for an array; "": none.
      resize: the shorter side of a folder's images in pixels, bilinear, as ImageNet's are prepared;
        0: as they are.
      crop: side of the square that is cut from the middle; 0: all of the image.
      pool: reads files side by side.

    Raises:
      UserError: it is neither, or an image cannot be read.
    """
    path = Path(source)
    if path.suffix == ".npy":
        if resize or crop:
            flag = "--resize" if resize else "--crop"
            raise UserError(
                flag, "an array file", "a folder of images, which have sizes of their own"
            )
        return _array(path, labels)
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise UserError(str(path), found, "a folder of images, or a .npy of uint8 [N, H, W, 3]")
    if labels:
        raise UserError("--labels", "a folder of images", "no labels: its folders are the classes")
    return _folder(path, resize, crop, pool)


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


def _folder(path: Path, resize: int, crop: int, pool: Executor) -> Inputs:
    names = relative_paths(path)
    if not names:
        raise UserError(str(path), "no image", "files *" + ", *".join(ENDINGS) + ", in any tree")

    def look(name: str) -> tuple[tuple[int, int], str]:
        try:
            with Image.open(path / name) as file:
                width, height = file.size
        except _UNREADABLE as error:
            raise _unreadable(path / name, error) from None
        height, width = _resized(height, width, resize)
        if crop and min(height, width) < crop:
            found = f"{crop}, but {path / name} has {height} x {width} pixels"
            hint = "--resize makes its shorter side longer"
            raise UserError("--crop", found, "at most the shorter side of each image", hint)
        return (crop, crop) if crop else (height, width), _digest_of_file(path / name)

    sizes, digests = zip(*pool.map(look, names), strict=True)
    labels, classes = _classes(names)
    return Inputs(
        "folder",
        tuple(names),
        labels,
        classes,
        tuple(sizes),
        _digest_of_text(f"{name}\n{digest}\n" for name, digest in zip(names, digests, strict=True)),
        lambda index: _decode(path / names[index], resize, crop),
    )


def relative_paths(folder: Path) -> list[str]:
    """The images of a folder as texts with `/`, sorted: the place of each is its number."""
    found = []
    for directory, below, files in os.walk(folder, followlinks=True):
        below[:] = [name for name in below if not _hidden(name)]
        for name in files:
            if name.lower().endswith(ENDINGS) and not _hidden(name):
                found.append((Path(directory) / name).relative_to(folder).as_posix())
    return sorted(found)


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def _classes(names: Sequence[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels by the outermost folder, numbered by name; none where an image lies in no folder."""
    if any("/" not in name for name in names):
        return None, ()
    folders = [name.partition("/")[0] for name in names]
    classes = sorted(set(folders))
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number[name] for name in folders], np.int64), tuple(classes)


def _resized(height: int, width: int, resize: int) -> tuple[int, int]:
    """Height and width once the shorter side is `resize`; the longer one is rounded down."""
    shorter = min(height, width)
    if not resize or shorter == resize:
        return height, width
    return tuple(resize if n == shorter else resize * n // shorter for n in (height, width))  # type: ignore[return-value]


def _decode(path: Path, resize: int, crop: int) -> np.ndarray:
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except _UNREADABLE as error:
        raise _unreadable(path, error) from None
    height, width = _resized(image.height, image.width, resize)
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    if crop:
        top, left = round((height - crop) / 2), round((width - crop) / 2)
        image = image.crop((left, top, left + crop, top + crop))
    return np.asarray(image)


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(str(path), f"an unreadable image ({error})", "an image file")


def _digest_of_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of_text(lines: Iterable[str]) -> str:
    content = hashlib.sha256()
    for line in lines:
        content.update(line.encode("utf-8", "surrogateescape"))
    return content.hexdigest()
