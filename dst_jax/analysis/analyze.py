"""Fills the directory `analysis/` of a run: what its weights, spectra and maps of attention say.

Each part is one file that lies there whole or not at all; a part that is there with the same
settings and the same checkpoint is kept, and the heat map goes on where it was. What a part holds
is computed by `measurements`; the report reads the files. Called by `stages`.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dst_jax.analysis.measurements import Analysis, Arrays
from dst_jax.errors import UserError
from dst_jax.runtime.interrupt import Interrupt, InterruptedRunError
from dst_jax.runtime.progress import Progress
from dst_jax.runtime.run_dir import read_arrays, write_arrays
from dst_jax.saved_run import Run, Section


def part_path(workdir: Path, part: str) -> Path:
    """Where a part of a run's analysis lies."""
    return workdir / "analysis" / f"{part}.npz"


def has_settings(arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> bool:
    """Whether a file is there and has these settings."""
    return bool(arrays) and json.loads(str(arrays["settings"])) == json.loads(json.dumps(settings))


def is_done(part: str, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> bool:
    """Whether a file has these settings and no gaps."""
    same = has_settings(arrays, settings)
    return same and not (part == "heat_map" and np.isnan(arrays["errors"]).any())


def is_complete(
    config: Mapping[str, Any],
    workdir: Path,
    step: int,
    data_dir: str | None,
    cache_dir: Path,
    parts: Iterable[str],
) -> bool:
    """Whether nothing of a run's analysis is missing; reads no checkpoint.

    Args:
      config: see `Analysis`.
      workdir: the run directory.
      step: of its latest checkpoint.
      data_dir: see `Analysis`.
      cache_dir: see `Analysis`.
      parts: names among `options.ANALYSES`.

    Raises:
      UserError: the dataset is one of clips.
    """
    unread = Run(workdir, Section.of(config), step, None, {}, {}, {}, {}, [])
    work = Analysis(config, unread, data_dir, cache_dir)
    return all(
        is_done(part, read_arrays(part_path(workdir, part)), work.settings(part)) for part in parts
    )


class _Passes:
    """Progress in passes over the images, to which nearly all of the time goes."""

    def __init__(self) -> None:
        self._planned: dict[str, int] = {}
        self._part, self._done, self._progress = "", 0, Progress(0)

    def plan(self, planned: Mapping[str, int]) -> None:
        """Starts the clock; `planned` has the passes of every part, in their order."""
        self._planned, self._progress = dict(planned), Progress(sum(planned.values()))

    def begin(self, part: str) -> None:
        """A part begins: all before it are done, whatever they took."""
        parts = list(self._planned)
        self._part = part
        self._done = sum(self._planned[name] for name in parts[: parts.index(part)]) - 1

    def on_progress(self) -> None:
        """A pass begins, and so the one before it is done."""
        if self._planned:
            self._done += 1
            self._progress.show(max(self._done, 0), f"analysis: {self._part}")

    def end(self) -> None:
        """All is done."""
        self._progress.show(sum(self._planned.values()), "analysis done", now=True)
        self._progress.end()


def analyze(
    config: Mapping[str, Any], run: Run, data_dir: str | None, cache_dir: Path, parts: Iterable[str]
) -> None:
    """Writes what is missing of a run's analysis.

    Args:
      config: see `Analysis`.
      run: see `Analysis`.
      data_dir: see `Analysis`.
      cache_dir: see `Analysis`.
      parts: names among `options.ANALYSES`.

    Raises:
      UserError: a dataset is not prepared, or the config names a layer that is not there.
      InterruptedRunError: SIGTERM or Ctrl-C; what is done is on disk.
    """
    passes = _Passes()
    work = Analysis(config, run, data_dir, cache_dir, passes.on_progress)
    begun: dict[str, Arrays] = {}
    for part in parts:
        found, settings = read_arrays(part_path(run.workdir, part)), work.settings(part)
        if not is_done(part, found, settings):
            begun[part] = found if has_settings(found, settings) else {}
    if not begun:
        return
    part_path(run.workdir, "").parent.mkdir(exist_ok=True)
    passes.plan({part: work.num_passes(part, found) for part, found in begun.items()})
    with Interrupt() as interrupt:
        for part, found in begun.items():
            passes.begin(part)
            settings = work.settings(part)

            def save(arrays: Arrays, part: str = part, settings: Any = settings) -> None:
                path = part_path(run.workdir, part)
                write_arrays(path, {**arrays, "settings": np.array(json.dumps(settings))})
                if interrupt.requested:
                    raise InterruptedRunError(
                        interrupt.requested, f"analysis saved in {path.parent}"
                    )

            if part == "heat_map":
                save(work.heat_map(found, save))
            else:
                try:
                    save(getattr(work, part)())
                except UserError as error:
                    if part != "saliency":  # a network without maps has none to show
                        raise
                    save({"method": np.array(""), "reason": np.array(str(error))})
    passes.end()
