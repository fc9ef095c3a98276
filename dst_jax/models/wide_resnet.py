"""Wide residual networks for small images (Zagoruyko and Komodakis 2016), with pre-activation.

`wide_resnet22_2` is the CIFAR network of RigL, and of SNFS, ITOP and GraNet. Layers are named as in
the authors' and these codes, counted from 0 within a stage: `block2_0/conv1`.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dst_jax.models.convolution import Conv
from dst_jax.models.layers import batch_norm, classify


class WideBlock(nn.Module):
    """BatchNorm, ReLU and 3x3 convolution, twice, and a shortcut (figure 1d of the paper).

    Where the number of channels changes, the shortcut is a 1x1 convolution of the normalised input.

    Attributes:
      width: channels of both convolutions.
      stride: stride of the first convolution.
      norm: constructor of the BatchNorm layers.
      dropout: share of the activations between the convolutions that is dropped in training.
      dtype: dtype of the computation.
    """

    width: int
    stride: int
    norm: Callable[..., nn.Module]
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, width]."""
        conv = functools.partial(Conv, self.width, dtype=self.dtype)
        y = nn.relu(self.norm(name="bn1")(x))
        if x.shape[-1] != self.width:
            x = conv((1, 1), self.stride, 0, name="shortcut_conv")(y)
        y = conv((3, 3), self.stride, 1, name="conv1")(y)
        y = nn.relu(self.norm(name="bn2")(y))
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        return x + conv((3, 3), 1, 1, name="conv2")(y)


class WideResNet(nn.Module):
    """3x3 stem of 16 channels, three stages of wide blocks, mean over positions, classifier.

    Attributes:
      num_classes: number of logits.
      stage_size: number of blocks in each stage: (layers - 4) / 6.
      widen: width of the stages over 16, 32 and 64.
      stem_width: channels of the stem, and what `widen` multiplies.
      dropout: see `WideBlock`.
      bn_momentum: share of the old running statistics kept at each step (PyTorch's 1 - momentum).
      bn_epsilon: added to the variance.
      dtype: dtype of the computation; parameters, statistics and logits are float32.
    """

    num_classes: int
    stage_size: int
    widen: int
    stem_width: int
    dropout: float
    bn_momentum: float
    bn_epsilon: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps images [B, H, W, C] to logits [B, num_classes].

        Args:
          images: normalised images.
          train: whether BatchNorm uses the batch's statistics and activations are dropped (needs
            the rng "dropout").

        Returns:
          Logits, float32.
        """
        norm = batch_norm(train, self.bn_momentum, self.bn_epsilon, self.dtype)
        x = images.astype(self.dtype)
        x = Conv(self.stem_width, (3, 3), padding=1, dtype=self.dtype, name="conv1")(x)
        for stage in (1, 2, 3):
            for index in range(self.stage_size):
                x = WideBlock(
                    width=self.stem_width * self.widen * 2 ** (stage - 1),
                    stride=2 if stage > 1 and index == 0 else 1,
                    norm=norm,
                    dropout=self.dropout,
                    dtype=self.dtype,
                    name=f"block{stage}_{index}",
                )(x, train)
        x = nn.relu(norm(name="bn1")(x)).mean(axis=(1, 2))
        return classify(x, self.num_classes, self.dtype)


def wide_resnet22_2(
    num_classes: int,
    dtype: Any = jnp.float32,
    *,
    width: int = 0,
    depth: int = 0,
    dropout: float = 0.3,
    bn_momentum: float = 0.9,
    bn_epsilon: float = 1e-5,
) -> WideResNet:
    """Wide ResNet with 22 layers, twice as wide.

    Args:
      num_classes: number of logits.
      dtype: dtype of the computation.
      width: channels of the stem, half of the first stage's; 0: 16, as published.
      depth: blocks in each stage; 0: 3, as published.
      dropout: share of activations dropped inside a block; 0.3 as in SNFS, ITOP and GraNet.
      bn_momentum: share of the old running statistics kept at each step.
      bn_epsilon: added to the variance in BatchNorm.

    Returns:
      The module.
    """
    return WideResNet(
        num_classes=num_classes,
        stage_size=depth or 3,
        widen=2,
        stem_width=width or 16,
        dropout=dropout,
        bn_momentum=bn_momentum,
        bn_epsilon=bn_epsilon,
        dtype=dtype,
    )
