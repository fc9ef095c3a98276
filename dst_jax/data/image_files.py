"""Image files of any tree, read as a stream: which there are, their labels and names, and batches.

Nothing is kept in memory but the list of files and two batches that threads decode ahead. A dataset
for trainings, which is kept in memory, is made by `folders`; published corrupted sets are in
`corrupted_files`. Called by `robustness.images` and `corrupted_files`.
"""

import collections
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dst_jax.data.evaluation import padded
from dst_jax.errors import UserError

ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff"),
    *(".gif", ".ppm", ".pgm", ".avif"),
)
# What torchvision's evaluation of ImageNet does: the shorter side to 256, the central 224.
RESIZE, CROP = 256, 224
_THREADS = min(16, os.cpu_count() or 1)
_AHEAD = 2  # batches that are decoded before they are asked for


class ImageFiles(NamedTuple):
    """Image files with a label each, in the order of their names.

    Attributes:
      root: the folder.
      names: paths in the folder with `/`, sorted as text; the position is the image's number.
      labels: int32 [N].
      classes: names of the classes where folders have them, by label; empty: labels were given.
      side: height and width of the images as they are read.
      resize: the shorter side, before the central square of `side` pixels is taken.
    """

    root: Path
    names: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    side: int
    resize: int

    def batches(self, size: int, rows: np.ndarray | None = None) -> Iterator[dict[str, np.ndarray]]:
        """Batches as `data.eval_batches` gives them, of all images or of some.

        Args:
          size: images in a batch.
          rows: numbers of the images, int [M], in the order that they shall have; None: all.

        Raises:
          UserError: a file cannot be read.
        """
        rows = np.arange(len(self.names)) if rows is None else rows
        paths = [self.root / self.names[row] for row in rows]

        def read(path: Path) -> np.ndarray:
            return cropped(opened(path), self.side, self.resize)

        return decoded(paths, read, self.labels[rows], rows, size)


def folder(
    path: str | os.PathLike,
    *,
    image_list: str | os.PathLike = "",
    class_names: Sequence[str] = (),
    side: int = 0,
    resize: int = 0,
) -> ImageFiles:
    """A folder of images as a dataset of `robustness.evaluate`; large ones are read in each pass.

    Args:
      path: a folder of classes, `PATH/CLASS/IMAGE`, whose images may lie deeper; or, with a list,
        any folder.
      image_list: a text file with a line `PATH LABEL` per image, the path from the folder on, the
        label a whole number or one of `class_names`; "": the classes are the folders.
      class_names: the folders in the order of their labels; empty: sorted by name. Folders that
        are not on this list are refused, classes without an image are not.
      side: height and width that the images get; 0: 224, with the shorter side at 256 before.
      resize: the shorter side in pixels before the central square is taken, bilinear and
        antialiased, as torchvision resizes Pillow's images; 0: `side`, so that an image of
        `side` x `side` stays as it is.

    Raises:
      UserError: there is no such folder or no image in it; a folder of no name in `class_names`
        has none, which would move the labels of the others; an image lies in no folder; or a line
        of the list is wrong.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise UserError(str(path), "no folder there", "a folder of images, CLASS/IMAGE")
    if side < 0 or (resize and resize < (side or CROP)):
        found = f"side {side}, resize {resize}"
        raise UserError("side", found, "a side of 1 pixel at least, and a resize of no less")
    if not side:
        side, resize = CROP, resize or RESIZE
    if image_list:
        pairs, classes = _listed(root, Path(image_list).expanduser(), class_names), class_names
    else:
        pairs, classes = _in_folders(root, class_names)
    names, labels = zip(*sorted(pairs), strict=True)
    return ImageFiles(root, names, np.array(labels, np.int32), tuple(classes), side, resize or side)


def _in_folders(
    root: Path, class_names: Sequence[str]
) -> tuple[list[tuple[str, int]], Sequence[str]]:
    entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    folders = [e.name for e in entries if e.is_dir() and not _hidden(e.name)]
    classes = list(class_names) or folders
    if twice := [name for name in classes if classes.count(name) > 1]:
        raise UserError("class_names", f"{twice[0]} twice", "each class once")
    for folder in folders:
        if folder not in classes:
            raise UserError(str(root / folder), "a folder of no class", ", ".join(classes[:20]))
    label_of = {name: label for label, name in enumerate(classes)}
    pairs = [(name, label_of[name.partition("/")[0]]) for name in image_names(root, folders)]
    if not pairs:
        found = f"no image in {len(folders)} folders" if folders else "no folder of a class"
        hint = "For a folder without classes give a list of its images and labels"
        raise UserError(str(root), found, "CLASS/IMAGE, as cat/1.png", hint)
    if loose := [e.name for e in entries if is_image(e.name) and not e.is_dir()]:
        raise UserError(str(root / loose[0]), "an image in no folder of a class", "CLASS/IMAGE")
    if empty := set() if class_names else {*folders} - {classes[label] for _, label in pairs}:
        hint = "Move it away, or name the classes in the order of their labels (class_names)"
        raise UserError(str(root / min(empty)), "no image", "images in the folder of a class", hint)
    return pairs, classes


def image_names(root: Path, folders: Iterable[str]) -> list[str]:
    """The paths with `/` of all image files in some folders of a folder, at any depth."""
    found = []
    for folder in folders:
        for where, below, names in os.walk(root / folder):
            below[:] = [name for name in below if not _hidden(name)]
            inside = Path(where).relative_to(root)
            found += [(inside / name).as_posix() for name in names if is_image(name)]
    return found


def is_image(name: str) -> bool:
    """Whether a file counts as an image, by its name."""
    return not _hidden(name) and name.lower().endswith(ENDINGS)


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def _listed(root: Path, path: Path, class_names: Sequence[str]) -> list[tuple[str, int]]:
    """(path, label) of every line of a list of images."""
    label_of = {name: label for label, name in enumerate(class_names)}
    pairs = []
    for number, line in lines_of(path):
        name, _, text = line.rpartition(" ")
        label = label_of.get(text, int(text) if text.isdecimal() else -1)
        if not name.strip() or label < 0:
            expected = "PATH LABEL, with a whole number" + (" or a class" if class_names else "")
            raise UserError(f"{path}, line {number}", line[:100], expected)
        pairs.append((os.path.normpath(name.strip()).replace(os.sep, "/"), label))
    if not pairs:
        raise UserError(str(path), "no line", "PATH LABEL per image")
    for name, count in collections.Counter(name for name, _ in pairs).items():
        if count > 1:
            raise UserError(str(path), f"{name} {count} times", "each image once")
        if not (root / name).is_file():
            raise UserError(str(path), f"{name}, which is not in {root}", "paths in the folder")
    return pairs


def lines_of(path: Path) -> list[tuple[int, str]]:
    """(number, text) of the lines of a text file, without empty ones and comments (#).

    Raises:
      UserError: it cannot be read.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(str(path), f"an unreadable file ({error})", "a text file") from None
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def as_rgb(image: Image.Image, where: str) -> Image.Image:
    """A Pillow image in RGB, 8 bits a channel; of an animation, the first frame.

    Grey, palette and CMYK images are converted. Of 16 bits the upper 8 are taken, as Pillow does of
    16-bit colour. What is transparent shows white, as on a page (torchvision's datasets drop the
    channel); an opaque alpha channel changes nothing. Rotations that EXIF asks for are not made:
    torchvision's datasets make none.

    Args:
      image: of any mode.
      where: what an error calls it.

    Raises:
      UserError: its pixels have 32 bits, whose range no rule tells.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        wide = np.asarray(image).astype(np.int64)  # Pillow itself would make all beyond 255 white
        return Image.fromarray((wide >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        found = f"pixels of 32 bits, Pillow's mode {image.mode}"
        raise UserError(where, found, "8 or 16 bits per channel")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def opened(path: Path) -> Image.Image:
    """An image file, decoded, in RGB: see `as_rgb`.

    Raises:
      UserError: it is no image, or one of 32 bits per channel.
    """
    try:
        with Image.open(path) as file:
            return as_rgb(file, str(path))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        text = (str(error).splitlines() or [""])[0][:200]
        raise UserError(str(path), f"an unreadable image ({text})", "an image file") from None


def cropped(image: Image.Image, side: int, resize: int) -> np.ndarray:
    """The central square of an RGB image whose shorter side is brought to `resize` pixels.

    As torchvision's `Resize(resize)` and `CenterCrop(side)` on Pillow images: the longer side is
    rounded down, the corner half to even.

    Returns:
      uint8 [side, side, 3].
    """
    width, height = image.size
    shorter = min(width, height)
    if shorter != resize:
        width, height = width * resize // shorter, height * resize // shorter
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def decoded(
    items: Iterable[Any],
    read: Callable[[Any], np.ndarray],
    labels: np.ndarray,
    ids: np.ndarray,
    size: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of what threads decode, two batches ahead; the format is `data.eval_batches`'s.

    Args:
      items: what `read` is given, one per image.
      read: item -> uint8 [H, W, 3], all of one size.
      labels: int [N].
      ids: int [N].
      size: images in a batch.
    """
    left = iter(items)
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting: collections.deque[Future] = collections.deque()

        def ask(count: int) -> None:
            waiting.extend(pool.submit(read, item) for item in itertools.islice(left, count))

        try:
            ask(_AHEAD * size)
            for start in range(0, len(labels), size):
                part = slice(start, min(start + size, len(labels)))
                images = np.stack([waiting.popleft().result() for _ in labels[part]])
                ask(size)
                yield padded(images, labels[part], ids[part], size)
        finally:
            for future in waiting:
                future.cancel()
