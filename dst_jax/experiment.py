"""What the command asks for: one run or a sweep of runs, through train, evaluate, analyze, report.

With `num_seeds` a run becomes several, one per seed, that are trained in one program and are runs
of their own for everything else. What each run is comes from `run_configs`, what is done with it
from `stages`; the report is drawn over all runs of the call. Called by `cli`, tests and notebooks.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dst_jax import config as config_lib
from dst_jax import run_configs, stages
from dst_jax import sweep as sweep_lib
from dst_jax.config.checks import sparsity_of
from dst_jax.errors import UserError
from dst_jax.paths import RunPaths, is_main_process, prepare_jax
from dst_jax.run_configs import RunConfig
from dst_jax.runtime import run_dir
from dst_jax.sweep import Sweep

MODES = ("all", "train", "evaluate", "analyze", "report", "archive", "describe", "plan")
NO_SWEEP = Sweep()


@dataclasses.dataclass(frozen=True)
class Function:
    """A predict function that is scored instead of a run.

    Attributes:
      predict: "MODULE:ATTRIBUTE"; see `robustness.command.load_predict`.
      dataset: a name in `data.DATASETS`.
    """

    predict: str
    dataset: str


def default_scores_dir(function: Function) -> Path:
    """`runs/evaluate/FUNCTION-DATASET`, where the scores of a function go."""
    name = function.predict.removeprefix("./").replace("/", ".").replace(":", ".")
    return Path("runs/evaluate") / f"{name}-{function.dataset}"


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
      The report's table and where its page is, as text; in mode `evaluate`, the table of each run;
      without either, where the run is; in mode `describe`, the network's layers and counts; in mode
      `plan`, how far the sweep is and what it takes; "" in all processes but the first.

    Raises:
      UserError, RunError, InterruptedRunError: see `train.train` and `evaluate.evaluate`.
    """
    groups: list[Mapping[Path, ConfigDict | None]]
    if mode == "report" and config is None and _archive_of(run_paths.workdir):
        return _report_of_archive(run_paths.workdir) if is_main_process(run_paths) else ""
    if config is None:
        groups = [{path: None} for path in _existing_runs(run_paths.workdir)]
    else:
        members = sweep_lib.plan(config, sweep)
        groups = [seeds_of(run_paths.workdir, name, member) for name, member in members]
    runs = {path: member for group in groups for path, member in group.items()}
    to_do = sweep_lib.chosen(len(groups), sweep)
    if mode == "describe":
        firsts = [next(iter(groups[index].items())) for index in to_do]  # one network for all seeds
        return "\n\n".join(_describe(member, path) for path, member in firsts)
    if mode == "report":
        return _report(list(runs), run_paths.workdir, runs) if is_main_process(run_paths) else ""
    if mode == "archive":
        return _archive(runs, run_paths, out, image_records) if is_main_process(run_paths) else ""

    if not sweep.launcher and mode != "plan":
        prepare_jax(run_paths)
    # All configs first: a mistake in the last run of a sweep must not wait for the others.
    planning = mode == "plan"
    failed: list[Exception] = []
    several = len(runs) > 1
    skip = several and config is None and mode in ("analyze", "evaluate")  # each run for itself

    def left_out(path: Path, error: Exception) -> None:
        failed.append(error)
        what = "analysed" if mode == "analyze" else "evaluated"
        print(f"{path.name} is not {what}: {error}", flush=True)

    resolved: list[dict[Path, RunConfig]] = []
    for group in groups:
        resolved.append({})
        for path, member in group.items():
            try:
                resolved[-1][path] = run_configs.of_call(
                    member, path, run_paths, evaluation or {}, planning=planning
                )
            except UserError as error:
                if not skip:
                    raise
                left_out(path, error)
    main = is_main_process(run_paths)
    notes = run_configs.sizes(
        [run for group in resolved for run in group.values()], run_paths, planning=planning
    )
    if planning:
        return _plan(resolved, run_paths, sweep, notes)
    if main and notes:
        print("\n".join(notes), flush=True)
    if main and sweep.name and sweep.index is None:
        print(sweep_lib.describe(sweep.name, _states(resolved, run_paths)), flush=True)
    tables: list[str] = []
    if sweep.launcher:
        _launch(resolved, run_paths, sweep)
    else:
        parts = [resolved[index] for index in to_do]
        if mode == "evaluate":
            parts = stages.side_by_side({p: run for part in parts for p, run in part.items()})
        for part in filter(None, parts):
            told = left_out if mode == "evaluate" and several else None
            try:
                tables += stages.do(part, run_paths, mode, several, told)
            except UserError as error:
                if mode != "analyze" or not several:
                    raise
                left_out(next(iter(part)), error)  # the others do not wait for it
    if failed and mode == "evaluate":
        print("\n\n".join(tables), flush=True)
        raise failed[0]
    if not main:
        return ""
    if sweep.index is not None and mode == "all":
        states = _states(resolved, run_paths)
        if left := sum(not run.finished for group in states for run in group.values()):
            names = ", ".join(map(str, resolved[sweep.index]))
            return f"run directory: {names} ({left} of {len(runs)} runs of the sweep are left)"
    if mode == "all":
        return _report(list(runs), run_paths.workdir, runs)
    return "\n\n".join([*tables, f"run directory: {run_paths.workdir}"])


def _states(
    groups: Sequence[Mapping[Path, RunConfig]], run_paths: RunPaths
) -> list[dict[str, sweep_lib.RunStatus]]:
    """How far each run of a sweep is, by name, in the groups of runs that are trained together."""
    from dst_jax import evaluate

    def state(path: Path, run: RunConfig) -> sweep_lib.RunStatus:
        def evaluated(config: Mapping[str, Any], path: Path) -> bool:
            # Where the data are not there, a plan takes what is not known to be scored as not.
            return run.data_found and evaluate.is_complete(
                config, path, run.data_dir, run_paths.cache_dir
            )

        return sweep_lib.progress(path, run.for_evaluation, evaluated)

    return [{path.name: state(path, run) for path, run in group.items()} for group in groups]


def _plan(
    groups: Sequence[Mapping[Path, RunConfig]], run_paths: RunPaths, sweep: Sweep, notes: list[str]
) -> str:
    """How far a sweep is; before any of its runs is trained, also an estimate of what it takes."""
    states = _states(groups, run_paths)
    lines = [*notes, sweep_lib.describe(sweep.name, states)]
    if not any(run.seconds for group in states for run in group.values()):
        from dst_jax.analysis import training_estimate

        configs = [run.config for group in groups for run in group.values()]
        lines.append(training_estimate.text(configs))
    return "\n".join(lines)


def _launch(groups: Sequence[Mapping[Path, RunConfig]], run_paths: RunPaths, sweep: Sweep) -> None:
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


def seeds_of(workdir: Path, name: str, config: ConfigDict) -> dict[Path, ConfigDict]:
    """The runs of a config, by directory: itself, or `num_seeds` that differ in their seed.

    Args:
      workdir: the directory of the call.
      name: the config's name in a sweep, or "".
      config: a config of `plan`.

    Raises:
      UserError: several seeds cannot be trained in one program with this config.
    """
    if config.num_seeds == 1:
        return {workdir / name: config}
    config_lib.check_values(config)
    if config.checkpoint.keep < 2:
        raise UserError(
            "config.checkpoint.keep",
            config.checkpoint.keep,
            "at least 2 with num_seeds: a kill may leave one run a checkpoint behind another",
        )
    runs = {}
    for seed in range(config.seed, config.seed + config.num_seeds):
        member = runs[workdir / f"{name}-seed{seed}".strip("-")] = (
            config.copy_and_resolve_references()
        )
        member.seed, member.num_seeds = seed, 1
    return runs


def _runs_in(workdir: Path) -> list[Path]:
    """The run directory itself, or those directly inside it."""
    found = [workdir] if (workdir / "config.json").exists() else []
    return found or sorted(path.parent for path in workdir.glob("*/config.json"))


def _existing_runs(workdir: Path) -> list[Path]:
    """The runs of a directory, of which there must be one."""
    if found := _runs_in(workdir):
        return found
    if kept := _archive_of(workdir):
        has = f"no run but {kept}, which has no weights"
        raise UserError(f"--workdir={workdir}", has, "a directory of runs, or --mode=report")
    raise UserError(
        f"--workdir={workdir}",
        "no run",
        "a run directory, or a directory of runs",
        "Start one with --config=digits_rigl",
    )


def _archive_of(workdir: Path) -> str:
    """The name of the archive of a folder that holds one and no run, else ""."""
    from dst_jax.report import archive

    return archive.NAME if (workdir / archive.NAME).exists() and not _runs_in(workdir) else ""


def evaluate_function(
    function: Function, run_paths: RunPaths, evaluation: Mapping[str, Any] | None = None
) -> str:
    """Scores a predict function that is no run of ours.

    Args:
      function: which, and on what.
      run_paths: directories; the scores go to `run_paths.workdir`.
      evaluation: options of the section `eval`, by their names; the rest have their defaults.

    Returns:
      The table of scores and where the files are; "" in all processes but the first.

    Raises:
      UserError, RunError, InterruptedRunError: see `robustness.evaluate`.
    """
    prepare_jax(run_paths)
    from dst_jax.robustness import command

    options = config_lib.evaluation_options(evaluation or {}, "--")
    names = options.pop("suite").split(",")
    run_dir.make(run_paths.workdir)
    main = is_main_process(run_paths)
    with run_dir.locked(run_paths.workdir) if main else contextlib.nullcontext():
        text = command.run(
            function.predict,
            function.dataset,
            run_paths.workdir,
            run_paths.data_dir,
            run_paths.cache_dir,
            suite=names if len(names) > 1 else names[0],
            **options,
        )
    return text if main else ""


def _describe(config: ConfigDict | None, path: Path) -> str:
    """The table of a run's network, without its data: training sets have their published size."""
    from dst_jax.analysis import network_facts

    if config is None:
        resolved = run_configs.of_directory(path)
        return network_facts.table(resolved, resolved["sparsity"]["sparsity"])
    return network_facts.table(run_configs.as_published(config), config.sparsity.sparsity)


def _report(paths: list[Path], out_dir: Path, runs: Mapping[Path, ConfigDict | None]) -> str:
    from dst_jax import report

    result = report.write(paths, out_dir, _expected(runs))
    return f"{result.text}\nreport: {result.html_path}"


def _report_of_archive(folder: Path) -> str:
    """Draws the report of an archived study again, beside its archive."""
    from dst_jax import report
    from dst_jax.report import archive

    with archive.unpacked(folder / archive.NAME) as (runs, expected):
        result = report.write(runs, folder, expected, archive.NAME)
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
    return archive.write(list(runs), out, _expected(runs), image_records)


def _expected(runs: Mapping[Path, ConfigDict | None]) -> list[dict[str, Any]]:
    """The runs of a call as `report.write` takes what was planned."""
    return [
        {
            "name": path.name,
            "algorithm": member.sparsity.algorithm,
            "sparsity": sparsity_of(member.sparsity.algorithm, member.sparsity.sparsity),
            "seed": member.seed,
        }
        for path, member in runs.items()
        if member is not None
    ]
