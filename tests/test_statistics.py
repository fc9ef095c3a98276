"""Intervals against a loop, and how often they hold the truth."""

import math

import numpy as np
import pytest

from dst_jax.statistics import bootstrap


def test_bootstrap_is_the_loop():
    values = np.random.default_rng(1).integers(-3, 4, 37) / 3
    found = bootstrap(values, resamples=200, seed=5)
    generator = np.random.default_rng(5)
    means = []
    for _ in range(200):
        drawn = [values[index] for index in generator.integers(0, 37, 37)]
        means.append(math.fsum(drawn) / 37)
    means.sort()
    low, high = 0.025 * 199, 0.975 * 199  # places among the sorted means, interpolated linearly
    assert found.estimate == pytest.approx(values.mean())
    assert found.low == pytest.approx(np.interp(low, range(200), means))
    assert found.high == pytest.approx(np.interp(high, range(200), means))


def test_intervals_cover_the_true_difference_as_often_as_they_say():
    # Two models that are right under each of 5 conditions with probabilities that an image's own
    # difficulty shifts: the conditions of an image are anything but independent.
    generator = np.random.default_rng(0)
    repetitions, images, conditions = 400, 150, 5
    held = 0
    for _ in range(repetitions):
        difficulty = generator.normal(0, 0.25, (1, images))
        ours = generator.random((conditions, images)) < np.clip(0.6 + difficulty, 0, 1)
        theirs = generator.random((conditions, images)) < np.clip(0.5 + difficulty, 0, 1)
        values = ours.mean(0) - theirs.mean(0)
        interval = bootstrap(values, resamples=200, seed=int(generator.integers(2**31)))
        held += interval.low <= TRUE_DIFFERENCE <= interval.high
    # Binomial: 0.95 +- 3 * sqrt(0.95 * 0.05 / 400) = 0.917 .. 0.983; percentile intervals of 150
    # images are narrow by about one percent.
    assert 0.91 < held / repetitions < 0.985


def _clipped_mean(mean, std):
    """E[clip(X, 0, 1)] of a normal X, by numerical integration."""
    x = np.linspace(mean - 10 * std, mean + 10 * std, 200_001)
    density = np.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))
    return float(np.trapezoid(np.clip(x, 0, 1) * density, x))


TRUE_DIFFERENCE = _clipped_mean(0.6, 0.25) - _clipped_mean(0.5, 0.25)
