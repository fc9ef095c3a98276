"""Where corrupted images are written: files in folders, or array files as CIFAR-10-C has.

    OUT/fog/3/cat/1.png      a file per image, in the tree of the inputs      png, jpeg:QUALITY
    OUT/fog.npy              uint8 [severities * N, H, W, 3], in blocks        npy
    OUT/labels.npy           int64 [severities * N], where labels are known

Both know what is finished: a file has its name only once it is whole. Called by `render`.
"""

import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from dst_jax.errors import UserError
from dst_jax.rendering.inputs import Inputs
from dst_jax.runtime.run_dir import write_bytes

_EXPECTED = "png, jpeg:QUALITY with a quality from 1 to 100, or npy"


class Format(NamedTuple):
    """How images are written.

    Attributes:
      kind: "png", "jpeg" or "npy".
      quality: of JPEG, 1 to 100; 0 elsewhere.
    """

    kind: str
    quality: int

    @property
    def text(self) -> str:
        """As the flag has it."""
        return f"{self.kind}:{self.quality}" if self.quality else self.kind

    @property
    def ending(self) -> str:
        """Of an image file."""
        return ".jpg" if self.kind == "jpeg" else ".png"


def parse_format(text: str) -> Format:
    """Reads "png", "jpeg:85" or "npy".

    Raises:
      UserError: it is none of them.
    """
    match = re.fullmatch(r"(png|npy)|jpe?g:(\d{1,3})", text)
    if match and match[1]:
        return Format(match[1], 0)
    if match and 1 <= int(match[2]) <= 100:
        return Format("jpeg", int(match[2]))
    raise UserError("--format", text, _EXPECTED)


class Output(Protocol):
    """What `render` asks of either."""

    def missing(self, corruption: str, severity: int) -> np.ndarray:
        """Bool [N]: the images of a condition that are not finished."""

    def write(self, corruption: str, severity: int, index: int, image: np.ndarray) -> None:
        """Writes one image, uint8 [H, W, 3]; several threads call it."""

    def begin(self, corruption: str) -> None:
        """Says that images of a corruption follow."""

    def finish(self, corruption: str) -> None:
        """Says that all images of a corruption are written."""


class ImageFiles:
    """A file per image.

    Args:
      out: the directory.
      inputs: whose tree it gets.
      form: PNG or JPEG.

    Raises:
      UserError: two images would get one name, or change their order and so their numbers.
    """

    def __init__(self, out: Path, inputs: Inputs, form: Format):
        self._out, self._format = out, form
        digits = len(str(len(inputs.sizes) - 1))
        names = inputs.names or [f"{index:0{digits}d}" for index in range(len(inputs.sizes))]
        stems = [os.path.splitext(name)[0] if inputs.names else name for name in names]
        self._names = [stem + form.ending for stem in stems]
        for before, after, first, second in zip(
            self._names, self._names[1:], names, names[1:], strict=False
        ):
            if before >= after:
                raise UserError(
                    "--format",
                    f"{form.text}, as which {first} and {second} are {before} and {after}",
                    "images that keep their order, and so their numbers, with another ending",
                    "Rename one of them",
                )

    def missing(self, corruption: str, severity: int) -> np.ndarray:
        """Bool [N]: whose file is not there, or empty, as after a power failure."""
        folder = self._out / corruption / str(severity)
        there: dict[str, set[str]] = {}  # folder -> its files

        def is_there(name: str) -> bool:
            parent, _, file = name.rpartition("/")
            if parent not in there:
                try:
                    with os.scandir(folder / parent) as entries:
                        there[parent] = {e.name for e in entries if e.stat().st_size}
                except FileNotFoundError:
                    there[parent] = set()
            return file in there[parent]

        return np.array([not is_there(name) for name in self._names])

    def write(self, corruption: str, severity: int, index: int, image: np.ndarray) -> None:
        """Writes a file under another name and renames it."""
        path = self._out / corruption / str(severity) / self._names[index]
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        if self._format.kind == "jpeg":
            Image.fromarray(image).save(part, "JPEG", quality=self._format.quality)
        else:
            Image.fromarray(image).save(part, "PNG")
        os.replace(part, path)

    def begin(self, corruption: str) -> None:
        """Nothing: each file stands for itself."""

    def finish(self, corruption: str) -> None:
        """Nothing."""


class ArrayFiles:
    """A file per corruption, with the severities in blocks, as CIFAR-10-C is published.

    Args:
      out: the directory.
      inputs: images of one size.
      severities: the blocks, in their order.

    Raises:
      UserError: the images have several sizes.
    """

    def __init__(self, out: Path, inputs: Inputs, severities: Sequence[int]):
        self._out, self._severities = out, list(severities)
        self._n = len(inputs.sizes)
        self._parts: dict[str, np.memmap] = {}
        if len(found := sorted(set(inputs.sizes))) > 1:
            sizes = f"images of {len(found)} sizes, as {found[0]} and {found[-1]}"
            hint = "--resize=256 --crop=224 gives them one"
            raise UserError("--format=npy", sizes, "images of one size", hint)
        self._side, self._labels = inputs.sizes[0], inputs.labels

    def missing(self, corruption: str, severity: int) -> np.ndarray:
        """Bool [N]: all of them, or none."""
        return np.full(self._n, not (self._out / f"{corruption}.npy").exists())

    def write(self, corruption: str, severity: int, index: int, image: np.ndarray) -> None:
        """Lays an image into the file that is not finished."""
        row = self._severities.index(severity) * self._n + index
        self._parts[corruption][row] = image

    def begin(self, corruption: str) -> None:
        """Makes the file that is not finished, whatever lies there from an earlier call."""
        path = self._out / "labels.npy"
        if self._labels is not None and not path.exists():
            write_bytes(path, _npy(np.tile(self._labels, len(self._severities))))
        shape = (len(self._severities) * self._n, *self._side, 3)
        path = self._out / f".{corruption}.npy.part"
        self._parts[corruption] = np.lib.format.open_memmap(path, "w+", np.uint8, shape)

    def finish(self, corruption: str) -> None:
        """Gives the file its name."""
        self._parts.pop(corruption).flush()
        os.replace(self._out / f".{corruption}.npy.part", self._out / f"{corruption}.npy")


def _npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()
