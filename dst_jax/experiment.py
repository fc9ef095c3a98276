"""What the command asks for: one run or a sweep of runs, through train, evaluate, analyze, report.

With `num_seeds` a run becomes several, one per seed, that are trained in one program and are runs
of their own for everything else. What each run is comes from `run_configs`, what is done with it
from `stages`; the report is drawn over all runs of the call. Called by `cli`, tests and notebooks.
"""

import contextlib
import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dst_jax import config as config_lib
from dst_jax import run_configs, stages
from dst_jax import sweep as sweep_lib
from dst_jax.errors import UserError
from dst_jax.paths import RunPaths, is_main_process, prepare_jax
from dst_jax.run_configs import RunConfig
from dst_jax.runtime import run_dir
from dst_jax.sweep import Sweep

MODES = ("all", "train", "evaluate", "analyze", "report", "archive", "describe", "plan")
NO_SWEEP = Sweep()
Group = Mapping[Path, RunConfig]  # runs of one config, one per seed


@dataclasses.dataclass(frozen=True)
class Function:
    """A predict function that is scored instead of a run.

    Attributes:
      predict: "MODULE:ATTRIBUTE"; see `robustness.command.load_predict`.
      dataset: a name in `data.DATASETS`, or see `robustness.dataset_text`.
      reading: how the images of a folder are read: arguments of `robustness.folder`.
      meaning: what images and logits are: arguments of `robustness.evaluate`.
    """

    predict: str
    dataset: str
    reading: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    meaning: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def default_scores_dir(function: Function) -> Path:
    """`runs/evaluate/FUNCTION-DATASET`, where the scores of a function go."""
    name = function.predict.removeprefix("./").replace("/", ".").replace(":", ".")
    dataset = re.sub(r"[^\w.]+", "-", function.dataset).strip("-")
    return Path("runs/evaluate") / f"{name}-{dataset}"


def run(
    config: ConfigDict | None,
    run_paths: RunPaths,
    *,
    mode: str = "all",
    sweep: Sweep = NO_SWEEP,
    evaluation: Mapping[str, Any] | None = None,
    out: Path | None = None,
    image_records: bool | None = None,
) -> str:
    """Does what the command line asks for.

    Args:
      config: the card's config; None: the one that the run directory holds.
      run_paths: directories.
      mode: one of `MODES`.
      sweep: which runs of the card.
      evaluation: options of the section `eval` that the command line changes, by their names.
      out: in mode `archive`, the folder to write.
      image_records: in mode `archive`, see `report.archive.write`.

    Returns:
      The report's table and where its page is, as text; in mode `evaluate`, the table of each run
      after its directory; without either, where the run is; in mode `describe`, the network's
      layers and counts; in mode `plan`, how far the sweep is and what it takes; "" in all processes
      but the first.

    Raises:
      UserError, RunError, InterruptedRunError: see `loop.train` and `evaluate.evaluate`.
    """
    if mode == "report" and config is None and run_configs.archive_of(run_paths.workdir):
        from dst_jax.report import archive

        return archive.redraw(run_paths.workdir) if is_main_process(run_paths) else ""
    groups: list[Mapping[Path, ConfigDict | None]]
    if config is None:
        groups = [{path: None} for path in run_configs.of_workdir(run_paths.workdir)]
    else:
        members = sweep_lib.plan(config, sweep)
        groups = [run_configs.seeds_of(run_paths.workdir, name, member) for name, member in members]
    runs = {path: member for group in groups for path, member in group.items()}
    to_do = sweep_lib.chosen(len(groups), sweep)
    if mode == "describe":
        return _describe([groups[index] for index in to_do])
    if mode in ("report", "archive"):
        if not is_main_process(run_paths):
            return ""
        if mode == "report":
            return _report(list(runs), run_paths.workdir, runs)
        return _archive(runs, run_paths, out, image_records)
    if mode == "plan":
        return _plan(groups, run_paths, sweep, evaluation or {})
    if not sweep.launcher:
        prepare_jax(run_paths)
    # In these modes each run of a directory is for itself.
    alone = len(runs) > 1 and config is None and mode in ("analyze", "evaluate")
    left_out = _LeftOut(mode)
    # All configs first: an error in the last run of a sweep must not wait for the others.
    resolved = _resolve(groups, run_paths, evaluation or {}, left_out if alone else None)
    main = is_main_process(run_paths)
    notes = run_configs.sizes([r for g in resolved for r in g.values()], run_paths, planning=False)
    if main and notes:
        print("\n".join(notes), flush=True)
    if main and sweep.name and sweep.index is None:
        print(sweep_lib.describe(sweep.name, _states(resolved, run_paths)), flush=True)
    tables: list[str] = []
    if sweep.launcher:
        _launch(resolved, run_paths, sweep)
    else:
        parts = [resolved[index] for index in to_do]
        tables = _DO.get(mode, _train)(parts, run_paths, mode, len(runs) > 1, left_out)
    if not main:
        return ""
    if mode != "all":  # an evaluation ends with its tables, each under its directory
        return "\n\n".join(tables or [f"run directory: {run_paths.workdir}"])
    if sweep.index is not None:
        states = _states(resolved, run_paths)
        if left := sum(not run.finished for group in states for run in group.values()):
            names = ", ".join(map(str, resolved[sweep.index]))
            return f"run directory: {names} ({left} of {len(runs)} runs of the sweep are left)"
    return _report(list(runs), run_paths.workdir, runs)


class _LeftOut:
    """The runs that a mode goes on without, each told as it is left out."""

    def __init__(self, mode: str):
        self._what = "analysed" if mode == "analyze" else "evaluated"
        self.errors: list[Exception] = []

    def __call__(self, path: Path, error: Exception) -> None:
        self.errors.append(error)
        print(f"{path.name} is not {self._what}: {error}", flush=True)


def _resolve(
    groups: Sequence[Mapping[Path, ConfigDict | None]],
    run_paths: RunPaths,
    evaluation: Mapping[str, Any],
    left_out: _LeftOut | None = None,
    *,
    planning: bool = False,
) -> list[dict[Path, RunConfig]]:
    """What each run is; one that cannot be is told to `left_out`, and without it is an error."""
    resolved: list[dict[Path, RunConfig]] = []
    for group in groups:
        resolved.append({})
        for path, member in group.items():
            try:
                resolved[-1][path] = run_configs.of_call(
                    member, path, run_paths, evaluation, planning=planning
                )
            except UserError as error:
                if left_out is None:
                    raise
                left_out(path, error)
    return resolved


def _train(
    groups: Sequence[Group], run_paths: RunPaths, mode: str, several: bool, left_out: _LeftOut
) -> list[str]:
    """Modes `train` and `all`: one group after the other, through all that the mode asks for."""
    del left_out
    for group in filter(None, groups):
        stages.do(group, run_paths, mode, several)
    return []


def _evaluate(
    groups: Sequence[Group], run_paths: RunPaths, mode: str, several: bool, left_out: _LeftOut
) -> list[str]:
    """Mode `evaluate`: the table of each run; those that see the same images go side by side.

    Raises:
      UserError, RunError: the first run that was left out, once the others are scored.
    """
    tables: list[str] = []
    for part in stages.side_by_side({p: run for group in groups for p, run in group.items()}):
        tables += stages.do(part, run_paths, mode, several, left_out if several else None)
    if left_out.errors:
        print("\n\n".join(tables), flush=True)
        raise left_out.errors[0]
    return tables


def _analyze(
    groups: Sequence[Group], run_paths: RunPaths, mode: str, several: bool, left_out: _LeftOut
) -> list[str]:
    """Mode `analyze`: of several runs, one that cannot be analysed does not keep the others."""
    for group in filter(None, groups):
        try:
            stages.do(group, run_paths, mode, several)
        except UserError as error:
            if not several:
                raise
            left_out(next(iter(group)), error)
    return []


_DO = {"evaluate": _evaluate, "analyze": _analyze}


def _states(groups: Sequence[Group], run_paths: RunPaths) -> list[dict[str, sweep_lib.RunStatus]]:
    """How far each run of a sweep is, by name, in the groups of runs that are trained together."""
    from dst_jax import evaluate, user_files

    def state(path: Path, run: RunConfig) -> sweep_lib.RunStatus:
        def evaluated(config: Mapping[str, Any], path: Path) -> bool:
            # Where the data are not there, a plan takes what is not known to be scored as not.
            return run.data_found and evaluate.is_complete(
                config, path, run.data_dir, run_paths.cache_dir
            )

        status = sweep_lib.progress(path, run.for_evaluation, evaluated)
        return dataclasses.replace(status, note=user_files.note_of_changes(path))

    return [{path.name: state(path, run) for path, run in group.items()} for group in groups]


def _plan(
    groups: Sequence[Mapping[Path, ConfigDict | None]],
    run_paths: RunPaths,
    sweep: Sweep,
    evaluation: Mapping[str, Any],
) -> str:
    """How far a sweep is; before any of its runs is trained, also an estimate of what it takes."""
    resolved = _resolve(groups, run_paths, evaluation, planning=True)
    runs = [run for group in resolved for run in group.values()]
    states = _states(resolved, run_paths)
    lines = run_configs.sizes(runs, run_paths, planning=True)
    lines.append(sweep_lib.describe(sweep.name, states))
    if not any(run.seconds for group in states for run in group.values()):
        from dst_jax.analysis import training_estimate

        lines.append(training_estimate.text([run.config for run in runs]))
    return "\n".join(lines)


def _launch(groups: Sequence[Group], run_paths: RunPaths, sweep: Sweep) -> None:
    """Leaves the runs that are not finished to jobs."""
    from dst_jax import launcher

    left = {
        index: ", ".join(group)
        for index, group in enumerate(_states(groups, run_paths))
        if not all(run.finished for run in group.values())
    }
    launcher.launch(
        sweep.launcher,
        sweep.launcher_options,
        sweep.command,
        left,
        run_paths.workdir / "jobs",
        lambda index: any(map(sweep_lib.is_running, groups[index])),
    )


def evaluate_function(
    function: Function, run_paths: RunPaths, evaluation: Mapping[str, Any] | None = None
) -> str:
    """Scores a predict function that is no run of ours.

    Args:
      function: which, and on what.
      run_paths: directories; the scores go to `run_paths.workdir`.
      evaluation: options of the section `eval`, by their names; the rest have their defaults.

    Returns:
      Where the files are, and the table of scores; "" in all processes but the first.

    Raises:
      UserError, RunError, InterruptedRunError: see `robustness.evaluate`.
    """
    prepare_jax(run_paths)
    from dst_jax.robustness import command, dataset_text

    options = config_lib.evaluation_options(evaluation or {}, "--")
    names = options.pop("suite").split(",")
    run_dir.make(run_paths.workdir)
    main = is_main_process(run_paths)
    with run_dir.locked(run_paths.workdir) if main else contextlib.nullcontext():
        text = command.run(
            function.predict,
            dataset_text.opened(function.dataset, "--dataset", **function.reading),
            run_paths.workdir,
            run_paths.data_dir,
            run_paths.cache_dir,
            suite=names if len(names) > 1 else names[0],
            **function.meaning,
            **options,
        )
    return text if main else ""


def _describe(groups: Sequence[Mapping[Path, ConfigDict | None]]) -> str:
    """A table of each network, the same for all seeds; training sets have their published size."""
    from dst_jax.analysis import network_facts

    tables = []
    for path, config in (next(iter(group.items())) for group in groups):
        if config is None:
            resolved = run_configs.of_directory(path)
            sparsity = resolved["sparsity"]["sparsity"]
        else:
            resolved, sparsity = run_configs.as_published(config), config.sparsity.sparsity
        tables.append(network_facts.table(resolved, sparsity))
    return "\n\n".join(tables)


def _report(paths: list[Path], out_dir: Path, runs: Mapping[Path, ConfigDict | None]) -> str:
    from dst_jax import report

    result = report.write(paths, out_dir, run_configs.expected(runs))
    return f"{result.text}\nreport: {result.html_path}"


def _archive(
    runs: Mapping[Path, ConfigDict | None],
    run_paths: RunPaths,
    out: Path | None,
    image_records: bool | None,
) -> str:
    from dst_jax.report import archive

    if out is None:
        raise UserError("--out", "nothing", "the folder that --mode=archive writes")
    if out.resolve() in [path.resolve() for path in (run_paths.workdir, *runs)]:
        raise UserError(f"--out={out}", "the directory of the runs", "a folder beside it")
    return archive.write(list(runs), out, run_configs.expected(runs), image_records)
