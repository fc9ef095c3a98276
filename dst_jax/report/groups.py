"""From runs to what can be compared: seeds into groups, groups into comparisons.

A group is runs that differ only in their seed; a comparison is the groups of one dataset, one model
and one corruption suite, scored on the conditions they all have. All statistics of the report are
here; wording, tables and figures are not. Called by `report.write`.
"""

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from dst_jax.estimate import Estimate, estimate
from dst_jax.report.runs import CLEAN, Condition, Run

# Options that change what is recorded and when, not what is trained; what was evaluated is told by
# the scores themselves.
_RECORDS = ("checkpoint.", "log.", "analysis.", "train.steps_per_dispatch", "eval.")


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed.

    Attributes:
      method: the algorithm, with whatever tells it from its namesakes in the same comparison.
      algorithm: the bare name of the algorithm.
      sparsity: requested sparsity in [0, 1), None when unknown.
      runs: one a seed, ascending; all finished, or all stopped at the same step.
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


@dataclass(frozen=True)
class Comparison:
    """Groups that may be compared with each other.

    Attributes:
      dataset: its name, None when unknown.
      model: its name, None when unknown.
      suite: the corruption suite, "" when no run was evaluated.
      families: all groups: dense first, then by sparsity and name.
      groups: those with scores on `suite`, each with its scored runs only.
      idle: the groups without scores on `suite`, and what others have of such runs.
      conditions: corrupted conditions that every group has, in the order of evaluation.
      notes: what restricts the comparison, in sentences.
    """

    dataset: str | None
    model: str | None
    suite: str
    families: tuple[Group, ...]
    groups: tuple[Group, ...]
    idle: tuple[Group, ...]
    conditions: tuple[Condition, ...]
    notes: tuple[str, ...]

    @property
    def corruptions(self) -> tuple[str, ...]:
        """Corruptions of `conditions`, each once."""
        return tuple(dict.fromkeys(c.corruption for c in self.conditions))

    @cached_property
    def images(self) -> int:
        """Smallest number of images behind an accuracy; 0 without scores."""
        return min(
            (s.n for run in self._scored() for s in run.scores[self.suite].values()), default=0
        )

    def clean(self, group: Group) -> Estimate | None:
        """Accuracy on clean images."""
        return self.accuracy(group, [CLEAN])

    def robust(self, group: Group) -> Estimate | None:
        """Robust accuracy: plain mean of top-1 accuracy over `conditions`."""
        return self.accuracy(group, self.conditions)

    def accuracy(self, group: Group, conditions: Iterable[Condition]) -> Estimate | None:
        """Mean accuracy over conditions, then over the seeds that have all of them."""
        wanted = list(conditions)
        tables = [run.scores[self.suite] for run in group.runs] if wanted else []
        return estimate(
            [
                statistics.fmean(scores[c].accuracy for c in wanted)
                for scores in tables
                if all(c in scores for c in wanted)
            ]
        )

    def at(self, corruption: str) -> list[Condition]:
        """The common conditions of one corruption."""
        return [c for c in self.conditions if c.corruption == corruption]

    def baseline(self, group: Group) -> Group | None:
        """The dense group trained for as many steps and scored on as many images, if any."""
        if group.is_dense or group.trained is None:
            return None
        for other in self.groups:
            if other.is_dense and other.trained == group.trained:
                return other if self._sizes(other) == self._sizes(group) else None
        return None

    def gain(self, group: Group) -> tuple[float, float | None] | None:
        """Robust accuracy minus that of the dense baseline: (absolute, relative to dense)."""
        base = self.baseline(group)
        mine, theirs = self.robust(group), self.robust(base) if base else None
        if mine is None or theirs is None:
            return None
        difference = mine.mean - theirs.mean
        return difference, (difference / theirs.mean if theirs.mean > 0 else None)

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

    def _scored(self) -> list[Run]:
        return [run for group in self.groups for run in group.runs]

    def _sizes(self, group: Group) -> set[tuple[Condition, int]]:
        """The number of images behind each common condition."""
        tables = [run.scores[self.suite] for run in group.runs]
        return {(c, scores[c].n) for scores in tables for c in self.conditions if c in scores}


def percent(share: float) -> str:
    """A share as a percentage without needless digits: 0.5 -> "50", 0.125 -> "12.5"."""
    return f"{100 * share:.6g}"


def compare(runs: Sequence[Run]) -> list[Comparison]:
    """Sorts runs into comparisons, one for each dataset, model and suite."""
    known = list(dict.fromkeys((r.dataset, r.model) for r in runs if r.dataset or r.model))
    # A run that does not say what it trained belongs to the only candidate, where there is one.
    home = known[0] if len(known) == 1 else (None, None)
    places: dict[tuple[str | None, str | None], list[Run]] = {place: [] for place in known}
    for run in runs:
        place = (run.dataset, run.model) if run.dataset or run.model else home
        places.setdefault(place, []).append(run)
    comparisons = []
    for (dataset, model), members in places.items():
        suites = list(dict.fromkeys(suite for run in members for suite in run.scores))
        for suite in suites or [""]:
            comparisons.append(_comparison(dataset, model, suite, members))
    return comparisons


def _comparison(
    dataset: str | None, model: str | None, suite: str, runs: Sequence[Run]
) -> Comparison:
    families, notes = _group_seeds(runs)
    groups = _restricted(families, lambda run: suite in run.scores)
    idle = _restricted(families, lambda run: suite not in run.scores)
    tables = [(run.directory.name, run.scores[suite]) for g in groups for run in g.runs]
    conditions = list(dict.fromkeys(c for _, table in tables for c in table if c != CLEAN))
    corrupted = [(name, table) for name, table in tables if set(table) - {CLEAN}]
    common = tuple(c for c in conditions if all(c in table for _, table in corrupted))
    if len(common) < len(conditions):
        short = [name for name, table in corrupted if not set(conditions) <= set(table)]
        notes.append(
            f"The runs were not evaluated on the same conditions: {len(common)} of "
            f"{len(conditions)} are common to all, and robust accuracy is over these only "
            f"(incomplete: {', '.join(short)})."
        )
    notes += [
        f"{name} was evaluated on clean images only."
        for name, table in tables
        if not set(table) - {CLEAN}
    ]
    sizes = sorted({table[c].n for _, table in corrupted for c in common})
    if len(sizes) > 1:
        notes.append(
            "The runs were scored on different numbers of images "
            f"({', '.join(f'{n:,}' for n in sizes)}): a gain is given only where they agree."
        )
    notes += _rival_baselines(groups) + _damages(groups)
    return Comparison(dataset, model, suite, families, groups, idle, common, tuple(notes))


def _restricted(families: Sequence[Group], keep: Callable[[Run], bool]) -> tuple[Group, ...]:
    kept = [replace(g, runs=tuple(filter(keep, g.runs))) for g in families]
    return tuple(group for group in kept if group.runs)


def _group_seeds(runs: Sequence[Run]) -> tuple[tuple[Group, ...], list[str]]:
    """Groups runs that differ only in seed; dense first, then by sparsity and name.

    A second run with the same settings and the same seed is left out: it is no further sample.

    Returns:
      The groups and a note for each run left out.
    """
    families: dict[str, dict[int | None, Run]] = {}
    notes = []
    for run in sorted(runs, key=lambda run: not run.scores):  # of two alike, the evaluated one
        seeds = families.setdefault(_recipe(run), {})
        if run.seed in seeds:
            notes.append(
                f"{run.directory.name} repeats seed {run.seed} of "
                f"{seeds[run.seed].directory.name} and is not counted."
            )
        else:
            seeds[run.seed] = run
    members = [tuple(sorted(f.values(), key=_run_order)) for f in families.values()]
    members.sort(key=lambda m: _run_order(m[0]))
    return tuple(_named(m, members) for m in members), notes


def _named(runs: tuple[Run, ...], families: Sequence[tuple[Run, ...]]) -> Group:
    """A group whose method tells it from other groups of the same algorithm and sparsity."""
    run = runs[0]
    algorithm = run.algorithm or run.directory.name
    namesakes = [
        _settings(other)
        for other, *_ in families
        if run.config and other.config and _label(other) == _label(run)
    ]
    differing = [
        f"{key.removeprefix('sparsity.')}={_settings(run).get(key)}"
        for key in sorted({key for settings in namesakes for key in settings})
        if len({repr(settings.get(key)) for settings in namesakes}) > 1
    ]
    return Group(", ".join([algorithm, *differing[:3]]), algorithm, run.sparsity, runs)


def _label(run: Run) -> tuple[str | None, float | None]:
    return run.algorithm, run.sparsity


def _settings(run: Run) -> dict[str, object]:
    """The part of a config that decides what is computed, without the seed."""
    return {
        key: value
        for key, value in run.config.items()
        if key != "seed"
        and not key.startswith(_RECORDS)
        # A dense run reads none of the sparsity options, whatever a card left in them.
        and not (run.is_dense and key.startswith("sparsity."))
    }


def _recipe(run: Run) -> str:
    """Everything that makes runs samples of one thing, as one string."""
    if not run.config:
        return str(run.directory)
    reached = "end" if run.finished else run.step
    algorithm = "dense" if run.is_dense else run.algorithm
    return json.dumps([algorithm, _settings(run), reached], sort_keys=True, default=str)


def _rival_baselines(groups: Sequence[Group]) -> list[str]:
    notes: list[str] = []
    first: dict[int | None, str] = {}
    for group in groups:
        if group.is_dense and group.trained in first:
            notes.append(
                f"There are several dense configurations of {group.trained} steps: gains are "
                f"against {first[group.trained]}."
            )
        elif group.is_dense:
            first[group.trained] = group.name
    return list(dict.fromkeys(notes))


def _damages(groups: Sequence[Group]) -> list[str]:
    """What scored runs lack; runs that lack the same share a sentence."""
    names: dict[str, list[str]] = {}
    for group in groups:
        for run in group.runs:
            for problem in run.problems:
                names.setdefault(problem, []).append(run.directory.name)
    return [f"{problem} ({', '.join(where)})." for problem, where in names.items()]


def _run_order(run: Run) -> tuple[bool, float, str, str, int]:
    return (
        not run.is_dense,
        run.sparsity if run.sparsity is not None else 2.0,
        run.algorithm or "~",  # the nameless last
        run.directory.name if run.algorithm is None else "",
        run.seed if run.seed is not None else -1,
    )
