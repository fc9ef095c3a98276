"""The data of a packed folder, decoded with Pillow on all cores into NumPy files.

`dst_jax.data.array_files` reads those, so that training, evaluation and report need no TFDS. Called
by `command`; `pack` writes what is read here.
"""

import hashlib
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
from dst_jax.runtime.run_dir import write_json

MARK = "pack.json"  # lies in a packed folder only
_KEYS = ("dst_jax", "data", "packages")  # what tells ours from any other file of that name
_DIGESTS = ("sha256", "labels_sha256")
_PORTION = 1000  # images that a thread decodes at a time


def packed_dir() -> Path | None:
    """The packed folder that this code runs from, or None."""
    folder = Path(dst_jax.__file__).resolve().parents[1]
    try:
        facts = json.loads((folder / MARK).read_text())
    except (OSError, ValueError):
        # A damaged list is told by `choose`.
        return folder if (folder / MARK).is_file() else None
    return folder if isinstance(facts, dict) and all(key in facts for key in _KEYS) else None


def digests(encoded: bytes, labels: np.ndarray) -> dict[str, str]:
    """SHA-256 of a split's encoded images, one after the other, and of its labels as int32."""
    content = np.asarray(labels, "<i4").tobytes()
    return {
        "sha256": hashlib.sha256(encoded).hexdigest(),
        "labels_sha256": hashlib.sha256(content).hexdigest(),
    }


def contents(folder: Path) -> dict[str, Any]:
    """What a packed folder's list says, with at least "commit" and "data".

    Raises:
      UserError: the list is damaged.
    """
    path = folder / MARK
    try:
        found = json.loads(path.read_text())
        for key, kind in (("commit", str), ("data", dict)):
            if not isinstance(found[key], kind):
                raise TypeError(f"{key!r} is no {kind.__name__}")
    except (OSError, ValueError, LookupError, TypeError) as error:
        text = f"a damaged file ({type(error).__name__}: {error})"
        raise UserError(str(path), text, "a packed folder's list", "Pack it again") from None
    return dict(found)


def choose(folder: Path, name: str) -> str:
    """The packed dataset of that name, or the first one.

    Raises:
      UserError: there is none of that name or none at all, or the folder's list is damaged.
    """
    known = names(folder)
    if not known or (name and name not in known):
        raise UserError("--data", name or "none", "packed here: " + (", ".join(known) or "nothing"))
    return name or known[0]


def names(folder: Path) -> list[str]:
    """The packed datasets; raises UserError where the folder's list is damaged."""
    return list(contents(folder)["data"])


def frost_dir(folder: Path | None) -> str:
    """The photographs of frost in a packed folder; "" where there are none."""
    found = folder / "frost" if folder else None
    return str(found) if found and found.is_dir() else ""


def unpack(folder: Path, name: str, target: Path) -> str:
    """Decodes a packed dataset into `target / name`, unless what it wrote before is there.

    The files are digested at each call: ones that were changed or replaced are written again.

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
    began, done, changed = time.perf_counter(), [], False
    for split in (dataset.train_split, dataset.test_split):
        path = folder / "data" / name / f"{split}.npz"
        encoded, offsets, labels = _open(path)
        found = digests(encoded, labels)
        if found != _promised(folder, name, split):
            text = "images or labels other than those that were packed"
            raise UserError(str(path), text, f"those of {MARK}", "Pack it again")
        mark = target / name / f"{split}.packed.json"
        before, there = _content(mark), _digests_of_arrays(mark.parent, split)
        if there and before == {**found, **there}:
            continue
        if there and isinstance(before, dict):
            changed |= any(before.get(key, value) != value for key, value in there.items())
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
                    images[index] = _decode(content, images.shape[1:])
                except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all three
                    text = f"image {index} that cannot be decoded ({error})"
                    raise UserError(str(path), text, "intact images", "Pack it again") from None

        # Pillow lets go of the interpreter while it decodes.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(decode, range(0, len(labels), _PORTION)))
        mark.unlink(missing_ok=True)
        array_files.write(dataset, split, images, labels, target)
        # Last: it vouches for both arrays.
        write_json(mark, {**found, **_digests_of_arrays(mark.parent, split)})
        done.append(f"{len(labels):,} {split}")
    if not done:
        return f"{name}: unpacked before"
    text = f"{name}: {' and '.join(done)} images decoded in {time.perf_counter() - began:.3g} s"
    return f"{text}; {target / name} held others than were unpacked there" if changed else text


def _decode(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The pixels of one encoded image, uint8 [H, W, 3]; raises if cut off or of other size."""
    with Image.open(io.BytesIO(content)) as image:
        image.verify()  # checksums of a PNG; the file must be opened again after it
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        pixels = np.asarray(image.convert("RGB"))
    if pixels.shape != shape:  # an assignment would spread a single pixel over the image
        raise ValueError(f"{list(pixels.shape)} in place of {list(shape)}")
    return pixels


def _promised(folder: Path, name: str, split: str) -> dict[str, str]:
    """The digests that were written down when the folder was packed."""
    path = folder / MARK
    try:
        facts = json.loads(path.read_text())["data"][name][split]
        return {key: str(facts[key]) for key in _DIGESTS}
    except (OSError, ValueError, LookupError, TypeError) as error:
        text = f"no digests of {name}, {split} ({type(error).__name__})"
        raise UserError(str(path), text, "a packed folder's list", "Pack it again") from None


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


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


def _digests_of_arrays(folder: Path, split: str) -> dict[str, str]:
    """SHA-256 of both NumPy files of a split; {} where one is missing or cannot be read."""
    found = {}
    for kind in ("images", "labels"):
        try:
            with open(folder / f"{split}.{kind}.npy", "rb") as file:
                found[f"{kind}_file_sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return {}
    return found
