"""Multilayer perceptron: the smallest model.

For quick runs, and the network on which sparse training was first shown (Mocanu et al. 2018).
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dst_jax.models.initializers import HE_NORMAL_FAN_IN
from dst_jax.models.layers import classify


class MLP(nn.Module):
    """Fully connected layers with ReLU between them, on flattened images.

    Attributes:
      num_classes: number of logits.
      hidden: widths of the hidden layers, from input to output.
      dtype: dtype of the computation; parameters and logits are float32.
    """

    num_classes: int
    hidden: tuple[int, ...]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps images [B, H, W, C] to logits [B, num_classes]; training and testing agree."""
        del train  # no dropout, no batch statistics
        x = images.reshape(images.shape[0], -1).astype(self.dtype)
        for index, width in enumerate(self.hidden, start=1):
            layer = nn.Dense(
                width, dtype=self.dtype, kernel_init=HE_NORMAL_FAN_IN, name=f"fc{index}"
            )
            x = nn.relu(layer(x))
        return classify(x, self.num_classes, self.dtype)


def mlp(
    num_classes: int,
    dtype: Any = jnp.float32,
    *,
    hidden: Sequence[int] = (300, 100),
    width: int = 0,
    depth: int = 0,
) -> MLP:
    """Multilayer perceptron with layers `fc1`, `fc2`, ... and `classifier`.

    Args:
      num_classes: number of logits.
      dtype: dtype of the computation.
      hidden: widths of the hidden layers; the default is LeNet-300-100 (LeCun et al. 1998).
      width: one width for all of them instead; 0: as `hidden` says.
      depth: number of hidden layers, all as wide as the first; 0: as `hidden` says.

    Returns:
      The module.
    """
    if width or depth:
        hidden = (width or hidden[0],) * (depth or len(hidden))
    return MLP(num_classes=num_classes, hidden=tuple(hidden), dtype=dtype)
