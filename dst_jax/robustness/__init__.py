"""Robustness of any classifier: accuracy on clean and corrupted images, and what follows from it.

    from dst_jax import robustness

    result = robustness.evaluate(predict, "cifar10", "CIFAR10-C", frost_dir="frost", path="scores")
    print(result.table())

`predict` maps images uint8 [B, H, W, 3] to logits [B, classes] and is any JAX function. What was
scored needs no JAX: `records`, `result`, `gains` and `metrics` hold the numbers, `storage` the
files, `text` and `plots` show them, and the report reads the same. Scoring does: `suites` says what
can be scored, `images` where clean images come from, `engine` renders and predicts, `scorer` goes
through the conditions, `evaluation` ties them. `dst_jax.evaluate` applies the same to our runs,
`command` to a function named on the command line.
"""

from typing import TYPE_CHECKING, Any

from dst_jax.data.benchmarks import BENCHMARKS, SUITES, Benchmark
from dst_jax.robustness.gains import Gain, gain, over_seeds
from dst_jax.robustness.metrics import (
    ALEXNET_CLEAN_ERROR,
    ALEXNET_ERRORS,
    expected_calibration_error,
    mean_corruption_error,
    relative_mean_corruption_error,
)
from dst_jax.robustness.records import CLEAN, Condition, Score, Setting
from dst_jax.robustness.result import Result
from dst_jax.robustness.storage import load, load_all, save
from dst_jax.statistics import Interval, bootstrap

if TYPE_CHECKING:
    from dst_jax.robustness.evaluation import evaluate, evaluate_models
    from dst_jax.robustness.folders import folder, pil_images

__all__ = [
    "ALEXNET_CLEAN_ERROR",
    "ALEXNET_ERRORS",
    "BENCHMARKS",
    "CLEAN",
    "SUITES",
    "Benchmark",
    "Condition",
    "Gain",
    "Interval",
    "Result",
    "Score",
    "Setting",
    "bootstrap",
    "evaluate",
    "evaluate_models",
    "expected_calibration_error",
    "folder",
    "gain",
    "load",
    "load_all",
    "mean_corruption_error",
    "over_seeds",
    "pil_images",
    "relative_mean_corruption_error",
    "save",
]


def __getattr__(name: str) -> Any:  # what needs JAX, when it is first asked for
    if name in ("evaluate", "evaluate_models"):
        from dst_jax.robustness import evaluation

        return getattr(evaluation, name)
    if name in ("folder", "pil_images"):
        from dst_jax.robustness import folders

        return getattr(folders, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
