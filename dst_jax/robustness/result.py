"""The result of an evaluation: what was scored, the accuracies, and every number made of them.

Frozen; nothing here renders, predicts or touches a file (`storage` does), and no JAX. Definitions
stand at each number, and together in docs/robustness.md. What needs a record of each image is in
`over_images` and `kept_numbers`, which are parts of it; several results are in `gains`. Made by
`result_writer` and `storage`.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from dst_jax.data import benchmarks, datasets
from dst_jax.robustness import metrics, plots, text
from dst_jax.robustness.kept import Kept
from dst_jax.robustness.kept_numbers import Conditions, KeptNumbers
from dst_jax.robustness.over_images import ImageNumbers
from dst_jax.robustness.records import CLEAN, Condition, CorrectBits, Score, Setting


@dataclasses.dataclass(frozen=True)
class Result(KeptNumbers, ImageNumbers):
    """What one model scores on one suite.

    Attributes:
      dataset: name of the clean dataset, "" where it has none.
      scores: a row per condition, all of one setting; clean images first.
      hits: condition -> which images were right; may lack conditions whose record is lost.
      notes: what was left out and why, in sentences.
      kept: condition -> its predictions, where an evaluation was asked to keep them (`keep=`).
      listed: the list of a suite that a user registered, as the file of the scores has it, for
        where the user's file is not imported.
    """

    dataset: str
    scores: tuple[Score, ...]
    hits: Mapping[Condition, CorrectBits] = dataclasses.field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()
    kept: Mapping[Condition, Kept] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )
    listed: benchmarks.Benchmark | None = dataclasses.field(default=None, repr=False, compare=False)

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
        if self.listed and self.setting.suite not in benchmarks.REGISTERED:
            return self.listed
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
        wanted = {CLEAN, *conditions}
        return dataclasses.replace(
            self,
            scores=tuple(row for row in self.scores if row.condition in wanted),
            hits={condition: hits for condition, hits in self.hits.items() if condition in wanted},
            kept={
                condition: found for condition, found in self.kept.items() if condition in wanted
            },
        )

    def mean_accuracy(self, conditions: Iterable[Condition]) -> float | None:
        """Mean accuracy over conditions; None where one of them was not scored, or for none."""
        wanted = list(conditions)
        if any(condition not in self._rows for condition in wanted):
            return None
        return _mean(self._rows[condition].accuracy for condition in wanted)

    def common_means(self) -> dict[int, float]:
        """The means over the 15 common corruptions of mCE, and over all 19, whichever is whole.

        Papers have either: the 15 alone on ImageNet, the 19 as often as the 15 on CIFAR. Over the
        severities that were scored; {} where one of the 15 was not, or not at each of them.
        """
        found = {}
        for names in (benchmarks.C, benchmarks.COMMON):
            wanted = [Condition(name, level) for name in names for level in self.severities]
            if (mean := self.mean_accuracy(wanted)) is not None:
                found[len(names)] = mean
        return found

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

    # --- all together ---

    def summary(self) -> dict[str, Any]:
        """Everything but the per-image record, as plain values for JSON."""
        return text.summary(self)

    def table(self) -> str:
        """The result as text for a terminal: accuracies in percent, then the means."""
        return text.table(self)

    def plot_corruptions(self, *others: "Result", labels: Sequence[str] = ()) -> Any:
        """Bars of accuracy per corruption, for this result and others: a matplotlib figure."""
        return plots.corruptions([self, *others], labels)

    def plot_reliability(self, conditions: Conditions = None, label: str = "") -> Any:
        """The reliability diagram, of kept predictions: a matplotlib figure."""
        return plots.reliability(self, self.reliability(conditions), label)

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
