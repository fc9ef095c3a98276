"""How much of a mean is due to the choice of images: the project's intervals.

NumPy on the host, no JAX and no files; spread over trainings is in `estimate`. Called by
`robustness` (of one or two results) and `report` (gains over dense).
"""

from typing import NamedTuple

import numpy as np


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
    values: np.ndarray, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
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
