"""The only file that imports Orbax: a run's states on disk.

A checkpoint is the whole `TrainState` (`training.step`) as a nested dictionary of arrays: weights,
their average, masks, which weights were ever active and were activated last, optimizer state,
BatchNorm statistics, step, and metrics since the last log line. Masks are saved as they
are, never rebuilt from `w != 0`. Orbax writes to a temporary name and renames, so a killed run
leaves whole checkpoints only. Called by `loop` and by everything that reads a finished run.
"""

import contextlib
import functools
import gc
import io
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from dst_jax.errors import UserError
from dst_jax.runtime import run_dir

Tree = Any
# Leaves that states of older versions lack, and what stands for "not counted" in each until the
# next log line: `log` leaves out what is not finite or not positive. All of `newest` is 0: no
# weight is known to be new.
_SINCE_ADDED = {
    "metrics/gradient_active": np.nan,
    "metrics/gradient_inactive": np.nan,
    "metrics/num_grown": -(2**30),
    "metrics/num_recent": 0,
    "metrics/num_surviving": 0,
}
# Parts of a leaf's path that earlier versions named otherwise: new -> old.
_OLD_NAMES = {
    "metrics": "window",
    "num_activated": "fresh",
    "num_grown": "grown",
    "num_recent": "newcomers",
    "num_surviving": "survivors",
}
Read = TypeVar("Read")


def _named(tree: Tree) -> dict[tuple[str, ...], Any]:
    """Leaves of a tree by their path, every part of it as text."""
    return {
        tuple(jax.tree_util.keystr((part,), simple=True) for part in path): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def _nest(named: dict[tuple[str, ...], Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, leaf in named.items():
        target = nested
        for part in path[:-1]:
            target = target.setdefault(part, {})
        target[path[-1]] = leaf
    return nested


def _quiet() -> None:
    """Silences Orbax's notices of every save, and tracebacks of errors that become one line."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


class Checkpoints:
    """The checkpoints of one run directory.

    Args:
      directory: where they lie; made at the first save.
      keep: how many of the latest are kept.
    """

    def __init__(self, directory: Path, keep: int = 1):
        self.directory = directory.absolute()
        _quiet()
        policies = ocp.training
        self._checkpointer = ocp.training.Checkpointer(
            self.directory,
            save_decision_policy=policies.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=policies.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )

    def steps(self) -> list[int]:
        """Steps that a whole checkpoint exists of, ascending."""
        return sorted(checkpoint.step for checkpoint in self._checkpointer.checkpoints)

    def save(self, step: int, state: Tree) -> None:
        """Starts writing a state; returns once it is copied, the writing goes on behind.

        If the previous one is still being written, waits for that first. A step that has a
        checkpoint keeps it, and so does one before the latest, which is of the same run: the run
        has gone back only to keep pace with those that it is trained together with.
        """
        latest = self._checkpointer.latest
        if latest is not None and latest.step >= step:
            return
        self._checkpointer.save_async(step, _nest(_named(state)))

    def wait(self) -> None:
        """Waits until everything saved is on disk."""
        self._checkpointer.wait()

    def close(self) -> None:
        """Finishes what is being written."""
        self._checkpointer.close()

    def restore(self, abstract: Tree, step: int | None = None) -> Tree:
        """Reads a state.

        Args:
          abstract: a tree of `jax.ShapeDtypeStruct` (with shardings) like the state.
          step: which one; None: the latest.

        Raises:
          UserError: the checkpoint is damaged, or holds another network or optimizer.
        """
        step = self.steps()[-1] if step is None else step
        path = self.directory / str(step)
        hint = f"Delete {path} to go on from the checkpoint before it, or use another --workdir"
        wanted = _named(abstract)

        def index() -> dict[tuple[str, ...], Any]:
            if saved := _named(self._checkpointer.metadata(step).metadata):
                return saved
            raise ValueError("its index is unreadable")  # what nothing means, with Orbax

        saved = _read_or_user_error(path, hint, index)
        names = {name: _name_in(saved, name) for name in wanted}
        added = _added({name: leaf for name, leaf in wanted.items() if names[name] not in saved})
        asked = {names[name]: leaf for name, leaf in wanted.items() if name not in added}
        _compare(path, saved, asked)
        load = functools.partial(self._checkpointer.load, step, _nest(asked))
        loaded = _named(_read_or_user_error(path, hint, load))
        leaves = [added[name] if name in added else loaded[names[name]] for name in wanted]
        return jax.tree.unflatten(jax.tree.structure(abstract), leaves)


def read(directory: Path, step: int | None = None) -> dict[str, Any]:
    """Reads a checkpoint without knowing what it holds, as nested dictionaries of NumPy arrays.

    Args:
      directory: a run's `checkpoints` directory.
      step: which one; None: the latest.

    Raises:
      UserError: there is none, or it is damaged.
    """
    steps = run_dir.steps_in(directory)
    if not steps:
        raise UserError(
            str(directory), "no checkpoint", "a run directory", "Train it first with --mode=train"
        )
    if "://" not in os.fspath(directory):  # a bucket is absolute already
        directory = directory.absolute()
    path = directory / str(steps[-1] if step is None else step)
    _quiet()
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def load() -> dict[str, Any]:
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
            ocp.metadata(path).metadata,
        )
        return jax.tree.map(np.asarray, ocp.load(path, shapes))

    hint = f"Delete {path} and start --mode=train: it resumes from the checkpoint before it"
    return _read_or_user_error(path, hint, load)


def _read_or_user_error(path: Path, hint: str, action: Callable[[], Read]) -> Read:
    """What `action` reads; whatever a damaged checkpoint makes Orbax raise, and print, in one line.

    Raises:
      UserError: `action` failed.
    """
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            return action()
        except Exception as error:  # Orbax and TensorStore raise many kinds for one damaged file
            reason = (str(error).strip().splitlines() or [""])[0][:160]
            found = f"a damaged checkpoint ({type(error).__name__}: {reason})"
        # One failed read of many ends Orbax's event loop. The others, in threads, then print
        # tracebacks, and so does each that waits when it is thrown away. There is no handle on
        # them: give the first a moment and throw the rest away now, unheard.
        time.sleep(1.0)
        gc.collect()
    raise UserError(str(path), found, "an intact checkpoint", hint)


def _name_in(saved: dict, name: tuple[str, ...]) -> tuple[str, ...]:
    """The path of a leaf in a checkpoint, which an earlier version may have named otherwise."""
    if name[0] != "metrics" or any(path[0] == "metrics" for path in saved):
        return name
    return tuple(_OLD_NAMES.get(part, part) for part in name)


def _added(lacking: dict) -> dict[tuple[str, ...], jax.Array]:
    """Of leaves that a saved state lacks, those that its version did not have, as it meant them."""
    found: dict[tuple[str, ...], jax.Array] = {}
    for name, leaf in lacking.items():
        value = 0 if name[0] == "newest" else _SINCE_ADDED.get("/".join(name))
        if value is not None:
            whole = np.full(leaf.shape, value, leaf.dtype)
            found[name] = jax.make_array_from_callback(leaf.shape, leaf.sharding, whole.__getitem__)
    return found


def _compare(path: Path, saved: dict, wanted: dict) -> None:
    """Names the first leaf in which a checkpoint differs from the state it shall become."""
    for name in sorted(saved.keys() | wanted.keys()):
        text = "/".join(name)
        if name not in saved or name not in wanted:
            found, expected = ("nothing", "a leaf") if name not in saved else ("a leaf", "nothing")
        elif tuple(saved[name].shape) != tuple(wanted[name].shape):
            found, expected = f"shape {saved[name].shape}", f"shape {wanted[name].shape}"
        else:
            continue
        raise UserError(
            f"{path}: {text}",
            found,
            expected,
            "It belongs to another network; use another --workdir",
        )
