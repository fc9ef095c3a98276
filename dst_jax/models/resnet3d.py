"""Residual networks of video: ResNet-50 with windows in time, on clips [B, T, H, W, C].

The forms of PyTorchVideo that Schiappa et al. 2023 train: `resnet3d50` is its `slow_r50` (the slow
pathway of Feichtenhofer et al. 2019), `i3d_r50` its inflated ResNet (Carreira and Zisserman 2017;
Wang et al. 2018). Blocks are those of `resnet`; layers are named alike.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dst_jax.models.convolution import max_pool
from dst_jax.models.initializers import Normal
from dst_jax.models.layers import batch_norm, classify
from dst_jax.models.resnet import Bottleneck, conv


class ResNet3D(nn.Module):
    """Stem, four stages of bottlenecks, mean over positions and frames, dropout, classifier.

    Strides halve height and width as in ResNet-50; time is left alone, but for `pool_time`.

    Attributes:
      num_classes: number of logits.
      stage_sizes: number of blocks in each stage.
      width: channels of the stem and of the first stage's first convolutions.
      stem_frames: length in time of the stem's 7x7 window.
      block_frames: for each stage, the lengths in time of its blocks' first windows, repeated.
      pool_time: whether the maximum of every two frames is taken after the first stage.
      zero_init_residual: whether the last BatchNorm scale of each block starts at 0.
      dropout: share of features dropped before the classifier in training.
      bn_momentum: share of the old running statistics kept at each step (PyTorch's 1 - momentum).
      bn_epsilon: added to the variance.
      dtype: dtype of the computation; parameters, statistics and logits are float32.
    """

    num_classes: int
    stage_sizes: tuple[int, ...]
    width: int
    stem_frames: int
    block_frames: tuple[tuple[int, ...], ...]
    pool_time: bool
    zero_init_residual: bool
    dropout: float
    bn_momentum: float
    bn_epsilon: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, clips: jax.Array, train: bool = False) -> jax.Array:
        """Maps clips [B, T, H, W, C] to logits [B, num_classes].

        Args:
          clips: normalised clips.
          train: whether BatchNorm uses the batch's statistics and features are dropped (needs the
            rng "dropout").

        Returns:
          Logits, float32.
        """
        norm = batch_norm(train, self.bn_momentum, self.bn_epsilon, self.dtype)
        x = clips.astype(self.dtype)
        x = conv(self.width, (self.stem_frames, 7, 7), 2, self.dtype, "conv1")(x)
        x = nn.relu(norm(name="bn1")(x))
        x = max_pool(x, (1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 1)))
        for stage, size in enumerate(self.stage_sizes):
            frames = self.block_frames[stage]
            for index in range(size):
                x = Bottleneck(
                    width=self.width * 2**stage,
                    stride=2 if stage > 0 and index == 0 else 1,
                    norm=norm,
                    shortcut="projection",
                    zero_init_residual=self.zero_init_residual,
                    dtype=self.dtype,
                    frames=frames[index % len(frames)],
                    name=f"layer{stage + 1}_{index}",
                )(x)
            if stage == 0 and self.pool_time and x.shape[1] > 1:
                x = max_pool(x, (2, 1, 1), (2, 1, 1))
        x = x.mean(axis=(1, 2, 3))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return classify(x, self.num_classes, self.dtype, Normal(0.01))


def _create(
    stem_frames: int,
    block_frames: tuple[tuple[int, ...], ...],
    pool_time: bool,
    num_classes: int,
    dtype: Any = jnp.float32,
    *,
    width: int = 0,
    depth: int = 0,
    dropout: float = 0.5,
    zero_init_residual: bool = True,
    bn_momentum: float = 0.9,
    bn_epsilon: float = 1e-5,
) -> ResNet3D:
    """A published network, or one reduced in width or depth.

    Args:
      stem_frames: see `ResNet3D`.
      block_frames: see `ResNet3D`.
      pool_time: see `ResNet3D`.
      num_classes: number of logits.
      dtype: dtype of the computation.
      width: channels of the first stage; 0: 64, as published.
      depth: blocks in each stage; 0: as published.
      dropout: share of features dropped before the classifier.
      zero_init_residual: see `ResNet3D`; PyTorchVideo does it. At the first step all gradients
        inside the blocks are 0, so masks chosen by that gradient (SNIP) want False.
      bn_momentum: share of the old running statistics kept at each step.
      bn_epsilon: added to the variance in BatchNorm.

    Returns:
      The module.
    """
    return ResNet3D(
        num_classes=num_classes,
        stage_sizes=(depth,) * 4 if depth else (3, 4, 6, 3),
        width=width or 64,
        stem_frames=stem_frames,
        block_frames=block_frames,
        pool_time=pool_time,
        zero_init_residual=zero_init_residual,
        dropout=dropout,
        bn_momentum=bn_momentum,
        bn_epsilon=bn_epsilon,
        dtype=dtype,
    )


resnet3d50 = functools.partial(_create, 1, ((1,), (1,), (3,), (3,)), False)
i3d_r50 = functools.partial(_create, 5, ((3,), (3, 1), (3, 1), (1, 3)), True)
