"""`--pack=DIR`: the folder to take to a bare machine, which needs nothing else of ours.

It holds our sources, the small packages in pure Python that such a machine lacks, and datasets as
the encoded bytes of their images, compressed without loss (`unpack` reads them). Nothing is ever
deleted or replaced: the folder must be new or empty. Called by `command`.
"""

import importlib.metadata
import io
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import dst_jax
from benchmarks.accelerator import sources, unpack
from dst_jax.corruptions.weather import FROST_FILES
from dst_jax.data import array_files, prepared
from dst_jax.data.datasets import Dataset
from dst_jax.errors import UserError
from dst_jax.runtime import environment
from dst_jax.runtime.run_dir import write_json, write_text

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("dst_jax", "configs", "benchmarks", "run.py", "LICENSE", "docs/accelerator.md")
# What our code imports that JAX, Flax, Optax, Orbax, PyTorch and friends do not bring along.
PACKAGES = ("ml-collections", "clu")
_EXPECTED = "a new or an empty folder"
LIMIT = 60_000_000  # bytes of the whole folder

_RUN = """#!/bin/sh
# Runs the command from this folder; nothing needs to be installed besides JAX, Flax, Optax, Orbax,
# NumPy, SciPy, Pillow, scikit-learn and Matplotlib. PyTorch is used where it is there.
cd "$(dirname "$0")" && exec python3 -m benchmarks.accelerator "$@"
"""


def pack(
    folder: Path, names: Sequence[str], data_dir: str | None = None, frost_dir: str = ""
) -> str:
    """Makes the folder.

    Args:
      folder: where; it must not exist, or be an empty directory.
      names: of datasets; `digits` needs no packing, a run makes them from scikit-learn's.
      data_dir: where they are prepared; None: TFDS's default.
      frost_dir: photographs of frost to take along; "": none.

    Returns:
      What lies in it, with sizes, as text.

    Raises:
      UserError: the folder holds something or lies among our sources, a dataset is not there,
        named twice or of images that a run refuses, or the folder becomes too large.
    """
    folder = Path(os.path.abspath(folder))
    sets_to_pack = _checked(names)
    _refuse_what_is_there(folder)
    _refuse_inside_sources(folder)
    if unpack.packed_dir() is not None:
        raise UserError("--pack", "a packed folder", "a checkout to pack from")
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        try:
            partial.mkdir(parents=True)
        except OSError as error:
            raise UserError("--pack", f"{folder} ({error.strerror})", _EXPECTED) from None
        for name in SOURCES:
            _copy(ROOT / name, partial / name)
        packages = {name: _copy_package(name, partial) for name in PACKAGES}
        sets = {one.name: _pack_data(one, data_dir, partial) for one in sets_to_pack}
        if frost_dir:
            _copy_frost(Path(frost_dir), partial / "frost")
        write_text(partial / "run.sh", _RUN)
        (partial / "run.sh").chmod(0o755)
        facts = {
            "dst_jax": dst_jax.__version__,
            "commit": commit(None),
            "packages": packages,
            "data": sets,
            "frost": bool(frost_dir),
        }
        write_json(partial / unpack.MARK, facts)
        sizes = {path.name: _bytes(path) for path in sorted(partial.iterdir())}
        total = sum(sizes.values())
        if total > LIMIT:
            raise UserError(
                "--pack", f"{total:,} bytes", f"at most {LIMIT:,}", "Name fewer datasets in --data"
            )
        try:
            partial.replace(folder)  # the system refuses it where something lies there by now
        except OSError as error:
            raise UserError("--pack", f"{folder} ({error.strerror})", _EXPECTED) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    lines = [f"{size:12,}  {name}" for name, size in sizes.items()]
    lines += [
        f"{name}: {part['images']:,} {split} images in {part['bytes']:,} bytes ({part['coding']})"
        for name, splits in sets.items()
        for split, part in splits.items()
    ]
    return "\n".join([*lines, f"{total:12,}  bytes in {folder}"])


def _checked(names: Sequence[str]) -> list[Dataset]:
    """The datasets of these names; raises UserError for what the packed folder would refuse."""
    if not names:
        raise UserError("--data", "no name", "names of datasets with commas between them")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError("--data", f"{', '.join(twice)} more than once", "each dataset once")
    return [sources.of_name(name) for name in names]


def _refuse_inside_sources(folder: Path) -> None:
    """A folder inside what is copied would be copied into itself."""
    real = Path(os.path.realpath(folder))
    for name in SOURCES:
        if real.is_relative_to(ROOT / name):
            expected = f"a folder outside of {name}, which is packed"
            raise UserError("--pack", str(folder), expected)


def _refuse_what_is_there(folder: Path) -> None:
    """Also a folder that was packed before is refused: results may lie in it."""
    try:
        taken = os.path.lexists(folder) and any(folder.iterdir())
    except OSError as error:
        raise UserError("--pack", f"{folder} ({error.strerror})", _EXPECTED) from None
    if taken:
        hint = "Pack into another folder, or move that one away first"
        raise UserError("--pack", f"{folder}, which is not empty", _EXPECTED, hint)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        # The figures of earlier measurements are not needed there.
        skipped = shutil.ignore_patterns("__pycache__", "*.pyc", "results")
        shutil.copytree(source, target, ignore=skipped)
    elif source.exists():
        shutil.copy2(source, target)


def _copy_package(name: str, folder: Path) -> str:
    """Copies an installed package in pure Python with its licence; returns its version."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise UserError("--pack", f"no {name} installed", "the packages of dst_jax") from None
    licence = False
    for path in distribution.files or ():
        text = str(path)
        if path.parts[0] == ".." or "__pycache__" in text or text.endswith(("_test.py", ".pyc")):
            continue
        if path.suffix in (".so", ".pyd"):
            raise UserError("--pack", f"{name} with {text}", "a package in pure Python")
        target = folder / text
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(distribution.locate_file(path)), target)
        licence |= "LICENSE" in path.name
    if not licence:
        raise UserError("--pack", f"{name} without a licence file", "one that may be passed on")
    return distribution.version


def _copy_frost(source: Path, target: Path) -> None:
    target.mkdir()
    sources.check_frost(source)
    for name in FROST_FILES:
        shutil.copyfile(source / name, target / name)


def _pack_data(dataset: Dataset, data_dir: str | None, folder: Path) -> dict[str, Any]:
    """Writes `data/NAME/SPLIT.npz` for both splits; returns what is in them."""
    target = folder / "data" / dataset.name
    target.mkdir(parents=True)
    splits = (dataset.train_split, dataset.test_split)
    return {
        split: pack_split(dataset, split, data_dir, target / f"{split}.npz") for split in splits
    }


def pack_split(dataset: Dataset, split: str, data_dir: str | None, path: Path) -> dict[str, Any]:
    """Writes one split: the bytes of all images, their lengths, the labels; says what it is."""
    encoded, labels = [], []
    for content, label in _encoded(dataset, split, data_dir, path.parent):
        encoded.append(content)
        labels.append(label)
    arrays: dict[str, Any] = {
        "encoded": np.frombuffer(b"".join(encoded), np.uint8),
        "lengths": np.array([len(content) for content in encoded], np.int32),
        "labels": np.array(labels, np.int32),
    }
    # Half of a small JPEG is tables that all of them share: compression takes that away.
    np.savez_compressed(path, allow_pickle=False, **arrays)
    return {
        "images": len(labels),
        "bytes": path.stat().st_size,
        "bytes_of_files": sum(map(len, encoded)),
        "coding": "JPEG" if encoded[0][:2] == b"\xff\xd8" else "PNG",
        **unpack.digests(arrays["encoded"].tobytes(), arrays["labels"]),
    }


def _encoded(
    dataset: Dataset, split: str, data_dir: str | None, folder: Path
) -> Iterator[tuple[bytes, int]]:
    """(image as it is encoded, label) in the order of the split; NumPy files become PNG."""
    if files := array_files.directory(dataset, data_dir):
        for image, label in zip(*array_files.read(dataset, split, files), strict=True):
            content = io.BytesIO()
            Image.fromarray(np.asarray(image)).save(content, "PNG")
            yield content.getvalue(), int(label)
        return
    cache = folder / f".{split}.cache"  # where the digits are prepared
    builder = prepared.find(dataset, data_dir, cache)
    try:
        if builder.info.file_format.value == "array_record":
            import tensorflow_datasets as tfds

            skip = {"image": tfds.decode.SkipDecoding()}
            source = builder.as_data_source(split, decoders=skip)
            for index in range(len(source)):
                example = source[index]
                yield bytes(example["image"]), int(example["label"])
            return
        _, records = prepared.open_records(builder, split)
        for record in records.as_numpy_iterator():
            yield record["image"], int(record["label"])
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())


def commit(folder: Path | None) -> str:
    """The commit of the code: of a packed folder, of the checkout that it was packed from."""
    if folder is None:
        return environment.commit()
    return str(unpack.contents(folder)["commit"])
