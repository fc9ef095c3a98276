"""Robustness of any classifier: accuracy on clean and corrupted images, and what follows from it.

    from dst_jax import robustness

    result = robustness.evaluate(predict, "cifar10", "common", frost_dir="frost", path="scores")
    print(result.table())

`predict` maps images uint8 [B, H, W, 3] to logits [B, classes] and is any JAX function. `suites`
says what can be scored, `images` where clean images come from, `engine` renders and predicts,
`evaluation` ties them, `record`, `result` and `metrics` hold the numbers, `storage` the files,
`plots` the figures. `dst_jax.evaluate` applies the same to our runs, `command` to a function named
on the command line.
"""

from dst_jax.bootstrap import Interval, bootstrap
from dst_jax.robustness.evaluation import evaluate
from dst_jax.robustness.metrics import (
    ALEXNET_CLEAN_ERROR,
    ALEXNET_ERRORS,
    expected_calibration_error,
    mean_corruption_error,
    relative_mean_corruption_error,
)
from dst_jax.robustness.record import Score
from dst_jax.robustness.result import Result, over_seeds
from dst_jax.robustness.storage import load, load_all, save
from dst_jax.robustness.suites import CLEAN, SUITES, Condition

__all__ = [
    "ALEXNET_CLEAN_ERROR",
    "ALEXNET_ERRORS",
    "CLEAN",
    "SUITES",
    "Condition",
    "Interval",
    "Result",
    "Score",
    "bootstrap",
    "evaluate",
    "expected_calibration_error",
    "load",
    "load_all",
    "mean_corruption_error",
    "over_seeds",
    "relative_mean_corruption_error",
    "save",
]
