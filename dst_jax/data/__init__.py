"""Data: TFDS datasets as arrays, device-resident pipelines, streams and evaluation batches.

Training code does not live here. Importing this package imports no JAX, TensorFlow or TFDS: the
facts (`datasets`, `benchmarks`) are plain, and what reads and draws images is imported when it is
first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from dst_jax.data.benchmarks import BENCHMARKS, Benchmark
from dst_jax.data.datasets import (
    DATASETS,
    VIDEO,
    Clip,
    CorruptedSet,
    Dataset,
    benchmark_of,
    corrupted_set,
    get,
    is_resident,
    register_dataset,
)

if TYPE_CHECKING:
    from dst_jax.data.arrays import load_arrays, num_examples
    from dst_jax.data.augmentation import AUGMENTATIONS, ON_HOST, augment, normalise
    from dst_jax.data.corrupted import corrupted_batches, load_corrupted, prepared_conditions
    from dst_jax.data.evaluation import eval_batches, stream_eval_batches
    from dst_jax.data.folders import image_folder
    from dst_jax.data.pipeline import Pipeline
    from dst_jax.data.prepared import default_cache_dir
    from dst_jax.data.resident import ResidentPipeline
    from dst_jax.data.stream import StreamPipeline
    from dst_jax.data.train_augmentation import TrainAugmentation
    from dst_jax.data.validation import held_out_batches, num_held_out

# Name -> the module of this package that has it.
_LATER = {
    **dict.fromkeys(("load_arrays", "num_examples"), "arrays"),
    **dict.fromkeys(("AUGMENTATIONS", "ON_HOST", "augment", "normalise"), "augmentation"),
    "TrainAugmentation": "train_augmentation",
    **dict.fromkeys(("corrupted_batches", "load_corrupted", "prepared_conditions"), "corrupted"),
    **dict.fromkeys(("eval_batches", "stream_eval_batches"), "evaluation"),
    "image_folder": "folders",
    "Pipeline": "pipeline",
    "default_cache_dir": "prepared",
    "ResidentPipeline": "resident",
    "StreamPipeline": "stream",
    **dict.fromkeys(("held_out_batches", "num_held_out"), "validation"),
}

__all__ = [
    "AUGMENTATIONS",
    "BENCHMARKS",
    "DATASETS",
    "ON_HOST",
    "VIDEO",
    "Benchmark",
    "Clip",
    "CorruptedSet",
    "Dataset",
    "Pipeline",
    "ResidentPipeline",
    "StreamPipeline",
    "TrainAugmentation",
    "augment",
    "benchmark_of",
    "corrupted_batches",
    "corrupted_set",
    "default_cache_dir",
    "eval_batches",
    "get",
    "held_out_batches",
    "image_folder",
    "is_resident",
    "load_arrays",
    "load_corrupted",
    "normalise",
    "num_examples",
    "num_held_out",
    "prepared_conditions",
    "register_dataset",
    "stream_eval_batches",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
