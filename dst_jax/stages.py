"""Runs through their stages: directory, training, evaluation and description, analysis.

What is done is skipped without reading the checkpoint, so the same command finishes what was
interrupted and is quick where nothing is left. Called by `experiment`.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dst_jax.config.options import ANALYSES
from dst_jax.errors import RunError, UserError
from dst_jax.paths import RunPaths, is_main_process
from dst_jax.run_configs import RunConfig
from dst_jax.runtime import environment, run_dir

if TYPE_CHECKING:  # which imports JAX
    from dst_jax.robustness import Result

Load = Callable[[], Any]
LeftOut = Callable[[Path, Exception], None]
_TOGETHER = 16  # networks scored side by side: rendering is shared by as many


def do(
    runs: Mapping[Path, RunConfig],
    run_paths: RunPaths,
    mode: str,
    several: bool,
    left_out: LeftOut | None = None,
) -> list[str]:
    """Takes runs through what the mode asks for.

    Args:
      runs: those of one config, one per seed; in mode `evaluate`, a part of `side_by_side`.
      run_paths: directories.
      mode: of `experiment.MODES`.
      several: whether the call has other runs, so that it is said which these are.
      left_out: told of each run that cannot be evaluated, and why; the others are. None: the first
        such run ends the call.

    Returns:
      In mode `evaluate` the table of each run.
    """
    from dst_jax import user_files

    main = is_main_process(run_paths)
    with contextlib.ExitStack() as locks:
        for path, run in list(runs.items()):
            try:
                user_files.check_classes(path)
                if main:
                    run_dir.claim(path, run.config)
                    locks.enter_context(run_dir.locked(path))
            except UserError as error:
                if left_out is None:
                    raise
                left_out(path, error)
                runs = {other: runs[other] for other in runs if other != path}
        for path in runs if main else ():
            user_files.warn_if_changed(path)
        if several and main:
            print("run " + ", ".join(path.name for path in runs), flush=True)
        if mode in ("all", "train"):
            _reopen(runs, run_paths, mode, main)
            _train(runs, run_paths, main)
        load = functools.cache(_load)
        tables = []
        if mode in ("all", "evaluate"):
            results = _evaluate(runs, run_paths, main, load, left_out)
            tables = [f"{path}\n{result.table()}" for path, result in results.items()]
        for path, run in runs.items():
            if mode in ("all", "analyze"):
                own = functools.partial(load, path)
                _analyze(path, run, run_paths, main, own, everything=mode == "analyze")
        return tables if mode == "evaluate" else []


def side_by_side(runs: Mapping[Path, RunConfig]) -> list[dict[Path, RunConfig]]:
    """Sorts runs into those that `do` may evaluate together: on the same images, not too many.

    An interruption waits until all networks of a part are scored on a condition.
    """
    alike: dict[str, list[Path]] = {}
    for path, run in runs.items():
        key = (run.config["data"]["name"], run.evaluation, run.data_dir, str(path.parent))
        alike.setdefault(repr(key), []).append(path)
    return [
        {path: runs[path] for path in paths[start : start + _TOGETHER]}
        for paths in alike.values()
        for start in range(0, len(paths), _TOGETHER)
    ]


def _load(path: Path) -> Any:
    from dst_jax import user_files
    from dst_jax.saved_run import load_run

    user_files.check_model(path)
    return load_run(path)


def _reopen(runs: Mapping[Path, RunConfig], run_paths: RunPaths, mode: str, main: bool) -> None:
    """A finished run whose last checkpoint is lost resumes from the one before it.

    Asked for by mode `train`, or by what is left to evaluate: a run whose scores are complete needs
    no checkpoint any more.
    """
    from dst_jax import evaluate
    from dst_jax.runtime.devices import any_process

    for path, run in runs.items():
        summary = path / "summary.json"
        steps = run_dir.checkpoint_steps(path)
        lost = summary.exists() and run_dir.read_json(summary).get("step") not in steps
        needed = lost and (
            mode == "train"
            or not evaluate.is_complete(run.for_evaluation, path, run.data_dir, run_paths.cache_dir)
        )
        if any_process(needed) and main:
            done = f"step {steps[-1]}" if steps else "the beginning"
            print(f"{path}: its last checkpoint is lost, resuming from {done}", flush=True)
            summary.unlink()


def _train(runs: Mapping[Path, RunConfig], run_paths: RunPaths, main: bool) -> None:
    from dst_jax import user_files
    from dst_jax.runtime.devices import hardware
    from dst_jax.training import loop

    unfinished = [path for path in runs if not (path / "summary.json").exists()]
    data_dir = next(iter(runs.values())).data_dir
    if main and unfinished:
        common = set.intersection(*(set(run_dir.checkpoint_steps(p)) for p in unfinished))
        for path in unfinished:
            step = max(common, default=0)
            registered = user_files.record(runs[path].config)
            environment.record_start(path, step, hardware(), data_dir, registered)
    configs = [run.config for run in runs.values()]
    loop.train(configs, list(runs), data_dir, run_paths.cache_dir)


def _evaluate(
    runs: Mapping[Path, RunConfig],
    run_paths: RunPaths,
    main: bool,
    load: Callable[[Path], Any],
    left_out: LeftOut | None,
) -> dict[Path, "Result"]:
    """Scores runs and describes their networks; reads a checkpoint only if something is missing.

    Args:
      runs: of the same dataset and the same options of evaluation.
      run_paths: directories.
      main: whether this process writes.
      load: the run of a directory.
      left_out: see `do`.
    """
    from dst_jax import evaluate
    from dst_jax.runtime.devices import Devices, any_process

    if not runs:
        return {}
    first = next(iter(runs.values()))
    config, data_dir = first.for_evaluation, first.data_dir
    room = Devices().bytes_for_data
    results: dict[Path, Result | None] = {}
    waiting: dict[Path, Any] = {}

    def score(some: Mapping[Path, Any]) -> None:
        try:
            found = evaluate.evaluate_runs(config, [*some.values()], data_dir, run_paths.cache_dir)
        except (UserError, RunError) as error:
            if left_out is None:
                raise
            if len(some) > 1:  # one by one, to see which of them it is
                for path, saved in some.items():
                    score({path: saved})
                return
            left_out(next(iter(some)), error)
        else:
            results.update(zip(some, found, strict=True))

    for path, run in runs.items():
        try:
            own = run.for_evaluation
            results[path] = evaluate.complete(own, path, data_dir, run_paths.cache_dir)
            described = (path / "model.json").exists() and (path / "summary.json").exists()
            # Every process does what any of them has to: Orbax waits for all of them.
            if not any_process(results[path] is None or not described):
                continue
            saved = load(path)
            evaluate.check_finished(saved)
            if main:
                from dst_jax.analysis import network_facts

                network_facts.write(saved)
        except UserError as error:
            if left_out is None:
                raise
            left_out(path, error)
            results.pop(path, None)
            continue
        waiting[path] = saved
        if sum(map(_size, waiting.values())) > room:
            score(waiting)
            waiting = {}
    if waiting:
        score(waiting)
    return {path: result for path, result in results.items() if result is not None}


def _size(run: Any) -> int:
    """Bytes of a run's weights."""
    import jax

    return sum(leaf.nbytes for leaf in jax.tree.leaves((run.params, run.batch_stats)))


def _analyze(
    path: Path, run: RunConfig, run_paths: RunPaths, main: bool, load: Load, *, everything: bool
) -> None:
    """Writes the parts of an analysis that are missing."""
    from dst_jax.analysis import analyze, measurements
    from dst_jax.runtime.devices import any_process

    config = {**run_dir.read_config(path), "analysis": measurements.options_of(run.config)}
    wanted = config["analysis"]["parts"] or (ANALYSES if everything else ())
    step = max(run_dir.checkpoint_steps(path), default=0)
    work = bool(wanted) and not (
        step and analyze.is_complete(config, path, step, run.data_dir, run_paths.cache_dir, wanted)
    )
    if not any_process(work):
        return
    saved = load()
    if main:
        analyze.analyze(config, saved, run.data_dir, run_paths.cache_dir, wanted)
