"""VGG-16: the form of the sparse-training literature for small images, and that for ImageNet.

Configuration D of Simonyan and Zisserman (2015) with BatchNorm. `vgg16` has two linear layers of
512 units, as SNIP (Lee et al. 2019) has it and after it the published code of SNFS, ITOP and
GraNet, count for count; `vgg16_imagenet` two of 4,096, as torchvision's `vgg16_bn`. Layers are
named as in the paper, counted from 1: `conv3_2`.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.models.convolution import Conv, max_pool
from dst_jax.models.initializers import HE_NORMAL_FAN_OUT, PYTORCH, Normal
from dst_jax.models.layers import batch_norm, classify


def _features(
    x: jax.Array,
    stage_sizes: tuple[int, ...],
    width: int,
    norm: Callable[..., nn.Module],
    dtype: Any,
    kernel_init: Callable[..., jax.Array],
) -> jax.Array:
    """The convolutions of the calling module: images [B, H, W, C] to [B, H / 32, W / 32, D]."""
    for stage, size in enumerate(stage_sizes, start=1):
        for index in range(1, size + 1):
            x = Conv(
                width * 2 ** min(stage - 1, 3),
                (3, 3),
                padding=1,
                use_bias=True,
                dtype=dtype,
                kernel_init=kernel_init,
                name=f"conv{stage}_{index}",
            )(x)
            x = nn.relu(norm(name=f"bn{stage}_{index}")(x))
        if min(x.shape[1:3]) > 1:  # images of less than 32 pixels run out of positions
            x = max_pool(x, (2, 2), (2, 2))
    return x


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
        x = _features(x, self.stage_sizes, self.width, norm, self.dtype, PYTORCH)
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


class VGGImageNet(nn.Module):
    """The same convolutions, 7x7 positions, two linear layers with dropout, classifier.

    Attributes:
      num_classes: number of logits.
      stage_sizes: number of convolutions in each stage.
      width: channels of the first stage; the linear layers have 64 times as many units.
      dropout: share of the units dropped after each of the two linear layers in training.
      bn_momentum: share of the old running statistics kept at each step (PyTorch's 1 - momentum).
      bn_epsilon: added to the variance.
      dtype: dtype of the computation; parameters, statistics and logits are float32.
    """

    num_classes: int
    stage_sizes: tuple[int, ...]
    width: int
    dropout: float
    bn_momentum: float
    bn_epsilon: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps images [B, H, W, C] to logits [B, num_classes].

        Args:
          images: normalised images, of any size: what the convolutions leave is averaged to 7x7
            positions, or repeated.
          train: whether BatchNorm uses the batch's statistics and units are dropped (needs the rng
            "dropout").

        Returns:
          Logits, float32.
        """
        norm = batch_norm(train, self.bn_momentum, self.bn_epsilon, self.dtype)
        linear = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=_LINEAR)
        x = images.astype(self.dtype)
        x = _features(x, self.stage_sizes, self.width, norm, self.dtype, HE_NORMAL_FAN_OUT)
        x = _resized_by_means(x, 7)
        x = x.reshape(x.shape[0], -1)
        for index in (1, 2):
            x = nn.relu(linear(64 * self.width, name=f"fc{index}")(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return classify(x, self.num_classes, self.dtype, _LINEAR)


_LINEAR = Normal(0.01)


def _resized_by_means(x: jax.Array, size: int) -> jax.Array:
    """Features [B, H, W, C] to [B, size, size, C]; each is the mean over its share of positions.

    Position i of n has those from floor(i H / n) to ceil((i + 1) H / n), as PyTorch's adaptive
    pooling.
    """
    for axis in (1, 2):
        there = x.shape[axis]
        if there != size:
            means = np.zeros((size, there), np.float32)
            for index in range(size):
                low, high = index * there // size, -(-(index + 1) * there // size)
                means[index, low:high] = 1 / (high - low)
            x = jnp.moveaxis(jnp.tensordot(jnp.asarray(means, x.dtype), x, (1, axis)), 0, axis)
    return x


def vgg16_imagenet(
    num_classes: int,
    dtype: Any = jnp.float32,
    *,
    width: int = 0,
    depth: int = 0,
    dropout: float = 0.5,
    bn_momentum: float = 0.9,
    bn_epsilon: float = 1e-5,
) -> VGGImageNet:
    """VGG-16 as it was published for ImageNet, with BatchNorm; weights start as torchvision's.

    Args:
      num_classes: number of logits.
      dtype: dtype of the computation.
      width: channels of the first stage; 0: 64, as published.
      depth: convolutions in each stage; 0: as published, 2, 2, 3, 3 and 3.
      dropout: share of the units dropped after each of the two linear layers.
      bn_momentum: share of the old running statistics kept at each step.
      bn_epsilon: added to the variance in BatchNorm.

    Returns:
      The module.
    """
    return VGGImageNet(
        num_classes=num_classes,
        stage_sizes=(depth,) * 5 if depth else (2, 2, 3, 3, 3),
        width=width or 64,
        dropout=dropout,
        bn_momentum=bn_momentum,
        bn_epsilon=bn_epsilon,
        dtype=dtype,
    )
