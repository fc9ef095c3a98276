"""Evaluates the checkpoints of runs on clean and corrupted test images: `robustness.csv`.

Turns the section `eval` of a config into arguments of `robustness.evaluate_models`, which does the
work and skips what is scored. Called by `stages`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dst_jax import data
from dst_jax.errors import UserError
from dst_jax.robustness import Result, evaluation, images, storage, suites
from dst_jax.runtime.run_dir import read_json
from dst_jax.saved_run import Run

Config = Mapping[str, Any]
PREFIX = "config.eval."


def plan(config: Config, data_dir: str | None) -> suites.Plan:
    """What a config asks for: the suite and its conditions.

    Raises:
      UserError: a name is wrong, or the prepared dataset is not there.
    """
    options, dataset = config["eval"], data.get(config["data"]["name"])
    return suites.plan(
        _suite(options),
        dataset,
        options["preset"] or dataset.preset,
        source=options["source"],
        only=options["corruptions"],
        severities=options["severities"],
        seed=options["seed"],
        frost_dir=options["frost_dir"],
        data_dir=data_dir,
        prefix=PREFIX,
    )


def _suite(options: Config) -> str | list[str]:
    names = options["suite"].split(",")
    return names if len(names) > 1 else names[0]


def evaluate(config: Config, run: Run, data_dir: str | None, cache_dir: Path) -> Result:
    """Scores the run's last checkpoint and writes `robustness.csv`; what is scored is kept.

    Args:
      config: the resolved config of the run; its section `eval` may be newer than the training.
      run: the run, as `load_run` reads it.
      data_dir: where TFDS datasets are prepared; None: TFDS's own default.
      cache_dir: where decoded arrays are cached.

    Returns:
      The scores that the config asks for.

    Raises:
      UserError: the run is not trained to its end, or the config does not fit.
      RunError: a corrupted dataset holds another number of images than the clean one.
      InterruptedRunError: SIGTERM or Ctrl-C; what was scored is on disk.
    """
    return evaluate_runs(config, [run], data_dir, cache_dir)[0]


def evaluate_runs(
    config: Config, runs: Sequence[Run], data_dir: str | None, cache_dir: Path
) -> list[Result]:
    """Scores several runs, for which each corrupted image is rendered once.

    Args:
      config: the resolved config of any of them: they share the dataset and the section `eval`.
      runs: of directories side by side, or one.
      data_dir: see `evaluate`.
      cache_dir: see `evaluate`.

    Returns:
      The scores that the config asks for, in the order of the runs.

    Raises:
      UserError, RunError, InterruptedRunError: as `evaluate`, of any of them.
    """
    for run in runs:
        check_finished(run)
    found = {run.workdir: complete(config, run.workdir, data_dir, cache_dir) for run in runs}
    missing = [run for run in runs if found[run.workdir] is None]
    if missing:
        options = config["eval"]
        alone = len(missing) == 1
        results = evaluation.evaluate_models(
            {"" if alone else run.workdir.name: run.predict for run in missing},
            config["data"]["name"],
            _suite(options),
            source=options["source"],
            corruptions=options["corruptions"],
            severities=options["severities"],
            preset=options["preset"],
            seed=options["seed"],
            frost_dir=options["frost_dir"],
            batch_size=options["batch_size"],
            max_images=options["max_images"],
            image_ids=options["image_ids"],
            keep=options["keep"],
            data_dir=data_dir,
            cache_dir=cache_dir,
            path=missing[0].workdir if alone else missing[0].workdir.parent,
            prefix=PREFIX,
        )
        found |= dict(zip((run.workdir for run in missing), results.values(), strict=True))
    return [result for run in runs if (result := found[run.workdir]) is not None]


def check_finished(run: Run) -> None:
    """Refuses a run that is not trained to its end.

    Raises:
      UserError: it is not.
    """
    if run.step != run.config["train"]["steps"]:
        raise UserError(
            f"--workdir={run.workdir}",
            f"training at step {run.step} of {run.config['train']['steps']}",
            "a finished training",
            "Finish it with --mode=train",
        )


def complete(config: Config, workdir: Path, data_dir: str | None, cache_dir: Path) -> Result | None:
    """The scores of every condition that a config asks for, where a run directory holds them all.

    Scores of other suites, sources, seeds or numbers of images do not count; nothing is loaded but
    the files of the scores.
    """
    wanted = plan(config, data_dir)
    name, limit = config["data"]["name"], config["eval"]["max_images"]
    ids, keep = config["eval"]["image_ids"], config["eval"]["keep"]
    source = images.open_source(name, "", limit, data_dir, cache_dir, PREFIX, image_ids=ids)
    setting = (wanted.suite, wanted.source, wanted.preset, wanted.seed, source.total)
    stored = storage.read(workdir)
    if problem := storage.of_another_run(stored.model, _facts(workdir)):
        raise UserError(
            str(workdir / storage.JSON),
            problem,
            "the scores of this run",
            f"Move {storage.CSV}, .npz and .json away: the run is scored again",
        )
    if not (workdir / storage.JSON).exists():
        return None  # an evaluation writes it again
    found = [
        result.only(wanted.conditions)
        for result in stored.results
        if result.setting[:5] == setting
        and set(wanted.conditions) <= set(result.hits)
        and result.keeps(keep, wanted.conditions)
    ]
    if found and (source.by_pixels or ids or len(found) > 1):
        own = images.identity(source)
        found = [result for result in found if result.setting.images == own]
    return found[0] if found else None


def _facts(workdir: Path) -> Any:
    path = workdir / "model.json"
    return read_json(path) if path.exists() else {}


def is_complete(config: Config, workdir: Path, data_dir: str | None, cache_dir: Path) -> bool:
    """Whether a run directory holds a score of every condition that its config asks for."""
    return complete(config, workdir, data_dir, cache_dir) is not None
