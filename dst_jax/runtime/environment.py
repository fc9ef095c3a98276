"""`environment.json`: what a run's result depends on besides its config, for every start of it.

The fields on top are those of the first start; `starts` lists all of them, so that a run begun with
one commit and finished with another says so. Called by `stages`.
"""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dst_jax
from dst_jax.errors import PROGRAMS, UserError
from dst_jax.runtime.run_dir import read_json, write_json

NAME = "environment.json"
# Either makes XLA choose kernels on GPUs that give the same bits every time.
_DETERMINISTIC = ("--xla_gpu_deterministic_ops", "--xla_gpu_exclude_nondeterministic_ops")
_PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint"),
    *("tensorflow-datasets", "numpy"),
)


def record_start(
    workdir: Path,
    step: int,
    hardware: str,
    data_dir: str | None,
    registered: Sequence[Mapping[str, str]] = (),
) -> None:
    """Adds a start of a training to `environment.json`.

    Args:
      workdir: the run directory.
      step: the completed steps that it goes on from.
      hardware: the devices in words.
      data_dir: where the call says that TFDS datasets are prepared; None: TFDS's own default.
      registered: what of the user's files the run needs; see `user_files.record`.

    Raises:
      UserError: the file is there and damaged.
    """
    if data_dir is not None and "://" not in data_dir:
        data_dir = os.path.abspath(os.path.expanduser(data_dir))
    versions = {"python": platform.python_version(), "dst-jax": dst_jax.__version__}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    start = {
        "command": _command(),
        "commit": commit(),
        "versions": versions,
        "hardware": hardware,
        "deterministic_kernels": deterministic_kernels(),
        "data_dir": data_dir,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "step": step,
        **({"registered": list(registered)} if registered else {}),
    }
    before = starts(workdir)
    write_json(workdir / NAME, {**(before[0] if before else start), "starts": [*before, start]})


def starts(workdir: Path) -> list[dict[str, Any]]:
    """The starts of a run, the first one first; [] where none is recorded.

    Versions that recorded one start only gave its fields on top.

    Raises:
      UserError: the file is damaged.
    """
    path = workdir / NAME
    if not path.exists():
        return []
    found = read_json(path)
    listed = found.get("starts", [found]) if isinstance(found, dict) else None
    if not isinstance(listed, list) or not all(isinstance(start, dict) for start in listed):
        raise UserError(
            str(path), "no starts of a run", "an object", f"Delete {path}: it is written again"
        )
    return listed


def data_dir_of(workdir: Path) -> str | None:
    """Where the data of a run's latest start was, if it is still there; else None."""
    try:
        found = starts(workdir)
    except UserError:  # whoever writes the file next says so
        return None
    path = found[-1].get("data_dir") if found else None
    if not isinstance(path, str) or not ("://" in path or Path(path).is_dir()):
        return None
    return path


def deterministic_kernels() -> bool:
    """Whether the same program gives the same bits on these devices every time it runs.

    XLA's kernels for CPU and TPU do. Those for GPU do where `XLA_FLAGS` asks for it: without that,
    sums by atomic additions may be taken in any order.
    """
    import jax

    if jax.default_backend() in ("cpu", "tpu"):
        return True
    return is_asked_for(os.environ.get("XLA_FLAGS", ""))


def is_asked_for(xla_flags: str) -> bool:
    """Whether a text of XLA flags asks for deterministic kernels on GPUs; the last one counts."""
    chosen: dict[str, bool] = {}
    for flag in xla_flags.split():
        name, _, value = flag.partition("=")
        if name in _DETERMINISTIC:
            chosen[name] = value.lower() in ("", "true", "1")
    return any(chosen.values())


def _command() -> str:
    """The command line of this program, as somebody would type it."""
    program, *arguments = sys.argv
    installed = Path(program).name == PROGRAMS[0]
    return " ".join([*([PROGRAMS[0]] if installed else ["python", program]), *arguments])


def commit() -> str:
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
