"""Convolution whose backward pass stays fast inside loops, and its Flax layer.

XLA:CPU runs the convolutions that `jax.grad` writes some twenty times slower inside `lax.scan` and
`lax.while_loop` than outside (jax-ml/jax#12868). Stating both backward convolutions with the layout
of the forward one removes that, and calling them as a function of its own saves a fifth of a step
outside loops too. The models of this package use `Conv` for all their convolutions.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from dst_jax.models.initializers import HE_NORMAL_FAN_OUT

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def _forward(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_LAYOUT)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    """Two-dimensional convolution (cross-correlation) with a loop-proof backward pass.

    Same values and gradients as `lax.conv_general_dilated`. Reverse-mode differentiation only.

    Args:
      x: images [B, H, W, C].
      kernel: weights [kh, kw, C, D], of the dtype of `x`.
      strides: step in height and in width, each >= 1.
      padding: zeros before and after, for height and for width.

    Returns:
      Features [B, H', W', D] with H' = (H + padding - kh) // stride + 1, and W' likewise.
    """
    return _forward(x, kernel, strides, padding)


def _convolve_fwd(x, kernel, strides, padding):
    return _forward(x, kernel, strides, padding), (x, kernel)


def _convolve_bwd(strides, padding, residuals, cotangent):
    # Compilers for other devices know the form that `jax.grad` writes, so they keep getting it.
    # The device is known when compiling: nothing is decided at run time.
    return lax.platform_dependent(
        *residuals,
        cotangent,
        cpu=functools.partial(_gradients_apart, strides, padding),
        default=functools.partial(_gradients_transposed, strides, padding),
    )


def _gradients_transposed(strides, padding, x, kernel, cotangent):
    """Both gradients as `jax.grad` writes them."""
    _, pullback = jax.vjp(lambda x, kernel: _forward(x, kernel, strides, padding), x, kernel)
    return pullback(cotangent)


def _gradients_apart(strides, padding, x, kernel, cotangent):
    """Both gradients, computed in a function that XLA must not inline."""
    # Inlined, XLA would not read `x` from memory but work it out again, back through normalisation
    # and shortcuts, in the scattered order of the transposes: a fifth of a ResNet-20's step.
    with set_xla_metadata(inlineable="false"):
        return _gradients_stated(strides, padding, x, kernel, cotangent)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _gradients_stated(strides, padding, x, kernel, cotangent):
    """Both gradients as convolutions that are themselves NHWC times HWIO."""
    image, window, output = x.shape[1:3], kernel.shape[:2], cotangent.shape[1:3]
    reach = [(o - 1) * s + 1 for o, s in zip(output, strides, strict=True)]

    # d x: the cotangent, spread out by the strides, meets the kernel turned by 180 degrees.
    before = [k - 1 - low for k, (low, _) in zip(window, padding, strict=True)]
    after = [i + k - 1 - r - b for i, k, r, b in zip(image, window, reach, before, strict=True)]
    d_x = lax.conv_general_dilated(
        cotangent,
        lax.rev(kernel, (0, 1)).transpose(0, 1, 3, 2),
        window_strides=(1, 1),
        padding=list(zip(before, after, strict=True)),
        lhs_dilation=strides,
        dimension_numbers=_LAYOUT,
    )

    # d kernel: channels and batch change places, and the cotangent, strided, is the kernel.
    before = [low for low, _ in padding]
    after = [k - 1 + r - i - b for i, k, r, b in zip(image, window, reach, before, strict=True)]
    d_kernel = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        cotangent.transpose(1, 2, 0, 3),
        window_strides=(1, 1),
        padding=list(zip(before, after, strict=True)),
        rhs_dilation=strides,
        dimension_numbers=_LAYOUT,
    )
    return d_x, d_kernel.transpose(1, 2, 0, 3)


convolve.defvjp(_convolve_fwd, _convolve_bwd)


def pad_amounts(padding: str | int | Sequence[Any], image: Pair, window: Pair, strides: Pair):
    """Zeros before and after, for height and width, from any of the forms that Flax accepts.

    Args:
      padding: "SAME", "VALID", one integer for all four sides, or one integer or pair a dimension.
      image: height and width of the input, in pixels.
      window: height and width of the kernel.
      strides: step in height and in width.

    Returns:
      ((top, bottom), (left, right)).
    """
    if isinstance(padding, str):
        pairs = lax.padtype_to_pads(image, window, strides, padding)
    elif isinstance(padding, int):
        pairs = [(padding, padding)] * 2
    else:
        pairs = [(side, side) if isinstance(side, int) else tuple(side) for side in padding]
    (top, bottom), (left, right) = pairs
    return (int(top), int(bottom)), (int(left), int(right))


class Conv(nn.Module):
    """Convolution layer without bias: `flax.linen.Conv(..., use_bias=False)`, fast inside loops.

    One parameter, `kernel` [kh, kw, C, features], float32.

    Attributes:
      features: number of output channels.
      kernel_size: height and width of the kernel.
      strides: step in height and width, or one integer for both.
      padding: "SAME", "VALID", one integer for all sides, or one integer or pair a dimension.
      dtype: dtype of the computation and of the output.
      kernel_init: initialiser of the kernel; default normal with variance 2 / fan_out (He et al.
        2015, equation 14: the form that keeps the variance of gradients).
    """

    features: int
    kernel_size: Pair
    strides: int | Pair = 1
    padding: str | int | Sequence[Any] = "SAME"
    dtype: Any = jnp.float32
    kernel_init: Callable[..., jax.Array] = HE_NORMAL_FAN_OUT

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images [B, H, W, C] to features [B, H', W', features]."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        strides = (self.strides,) * 2 if isinstance(self.strides, int) else self.strides
        image = (x.shape[1], x.shape[2])
        padding = pad_amounts(self.padding, image, self.kernel_size, strides)
        return convolve(x.astype(self.dtype), kernel.astype(self.dtype), strides, padding)
