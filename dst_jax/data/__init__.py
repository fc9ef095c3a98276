"""Data: TFDS datasets as arrays, device-resident pipelines, streams and evaluation batches.

Training code does not live here. Importing this package imports neither TensorFlow nor TFDS.
"""

from dst_jax.data.arrays import load_arrays, num_examples
from dst_jax.data.augmentation import AUGMENTATIONS, ON_HOST, augment, normalise
from dst_jax.data.chain import Chain
from dst_jax.data.corrupted import corrupted_batches, load_corrupted, prepared_conditions
from dst_jax.data.datasets import (
    DATASETS,
    VIDEO,
    Clip,
    CorruptedSet,
    Dataset,
    corrupted_set,
    get,
    is_resident,
)
from dst_jax.data.evaluation import eval_batches, stream_eval_batches
from dst_jax.data.pipeline import Pipeline
from dst_jax.data.prepared import default_cache_dir
from dst_jax.data.resident import ResidentPipeline
from dst_jax.data.stream import StreamPipeline
from dst_jax.data.validation import held_out_batches, num_held_out

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "ON_HOST",
    "VIDEO",
    "Chain",
    "Clip",
    "CorruptedSet",
    "Dataset",
    "Pipeline",
    "ResidentPipeline",
    "StreamPipeline",
    "augment",
    "corrupted_batches",
    "corrupted_set",
    "default_cache_dir",
    "eval_batches",
    "get",
    "held_out_batches",
    "is_resident",
    "load_arrays",
    "load_corrupted",
    "normalise",
    "num_examples",
    "num_held_out",
    "prepared_conditions",
    "stream_eval_batches",
]
