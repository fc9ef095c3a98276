"""Means, intervals and error rates: over the seeds of a training, and over test images.

Two kinds of chance, never mixed: `difference` and `holm` are about trainings that differ in their
seed, `bootstrap` about the choice of test images. NumPy and SciPy on the host, no JAX and no files.
Called by `robustness`, which defines the numbers, and by `report`, which shows them.
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95  # of the intervals, so verdicts have an error rate of at most 1 - LEVEL


class Estimate(NamedTuple):
    """Mean over seeds; `std` is the sample standard deviation (n - 1), None for one seed."""

    mean: float
    std: float | None
    n: int


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean and sample standard deviation of values; None for no values."""
    if not values:
        return None
    spread = statistics.stdev(values) if len(values) > 1 else None
    return Estimate(statistics.fmean(values), spread, len(values))


class Difference(NamedTuple):
    """The difference of two means over seeds, with its t interval.

    Attributes:
      mean: ours minus theirs.
      low: lower end of the interval.
      high: upper end.
      p: two-sided probability of a difference at least as large if there were none.
      level: of the interval, by itself; several verdicts together need `holm`.
    """

    mean: float
    low: float
    high: float
    p: float
    level: float


def difference(
    ours: Sequence[float], theirs: Sequence[float], level: float = LEVEL
) -> Difference | None:
    """A t interval of the difference of two means that is never too narrow.

    Welch's statistic with the degrees of freedom of the side with fewer seeds. Its distribution
    has lighter tails than that t for any spreads of normal numbers (Mickey & Brown 1966), so the
    error rate is at most 1 - level at every level. The usual approximation of the degrees of
    freedom (Satterthwaite 1946) finds more, but with 5 seeds, spreads that differ fourfold and 30
    comparisons it had false verdicts on 8 % of pages instead of 5 % (`benchmarks.verdicts`).

    Runs of the same seed are not paired: they share the initial weights and the order of the data,
    and where that makes them alike, the interval is wider than it need be.

    Args:
      ours: one number a seed.
      theirs: the same of the other side; the numbers of seeds may differ.
      level: of the interval, in (0, 1).

    Returns:
      The difference; None where a side has fewer than two seeds, or neither has any spread, as
      chance cannot be told from effect there.
    """
    from scipy import special  # 0.1 s that a start without intervals does not need

    if min(len(ours), len(theirs)) < 2:
        return None
    error = math.sqrt(sum(statistics.variance(side) / len(side) for side in (ours, theirs)))
    if error < 1e-9:  # accuracies are counts over images: this is rounding, not spread
        return None
    freedom = min(len(ours), len(theirs)) - 1
    mean = statistics.fmean(ours) - statistics.fmean(theirs)
    width = error * float(special.stdtrit(freedom, (1 + level) / 2))
    p = 2 * float(special.stdtr(freedom, -abs(mean) / error))
    return Difference(mean, mean - width, mean + width, p, level)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979), in the same order.

    If those that are at most a are called real, the chance that any such call is false is at
    most a, however the comparisons depend on each other (they share their dense runs).
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


class Interval(NamedTuple):
    """A mean with its bootstrap percentile interval.

    Attributes:
      estimate: the mean itself.
      low: lower end.
      high: upper end.
      level: how often such intervals hold the true mean, about.
      resamples: how many were drawn.
    """

    estimate: float
    low: float
    high: float
    level: float
    resamples: int


def bootstrap(
    values: np.ndarray, *, resamples: int = 1000, level: float = LEVEL, seed: int = 0
) -> Interval:
    """Percentile bootstrap of a mean over images (Efron 1979): images are drawn with replacement.

    Args:
      values: [N], one number an image, such as the share of conditions under which it is
        classified correctly, or the difference of two models' shares. An image is drawn with all
        its conditions: conditions share images, so only images are independent samples.
      resamples: how many.
      level: of the interval, in (0, 1).
      seed: of the draws.
    """
    values = np.asarray(values, np.float64)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    for index in range(resamples):
        means[index] = values[generator.integers(0, len(values), len(values))].mean()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high), level, resamples)
