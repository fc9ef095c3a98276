"""What each run of a call is: its directory, its resolved config, what this call evaluates it with.

From a card, or from the run directory alone. Names are checked against the registries and data are
counted here, so that a usage error is found before a training. Called by `experiment`.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dst_jax import config as config_lib
from dst_jax.config.checks import sparsity_of
from dst_jax.config.options import OPTIONS
from dst_jax.errors import UserError
from dst_jax.paths import RunPaths
from dst_jax.runtime import environment, run_dir


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One run of a call.

    Attributes:
      config: the resolved config, as `config.json` holds it.
      evaluation: the section `eval` that this call uses; flags of one call are never stored.
      data_dir: where TFDS datasets are prepared: what the call says, or where the run's latest
        start found them, if they are still there; None: TFDS's own default.
      data_found: whether the training images were counted; otherwise their published number stands
        in, which only a plan may do.
    """

    config: dict[str, Any]
    evaluation: dict[str, Any]
    data_dir: str | None
    data_found: bool = True

    @property
    def for_evaluation(self) -> dict[str, Any]:
        """The config with this call's options of evaluation."""
        return {**self.config, "eval": self.evaluation}


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


def of_workdir(workdir: Path) -> list[Path]:
    """The runs of a directory, of which there must be one."""
    if found := _runs_in(workdir):
        return found
    if kept := archive_of(workdir):
        has = f"no run but {kept}, which has no weights"
        raise UserError(f"--workdir={workdir}", has, "a directory of runs, or --mode=report")
    raise UserError(
        f"--workdir={workdir}",
        "no run",
        "a run directory, or a directory of runs",
        "Start one with --config=digits_rigl",
    )


def archive_of(workdir: Path) -> str:
    """The name of the archive of a folder that holds one and no run, else ""."""
    from dst_jax.report import archive

    return archive.NAME if (workdir / archive.NAME).exists() and not _runs_in(workdir) else ""


def expected(runs: Mapping[Path, ConfigDict | None]) -> list[dict[str, Any]]:
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


def of_call(
    config: ConfigDict | None,
    path: Path,
    run_paths: RunPaths,
    given: Mapping[str, Any],
    *,
    planning: bool = False,
) -> RunConfig:
    """Resolves the config of a run and checks everything that names something.

    Args:
      config: from a card, with the command line's changes; None: the one of the run directory.
      path: the run directory; it need not exist where a card is given.
      run_paths: directories of the call.
      given: options of the section `eval` that flags of the call set, by their names.
      planning: whether data that are not prepared are taken to be as published.

    Raises:
      UserError: a value or a name is wrong, or the data are not there.
    """
    from dst_jax import data, evaluate, user_files
    from dst_jax.training import algorithm_checks, build, initial_weights

    data_dir = run_paths.data_dir or environment.data_dir_of(path)
    if config is None:
        resolved = of_directory(path)
        options = config_lib.evaluation_of_call(resolved["eval"], given, evaluate.PREFIX)
        run = RunConfig(resolved, options, data_dir)
        user_files.check(path, run.for_evaluation)
        if given:
            evaluate.plan(run.for_evaluation, data_dir)
        return run
    flat = check_names(config)
    dataset, found = data.get(flat["data.name"]), True
    try:
        count = data.num_examples(dataset, dataset.train_split, data_dir, run_paths.cache_dir)
        if dataset.read is not None:  # its test images must not be wrong after a training only
            data.num_examples(dataset, dataset.test_split, data_dir, run_paths.cache_dir)
    except UserError:
        if not planning:
            raise
        count, found = dataset.num_train, False
    resolved = _resolved(config, flat, count)
    resolved["model"]["init_sha256"] = initial_weights.recorded(resolved, path)
    options = config_lib.evaluation_of_call(resolved["eval"], given, evaluate.PREFIX)
    run = RunConfig(resolved, options, data_dir, found)
    build.model(resolved)  # an option that the model lacks must not wait for the data
    build.check_own_model(resolved)
    if not (path / "config.json").exists():  # what an earlier version began goes on
        algorithm_checks.check(resolved)
        initial_weights.check(resolved)
    if found:
        evaluate.plan(run.for_evaluation, data_dir)  # a wrong name must not wait for training
    return run


def of_directory(path: Path) -> dict[str, Any]:
    """The config of a run directory.

    Raises:
      UserError: it is missing or damaged, or names a model, dataset or algorithm that is not
        registered in this process.
    """
    from dst_jax import user_files

    resolved = run_dir.read_config(path)
    user_files.check(path, user_files.training_of(resolved))
    return resolved


def as_published(config: ConfigDict) -> dict[str, Any]:
    """The resolved config of a card whose training set has its published size: no data are read.

    Raises:
      UserError: a value or a name is wrong.
    """
    from dst_jax import data
    from dst_jax.training import algorithm_checks

    flat = check_names(config)
    resolved = _resolved(config, flat, data.get(flat["data.name"]).num_train)
    algorithm_checks.check(resolved)
    return resolved


def check_names(config: ConfigDict) -> dict[str, Any]:
    """Checks the options, and what names things in registries; returns them flat."""
    flat = config_lib.check_values(config)
    for name, known in _registries():
        if flat[name] not in known:
            hint = "If a file of yours registers it, add --import=FILE.py"
            raise UserError(f"config.{name}", flat[name], "one of " + ", ".join(known), hint)
    return _without_what_own_models_lack(config, flat)


def _without_what_own_models_lack(config: ConfigDict, flat: dict[str, Any]) -> dict[str, Any]:
    """Takes back what a card's toy form sets for the card's own network and a user's lacks."""
    from dst_jax import models

    if not flat["data.stand_in_for"] or flat["model.name"] not in models.REGISTERED_IN:
        return flat
    for option in ("width", "depth", "stem"):
        if option not in models.options_of(flat["model.name"]):
            flat[f"model.{option}"] = OPTIONS[f"model.{option}"].default
            config_lib.set_option(config, f"model.{option}", flat[f"model.{option}"])
    return flat


def sizes(runs: Iterable[RunConfig], run_paths: RunPaths, *, planning: bool) -> list[str]:
    """Sentences on datasets that are not what they are published as, each once.

    Args:
      runs: those of a call.
      run_paths: directories of the call.
      planning: whether published numbers stand in for data that are not prepared.
    """
    from dst_jax import data
    from dst_jax.data import arrays

    notes = []
    for run in runs:
        options = run.config["data"]
        if options.get("stand_in_for"):
            notes.append(f"tiny: {options['name']} in place of {options['stand_in_for']}")
        dataset = data.get(options["name"])
        for kind, split, published in (
            ("training", dataset.train_split, dataset.num_train),
            ("test", dataset.test_split, dataset.num_test),
        ):
            try:
                count = data.num_examples(dataset, split, run.data_dir, run_paths.cache_dir)
            except UserError:
                if planning:
                    found = f"{dataset.name} is not prepared here"
                    notes.append(f"data: {found}: taken as published, {published:,} {kind} images")
                continue
            if published and count != published:
                notes.append(
                    f"data: {dataset.name} has {count:,} {kind} images here, "
                    f"{'fewer' if count < published else 'more'} than the {published:,} published"
                )
        with contextlib.suppress(UserError):  # what cannot be read is told by who needs it
            share = options.get("validation", 0.0)
            notes += arrays.doubts(dataset, functools.partial(data.num_held_out, share=share))
    return list(dict.fromkeys(notes))


def _registries() -> tuple[tuple[str, list[str]], ...]:
    """Options that name something, and the names there are."""
    from dst_jax import data, models, sparsity

    return (
        ("model.name", list(models.MODELS)),
        ("data.name", list(data.DATASETS)),
        ("sparsity.algorithm", list(sparsity.all_algorithm_names())),
    )


def _resolved(config: ConfigDict, flat: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Resolves a config for so many training images, some of which may be held out."""
    from dst_jax import data

    return config_lib.resolve(config, count - data.num_held_out(count, flat["data.validation"]))
