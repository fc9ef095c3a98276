"""The result of an evaluation: what was scored, the accuracies, and every number made of them.

Frozen; nothing here renders, predicts or touches a file (`storage` does). Definitions stand at each
number, and together in docs/robustness.md. Made by `evaluation` and `storage.load`.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from dst_jax.bootstrap import Interval, bootstrap
from dst_jax.errors import UserError
from dst_jax.estimate import Estimate, estimate
from dst_jax.robustness import metrics, plots
from dst_jax.robustness.record import Hits, Score, Setting, setting_of
from dst_jax.robustness.suites import CLEAN, SEVERITIES, Condition, category


@dataclasses.dataclass(frozen=True)
class Result:
    """What one model scores on one suite.

    Attributes:
      dataset: name of the clean dataset, "" where it has none.
      scores: a row a condition, all of one setting; clean images first.
      hits: condition -> which images were right; may lack conditions whose record is lost.
      notes: what was left out and why, in sentences.
    """

    dataset: str
    scores: tuple[Score, ...]
    hits: Mapping[Condition, Hits] = dataclasses.field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        settings = {setting_of(row) for row in self.scores}
        if len(settings) != 1:
            raise ValueError(f"scores: found {len(settings)} settings; expected rows of one")
        if len({row.condition for row in self.scores}) != len(self.scores):
            raise ValueError("scores: found a condition twice; expected each once")
        if len({row.n for row in self.scores}) != 1:
            raise ValueError("scores: found several numbers of images; expected one")

    @property
    def setting(self) -> Setting:
        """Suite, source, preset and seed."""
        return setting_of(self.scores[0])

    @cached_property
    def _rows(self) -> dict[Condition, Score]:
        return {row.condition: row for row in self.scores}

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The corrupted conditions, in the order of evaluation."""
        return tuple(condition for condition in self._rows if condition != CLEAN)

    @property
    def corruptions(self) -> tuple[str, ...]:
        """Their corruptions, each once."""
        return tuple(dict.fromkeys(condition.corruption for condition in self.conditions))

    @property
    def severities(self) -> tuple[int, ...]:
        """Their severities, ascending."""
        return tuple(sorted({condition.severity for condition in self.conditions}))

    @property
    def n(self) -> int:
        """Number of images behind each accuracy."""
        return self.scores[0].n

    # --- accuracy ---

    def accuracy(self, corruption: str, severity: int) -> float:
        """Top-1 accuracy of one condition, in [0, 1]."""
        return self._rows[Condition(corruption, severity)].accuracy

    @property
    def clean_accuracy(self) -> float | None:
        """Top-1 accuracy on clean images; None where they were not scored."""
        return self._rows[CLEAN].accuracy if CLEAN in self._rows else None

    @property
    def robust_accuracy(self) -> float | None:
        """Plain mean of accuracy over corruptions x severities (Wu et al. 2025, section 4.1)."""
        return _mean(self._rows[condition].accuracy for condition in self.conditions)

    @property
    def by_corruption(self) -> dict[str, float]:
        """Corruption -> mean accuracy over its severities."""
        return self._means(lambda condition: condition.corruption)

    @property
    def by_category(self) -> dict[str, float]:
        """Category -> mean accuracy over its corruptions x severities; see `suites.category`."""
        return self._means(lambda condition: category(condition.corruption))

    @property
    def by_severity(self) -> dict[int, float]:
        """Severity -> mean accuracy over corruptions."""
        return self._means(lambda condition: condition.severity)

    def _means(self, group: Any) -> dict[Any, float]:
        members: dict[Any, list[float]] = {}
        for condition in self.conditions:
            members.setdefault(group(condition), []).append(self._rows[condition].accuracy)
        return {name: statistics.fmean(values) for name, values in members.items()}

    # --- calibration ---

    @property
    def clean_ece(self) -> float | None:
        """Expected calibration error on clean images."""
        return self._rows[CLEAN].ece if CLEAN in self._rows else None

    @property
    def mean_ece(self) -> float | None:
        """Mean over corrupted conditions of each one's expected calibration error: not pooled."""
        return _mean(self._rows[condition].ece for condition in self.conditions)

    # --- against AlexNet ---

    @property
    def why_no_mce(self) -> str:
        """Why mCE is not defined for this result; "" where it is.

        Its normaliser is AlexNet's errors on ImageNet, so it is defined for the 15 corruptions of
        ImageNet-C at all five severities on ImageNet, and for nothing else.
        """
        if self.dataset != "imagenet2012":
            return f"the dataset is {self.dataset or 'not named'}, AlexNet's errors are ImageNet's"
        if self.setting.preset not in ("imagenet224", ""):
            return f"the constants are {self.setting.preset}, not imagenet224"
        wanted = [Condition(name, s) for name in metrics.ALEXNET_ERRORS for s in SEVERITIES]
        missing = dict.fromkeys(c.corruption for c in wanted if c not in self._rows)
        return f"not scored at all five severities: {', '.join(missing)}" if missing else ""

    @property
    def mce(self) -> float | None:
        """The mCE in percent over the 15 of ImageNet-C; None where `why_no_mce` says why."""
        return None if self.why_no_mce else metrics.mean_corruption_error(self._errors())

    @property
    def relative_mce(self) -> float | None:
        """Relative mCE in percent; None where mCE is not defined or clean images were left out."""
        if self.why_no_mce or self.clean_accuracy is None:
            return None
        return metrics.relative_mean_corruption_error(self._errors(), 1 - self.clean_accuracy)

    def _errors(self) -> dict[str, list[float]]:
        return {
            name: [1 - self.accuracy(name, severity) for severity in SEVERITIES]
            for name in metrics.ALEXNET_ERRORS
        }

    # --- against another result ---

    def relative_gains(self, other: "Result") -> dict[Condition, float | None]:
        """Condition -> (ours - other's) / other's accuracy (Wu et al. 2025, footnote 2).

        None where the other's accuracy is 0.

        Raises:
          UserError: the two were not scored on the same conditions.
        """
        self._check_same(other)
        return {
            condition: _relative(row.accuracy, other._rows[condition].accuracy)
            for condition, row in self._rows.items()
        }

    def relative_gain(self, other: "Result") -> float | None:
        """The same of robust accuracy."""
        self._check_same(other)
        ours, theirs = self.robust_accuracy, other.robust_accuracy
        return None if ours is None or theirs is None else _relative(ours, theirs)

    def difference(self, other: "Result", **options: Any) -> Interval:
        """Robust accuracy minus the other's, with a bootstrap interval; see `bootstrap`.

        Paired and clustered by image: an image is drawn with all its conditions, for both models.

        Raises:
          UserError: the two were not scored on the same conditions of the same images.
        """
        self._check_same(other)
        ours, theirs = self.share_correct(), other.share_correct()
        if self.hits[self.conditions[0]].images != other.hits[self.conditions[0]].images:
            raise UserError("other result", "other images", "the same images in both")
        return bootstrap(ours - theirs, **options)

    def interval(self, **options: Any) -> Interval:
        """Robust accuracy with a bootstrap interval, clustered by image; see `bootstrap`.

        It tells how much of it is due to the choice of test images, and nothing about another
        training with another seed: see `over_seeds`.
        """
        return bootstrap(self.share_correct(), **options)

    def share_correct(self) -> np.ndarray:
        """The share of corrupted conditions under which each image is right: float64 [N].

        Raises:
          UserError: the per-image record of a condition is lost, or the conditions do not share
            their images.
        """
        lost = [condition for condition in self.conditions if condition not in self.hits]
        if lost or not self.conditions:
            raise UserError(
                "robustness.npz",
                f"no record of {lost[0].corruption} {lost[0].severity}" if lost else "no condition",
                "which images were right, for every condition",
                "Evaluate it again with the same path",
            )
        if len({self.hits[condition].images for condition in self.conditions}) > 1:
            raise UserError("robustness.npz", "other images under some conditions", "the same")
        total = np.zeros(self.n, np.int64)
        for condition in self.conditions:
            total += self.hits[condition].unpack(self.n)
        return total / len(self.conditions)

    def _check_same(self, other: "Result") -> None:
        for what, ours, theirs in (
            ("dataset", self.dataset, other.dataset),
            *((f, getattr(self.setting, f), getattr(other.setting, f)) for f in Setting._fields),
            ("number of images", self.n, other.n),
            ("conditions", set(self._rows), set(other._rows)),
        ):
            if ours != theirs:
                values = f"{theirs!r}" if what != "conditions" else "others"
                raise UserError(
                    f"other result: {what}",
                    values,
                    "the same as here" if what == "conditions" else repr(ours),
                )

    # --- all together ---

    def summary(self) -> dict[str, Any]:
        """Everything but the per-image record, as plain values for JSON."""
        return {
            "dataset": self.dataset,
            **self.setting._asdict(),
            "severities": list(self.severities),
            "corruptions": list(self.corruptions),
            "n": self.n,
            "clean_accuracy": self.clean_accuracy,
            "robust_accuracy": self.robust_accuracy,
            "mce": self.mce,
            "relative_mce": self.relative_mce,
            "why_no_mce": self.why_no_mce,
            "clean_ece": self.clean_ece,
            "mean_ece": self.mean_ece,
            "by_category": self.by_category,
            "by_corruption": self.by_corruption,
            "by_severity": {str(severity): mean for severity, mean in self.by_severity.items()},
            "notes": list(self.notes),
        }

    def table(self) -> str:
        """The result as text for a terminal: accuracies in percent, then the means."""
        setting, levels = self.setting, self.severities
        where = [self.dataset or "images without a name", f"{self.n:,} images", setting.source]
        if setting.preset:
            where.append(f"{setting.preset}, seed {setting.seed}")
        width = max(map(len, (*self.corruptions, "corruption")))
        head = "".join(f"{f's{level}':>7}" for level in levels)
        lines = [f"{setting.suite}: " + ", ".join(where), f"{'corruption':{width}}   mean{head}"]
        for name, mean in self.by_corruption.items():
            rows = [self._rows.get(Condition(name, level)) for level in levels]
            cells = "".join(f"{100 * r.accuracy:7.1f}" if r else f"{'–':>7}" for r in rows)
            lines.append(f"{name:{width}}{100 * mean:7.1f}{cells}")
        means = "  ".join(f"{name} {100 * mean:.1f}" for name, mean in self.by_category.items())
        lines += [
            f"clean {_percent(self.clean_accuracy)} %   robust {_percent(self.robust_accuracy)} %"
            + self._interval_text(),
            f"ECE, %: clean {_percent(self.clean_ece)}  corrupted {_percent(self.mean_ece)}",
            f"categories, %: {means}",
        ]
        if self.mce is None:
            lines.append(f"mCE is not defined: {self.why_no_mce}")
        else:
            lines.append(f"mCE {self.mce:.1f} %   relative mCE {_number(self.relative_mce)} %")
        return "\n".join([*lines, *self.notes])

    def _interval_text(self) -> str:
        if not self.conditions or any(c not in self.hits for c in self.conditions):
            return ""
        found = self.interval()
        ends = f"{100 * found.low:.1f} to {100 * found.high:.1f}"
        return f" (95 % interval over images: {ends})"

    def plot_corruptions(self, *others: "Result", labels: Sequence[str] = ()) -> Any:
        """Bars of accuracy a corruption, for this result and others: a matplotlib figure."""
        return plots.corruptions([self, *others], labels)

    def plot_severities(self, *others: "Result", labels: Sequence[str] = ()) -> Any:
        """Mean accuracy against severity, for this result and others: a matplotlib figure."""
        return plots.severities([self, *others], labels)


def over_seeds(results: Sequence[Result]) -> dict[str, Estimate]:
    """Mean and sample standard deviation (n - 1) of every number over several trainings.

    Args:
      results: of models that differ in the seed of their training, scored alike.

    Returns:
      Name of a number, as `Result.summary` has it, -> mean, std and n; of those of corruptions and
      categories "by_corruption/fog", "by_category/noise". Numbers that are not defined are left
      out.

    Raises:
      UserError: there is none, or they were not scored alike.
    """
    if not results:
        raise UserError("over_seeds", "no result", "at least one")
    for other in results[1:]:
        results[0]._check_same(other)
    tables = [dict(_numbers(result)) for result in results]
    found = {name: estimate([table[name] for table in tables]) for name in tables[0]}
    return {name: value for name, value in found.items() if value}


_MEANS = ("clean_accuracy", "robust_accuracy", "mce", "relative_mce", "clean_ece", "mean_ece")


def _numbers(result: Result) -> Iterable[tuple[str, float]]:
    for name in _MEANS:
        if (value := getattr(result, name)) is not None:
            yield name, value
    for group in ("by_category", "by_corruption", "by_severity"):
        for key, value in getattr(result, group).items():
            yield f"{group}/{key}", value


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return statistics.fmean(numbers) if numbers else None


def _relative(ours: float, theirs: float) -> float | None:
    return (ours - theirs) / theirs if theirs > 0 else None


def _percent(share: float | None) -> str:
    return "–" if share is None or not math.isfinite(share) else f"{100 * share:.1f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
