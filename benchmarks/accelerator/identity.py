"""What a record depends on besides the flags: code, versions, XLA's flags, images, frost.

A later call keeps a record only where all of it is the same (`loop`), and the study names its run
directories by it (`study_runs`). Nothing here touches a device or decodes an image.
"""

import functools
import hashlib
import importlib.metadata
import os
from collections.abc import Iterable
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = (
    *("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu"),
    *("flax", "optax", "orbax-checkpoint", "numpy", "pillow", "torch"),
)
_WHOLE = 1 << 20  # bytes of a file that is read whole
_SAMPLES, _SAMPLE = 16, 1 << 16  # of a larger one: places, evenly apart, and bytes at each


@functools.cache
def code() -> str:
    """Of all sources that a part may run; the same in a checkout and in a folder packed from it."""
    files = [*(_ROOT / "dst_jax").rglob("*.py"), *(_ROOT / "benchmarks").glob("*.py")]
    files += (_ROOT / "benchmarks" / "accelerator").glob("*.py")
    return _of_files(_ROOT, files)


@functools.cache
def versions() -> dict[str, str]:
    """Of the packages that figures depend on; those that are not there are left out."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def xla_flags() -> str:
    """What the environment tells XLA."""
    return os.environ.get("XLA_FLAGS", "")


def data(name: str, data_dir: str | None) -> str:
    """Of the files of a dataset: their names, sizes and bytes, of large ones at 16 places.

    Args:
      name: of the dataset.
      data_dir: where it is, as `dst_jax` takes it; None: TFDS's default.
    """
    from dst_jax.data import array_files

    root = data_dir or array_files.default_data_dir()
    if "://" in root:
        return root
    folder = Path(root).expanduser() / name
    if not folder.is_dir():
        # Digits that TFDS prepares from those of scikit-learn.
        return f"no files; scikit-learn {_version('scikit-learn')}"
    return _of_files(folder, (path for path in folder.rglob("*") if path.is_file()))


def frost(frost_dir: str) -> str:
    """Of the photographs of frost; "" where there are none."""
    if not frost_dir:
        return ""
    folder = Path(frost_dir).expanduser()
    return _of_files(folder, (path for path in folder.glob("frost*") if path.is_file()))


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "is not there"


def _of_files(root: Path, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(root).as_posix()} {size}\n".encode())
        with open(path, "rb") as file:
            if size <= _WHOLE:
                digest.update(file.read())
                continue
            for number in range(_SAMPLES):
                file.seek(number * (size - _SAMPLE) // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()[:16]
