"""The data of a packed folder, decoded with Pillow on all cores into NumPy files.

`dst_jax.data.array_files` reads those, so that training, evaluation and report need no TFDS. Called
by `command`; `pack` writes what is read here.
"""

import io
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import dst_jax
from dst_jax import data
from dst_jax.data import array_files
from dst_jax.errors import UserError

MARK = "pack.json"  # lies in a packed folder only
_PORTION = 1000  # images that a thread decodes at a time


def packed_dir() -> Path | None:
    """The packed folder that this code runs from, or None."""
    folder = Path(dst_jax.__file__).resolve().parents[1]
    return folder if (folder / MARK).exists() else None


def choose(folder: Path, name: str) -> str:
    """The packed dataset of that name, or the first one.

    Raises:
      UserError: there is none of that name or none at all, or the folder's list is damaged.
    """
    try:
        known = list(json.loads((folder / MARK).read_text())["data"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(str(folder / MARK), f"a damaged file ({error})", "pack.json") from None
    if not known or (name and name not in known):
        raise UserError("--data", name or "none", "packed here: " + (", ".join(known) or "nothing"))
    return name or known[0]


def frost_dir(folder: Path | None) -> str:
    """The photographs of frost in a packed folder; "" where there are none."""
    found = folder / "frost" if folder else None
    return str(found) if found and found.is_dir() else ""


def unpack(folder: Path, name: str, target: Path) -> str:
    """Decodes a packed dataset into `target / name`, unless it is there.

    Args:
      folder: the packed folder.
      name: of the dataset.
      target: what the library takes as `data_dir`.

    Returns:
      What was done, as a sentence.

    Raises:
      UserError: a file is missing or damaged, or an image cannot be decoded.
    """
    dataset = data.get(name)
    began, done = time.perf_counter(), []
    for split in (dataset.train_split, dataset.test_split):
        path = folder / "data" / name / f"{split}.npz"
        encoded, offsets, labels = _open(path)
        if _is_there(dataset, split, target, len(labels)):
            continue
        images = np.empty((len(labels), *dataset.image_shape), np.uint8)

        def decode(
            start: int,
            images: np.ndarray = images,
            encoded: bytes = encoded,
            offsets: Any = offsets,
            path: Path = path,
        ) -> None:
            for index in range(start, min(start + _PORTION, len(images))):
                content = encoded[offsets[index] : offsets[index + 1]]
                try:
                    with Image.open(io.BytesIO(content)) as image:
                        images[index] = np.asarray(image.convert("RGB"))
                except (OSError, ValueError) as error:
                    text = f"image {index} that cannot be decoded ({error})"
                    raise UserError(str(path), text, "intact images", "Pack it again") from None

        # Pillow lets go of the interpreter while it decodes.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(decode, range(0, len(labels), _PORTION)))
        array_files.write(dataset, split, images, labels, target)
        done.append(f"{len(labels):,} {split}")
    if not done:
        return f"{name}: unpacked before"
    return f"{name}: {' and '.join(done)} images decoded in {time.perf_counter() - began:.1f} s"


def _open(path: Path) -> tuple[bytes, np.ndarray, np.ndarray]:
    """(bytes of all images, where each begins, int64 [N + 1], labels int32 [N])."""
    try:
        # Opened here: of a file that is no archive NumPy would leave the handle open.
        with open(path, "rb") as content, np.load(content, allow_pickle=False) as file:
            encoded, lengths, labels = (file[name] for name in ("encoded", "lengths", "labels"))
    except Exception as error:  # zipfile and zlib have many
        text = f"an unreadable file ({type(error).__name__}: {error})"
        raise UserError(str(path), text, "a packed split", "Pack it again") from None
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    if offsets[-1] != encoded.size or len(labels) != len(lengths):
        raise UserError(str(path), "lengths that do not fit", "a packed split", "Pack it again")
    return encoded.tobytes(), offsets, labels


def _is_there(dataset: Any, split: str, target: Path, count: int) -> bool:
    folder = array_files.directory(dataset, target)
    try:
        return folder is not None and len(array_files.read(dataset, split, folder)[1]) == count
    except UserError:
        return False  # written again
