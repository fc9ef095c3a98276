"""From runs to what can be compared: seeds into groups, groups into comparisons.

A group is runs that differ only in their seed; a comparison is the groups of one dataset, one model
and one corruption benchmark. A group's baseline is the dense group that differs from it in the
sparse training alone and is scored on the same conditions of the same images; where there is none,
it is said which fields stand in the way. That of a small dense group is the largest dense group
that differs from it in the size of the network alone. Numbers are those of `robustness`; verdicts
are in `verdicts`, wording and tables elsewhere. Called by `report.write`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from dst_jax.data.benchmarks import Benchmark, named
from dst_jax.report.recipes import settings
from dst_jax.report.runs import Run
from dst_jax.report.wording import percent
from dst_jax.robustness import CLEAN, Condition, Gain, Result, gain
from dst_jax.statistics import Estimate, estimate

# A baseline may differ from its group in these alone, besides what is in `recipes.RECORDS`.
BASELINE_DIFFERS = ("sparsity.", "seed")
# A small dense network differs from its baseline in these alone.
SIZE = ("model.width", "model.depth")
_NAMED = 4  # so many differing fields are named, the others counted


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed.

    Attributes:
      method: the algorithm, with whatever tells it from its namesakes in the same comparison.
      algorithm: the bare name of the algorithm.
      sparsity: requested sparsity in [0, 1), None when unknown.
      runs: one per seed, ascending; all finished, or all stopped at the same step.
    """

    method: str
    algorithm: str
    sparsity: float | None
    runs: tuple[Run, ...]

    @property
    def is_dense(self) -> bool:
        """Whether nothing is removed in these runs."""
        return self.runs[0].is_dense

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """The seed of each run, None where it is not known."""
        return tuple(run.seed for run in self.runs)

    @property
    def trained(self) -> int | None:
        """Steps of training behind the scores, None when unknown."""
        run = self.runs[0]
        return run.steps if run.finished and run.steps is not None else (run.step or None)

    @property
    def label(self) -> str:
        """Method and sparsity."""
        if self.is_dense or self.sparsity is None:
            return self.method
        return f"{self.method} {percent(self.sparsity)} %"

    @property
    def name(self) -> str:
        """The label, marked if unfinished, as legends and sentences need it."""
        return f"{self.label} (unfinished)" if self.unfinished else self.label

    @property
    def unfinished(self) -> str:
        """Why the training counts as unfinished, in words; empty when it is finished."""
        return "" if self.runs[0].finished else self.runs[0].status

    def fact(self, key: str) -> Estimate | None:
        """Mean over seeds of a number of model.json."""
        return estimate([v for run in self.runs if (v := run.fact(key)) is not None])


class ImageSource(NamedTuple):
    """What the scores of one comparison share, besides dataset and model."""

    benchmark: Benchmark
    source: str
    preset: str
    seed: int

    @property
    def text(self) -> str:
        """In words: `CIFAR10-C, rendered (cifar32, seed 0)`."""
        text = ", ".join(filter(None, (self.benchmark.name, self.source)))
        return f"{text} ({self.preset}, seed {self.seed})" if self.preset else text


@dataclass(frozen=True)
class Comparison:
    """Groups that are shown together; which of them may be compared, `baseline` says.

    Attributes:
      dataset: its name, None when unknown.
      model: its name, None when unknown.
      image_source: benchmark and source of the images, None when no run was evaluated.
      all_groups: all groups: dense first, then by sparsity and name.
      groups: those with scores here, each with the runs that share their images and conditions.
      not_counted: the groups of the other runs; `remarks` says why each is not counted.
      results: run directory -> the score that is shown.
      remarks: run directory of a run in `not_counted` -> why it is not counted.
      notes: what restricts the comparison, in sentences.
      copies: run directories of runs in `not_counted` that are a counted training once more.
    """

    dataset: str | None
    model: str | None
    image_source: ImageSource | None
    all_groups: tuple[Group, ...]
    groups: tuple[Group, ...]
    not_counted: tuple[Group, ...]
    results: Mapping[Path, Result]
    remarks: Mapping[Path, str]
    notes: tuple[str, ...]
    copies: frozenset[Path] = frozenset()

    def is_sample(self, run: Run) -> bool:
        """Whether a run is a training of its own, of the network that its config asks for."""
        return not run.contradiction and run.directory not in self.copies

    @property
    def suite(self) -> str:
        """What was scored, in words; "" when nothing was."""
        return self.image_source.text if self.image_source else ""

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions of the benchmark that any group has, in its order."""
        if self.image_source is None:
            return ()
        there = {c for group in self.groups for c in self.of(group)[0].counted}
        wanted = (Condition(*condition) for condition in self.image_source.benchmark.conditions)
        return tuple(condition for condition in wanted if condition in there)

    @property
    def corruptions(self) -> tuple[str, ...]:
        """Corruptions of `conditions`, each once."""
        return tuple(dict.fromkeys(c.corruption for c in self.conditions))

    @cached_property
    def images(self) -> int:
        """Smallest number of images behind an accuracy; 0 without scores."""
        return min((self.of(group)[0].n for group in self.groups), default=0)

    def of(self, group: Group) -> list[Result]:
        """The scores of a group's runs, all on the same conditions and images."""
        return [self.results[run.directory] for run in group.runs]

    def clean(self, group: Group) -> Estimate | None:
        """Accuracy on clean images."""
        return self.accuracy(group, [CLEAN])

    def robust(self, group: Group) -> Estimate | None:
        """Robust accuracy of the benchmark; see `lacking` for whether it is the whole of it."""
        values = [result.robust_accuracy for result in self.of(group)]
        return estimate([value for value in values if value is not None])

    def lacking(self, group: Group) -> str:
        """What the benchmark has and the group's scores have not; "" where they are complete.

        Where the groups have different numbers of images, also on how many.
        """
        result = self.of(group)[0]
        sizes = {self.of(other)[0].n for other in self.groups}
        unlike = len(sizes) > 1 and "images" not in result.lacking and result.n < max(sizes)
        images = f"{result.n:,} images, others {max(sizes):,}" if unlike else ""
        return "; ".join(filter(None, (result.lacking, images)))

    def number(self, group: Group, name: str) -> Estimate | None:
        """Mean over seeds of a number of `Result`, such as "mce"."""
        values = [getattr(result, name) for result in self.of(group)]
        return estimate([value for value in values if value is not None])

    def accuracy(self, group: Group, conditions: Iterable[Condition]) -> Estimate | None:
        """Mean accuracy over conditions, then over the seeds; None where one is not scored."""
        wanted = list(conditions)
        values = [result.mean_accuracy(wanted) for result in self.of(group)]
        return estimate([value for value in values if value is not None])

    def at(self, corruption: str) -> list[Condition]:
        """The conditions of one corruption."""
        return [c for c in self.conditions if c.corruption == corruption]

    def baseline(self, group: Group) -> Group | None:
        """The dense group that a sparse or small dense one may be compared with, if there is one.

        Of several larger networks the largest.
        """
        alike = [g for g in self.groups if g.is_dense and _may_be_compared(group, g)]
        scored = (g for g in alike if self._scope(g) == self._scope(group))
        return max(scored, key=lambda g: parameters(g.runs[0]), default=None)

    def obstacle(self, group: Group) -> str:
        """Why a sparse or small dense group has no baseline, as a sentence; "" where it has one.

        Of a dense group that is smaller than no other: "".
        """
        dense = [g for g in self.all_groups if g.is_dense]
        alike = [g for g in dense if _may_be_compared(group, g)]
        if self.baseline(group) is not None or (group.is_dense and not alike):
            return ""
        if not dense:
            return f"{group.name}: there is no dense run to compare with."
        if not group.runs[0].config:
            return f"{group.name}: its config is not known, so it is compared with nothing."
        if not alike:
            nearest = min(dense, key=lambda g: len(differences(group, g)))
            found = differences(group, nearest)
            more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            return (
                f"{group.name} has no dense baseline: the nearest, {nearest.name}, differs "
                f"in {'; '.join(found[:_NAMED])}{more}."
            )
        comparable = (g for g in self.groups if g.is_dense and _may_be_compared(group, g))
        if (counted := next(comparable, None)) is None:
            return f"{group.name} has no dense baseline: {alike[0].name} has no score here."
        ours, theirs = self._scope(group), self._scope(counted)
        if ours.n != theirs.n:
            what = f"{theirs.n:,} images, this on {ours.n:,}"
        elif ours.images != theirs.images:
            what = f"other {theirs.n:,} images"
        else:
            what = f"{len(theirs.conditions)} conditions, this on {len(ours.conditions)}"
            what += " others" if len(theirs.conditions) == len(ours.conditions) else ""
        return f"{group.name} has no dense baseline: {counted.name} was scored on {what}."

    @cached_property
    def _gains(self) -> dict[Path, Gain | None]:
        found: dict[Path, Gain | None] = {}
        for group in self.groups:
            base = self.baseline(group)
            counts = base is not None and self.robust(group) is not None
            found[group.runs[0].directory] = (
                gain(
                    self._comparable(group),
                    self._comparable(base),
                    seeds=(group.seeds, base.seeds),
                )
                if base and counts
                else None
            )
        return found

    def gain(self, group: Group) -> Gain | None:
        """The gain in robust accuracy over the dense baseline; None where there is none.

        Over seeds it is paired where the runs that count have the same seeds on both sides.
        """
        return self._gains[group.runs[0].directory]

    def _comparable(self, group: Group) -> list[Result]:
        """The scores on the benchmark alone, whatever else the suite that was asked for has."""
        found = []
        for result in self.of(group):
            name = result.benchmark.name if named(result.benchmark.name) else result.setting.suite
            only = result.only(result.counted)
            rows = tuple(row._replace(suite=name) for row in only.scores)
            found.append(replace(only, scores=rows))
        return found

    def relative_gains(self, group: Group) -> dict[str, float]:
        """(sparse - dense) / dense of the accuracy over severities, for each corruption."""
        base = self.baseline(group)
        if base is None:
            return {}
        found = {}
        for name in self.corruptions:
            mine, theirs = self.accuracy(group, self.at(name)), self.accuracy(base, self.at(name))
            if mine is not None and theirs is not None and theirs.mean > 0:
                found[name] = (mine.mean - theirs.mean) / theirs.mean
        return found

    def _scope(self, group: Group) -> "Scope":
        return scope(self.of(group)[0])


class Scope(NamedTuple):
    """What must be the same for two scores of one benchmark to be compared."""

    n: int
    images: str
    conditions: tuple[Condition, ...]


def scope(result: Result) -> Scope:
    """The scope of a result: its images, and the conditions of the benchmark that it has."""
    return Scope(result.n, result.setting.images, result.counted)


def differences(group: Group, dense: Group) -> list[str]:
    """In what a sparse group and a dense one differ that a baseline must not, in words."""
    ours, theirs = (settings(side.runs[0]) for side in (group, dense))
    if not ours or not theirs:
        return ["a config that is not known"]
    found = [
        f"{key} ({theirs.get(key)!r}, here {ours.get(key)!r})"
        for key in sorted(ours.keys() | theirs.keys())
        if not key.startswith(BASELINE_DIFFERS) and ours.get(key) != theirs.get(key)
    ]
    if not found and group.trained != dense.trained:
        found.append(f"steps of training done ({dense.trained}, here {group.trained})")
    return found


def is_smaller(run: Run, other: Run) -> bool:
    """Whether two dense runs differ in the size of the network alone, and the first is smaller.

    False where a config, or a number of parameters (model.json), is not known.
    """
    if not (run.is_dense and other.is_dense and run.config and other.config):
        return False
    ours, theirs = settings(run), settings(other)
    if any(ours.get(key) != theirs.get(key) for key in (ours.keys() | theirs.keys()) - {*SIZE}):
        return False
    return 0 < parameters(run) < parameters(other)


def parameters(run: Run) -> float:
    """The number of parameters of a run's network, masked ones included; 0 where not known."""
    return run.fact("parameters") or 0.0


def _may_be_compared(group: Group, dense: Group) -> bool:
    """Whether a dense group may be the baseline of another group, but for what was scored."""
    if group.is_dense:
        return group.trained == dense.trained and is_smaller(group.runs[0], dense.runs[0])
    return not differences(group, dense)
