"""Mean and spread over repetitions, such as the seeds of a training: the project's error bars.

No arrays and no JAX here. Called by `robustness` (several results) and `report` (several runs).
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
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
