"""Robustness of any classifier: accuracy on clean and corrupted images, and what follows from it.

    from dst_jax import robustness

    result = robustness.evaluate(predict, "cifar10", "CIFAR10-C", frost_dir="frost", path="scores")
    print(result.table())

`predict` maps images uint8 [B, H, W, 3] to logits [B, classes]. It is a function of JAX, or of any
other framework, which runs on the host; `adapters` makes one of a PyTorch module or an ONNX file.
What was scored needs no JAX: `records`, `result`, `gains` and `metrics` hold the numbers, `storage`
the files, `text` and `plots` show them, and the report reads the same. Scoring does: `suites` says
what can be scored, `images` where clean images come from, `predict_functions` of which kind a
function is, `engine` renders and asks the `networks`, `scorer` goes through the conditions,
`evaluation` ties them. `dst_jax.evaluate` applies the same to our runs, `command` to a function
named on the command line.
"""

import importlib
from typing import TYPE_CHECKING, Any

from dst_jax.data.benchmarks import BENCHMARKS, SUITES, Benchmark, register_suite
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
    from dst_jax.robustness.adapters import onnx_predict, torch_predict
    from dst_jax.robustness.evaluation import evaluate, evaluate_models
    from dst_jax.robustness.folders import folder, pil_images
    from dst_jax.robustness.predict_functions import HostFunction

__all__ = [
    "ALEXNET_CLEAN_ERROR",
    "ALEXNET_ERRORS",
    "BENCHMARKS",
    "CLEAN",
    "SUITES",
    "Benchmark",
    "Condition",
    "Gain",
    "HostFunction",
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
    "onnx_predict",
    "over_seeds",
    "pil_images",
    "register_suite",
    "relative_mean_corruption_error",
    "save",
    "torch_predict",
]

# What needs JAX, and where it is: imported when it is first asked for.
_LAZY = {
    "HostFunction": "predict_functions",
    "evaluate": "evaluation",
    "evaluate_models": "evaluation",
    "folder": "folders",
    "onnx_predict": "adapters",
    "pil_images": "folders",
    "torch_predict": "adapters",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"dst_jax.robustness.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
