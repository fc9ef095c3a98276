"""The result of an evaluation: what was scored, the accuracies, and every number made of them.

Frozen; nothing here renders, predicts or touches a file (`storage` does), and no JAX. Definitions
stand at each number, and together in docs/robustness.md; several results are in `gains`. Made by
`evaluation` and `storage.load`.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from dst_jax.data import benchmarks, datasets
from dst_jax.errors import UserError
from dst_jax.robustness import metrics, plots, text
from dst_jax.robustness.records import CLEAN, Condition, CorrectBits, Score, Setting
from dst_jax.statistics import Interval, bootstrap


@dataclasses.dataclass(frozen=True)
class Result:
    """What one model scores on one suite.

    Attributes:
      dataset: name of the clean dataset, "" where it has none.
      scores: a row per condition, all of one setting; clean images first.
      hits: condition -> which images were right; may lack conditions whose record is lost.
      notes: what was left out and why, in sentences.
    """

    dataset: str
    scores: tuple[Score, ...]
    hits: Mapping[Condition, CorrectBits] = dataclasses.field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len({row.n for row in self.scores}) > 1:
            raise ValueError("scores: found several numbers of images; expected one")
        settings = {row.setting for row in self.scores}
        if len(settings) != 1:
            raise ValueError(f"scores: found {len(settings)} settings; expected rows of one")
        if len({row.condition for row in self.scores}) != len(self.scores):
            raise ValueError("scores: found a condition twice; expected each once")

    @property
    def setting(self) -> Setting:
        """What was scored and how, by suite, source, preset, seed and images."""
        return self.scores[0].setting

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

    # --- the benchmark ---

    @cached_property
    def benchmark(self) -> benchmarks.Benchmark:
        """The named list that `robust_accuracy` is the mean over; see `data.benchmarks.of`."""
        return datasets.benchmark_of(self.setting.suite, self.dataset)

    @cached_property
    def counted(self) -> tuple[Condition, ...]:
        """The conditions of the benchmark that were scored, in its order."""
        wanted = (Condition(*condition) for condition in self.benchmark.conditions)
        return tuple(condition for condition in wanted if condition in self._rows)

    @property
    def lacking(self) -> str:
        """What the benchmark has and this result has not, in words; "" where it is complete.

        As "90 of 95 conditions, without frost", or "8 of 10,000 images".
        """
        return text.lacking(self)

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
        """Plain mean of accuracy over the benchmark's corruptions x severities.

        Wu et al. 2025, section 4.1. Where `lacking` says that the benchmark is not complete, it is
        the mean over what is there, and another number than the benchmark's; None where nothing of
        it was scored.
        """
        return _mean(self._rows[condition].accuracy for condition in self.counted)

    @property
    def by_corruption(self) -> dict[str, float]:
        """Corruption -> mean accuracy over its severities."""
        return self._means(lambda condition: condition.corruption)

    @property
    def by_category(self) -> dict[str, float]:
        """Category -> mean over its corruptions x severities; see `data.benchmarks.category`."""
        return self._means(lambda condition: benchmarks.category(condition.corruption))

    @property
    def by_severity(self) -> dict[int, float]:
        """Severity -> mean accuracy over the benchmark's corruptions."""
        return self._means(lambda condition: condition.severity, self.counted)

    def only(self, conditions: Iterable[Condition]) -> "Result":
        """The same result without other conditions than clean images and these."""
        kept = {CLEAN, *conditions}
        return dataclasses.replace(
            self,
            scores=tuple(row for row in self.scores if row.condition in kept),
            hits={condition: hits for condition, hits in self.hits.items() if condition in kept},
        )

    def mean_accuracy(self, conditions: Iterable[Condition]) -> float | None:
        """Mean accuracy over conditions; None where one of them was not scored, or for none."""
        wanted = list(conditions)
        if any(condition not in self._rows for condition in wanted):
            return None
        return _mean(self._rows[condition].accuracy for condition in wanted)

    def _means(self, group: Any, conditions: Sequence[Condition] | None = None) -> dict[Any, float]:
        members: dict[Any, list[float]] = {}
        for condition in self.conditions if conditions is None else conditions:
            members.setdefault(group(condition), []).append(self._rows[condition].accuracy)
        return {name: statistics.fmean(values) for name, values in members.items()}

    # --- calibration ---

    @property
    def clean_ece(self) -> float | None:
        """Expected calibration error on clean images."""
        return _known(self._rows[CLEAN].ece) if CLEAN in self._rows else None

    @property
    def mean_ece(self) -> float | None:
        """Mean over the benchmark's conditions of each one's calibration error, not pooled."""
        return _known(_mean(self._rows[condition].ece for condition in self.counted))

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
        wanted = [
            Condition(name, s) for name in metrics.ALEXNET_ERRORS for s in benchmarks.SEVERITIES
        ]
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
            name: [1 - self.accuracy(name, severity) for severity in benchmarks.SEVERITIES]
            for name in metrics.ALEXNET_ERRORS
        }

    # --- against another result ---

    def relative_gains(self, other: "Result") -> dict[Condition, float | None]:
        """Condition -> (ours - other's) / other's accuracy (Wu et al. 2025, footnote 2).

        None where the other's accuracy is 0.

        Raises:
          UserError: the two were not scored on the same conditions.
        """
        self.check_same(other)
        return {
            condition: _relative(row.accuracy, other._rows[condition].accuracy)
            for condition, row in self._rows.items()
        }

    def relative_gain(self, other: "Result") -> float | None:
        """The same of robust accuracy."""
        self.check_same(other)
        ours, theirs = self.robust_accuracy, other.robust_accuracy
        return None if ours is None or theirs is None else _relative(ours, theirs)

    def difference(self, other: "Result", **options: Any) -> Interval:
        """Robust accuracy minus the other's, with a bootstrap interval; see `bootstrap`.

        Paired and clustered by image: an image is drawn with all its conditions, for both models.

        Raises:
          UserError: the two were not scored on the same conditions of the same images.
        """
        self.check_same(other)
        ours, theirs = self.share_correct(), other.share_correct()
        if self.hits[self.counted[0]].images != other.hits[other.counted[0]].images:
            raise UserError("other result", "other images", "the same images in both")
        return bootstrap(ours - theirs, **options)

    def same_answers(self, other: "Result") -> bool:
        """Whether the other has the same record of which images were right, under all conditions.

        Two trainings do not: it is one training twice. False where a record is lost.
        """
        if set(self.hits) != set(self._rows) or set(other.hits) != set(self.hits):
            return False
        return all(np.array_equal(h.bits, other.hits[c].bits) for c, h in self.hits.items())

    def interval(self, **options: Any) -> Interval:
        """Robust accuracy with a bootstrap interval, clustered by image; see `bootstrap`.

        It tells how much of it is due to the choice of test images, and nothing about another
        training with another seed: see `over_seeds`.
        """
        return bootstrap(self.share_correct(), **options)

    def share_correct(self) -> np.ndarray:
        """The share of the benchmark's conditions under which each image is right: float64 [N].

        Raises:
          UserError: the per-image record of a condition is lost, or the conditions do not share
            their images.
        """
        lost = [condition for condition in self.counted if condition not in self.hits]
        if lost or not self.counted:
            raise UserError(
                "robustness.npz",
                f"no record of {lost[0].corruption} {lost[0].severity}" if lost else "no condition",
                "which images were right, for every condition",
                "Evaluate it again with the same path",
            )
        if len({self.hits[condition].images for condition in self.counted}) > 1:
            raise UserError("robustness.npz", "other images under some conditions", "the same")
        total = np.zeros(self.n, np.int64)
        for condition in self.counted:
            total += self.hits[condition].unpack(self.n)
        return total / len(self.counted)

    def check_same(self, other: "Result") -> None:
        """Raises UserError unless the other was scored on the same conditions and images."""
        ours_, theirs_ = self.setting, other.setting
        for what, ours, theirs in (
            ("dataset", self.dataset, other.dataset),
            *((f, getattr(ours_, f), getattr(theirs_, f)) for f in Setting._fields[:4]),
            ("number of images", self.n, other.n),
            ("images", self.setting.images, other.setting.images),
            ("conditions", set(self._rows), set(other._rows)),
        ):
            if ours != theirs:
                told = what not in ("conditions", "images")
                raise UserError(
                    f"other result: {what}",
                    repr(theirs) if told else f"other {what}",
                    repr(ours) if told else "the same as here",
                )

    # --- all together ---

    def summary(self) -> dict[str, Any]:
        """Everything but the per-image record, as plain values for JSON."""
        return {
            "dataset": self.dataset,
            **self.setting._asdict(),
            "benchmark": self.benchmark.name,
            "lacking": self.lacking,
            "severities": list(self.severities),
            "corruptions": list(self.corruptions),
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
        return text.table(self)

    def plot_corruptions(self, *others: "Result", labels: Sequence[str] = ()) -> Any:
        """Bars of accuracy per corruption, for this result and others: a matplotlib figure."""
        return plots.corruptions([self, *others], labels)

    def plot_severities(self, *others: "Result", labels: Sequence[str] = ()) -> Any:
        """Mean accuracy against severity, for this result and others: a matplotlib figure."""
        return plots.severities([self, *others], labels)


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return statistics.fmean(numbers) if numbers else None


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _relative(ours: float, theirs: float) -> float | None:
    return (ours - theirs) / theirs if theirs > 0 else None
