"""A run directory on disk: its files, its lock, and what makes it the directory of one config.

    config.json       the resolved config            metrics.jsonl    one line a log window
    environment.json  command, versions, hardware    model.json       layers, sparsity, FLOPs
    checkpoints/      Orbax                          summary.json     written once training is done
    robustness.csv    accuracy a condition           robustness.npz   the same, image by image
    robustness.json   what it is, and its means      analysis/        one file a part of `analyze`
    report.html ...   what `report` draws

Everything is written to a temporary name and renamed. Called by `train`, `robustness`,
`experiment`.
"""

import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import dst_jax
from dst_jax import config as config_lib
from dst_jax.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Writes a text file; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file so that every reader, also after a crash, sees the old or the new one whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an .npz file atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


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


def make(workdir: Path) -> None:
    """Makes a directory.

    Raises:
      UserError: it cannot be made.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--workdir={workdir}", error.strerror or str(error), "a directory that can be written"
        ) from None


def claim(workdir: Path, config: Mapping[str, Any]) -> None:
    """Makes the directory, or checks that it belongs to this config, and writes `config.json`.

    Raises:
      UserError: it cannot be written, or holds the run of another config.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / "config.json"
        if path.exists():
            refuse_other_config(workdir, config)
        write_json(path, config)
    except OSError as error:
        raise UserError(
            f"--workdir={workdir}", error.strerror or str(error), "a directory that can be written"
        ) from None


def refuse_other_config(workdir: Path, config: Mapping[str, Any]) -> None:
    """Raises UserError if the directory holds the run of another config, with what differs."""
    old = read_json(workdir / "config.json")
    if not isinstance(old, dict):
        raise UserError(
            str(workdir / "config.json"), type(old).__name__, "an object", "Use another --workdir"
        )
    if changed := config_lib.differences(old, config):
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
def locked(workdir: Path, name: str = ".lock") -> Iterator[None]:
    """Keeps two programs from writing one directory at a time.

    Args:
      workdir: the directory.
      name: of the file that is locked: an evaluation inside a run has one of its own.

    Raises:
      UserError: another living program holds it.
    """
    with open(workdir / name, "w") as file:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.01)
                    continue
                raise UserError(
                    f"--workdir={workdir}",
                    "a directory in use by another run",
                    "a free one",
                    "Wait for that run, or use another --workdir",
                ) from None
            except OSError:  # a file system without locks: go on, as everything did before this one
                pass
            break
        yield


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


def write_environment(workdir: Path, hardware: str) -> None:
    """Records what a result depends on besides its config: command, commit, versions, hardware."""
    packages = (
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "orbax-checkpoint",
        "tensorflow-datasets",
        "numpy",
    )
    versions = {"python": platform.python_version(), "dst-jax": dst_jax.__version__}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    write_json(
        workdir / "environment.json",
        {
            "command": " ".join(["python", *sys.argv]),
            "commit": _commit(),
            "versions": versions,
            "hardware": hardware,
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
    )


def _commit() -> str:
    """The Git commit of the code, with `+changes` where files differ from it; else "unknown"."""
    root = Path(dst_jax.__file__).resolve().parents[1]
    git = ["git", "-C", str(root)]
    try:
        top = subprocess.run(
            [*git, "rev-parse", "--show-toplevel", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\n")
        if Path(top[0]) != root:  # installed inside somebody else's checkout
            return "unknown"
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return top[1] + ("+changes" if changed.strip() else "")
