"""Residual networks of images (He et al. 2016), for small ones and for ImageNet.

One module with two kinds of block; the table at the end says what each published network is.
Layers are named as in the PyTorch references, counted from 0 within a stage: `layer3_2/conv2`.
`resnet3d` builds its networks of video from the same parts.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from dst_jax.models.convolution import Conv, max_pool
from dst_jax.models.initializers import last_scale
from dst_jax.models.layers import batch_norm, classify

Shortcut = Literal["identity", "projection"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 5 left).

    Attributes:
      width: channels of both convolutions and of the output.
      stride: stride of the first convolution.
      norm: constructor of the BatchNorm layers.
      shortcut: where the shape changes, "identity" subsamples and pads channels with zeros
        (option A of He et al. 2016) and "projection" is a 1x1 convolution (option B).
      zero_init_residual: whether the last BatchNorm scale starts at 0.
      dtype: dtype of the computation.
    """

    width: int
    stride: int
    norm: Callable[..., nn.Module]
    shortcut: Shortcut
    zero_init_residual: bool
    dtype: Any

    expansion = 1  # output channels over width

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, width]."""
        y = conv(self.width, (3, 3), self.stride, self.dtype, "conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y))
        y = conv(self.width, (3, 3), 1, self.dtype, "conv2")(y)
        y = self.norm(name="bn2", scale_init=last_scale(self.zero_init_residual))(y)
        return nn.relu(y + _shortcut(self, x, y))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut (He et al. 2016, figure 5 right).

    The stride sits in the 3x3 convolution ("v1.5", Goyal et al. 2017), not in the first 1x1. For
    video the windows are `frames` x 1 x 1, 1 x 3 x 3 and 1 x 1 x 1; no stride touches time.

    Attributes:
      width: channels of the first two convolutions; the output has four times as many.
      stride: stride of the 3x3 convolution.
      norm: constructor of the BatchNorm layers.
      shortcut: as in `BasicBlock`.
      zero_init_residual: as in `BasicBlock`.
      dtype: dtype of the computation.
      frames: length in time of the first convolution's window; for video only.
    """

    width: int
    stride: int
    norm: Callable[..., nn.Module]
    shortcut: Shortcut
    zero_init_residual: bool
    dtype: Any
    frames: int = 1

    expansion = 4  # output channels over width

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, 4 * width], and video likewise."""
        rank = x.ndim - 2
        y = conv(self.width, (self.frames, 1, 1)[-rank:], 1, self.dtype, "conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y))
        y = conv(self.width, (1, 3, 3)[-rank:], self.stride, self.dtype, "conv2")(y)
        y = nn.relu(self.norm(name="bn2")(y))
        y = conv(self.width * self.expansion, (1,) * rank, 1, self.dtype, "conv3")(y)
        y = self.norm(name="bn3", scale_init=last_scale(self.zero_init_residual))(y)
        return nn.relu(y + _shortcut(self, x, y))


def conv(features: int, window: tuple[int, ...], stride: int, dtype: Any, name: str) -> Conv:
    """A convolution with `stride` in height and width, padded to keep the size without it."""
    strides = (1, stride, stride)[-len(window) :]
    # Symmetric padding, as the references: "SAME" would pad less above and left where stride is 2.
    padding = [size // 2 for size in window]
    return Conv(features, window, strides, padding, dtype=dtype, name=name)


def _shortcut(block: BasicBlock | Bottleneck, x: jax.Array, y: jax.Array) -> jax.Array:
    """The input of a block [B, H, W, C], brought to the shape of its output `y`."""
    if x.shape == y.shape:
        return x
    if block.shortcut == "projection":
        x = conv(y.shape[-1], (1,) * (x.ndim - 2), block.stride, block.dtype, "shortcut_conv")(x)
        return block.norm(name="shortcut_bn")(x)
    x = x[:, :: block.stride, :: block.stride, :]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - x.shape[-1])))


class ResNet(nn.Module):
    """Stem, stages of residual blocks, mean over positions, classifier.

    The first block of every stage but the first halves the resolution and doubles the width.

    Attributes:
      num_classes: number of logits.
      stage_sizes: number of blocks in each stage.
      block: `BasicBlock` or `Bottleneck`.
      width: channels of the stem and of the first stage's blocks.
      stem: "small" is a 3x3 convolution; "imagenet" a 7x7 one of stride 2 and a 3x3
        maximum of stride 2.
      shortcut: see `BasicBlock`.
      zero_init_residual: see `BasicBlock`.
      bn_momentum: share of the old running statistics kept at each step (PyTorch's 1 - momentum).
      bn_epsilon: added to the variance.
      dtype: dtype of the computation; parameters, statistics and logits are float32.
    """

    num_classes: int
    stage_sizes: tuple[int, ...]
    block: type[BasicBlock] | type[Bottleneck]
    width: int
    stem: Literal["small", "imagenet"]
    shortcut: Shortcut
    zero_init_residual: bool
    bn_momentum: float
    bn_epsilon: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps images [B, H, W, C] to logits [B, num_classes].

        Args:
          images: normalised images.
          train: whether BatchNorm uses the batch's statistics and updates `batch_stats`.

        Returns:
          Logits, float32.
        """
        norm = batch_norm(train, self.bn_momentum, self.bn_epsilon, self.dtype)
        x = images.astype(self.dtype)
        if self.stem == "imagenet":
            x = nn.relu(norm(name="bn1")(conv(self.width, (7, 7), 2, self.dtype, "conv1")(x)))
            x = max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        else:
            x = nn.relu(norm(name="bn1")(conv(self.width, (3, 3), 1, self.dtype, "conv1")(x)))
        for stage, size in enumerate(self.stage_sizes):
            for index in range(size):
                x = self.block(
                    width=self.width * 2**stage,
                    stride=2 if stage > 0 and index == 0 else 1,
                    norm=norm,
                    shortcut=self.shortcut,
                    zero_init_residual=self.zero_init_residual,
                    dtype=self.dtype,
                    name=f"layer{stage + 1}_{index}",
                )(x)
        x = x.mean(axis=(1, 2))
        return classify(x, self.num_classes, self.dtype)


@dataclasses.dataclass(frozen=True)
class _Network:
    """What tells one published network from another; the fields are those of `ResNet`."""

    stage_sizes: tuple[int, ...]
    block: type[BasicBlock] | type[Bottleneck]
    stem: Literal["small", "imagenet"]
    shortcut: Shortcut = "projection"
    width: int = 64


_NETWORKS = {
    # Section 4.2. Its shortcuts are identities with zero padding: they have no parameters.
    "resnet20": _Network((3, 3, 3), BasicBlock, "small", "identity", width=16),
    # Table 1 with a 3x3 stem and no pooling: the CIFAR form of the sparse-training literature.
    "resnet18": _Network((2, 2, 2, 2), BasicBlock, "small"),
    "resnet34": _Network((3, 4, 6, 3), BasicBlock, "small"),
    # Table 1 as it is.
    "resnet18_imagenet": _Network((2, 2, 2, 2), BasicBlock, "imagenet"),
    "resnet34_imagenet": _Network((3, 4, 6, 3), BasicBlock, "imagenet"),
    # Table 1 with the stride of a stage in its first 3x3 convolution: "v1.5", Goyal et al. 2017.
    "resnet50": _Network((3, 4, 6, 3), Bottleneck, "imagenet"),
}


def _create(
    network: str,
    num_classes: int,
    dtype: Any = jnp.float32,
    *,
    width: int = 0,
    depth: int = 0,
    stem: Literal["published", "small"] = "published",
    zero_init_residual: bool = False,
    bn_momentum: float = 0.9,
    bn_epsilon: float = 1e-5,
) -> ResNet:
    """A published network, or one reduced in width or depth.

    Args:
      network: a name in `_NETWORKS`.
      num_classes: number of logits.
      dtype: dtype of the computation.
      width: channels of the first stage; 0: as published.
      depth: blocks in each stage; 0: as published.
      stem: "small" gives the ImageNet networks the 3x3 stem for images of 64 pixels or less.
      zero_init_residual: whether the last BatchNorm scale of each block starts at 0, as in Goyal et
        al. 2017. It also makes every gradient inside the blocks 0 at the first step, so gradient
        growth at step 0 has nothing to go by.
      bn_momentum: share of the old running statistics kept at each step.
      bn_epsilon: added to the variance in BatchNorm.

    Returns:
      The module.
    """
    published = _NETWORKS[network]
    sizes = published.stage_sizes
    return ResNet(
        num_classes=num_classes,
        stage_sizes=(depth,) * len(sizes) if depth else sizes,
        block=published.block,
        width=width or published.width,
        stem=published.stem if stem == "published" else "small",
        shortcut=published.shortcut,
        zero_init_residual=zero_init_residual,
        bn_momentum=bn_momentum,
        bn_epsilon=bn_epsilon,
        dtype=dtype,
    )


resnet20 = functools.partial(_create, "resnet20")
resnet18 = functools.partial(_create, "resnet18")
resnet34 = functools.partial(_create, "resnet34")
resnet18_imagenet = functools.partial(_create, "resnet18_imagenet")
resnet34_imagenet = functools.partial(_create, "resnet34_imagenet")
resnet50 = functools.partial(_create, "resnet50")
