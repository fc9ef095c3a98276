"""A run directory on disk: its files, its lock, and what makes it the directory of one config.

    config.json       the resolved config            metrics.jsonl    one line per `log.every`
    environment.json  every start: see there          model.json       layers, sparsity, FLOPs
    checkpoints/      Orbax                          summary.json     written once training is done
    failure.json      why it failed, if it did
    robustness.csv    accuracy per condition           robustness.npz   the same, image by image
    robustness.json   what it is, and its means      analysis/        one file per part of `analyze`
    report.html ...   what `report` draws

Everything is written to a temporary name and renamed. Called by `stages`, `training`,
`robustness`, `analysis` and `report`.
"""

import contextlib
import fcntl
import json
import os
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dst_jax import config as config_lib
from dst_jax.errors import UserError

CHECKPOINTS = "checkpoints"  # the directory that Orbax writes
FAILURE = "failure.json"  # why the last start of a training failed, and at which step


def write_text(path: Path, text: str) -> None:
    """Writes a text file; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file so that every reader, also after a crash, sees the old or the new one whole."""
    with _replaced(path) as file:
        file.write(content)


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the name of `path` once it is whole and on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an .npz file atomically."""
    with _replaced(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads an .npz file; {} if there is none, or none that can be read. Unpickles nothing."""
    try:
        # Opened here: of a file that is no archive NumPy would leave the handle open.
        with open(path, "rb") as content, np.load(content, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return {}


def read_json(path: Path) -> Any:
    """Reads a JSON file of a run directory.

    Raises:
      UserError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(
            str(path), "no such file", "a run directory", "Train it first with --mode=train"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(
            str(path), f"an unreadable file ({error})", "JSON", "Use another --workdir"
        ) from None


def read_config(workdir: Path) -> dict[str, Any]:
    """The complete resolved config of a run directory, whatever version wrote it.

    Raises:
      UserError: `config.json` is missing, damaged or no config; the text has its path.
    """
    path = workdir / "config.json"
    return config_lib.completed(read_json(path), str(path))


def checkpoint_steps(workdir: Path) -> list[int]:
    """Steps of the whole checkpoints of a run, ascending; [] where none can be seen."""
    return steps_in(workdir / CHECKPOINTS)


def steps_in(directory: Path) -> list[int]:
    """The same of the directory of checkpoints itself, local or on any storage of `etils.epath`."""
    # Orbax names a checkpoint by its step, but only once it is whole.
    names = (path.name for path in directory.glob("*"))
    return sorted(int(name) for name in names if name.isdecimal())


def make(workdir: Path, flag: str = "--workdir") -> None:
    """Makes a directory that a flag names.

    Raises:
      UserError: it cannot be made.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{flag}={workdir}", error.strerror or str(error), "a directory that can be written"
        ) from None


def claim(workdir: Path, config: Mapping[str, Any]) -> None:
    """Makes the directory and writes `config.json`, or checks that it belongs to this config.

    A `config.json` that is there is never written again: it says what the run was begun with.

    Raises:
      UserError: it cannot be written, holds the run of another config or several runs, or lies in
        the directory of a run.
    """
    inside = sorted(path.parent.name for path in workdir.glob("*/config.json"))
    if inside and not (workdir / "config.json").exists():
        raise UserError(
            f"--workdir={workdir}",
            f"a directory of runs ({', '.join(inside[:3])}{', ...' if len(inside) > 3 else ''})",
            "the directory of one run",
            "Use another --workdir, or name the sweep with --sweep",
        )
    # A config.json alone may be anybody's.
    if all((workdir.parent / name).exists() for name in ("config.json", "metrics.jsonl")):
        raise UserError(
            f"--workdir={workdir.parent}",
            "the directory of one run",
            "a directory for several runs",
            "Use another --workdir",
        )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / "config.json"
        if path.exists():
            refuse_other_config(workdir, config)
        else:
            write_json(path, config)
    except OSError as error:
        raise UserError(
            f"--workdir={workdir}", error.strerror or str(error), "a directory that can be written"
        ) from None


def refuse_other_config(workdir: Path, config: Mapping[str, Any]) -> None:
    """Raises UserError if the directory holds the run of another config, with what differs."""
    if changed := config_lib.differences(read_config(workdir), config):
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise UserError(
            f"--workdir={workdir}",
            "the run of another config: " + "; ".join(changed[:5]) + more,
            "an empty directory or one with this config",
            "Use another --workdir, or the old values",
        )


# How long a start waits for a lock that may be a probe's, which lets go at once.
_LOCK_SECONDS = 0.5


@contextlib.contextmanager
def locked(workdir: Path, name: str = ".lock", flag: str = "--workdir") -> Iterator[None]:
    """Keeps two programs from writing one directory at a time.

    Args:
      workdir: the directory.
      name: of the file that is locked: an evaluation inside a run has one of its own. "": the
        directory itself, where no file shall be left.
      flag: which names the directory.

    Raises:
      UserError: another living program holds it.
    """
    how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if name else os.O_RDONLY
    file = os.open(workdir / name, how, 0o666)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.01)
                    continue
                what = "run" if name else "call"
                raise UserError(
                    f"{flag}={workdir}",
                    f"a directory in use by another {what}",
                    "a free one",
                    f"Wait for that {what}, or use another {flag}",
                ) from None
            except OSError:  # a file system without locks: go on, as everything did before this one
                pass
            break
        yield
    finally:
        os.close(file)


def is_locked(workdir: Path) -> bool:
    """Whether a living program holds the lock of a run directory.

    It is asked for as a shared lock, so that probes never see each other, for some microseconds, so
    that `locked` gets it when it tries again. (`F_GETLK` would take nothing at all, but sees no
    `flock`; and locks that it sees are lost when the same process closes the file anywhere.)
    """
    try:
        # Opened for reading: it may be a directory of somebody else, and NFS wants that.
        with open(workdir / ".lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or a file system without locks
        pass
    return False
