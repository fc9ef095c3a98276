"""VGG-16 for small images: the form of the sparse-training literature.

Configuration D of Simonyan and Zisserman (2015) with BatchNorm and two linear layers of 512 units,
as SNIP (Lee et al. 2019) has it and after it the published code of SNFS, ITOP and GraNet, count for
count. Layers are named as in the paper, counted from 1: `conv3_2`.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dst_jax.models.convolution import Conv, max_pool
from dst_jax.models.initializers import PYTORCH
from dst_jax.models.layers import batch_norm, classify


class VGG(nn.Module):
    """Stages of 3x3 convolutions with a maximum after each, two linear layers, classifier.

    Every convolution has a bias, although BatchNorm follows: so it is in the references, and in
    their counts of parameters.

    Attributes:
      num_classes: number of logits.
      stage_sizes: number of convolutions in each stage.
      width: channels of the first stage; the others have 2, 4, 8 and 8 times as many, and the
        linear layers 8 times.
      bn_momentum: share of the old running statistics kept at each step (PyTorch's 1 - momentum).
      bn_epsilon: added to the variance.
      dtype: dtype of the computation; parameters, statistics and logits are float32.
    """

    num_classes: int
    stage_sizes: tuple[int, ...]
    width: int
    bn_momentum: float
    bn_epsilon: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps images [B, H, W, C] to logits [B, num_classes].

        Args:
          images: normalised images; 32 pixels leave one position for the linear layers.
          train: whether BatchNorm uses the batch's statistics and updates `batch_stats`.

        Returns:
          Logits, float32.
        """
        norm = batch_norm(train, self.bn_momentum, self.bn_epsilon, self.dtype)
        linear = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=PYTORCH)
        x = images.astype(self.dtype)
        for stage, size in enumerate(self.stage_sizes, start=1):
            width = self.width * 2 ** min(stage - 1, 3)
            for index in range(1, size + 1):
                x = Conv(
                    width,
                    (3, 3),
                    padding=1,
                    use_bias=True,
                    dtype=self.dtype,
                    kernel_init=PYTORCH,
                    name=f"conv{stage}_{index}",
                )(x)
                x = nn.relu(norm(name=f"bn{stage}_{index}")(x))
            if min(x.shape[1:3]) > 1:  # images of less than 32 pixels run out of positions
                x = max_pool(x, (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        for index in (1, 2):  # ReLU before BatchNorm, as the references
            x = nn.relu(linear(8 * self.width, name=f"fc{index}")(x))
            x = norm(name=f"bn_fc{index}")(x)
        return classify(x, self.num_classes, self.dtype)


def vgg16(
    num_classes: int,
    dtype: Any = jnp.float32,
    *,
    width: int = 0,
    depth: int = 0,
    bn_momentum: float = 0.9,
    bn_epsilon: float = 1e-5,
) -> VGG:
    """VGG-16 for small images; weights start as PyTorch's layers do, as in the references.

    Args:
      num_classes: number of logits.
      dtype: dtype of the computation.
      width: channels of the first stage; 0: 64, as published.
      depth: convolutions in each stage; 0: as published, 2, 2, 3, 3 and 3.
      bn_momentum: share of the old running statistics kept at each step.
      bn_epsilon: added to the variance in BatchNorm.

    Returns:
      The module.
    """
    return VGG(
        num_classes=num_classes,
        stage_sizes=(depth,) * 5 if depth else (2, 2, 3, 3, 3),
        width=width or 64,
        bn_momentum=bn_momentum,
        bn_epsilon=bn_epsilon,
        dtype=dtype,
    )
