"""Reads one run directory into a frozen `Run`.

Nothing here compares, averages or draws; scores are read by `robustness.storage`. A piece that is
missing or damaged becomes a sentence in `Run.problems`; reading never raises for what a run left on
disk. Called by `report.write`.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dst_jax import config as config_lib
from dst_jax.config.checks import DENSE, sparsity_of
from dst_jax.config.options import OPTIONS
from dst_jax.data.datasets import DATASETS
from dst_jax.errors import UserError
from dst_jax.report.wording import some
from dst_jax.robustness import Result, storage
from dst_jax.runtime import run_dir
from dst_jax.runtime.run_dir import FAILURE

_RESOLVED = ("train.steps_per_epoch",)  # not an option, but in a resolved config


@dataclass(frozen=True)
class Run:
    """What one run directory says about itself; None where it does not say.

    Attributes:
      directory: the run directory as given (for a run that was only planned: its name).
      algorithm: name of the sparse-training algorithm.
      sparsity: requested share of removed weights among the maskable ones, in [0, 1).
      config: the resolved config, flattened to {"train.steps": 400, ...}.
      environment: command, commit, versions, hardware, started.
      structure: parameter counts, realised sparsity and FLOPs (model.json).
      metrics: one mapping per log line, ascending in "step", one per step.
      results: what it was scored on, one for each suite, source and set of images.
      weights: SHA-256 of the weights that were scored, "" where it is not known.
      exists: False for a run that was planned and left nothing.
      finished: whether training reached its end.
      step: the last step known to be done.
      checkpoint: step of the latest checkpoint, None without any.
      seconds: how long training took.
      failure: why its last start failed, in words; "" if it did not.
      problems: what is missing or damaged, one sentence each.
      archive: the name of the archive that the directory was unpacked from, "" if from none.
    """

    directory: Path
    algorithm: str | None = None
    sparsity: float | None = None
    seed: int | None = None
    dataset: str | None = None
    model: str | None = None
    steps: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    structure: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Mapping[str, Any], ...] = ()
    results: tuple[Result, ...] = ()
    weights: str = ""
    exists: bool = True
    finished: bool = False
    step: int = 0
    checkpoint: int | None = None
    seconds: float | None = None
    failure: str = ""
    problems: tuple[str, ...] = ()
    archive: str = ""

    @property
    def is_dense(self) -> bool:
        """Whether this run removes no weight."""
        return self.algorithm in DENSE

    @property
    def status(self) -> str:
        """How far the run came, in words; empty when it is trained and evaluated."""
        if not self.exists:
            return "not run"
        if not self.finished:
            if "summary.json is unreadable" in self.problems:
                return "summary.json is unreadable, so the end of training is not known"
            of = "" if self.steps is None else f" of {self.steps}"
            return self.failure or f"training not finished at step {self.step}{of}"
        return "" if self.results else "not evaluated"

    @property
    def starts(self) -> list[Mapping[str, Any]]:
        """What each start of the training says of its command, commit, versions and hardware."""
        listed = self.environment.get("starts")
        if isinstance(listed, list) and listed and all(isinstance(s, Mapping) for s in listed):
            return listed
        return [self.environment] if self.environment else []

    @property
    def contradiction(self) -> str:
        """What config and network say of the sparsity, where they disagree; "" where they do not.

        A training that ends as it was asked to has the requested sparsity to rounding.
        """
        realised, wanted = self.fact("sparsity"), self.sparsity
        if self.config and wanted is None:
            return "config.json asks for no sparsity from 0 to 1"
        if not self.finished or realised is None or wanted is None or abs(realised - wanted) < 0.05:
            return ""
        return (
            f"config.json asks for sparsity {100 * wanted:.1f} %, model.json counts "
            f"{100 * realised:.1f} %"
        )

    @property
    def toy(self) -> str:
        """Why the training is a toy that says nothing of a method, in words; "" if it is none."""
        if stand_in := self.config.get("data.stand_in_for"):
            return f"{self.dataset} stands in for {stand_in}"
        epochs = _number(self.config.get("train.epochs"))
        if epochs is not None and epochs < 1:
            return f"{epochs:.2g} of one pass over the training images"
        return ""

    @property
    def part_of_data(self) -> str:
        """How many of the published training images were there, in words; "" if all were."""
        known = DATASETS.get(self.dataset or "")
        numbers = [
            _number(self.config.get(f"train.{key}")) for key in ("steps_per_epoch", "batch_size")
        ]
        share = _number(self.config.get("data.validation")) or 0.0
        if known is None or None in numbers:
            return ""
        per_epoch, batch = (int(number) for number in numbers if number is not None)
        if share:
            return f"{share:.0%} of the training images held out"
        if per_epoch >= known.num_train // batch:
            return ""
        return f"about {per_epoch * batch:,} of {known.num_train:,} training images"

    def fact(self, name: str) -> float | None:
        """A finite number of model.json, or None."""
        return _number(self.structure.get(name))


def read(directory: Path) -> Run:
    """Reads one run directory; pieces that are missing or damaged go to `Run.problems`."""
    if not directory.is_dir() or not any(directory.iterdir()):
        return Run(directory, exists=False)
    problems: list[str] = []
    raw = _read_json(directory / "config.json", problems)
    written = dict(config_lib.flatten(raw))
    config = _of_this_version(raw, problems)
    environment = _read_json(directory / "environment.json", problems)
    structure = _read_json(directory / "model.json", problems)
    metrics = _read_metrics(directory / "metrics.jsonl", problems)
    dataset = _text(written.get("data.name"))
    stored = storage.read(directory, salvage=True)
    problems += stored.problems
    results = [r if r.dataset else replace(r, dataset=dataset or "") for r in stored.results]
    if problem := storage.of_another_run(stored.model, structure):
        problems.append(f"robustness.csv holds {problem}, which are not counted")
        results = []
    if others := sorted({r.dataset for r in results if dataset and r.dataset != dataset}):
        problems.append(f"scores on {', '.join(others)}, not the run's dataset, are not counted")
        results = [r for r in results if r.dataset == dataset]
    # No summary is the ordinary sight of a run that still trains: the status says it.
    ended = (directory / "summary.json").exists()
    summary = _read_json(directory / "summary.json", problems) if ended else {}

    failure = _read_json(directory / FAILURE, problems) if (directory / FAILURE).exists() else {}

    algorithm = _text(written.get("sparsity.algorithm"))
    sparsity = _number(written.get("sparsity.sparsity"))
    checkpoint = max(run_dir.checkpoint_steps(directory), default=None)
    done = summary.get("step", metrics[-1]["step"] if metrics else None)
    finished, step = summary.get("finished") is True, _integer(done) or 0
    steps = _integer(written.get("train.steps"))
    if finished and steps is not None and step != steps:
        problems.append(f"summary.json says finished at step {step}, config.json {steps} steps")
        finished = False
    if finished and checkpoint is not None and checkpoint != step:
        problems.append(f"checkpoints/ is of step {checkpoint}, the training ended at step {step}")
    return Run(
        directory=directory,
        algorithm=algorithm,
        sparsity=sparsity_of(algorithm, sparsity),
        seed=_integer(written.get("seed")),
        dataset=dataset,
        model=_text(written.get("model.name")),
        steps=steps,
        config=config,
        environment=environment,
        structure=structure,
        metrics=metrics,
        results=tuple(results),
        weights=stored.model.weights if stored.model else "",
        finished=finished,
        step=step,
        checkpoint=checkpoint,
        seconds=_number(summary.get("seconds")),
        failure="" if finished else _text(failure.get("reason")) or "",
        problems=tuple(problems),
    )


def with_planned(runs: Sequence[Run], expected: Iterable[Mapping[str, Any]]) -> list[Run]:
    """Adds a run "not run" for each expected one that is absent, and names nameless runs.

    An expected run is looked for by its name (that of a run directory), then by algorithm,
    sparsity and seed; each run answers for one expected run.

    Args:
      runs: the runs that were read.
      expected: descriptions with the keys "name", "algorithm", "sparsity", "seed".

    Returns:
      The runs in their order, then those that are missing.
    """
    found = list(runs)
    free = set(range(len(found)))
    absent: list[Run] = []
    for entry in expected:
        plan = _planned(entry)
        match = next(
            (i for i in sorted(free) if found[i].directory.name == plan.directory.name), None
        )
        if match is None:
            absent.append(plan)
            continue
        free.remove(match)
        if found[match].algorithm is None:  # no config: the plan knows what it was to be
            found[match] = replace(
                found[match], algorithm=plan.algorithm, sparsity=plan.sparsity, seed=plan.seed
            )
    missing = []
    for plan in absent:
        match = next((i for i in sorted(free) if _same_recipe(found[i], plan)), None)
        if match is None:
            missing.append(plan)
        else:
            free.remove(match)
    return found + missing


def _planned(entry: Mapping[str, Any]) -> Run:
    algorithm = _text(entry.get("algorithm"))
    sparsity = _number(entry.get("sparsity"))
    return Run(
        directory=Path(str(entry.get("name", "?"))),
        algorithm=algorithm,
        sparsity=sparsity_of(algorithm, sparsity),
        seed=_integer(entry.get("seed")),
        exists=False,
    )


def _same_recipe(run: Run, plan: Run) -> bool:
    return (
        run.algorithm is not None
        and (run.algorithm, run.seed) == (plan.algorithm, plan.seed)
        and math.isclose(run.sparsity or 0.0, plan.sparsity or 0.0)
    )


def _read_json(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        problems.append(f"{path.name} is missing")
        return {}
    except (OSError, ValueError):  # not readable, not UTF-8, not JSON
        content = None
    if not isinstance(content, dict):
        problems.append(f"{path.name} is unreadable")
        return {}
    return content


def _of_this_version(raw: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """A flat config with the defaults of what an older version lacked; {} if it is none of ours."""
    config = config_lib.with_new_names(raw)
    lacking = [name for name in OPTIONS if name not in config]
    unknown = [name for name in config if name not in OPTIONS and name not in _RESOLVED]
    if not config:
        return {}
    try:
        completed = dict(config_lib.flatten(config_lib.completed(raw)))
    except (UserError, AttributeError, TypeError, ValueError):  # whatever somebody wrote there
        completed = {}
    if len(lacking) == len(OPTIONS) or not completed:
        problems.append("config.json is not that of a run of dst_jax")
        return {}
    if lacking or unknown:
        texts = [f"lacks {some(lacking, 5)}, read at the default"] if lacking else []
        texts += [f"has {some(unknown, 5)}, not known here"] if unknown else []
        problems.append(f"config.json is of another version: it {' and '.join(texts)}")
    return {**completed, **config}


def _read_metrics(path: Path, problems: list[str]) -> tuple[Mapping[str, Any], ...]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        problems.append("metrics.jsonl is missing")
        return ()
    except OSError:
        problems.append("metrics.jsonl is unreadable")
        return ()
    rows: dict[int, Mapping[str, Any]] = {}
    bad = 0
    for line in filter(str.strip, lines):
        try:
            row = json.loads(line)
            step = _integer(row["step"])
        except (ValueError, TypeError, KeyError):
            step = None
        if step is None:
            bad += 1
        else:
            rows[step] = row  # a resumed run logs some steps again: the last word counts
    if bad:
        problems.append(f"metrics.jsonl has {counted(bad, 'unreadable line')}, left out")
    return tuple(rows[step] for step in sorted(rows))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _integer(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number == int(number) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def counted(n: int, noun: str) -> str:
    """A number and its noun: "1 corruption", "2 corruptions"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
