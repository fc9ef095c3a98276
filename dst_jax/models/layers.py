"""The layers that the families of models have in common: BatchNorm and the classifier.

`convolution` has the convolutions and the pooling. Called by the families' files.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dst_jax.models.initializers import CLASSIFIER


def batch_norm(
    train: bool, momentum: float, epsilon: float, dtype: Any
) -> Callable[..., nn.BatchNorm]:
    """Constructor of a network's BatchNorm layers.

    Args:
      train: whether they use the batch's statistics and update `batch_stats`.
      momentum: share of the old running statistics kept at each step (PyTorch's 1 - momentum).
      epsilon: added to the variance.
      dtype: dtype of the computation; parameters and statistics are float32.

    Returns:
      name, and other attributes of `nn.BatchNorm` -> the layer.
    """
    return functools.partial(
        nn.BatchNorm,
        use_running_average=not train,
        momentum=momentum,
        epsilon=epsilon,
        dtype=dtype,
    )


def classify(
    features: jax.Array,
    num_classes: int,
    dtype: Any,
    kernel_init: Callable[..., jax.Array] = CLASSIFIER,
    name: str = "classifier",
) -> jax.Array:
    """Applies a new linear layer of the calling module, its classifier.

    Args:
      features: [B, D].
      num_classes: number of logits.
      dtype: dtype of the computation.
      kernel_init: initialiser of the kernel; the bias starts at 0.
      name: name of the layer.

    Returns:
      Logits, float32 [B, num_classes].
    """
    layer = nn.Dense(num_classes, dtype=dtype, kernel_init=kernel_init, name=name)
    return layer(features).astype(jnp.float32)
