"""Data: TFDS datasets as arrays, device-resident pipelines, streams and evaluation batches.

Training code does not live here. Importing this package imports neither TensorFlow nor TFDS.
"""

from dst_jax.data.arrays import load_arrays, num_examples
from dst_jax.data.augmentation import AUGMENTATIONS, augment, normalise
from dst_jax.data.chain import Chain
from dst_jax.data.corrupted import corrupted_batches, load_corrupted, prepared_conditions
from dst_jax.data.datasets import DATASETS, CorruptedSet, Dataset, corrupted_set, get
from dst_jax.data.evaluation import eval_batches, stream_eval_batches
from dst_jax.data.pipeline import Pipeline
from dst_jax.data.prepared import default_cache_dir
from dst_jax.data.resident import ResidentPipeline
from dst_jax.data.stream import StreamPipeline

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "Chain",
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
    "load_arrays",
    "load_corrupted",
    "normalise",
    "num_examples",
    "prepared_conditions",
    "stream_eval_batches",
]
