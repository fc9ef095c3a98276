"""What `run.py` asks for: one run or a sweep of runs, through train, evaluate, analyze and report.

With `num_seeds` a run becomes several, one a seed, that are trained in one program and are runs of
their own for everything else. A run goes through `claim` (its directory), `train`, `describe`
(layers, realised sparsity, FLOPs), `evaluate` and `analyze`; the report is drawn over all runs of
the call. Parts that are done are skipped, so the same command finishes what was interrupted. Called
by `run.py`, tests and notebooks.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dst_jax import config as config_lib
from dst_jax import sweep as sweep_lib
from dst_jax import workdir as workdir_lib
from dst_jax.consistency import DENSE
from dst_jax.errors import UserError
from dst_jax.options import ANALYSES
from dst_jax.places import Places, is_main_process, prepare_jax
from dst_jax.sweep import Sweep

MODES = ("all", "train", "evaluate", "analyze", "report", "describe", "plan")
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
    places: Places,
    *,
    mode: str = "all",
    sweep: Sweep = NO_SWEEP,
    evaluation: Mapping[str, Any] | None = None,
) -> str:
    """Does what the command line asks for.

    Args:
      config: the card's config; None: the one that the run directory holds.
      places: directories.
      mode: one of `MODES`.
      sweep: which runs of the card.
      evaluation: options of the section `eval` that the command line changes, by their names.

    Returns:
      The report's table and where its page is, as text; without a report, where the run is; in
      mode `describe`, the network's layers and counts; in mode `plan`, how far the sweep is; "" in
      all processes but the first.

    Raises:
      UserError, RunError, InterruptedRunError: see `train.train` and `evaluate.evaluate`.
    """
    groups: list[Mapping[Path, ConfigDict | None]]
    if config is None:
        groups = [{path: None} for path in _existing_runs(places.workdir)]
    else:
        members = sweep_lib.plan(config, sweep)
        groups = [seeds_of(places.workdir, name, member) for name, member in members.items()]
    runs = {path: member for group in groups for path, member in group.items()}
    to_do = sweep_lib.chosen(len(groups), sweep)
    if mode == "describe":
        firsts = [next(iter(groups[index].items())) for index in to_do]  # one network for all seeds
        return "\n\n".join(_describe(member, path) for path, member in firsts)
    if mode == "report":
        return _report(list(runs), places.workdir, runs) if is_main_process(places) else ""

    if not sweep.launcher and mode != "plan":
        prepare_jax(places)
    # All configs first: a mistake in the last run of a sweep must not wait for the others.
    resolved = [
        {path: _resolve(member, path, places, evaluation or {}) for path, member in group.items()}
        for group in groups
    ]
    main = is_main_process(places)
    if main:
        _note_stand_in(resolved)
    if mode == "plan":
        return sweep_lib.describe(sweep.name, _states(resolved, places))
    if main and sweep.name and sweep.index is None:
        print(sweep_lib.describe(sweep.name, _states(resolved, places)), flush=True)
    if sweep.launcher:
        _launch(resolved, places, sweep)
    else:
        for index in to_do:
            try:
                _do(resolved[index], places, mode, several=len(runs) > 1)
            except UserError as error:
                if mode != "analyze" or len(runs) == 1:
                    raise
                print(f"not analysed: {error}", flush=True)  # the others do not wait for it
    if not main:
        return ""
    if sweep.index is not None and mode == "all":
        states = _states(resolved, places)
        if left := sum(not run.finished for group in states for run in group.values()):
            names = ", ".join(map(str, resolved[sweep.index]))
            return f"run directory: {names} ({left} of {len(runs)} runs of the sweep are left)"
    if mode == "all":
        return _report(list(runs), places.workdir, runs)
    return f"run directory: {places.workdir}"


def _states(
    groups: Sequence[Mapping[Path, dict[str, Any]]], places: Places
) -> list[dict[str, sweep_lib.Progress]]:
    """How far each run of a sweep is, by name, in the groups of runs that are trained together."""
    from dst_jax import evaluate

    def evaluated(config: Mapping[str, Any], path: Path) -> bool:
        return evaluate.is_complete(config, path, places.data_dir, places.cache_dir)

    return [
        {path.name: sweep_lib.progress(path, config, evaluated) for path, config in group.items()}
        for group in groups
    ]


def _launch(groups: Sequence[Mapping[Path, dict[str, Any]]], places: Places, sweep: Sweep) -> None:
    """Leaves the runs that are not finished to jobs."""
    from dst_jax import launcher

    left = {
        index: ", ".join(group)
        for index, group in enumerate(_states(groups, places))
        if not all(run.finished for run in group.values())
    }
    launcher.launch(
        sweep.launcher,
        sweep.launcher_options,
        sweep.command,
        left,
        places.workdir / "jobs",
        lambda index: any(map(sweep_lib.is_running, groups[index])),
    )


def _note_stand_in(groups: Sequence[Mapping[Path, dict[str, Any]]]) -> None:
    """Says in the output what a toy run is trained on."""
    options = next(iter(groups[0].values()))["data"]
    if options.get("stand_in_for"):
        print(f"tiny: {options['name']} stands in for {options['stand_in_for']}", flush=True)


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


def _existing_runs(workdir: Path) -> list[Path]:
    """The run directory itself, or those directly inside it."""
    found = [workdir] if (workdir / "config.json").exists() else []
    found = found or sorted(path.parent for path in workdir.glob("*/config.json"))
    if not found:
        raise UserError(
            f"--workdir={workdir}",
            "no run",
            "a run directory, or a directory of runs",
            "Start one with --config=configs/digits_rigl.py",
        )
    return found


def evaluate_function(
    function: Function, places: Places, evaluation: Mapping[str, Any] | None = None
) -> str:
    """Scores a predict function that is no run of ours.

    Args:
      function: which, and on what.
      places: directories; the scores go to `places.workdir`.
      evaluation: options of the section `eval`, by their names; the rest have their defaults.

    Returns:
      The table of scores and where the files are; "" in all processes but the first.

    Raises:
      UserError, RunError, InterruptedRunError: see `robustness.evaluate`.
    """
    prepare_jax(places)
    from dst_jax.robustness import command

    options = config_lib.evaluation_options(evaluation or {}, "--")
    names = options.pop("suite").split(",")
    workdir_lib.make(places.workdir)
    main = is_main_process(places)
    with workdir_lib.locked(places.workdir) if main else contextlib.nullcontext():
        text = command.run(
            function.predict,
            function.dataset,
            places.workdir,
            places.data_dir,
            places.cache_dir,
            suite=names if len(names) > 1 else names[0],
            **options,
        )
    return text if main else ""


def _resolve(
    config: ConfigDict | None, path: Path, places: Places, evaluation: Mapping[str, Any]
) -> dict[str, Any]:
    from dst_jax import data, evaluate, saved_run, updaters

    if config is None:
        resolved = workdir_lib.read_json(path / "config.json")
        options = {**resolved.get("eval", {}), **evaluation}
        resolved["eval"] = config_lib.evaluation_options(options, evaluate.PREFIX)
        if evaluation:
            evaluate.plan(resolved, places.data_dir)
        return resolved
    for name, value in evaluation.items():
        config_lib.set_option(config, f"eval.{name}", value)
    flat = _check_names(config)
    dataset = data.get(flat["data.name"])
    count = data.num_examples(dataset, dataset.train_split, places.data_dir, places.cache_dir)
    count -= data.num_held_out(count, flat["data.validation"])
    resolved = config_lib.resolve(config, count)
    saved_run.create_model(resolved)  # an option that the model lacks must not wait for the data
    if not (path / "config.json").exists():  # what an earlier version began goes on
        updaters.check_algorithm(resolved)
    evaluate.plan(resolved, places.data_dir)  # a wrong name must not wait for training
    return resolved


def _check_names(config: ConfigDict) -> dict[str, Any]:
    """Checks the options, and what names things in registries; returns them flat."""
    from dst_jax import data, models, sparsity

    flat = config_lib.check_values(config)
    for name, known in (
        ("model.name", list(models.MODELS)),
        ("data.name", list(data.DATASETS)),
        ("sparsity.algorithm", sparsity.all_algorithm_names()),
    ):
        if flat[name] not in known:
            raise UserError(f"config.{name}", flat[name], "one of " + ", ".join(known))
    return flat


def _describe(config: ConfigDict | None, path: Path) -> str:
    """The table of a run's network, without its data: training sets have their published size."""
    from dst_jax import data, updaters
    from dst_jax.analysis import describe

    if config is None:
        resolved = workdir_lib.read_json(path / "config.json")
        return describe.table(resolved, resolved["sparsity"]["sparsity"])
    flat = _check_names(config)
    count = data.get(flat["data.name"]).num_train
    count -= data.num_held_out(count, flat["data.validation"])
    resolved = config_lib.resolve(config, count)
    updaters.check_algorithm(resolved)
    return describe.table(resolved, flat["sparsity.sparsity"])


def _do(configs: Mapping[Path, dict[str, Any]], places: Places, mode: str, several: bool) -> None:
    """Takes the runs of one config, one a seed, through what the mode asks for."""
    from dst_jax import evaluate, train
    from dst_jax.parallel import hardware
    from dst_jax.saved_run import load_run

    main = is_main_process(places)
    with contextlib.ExitStack() as locks:
        for path, config in configs.items():
            if main:
                workdir_lib.claim(path, config)
                locks.enter_context(workdir_lib.locked(path))
        if several and main:
            print("run " + ", ".join(path.name for path in configs), flush=True)
        if mode in ("all", "train"):
            for path in configs:
                if main and not (path / "summary.json").exists():
                    workdir_lib.write_environment(path, hardware())
            train.train(list(configs.values()), list(configs), places.data_dir, places.cache_dir)
        if mode in ("all", "evaluate"):
            from dst_jax.analysis import describe

            for path, config in configs.items():
                saved = load_run(path)  # by every process: Orbax waits for all of them
                if main:
                    describe.write(saved)
                evaluate.evaluate(config, saved, places.data_dir, places.cache_dir)
        if mode in ("all", "analyze"):
            from dst_jax.analysis import analyze, parts

            for path, config in configs.items():
                saved = load_run(path)  # its config is complete, whatever version wrote it
                config = {**saved.config, "analysis": parts.options_of(config)}
                wanted = config["analysis"]["parts"] or (ANALYSES if mode == "analyze" else ())
                if main and wanted:
                    analyze.analyze(config, saved, places.data_dir, places.cache_dir, wanted)


def _report(paths: list[Path], out_dir: Path, runs: Mapping[Path, ConfigDict | None]) -> str:
    from dst_jax import report

    expected = [
        {
            "name": path.name,
            "algorithm": member.sparsity.algorithm,
            "sparsity": 0.0 if member.sparsity.algorithm in DENSE else member.sparsity.sparsity,
            "seed": member.seed,
        }
        for path, member in runs.items()
        if member is not None
    ]
    result = report.write(paths, out_dir, expected)
    return f"{result.text}\nreport: {result.html_path}"
