"""EfficientNet-B0 (Tan and Le 2019): inverted bottlenecks with squeeze and excitation.

Convolutions are padded alike on both sides, as in the PyTorch form, which is also what the count of
parameters is compared with. Layers: `stem_conv`, `blocks_3/depthwise_conv`, `head_conv`, counted
from 0 over the whole network.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dst_jax.models.convolution import Conv
from dst_jax.models.initializers import HE_NORMAL_FAN_IN, VarianceScaling, last_scale
from dst_jax.models.layers import batch_norm, classify

# Uniform within 1 / sqrt(classes), as in the authors' code.
_CLASSIFIER = VarianceScaling(1 / 3, "fan_out", "uniform")


class Stage(NamedTuple):
    """A row of table 1 of the paper."""

    expand: int  # inner channels over input channels
    window: int  # of the depthwise convolution
    stride: int  # of the first block
    channels: int  # output
    blocks: int


B0 = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)
_STEM, _HEAD = 32, 1280


def scaled_channels(channels: int, factor: float) -> int:
    """Channels times a factor, to the nearest multiple of 8 that is not over 10 % too small."""
    wanted = channels * factor
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


class MBConv(nn.Module):
    """1x1 expansion, depthwise convolution, squeeze and excitation, 1x1 projection, shortcut.

    Attributes:
      stage: the row of table 1.
      channels: output channels.
      stride: stride of the depthwise convolution.
      norm: constructor of the BatchNorm layers.
      drop_path: probability that an image skips the block in training, where there is a shortcut.
      zero_init_residual: whether the last BatchNorm scale starts at 0, where there is a shortcut.
      dtype: dtype of the computation.
    """

    stage: Stage
    channels: int
    stride: int
    norm: Callable[..., nn.Module]
    drop_path: float
    zero_init_residual: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, channels]."""
        conv = functools.partial(Conv, dtype=self.dtype)
        inputs, inner = x.shape[-1], x.shape[-1] * self.stage.expand
        y = x
        if self.stage.expand > 1:
            y = conv(inner, (1, 1), name="expand_conv")(y)
            y = nn.swish(self.norm(name="expand_bn")(y))
        window = (self.stage.window,) * 2
        y = conv(
            inner,
            window,
            self.stride,
            self.stage.window // 2,
            depthwise=True,
            kernel_init=HE_NORMAL_FAN_IN,  # one input and one output channel: the fans are equal
            name="depthwise_conv",
        )(y)
        y = nn.swish(self.norm(name="depthwise_bn")(y))
        gate = y.mean(axis=(1, 2), keepdims=True)
        gate = conv(max(1, inputs // 4), (1, 1), use_bias=True, name="se_reduce")(gate)
        gate = conv(inner, (1, 1), use_bias=True, name="se_expand")(nn.swish(gate))
        y = y * nn.sigmoid(gate)
        y = conv(self.channels, (1, 1), name="project_conv")(y)
        has_shortcut = x.shape == y.shape
        scale_init = last_scale(self.zero_init_residual and has_shortcut)
        y = self.norm(name="project_bn", scale_init=scale_init)(y)
        if not has_shortcut:
            return y
        drop = nn.Dropout(self.drop_path, broadcast_dims=(1, 2, 3), deterministic=not train)
        return x + drop(y)


class EfficientNet(nn.Module):
    """3x3 stem, stages of `MBConv`, 1x1 head, mean over positions, dropout, classifier.

    Attributes:
      num_classes: number of logits.
      stages: rows of table 1.
      width: channels over the published ones.
      stem_stride: stride of the stem.
      dropout: share of features dropped before the classifier in training.
      drop_path: what the blocks' `drop_path` rises to, linearly from 0 ("drop connect").
      zero_init_residual: see `MBConv`.
      bn_momentum: share of the old running statistics kept at each step.
      bn_epsilon: added to the variance.
      dtype: dtype of the computation; parameters, statistics and logits are float32.
    """

    num_classes: int
    stages: tuple[Stage, ...]
    width: float
    stem_stride: int
    dropout: float
    drop_path: float
    zero_init_residual: bool
    bn_momentum: float
    bn_epsilon: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps images [B, H, W, C] to logits [B, num_classes].

        Args:
          images: normalised images.
          train: whether BatchNorm uses the batch's statistics, and blocks and features are dropped
            (needs the rng "dropout").

        Returns:
          Logits, float32.
        """
        norm = batch_norm(train, self.bn_momentum, self.bn_epsilon, self.dtype)
        conv = functools.partial(Conv, dtype=self.dtype)
        stem, head = (scaled_channels(channels, self.width) for channels in (_STEM, _HEAD))
        x = images.astype(self.dtype)
        x = conv(stem, (3, 3), self.stem_stride, 1, name="stem_conv")(x)
        x = nn.swish(norm(name="stem_bn")(x))
        index, count = 0, sum(stage.blocks for stage in self.stages)
        for stage in self.stages:
            for repeat in range(stage.blocks):
                x = MBConv(
                    stage=stage,
                    channels=scaled_channels(stage.channels, self.width),
                    stride=stage.stride if repeat == 0 else 1,
                    norm=norm,
                    drop_path=self.drop_path * index / count,
                    zero_init_residual=self.zero_init_residual,
                    dtype=self.dtype,
                    name=f"blocks_{index}",
                )(x, train)
                index += 1
        x = nn.swish(norm(name="head_bn")(conv(head, (1, 1), name="head_conv")(x)))
        x = nn.Dropout(self.dropout, deterministic=not train)(x.mean(axis=(1, 2)))
        return classify(x, self.num_classes, self.dtype, _CLASSIFIER)


def efficientnet_b0(
    num_classes: int,
    dtype: Any = jnp.float32,
    *,
    width: int = 0,
    depth: int = 0,
    stem: Literal["published", "small"] = "published",
    dropout: float = 0.2,
    drop_path: float = 0.2,
    zero_init_residual: bool = False,
    bn_momentum: float = 0.99,
    bn_epsilon: float = 1e-3,
) -> EfficientNet:
    """EfficientNet-B0; all defaults are the authors'.

    Args:
      num_classes: number of logits.
      dtype: dtype of the computation.
      width: channels of the stem, the others in proportion; 0: 32, as published.
      depth: blocks in each stage; 0: as published.
      stem: the published stem has stride 2, five halvings in all; "small" has stride 1, for images
        of 64 pixels or less, which would end with 2x2 positions.
      dropout: share of features dropped before the classifier.
      drop_path: probability that an image skips the last block, falling to 0 at the first.
      zero_init_residual: whether the last BatchNorm scale of each block that has a shortcut starts
        at 0, as in Goyal et al. 2017 for ResNets (docs/cards.md, short runs, has what it did).
      bn_momentum: share of the old running statistics kept at each step.
      bn_epsilon: added to the variance in BatchNorm.

    Returns:
      The module.
    """
    return EfficientNet(
        num_classes=num_classes,
        stages=tuple(stage._replace(blocks=depth) for stage in B0) if depth else B0,
        width=(width or _STEM) / _STEM,
        stem_stride=2 if stem == "published" else 1,
        dropout=dropout,
        drop_path=drop_path,
        zero_init_residual=zero_init_residual,
        bn_momentum=bn_momentum,
        bn_epsilon=bn_epsilon,
        dtype=dtype,
    )
