"""Convolution and maximum pooling: the functions and the Flax layer of all models of this package.

Images have any number of dimensions: [B, H, W, C], or [B, T, H, W, C] for video. Accelerators get
the operations of `lax`; XLA:CPU gets other forms of the same, those of `convolution_cpu`. The
platform is known when compiling: nothing is decided at run time.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from dst_jax.models import convolution_cpu
from dst_jax.models.initializers import HE_NORMAL_FAN_OUT

Sizes = convolution_cpu.Sizes
Padding = convolution_cpu.Padding


def convolve(x: jax.Array, kernel: jax.Array, strides: Sizes, padding: Padding) -> jax.Array:
    """Convolution (cross-correlation), plain or depthwise; every transform of JAX applies.

    On a CPU, values and derivatives are those of `lax.conv_general_dilated` to rounding.

    Args:
      x: images [B, *image, C].
      kernel: weights [*window, C, D], of the dtype of `x`; [*window, 1, C]: depthwise.
      strides: step in each image dimension, >= 1.
      padding: zeros before and after, for each image dimension.

    Returns:
      Features [B, *output, D] with output = (image + padding - window) // stride + 1.
    """
    default = functools.partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        dimension_numbers=convolution_cpu.layout(len(strides)),
        feature_group_count=x.shape[-1] // kernel.shape[-2],
    )
    on_cpu = functools.partial(convolution_cpu.convolve, strides, padding)
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=default)


def max_pool(
    x: jax.Array, window: Sizes, strides: Sizes, padding: Padding | None = None
) -> jax.Array:
    """Greatest value in each window; its gradient goes to the first of equal values, row by row.

    Args:
      x: images [B, *image, C].
      window: size of the window in each image dimension.
      strides: steps.
      padding: how far windows reach beyond the image; they see nothing there. Default: not at all.

    Returns:
      [B, *output, C].
    """
    padding = padding or ((0, 0),) * len(window)
    default = functools.partial(nn.max_pool, window_shape=window, strides=strides, padding=padding)
    on_cpu = functools.partial(convolution_cpu.max_pool, window, strides, padding)
    return lax.platform_dependent(x, cpu=on_cpu, default=default)


def pad_amounts(
    padding: str | int | Sequence[Any], image: Sizes, window: Sizes, strides: Sizes
) -> Padding:
    """Zeros before and after in each image dimension, from any of the forms that Flax accepts.

    Args:
      padding: "SAME", "VALID", one integer for all sides, or one integer or pair a dimension.
      image: size of the input in each image dimension.
      window: size of the kernel.
      strides: steps.

    Returns:
      For two dimensions ((top, bottom), (left, right)).
    """
    pairs: Sequence[Any]
    if isinstance(padding, str):
        pairs = lax.padtype_to_pads(image, window, strides, padding)
    elif isinstance(padding, int):
        pairs = [(padding, padding)] * len(image)
    else:
        pairs = [(side, side) if isinstance(side, int) else tuple(side) for side in padding]
    return tuple((int(before), int(after)) for before, after in pairs)


class Conv(nn.Module):
    """Convolution layer: `flax.linen.Conv` without its rarer options, on `convolve`.

    Parameters, float32: `kernel` [*window, C, features] ([*window, 1, features] if depthwise) and,
    if asked for, `bias` [features].

    Attributes:
      features: number of output channels.
      kernel_size: size of the kernel in each image dimension.
      strides: step in each image dimension, or one integer for all.
      padding: "SAME", "VALID", one integer for all sides, or one integer or pair a dimension.
      depthwise: whether each channel is convolved by itself; `features` equals C then.
      use_bias: whether a bias, starting at 0, is added.
      dtype: dtype of the computation and of the output.
      kernel_init: initialiser of the kernel; default normal with variance 2 / fan_out (He et al.
        2015, equation 14: the form that keeps the variance of gradients).
    """

    features: int
    kernel_size: Sizes
    strides: int | Sizes = 1
    padding: str | int | Sequence[Any] = "SAME"
    depthwise: bool = False
    use_bias: bool = False
    dtype: Any = jnp.float32
    kernel_init: Callable[..., jax.Array] = HE_NORMAL_FAN_OUT
    bias_init: Callable[..., jax.Array] = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images [B, *image, C] to features [B, *output, features]."""
        rank = len(self.kernel_size)
        inputs = 1 if self.depthwise else x.shape[-1]
        if self.depthwise and self.features != x.shape[-1]:
            raise ValueError(f"depthwise: {self.features} features from {x.shape[-1]} channels")
        shape = (*self.kernel_size, inputs, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        strides = (self.strides,) * rank if isinstance(self.strides, int) else self.strides
        padding = pad_amounts(self.padding, x.shape[1:-1], self.kernel_size, strides)
        y = convolve(x.astype(self.dtype), kernel.astype(self.dtype), strides, padding)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
            y = y + bias.astype(self.dtype).reshape((1,) * (rank + 1) + (-1,))
        return y
