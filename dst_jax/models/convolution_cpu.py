"""Convolution and maximum pooling in the forms that XLA:CPU computes fast.

A convolution has one of three forms, with a gradient of its own:

- plain: that of `lax`, but both backward convolutions have the layout of the forward one
  (channels last). Those that `jax.grad` writes are some twenty times slower inside loops
  (jax-ml/jax#12868).
- matrix: one matrix product, for images that hold fewer pixels than the window: fewer
  multiplications, and XLA's own choice of layout there has no fast kernel (VGG16's 2x2 maps).
- depthwise: one multiplication for each position of the window, summed; XLA:CPU runs depthwise
  convolutions through a generic loop.

Called by `convolution` alone, on a CPU. All take and give the same arrays: images [B, *image, C],
kernels [*window, C, D] ([*window, 1, C] for depthwise), with any number of image dimensions.
"""

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.experimental.xla_metadata import set_xla_metadata

Sizes = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]

# Most blocks of the matrix form: one for every pair of an input and an output position.
_MOST_BLOCKS = 16


class Form(NamedTuple):
    """A way to compute a convolution.

    Attributes:
      forward: (strides, padding, images, kernel) -> features.
      gradients: (strides, padding, images, kernel, cotangent) -> gradients of images and kernel.
      is_inlined: whether XLA may merge the gradients with what is around them.
    """

    forward: Callable[..., jax.Array]
    gradients: Callable[..., tuple[jax.Array, jax.Array]]
    is_inlined: bool


def form_of(x_shape: Sizes, kernel_shape: Sizes, strides: Sizes, padding: Padding) -> Form:
    """The form for images and a kernel of these shapes."""
    if x_shape[-1] != kernel_shape[-2]:
        return DEPTHWISE
    image, window = x_shape[1:-1], kernel_shape[:-2]
    pixels = math.prod(image)
    outputs = math.prod(output_size(image, window, strides, padding))
    if pixels < math.prod(window) and pixels * outputs <= _MOST_BLOCKS:
        return MATRIX
    return PLAIN


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def convolve(strides: Sizes, padding: Padding, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution of `convolution.convolve`; every transform of JAX applies."""
    return form_of(x.shape, kernel.shape, strides, padding).forward(strides, padding, x, kernel)


@functools.partial(convolve.defjvp, symbolic_zeros=True)
def _convolve_jvp(strides, padding, primals, tangents):
    x, kernel = primals
    varied = tuple(not isinstance(tangent, SymbolicZero) for tangent in tangents)
    given = [tangent for tangent in tangents if not isinstance(tangent, SymbolicZero)]
    # Inlined, XLA would not read `x` from memory but work it out again, back through normalisation
    # and shortcuts, in the scattered order of the transposes: a fifth of a ResNet-20's step.
    is_inlined = form_of(x.shape, kernel.shape, strides, padding).is_inlined
    with contextlib.nullcontext() if is_inlined else set_xla_metadata(inlineable="false"):
        tangent = _tangent(strides, padding, varied, x, kernel, given)
    return convolve(strides, padding, x, kernel), tangent


# `checkpoint`: what the backward pass needs of the forward one is `x` and `kernel` themselves, not
# their transposes. It is inside of `jit` so that all of the gradient is one function for XLA.
@functools.partial(jax.jit, static_argnums=(0, 1, 2))
@functools.partial(jax.checkpoint, static_argnums=(0, 1, 2), prevent_cse=False)
def _tangent(strides, padding, varied, x, kernel, given):
    """Tangent of the output: the transpose of the form's gradients.

    Reverse mode transposes it again, and so runs the gradients as they are written here.

    Args:
      strides: as in `convolve`.
      padding: as in `convolve`.
      varied: whether `x` and whether `kernel` has a tangent.
      x: images.
      kernel: weights.
      given: the tangents that there are.

    Returns:
      An array of the output's shape.
    """
    form = form_of(x.shape, kernel.shape, strides, padding)

    def gradients(cotangent):
        both = form.gradients(strides, padding, x, kernel, cotangent)
        return list(itertools.compress(both, varied))

    size = output_size(x.shape[1:-1], kernel.shape[:-2], strides, padding)
    output = jax.ShapeDtypeStruct((x.shape[0], *size, kernel.shape[-1]), x.dtype)
    (tangent,) = jax.linear_transpose(gradients, output)(given)
    return tangent


def layout(rank: int) -> tuple[str, str, str]:
    """Dimension numbers of `lax` for images with `rank` dimensions, channels last."""
    space = "DHW"[-rank:]
    return f"N{space}C", f"{space}IO", f"N{space}C"


def output_size(image: Sizes, window: Sizes, strides: Sizes, padding: Padding) -> Sizes:
    """Size of the output in each image dimension."""
    return tuple(
        (i + sum(pad) - k) // s + 1
        for i, k, s, pad in zip(image, window, strides, padding, strict=True)
    )


def _plain(strides, padding, x, kernel):
    """The convolution as `lax` has it."""
    numbers = layout(len(strides))
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=numbers)


def _plain_gradients(strides, padding, x, kernel, cotangent):
    """Both gradients as convolutions that are themselves channels-last."""
    rank = len(strides)
    space = tuple(range(rank))
    numbers = layout(rank)
    image, window, output = x.shape[1:-1], kernel.shape[:-2], cotangent.shape[1:-1]
    reach = [(o - 1) * s + 1 for o, s in zip(output, strides, strict=True)]

    # d x: the cotangent, spread out by the strides, meets the kernel turned by 180 degrees.
    before = [k - 1 - low for k, (low, _) in zip(window, padding, strict=True)]
    after = [i + k - 1 - r - b for i, k, r, b in zip(image, window, reach, before, strict=True)]
    d_x = lax.conv_general_dilated(
        cotangent,
        lax.rev(kernel, space).swapaxes(-1, -2),
        window_strides=(1,) * rank,
        padding=list(zip(before, after, strict=True)),
        lhs_dilation=strides,
        dimension_numbers=numbers,
    )

    # d kernel: channels and batch change places, and the cotangent, strided, is the kernel.
    before = [low for low, _ in padding]
    after = [k - 1 + r - i - b for i, k, r, b in zip(image, window, reach, before, strict=True)]
    d_kernel = lax.conv_general_dilated(
        x.swapaxes(0, -1),
        jnp.moveaxis(cotangent, 0, -2),
        window_strides=(1,) * rank,
        padding=list(zip(before, after, strict=True)),
        rhs_dilation=strides,
        dimension_numbers=numbers,
    )
    return d_x, jnp.moveaxis(d_kernel, 0, -2)


def _window_positions(
    image: Sizes, window: Sizes, strides: Sizes, padding: Padding
) -> Iterator[list[Sizes | None]]:
    """For each input position: the window position by which each output position sees it."""
    output = output_size(image, window, strides, padding)
    for position in itertools.product(*map(range, image)):
        row: list[Sizes | None] = []
        for target in itertools.product(*map(range, output)):
            place = tuple(
                i - o * s + low
                for i, o, s, (low, _) in zip(position, target, strides, padding, strict=True)
            )
            seen = all(0 <= p < k for p, k in zip(place, window, strict=True))
            row.append(place if seen else None)
        yield row


def _as_matrix(kernel, image: Sizes, strides: Sizes, padding: Padding):
    """The convolution as a matrix [pixels * C, outputs * D]."""
    nothing = jnp.zeros(kernel.shape[-2:], kernel.dtype)
    rows = _window_positions(image, kernel.shape[:-2], strides, padding)
    return jnp.concatenate(
        [
            jnp.concatenate([nothing if place is None else kernel[place] for place in row], axis=1)
            for row in rows
        ]
    )


def _matrix(strides, padding, x, kernel):
    """The convolution as one matrix product."""
    image = x.shape[1:-1]
    output = output_size(image, kernel.shape[:-2], strides, padding)
    y = x.reshape(x.shape[0], -1) @ _as_matrix(kernel, image, strides, padding)
    return y.reshape(x.shape[0], *output, kernel.shape[-1])


def _matrix_gradients(strides, padding, x, kernel, cotangent):
    """Both gradients of the matrix form."""
    image, window = x.shape[1:-1], kernel.shape[:-2]
    channels, features = kernel.shape[-2:]
    rows, flat = x.reshape(x.shape[0], -1), cotangent.reshape(x.shape[0], -1)
    d_x = (flat @ _as_matrix(kernel, image, strides, padding).T).reshape(x.shape)
    d_matrix = (rows.T @ flat).reshape(math.prod(image), channels, -1, features)
    # Each window position collects the blocks that it was copied to.
    blocks = {
        place: jnp.zeros((), kernel.dtype) for place in itertools.product(*map(range, window))
    }
    for pixel, row in enumerate(_window_positions(image, window, strides, padding)):
        for target, place in enumerate(row):
            if place is not None:
                blocks[place] += d_matrix[pixel, :, target]
    full = [jnp.broadcast_to(block, (channels, features)) for block in blocks.values()]
    return d_x, jnp.stack(full).reshape(kernel.shape)


def _shifted(padded, place: Sizes, output: Sizes, strides: Sizes):
    """What one window position sees of padded images: [B, *output, C]."""
    slices = tuple(
        slice(p, p + (o - 1) * s + 1, s) for p, o, s in zip(place, output, strides, strict=True)
    )
    return padded[(slice(None), *slices)]


def _depthwise(strides, padding, x, kernel):
    """A depthwise convolution as a sum over window positions."""
    output = output_size(x.shape[1:-1], kernel.shape[:-2], strides, padding)
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    terms = [
        _shifted(padded, place, output, strides)
        * kernel[place].reshape((1,) * (x.ndim - 1) + (-1,))
        for place in itertools.product(*map(range, kernel.shape[:-2]))
    ]
    return functools.reduce(jnp.add, terms)


def _depthwise_gradients(strides, padding, x, kernel, cotangent):
    """Both gradients of `_depthwise`."""
    image, window, output = x.shape[1:-1], kernel.shape[:-2], cotangent.shape[1:-1]
    # d x: as in the plain form, the spread cotangent meets the kernel turned by 180 degrees.
    zero = jnp.zeros((), cotangent.dtype)
    margins = []
    for i, k, o, s, (low, _) in zip(image, window, output, strides, padding, strict=True):
        before = k - 1 - low
        margins.append((before, i + k - 1 - ((o - 1) * s + 1) - before, s - 1))
    spread = lax.pad(cotangent, zero, [(0, 0, 0), *margins, (0, 0, 0)])
    turned = lax.rev(kernel, tuple(range(len(window))))
    d_x = _depthwise((1,) * len(window), ((0, 0),) * len(window), spread, turned)
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    axes = tuple(range(x.ndim - 1))
    d_kernel = [
        jnp.sum(_shifted(padded, place, output, strides) * cotangent, axes)
        for place in itertools.product(*map(range, window))
    ]
    return d_x, jnp.stack(d_kernel).reshape(kernel.shape)


def max_pool(window: Sizes, strides: Sizes, padding: Padding, x: jax.Array) -> jax.Array:
    """Greatest value in each window, by comparisons of shifted copies.

    Several times faster than `reduce_window` and its gradient on a CPU, with the same gradient: all
    of it goes to the first of equal values.
    """
    if any(before or after for before, after in padding):
        x = jnp.pad(x, [(0, 0), *padding, (0, 0)], constant_values=-jnp.inf)
    output = output_size(x.shape[1:-1], window, strides, ((0, 0),) * len(window))
    # One dimension after the other: 3 + 3 instead of 9 copies. The last comes first, so that of
    # equal values the one in the first row wins, and in that row the first.
    for axis in range(len(window), 0, -1):
        size, step, count = window[axis - 1], strides[axis - 1], output[axis - 1]
        copies = [
            lax.slice_in_dim(x, offset, offset + (count - 1) * step + 1, step, axis=axis)
            for offset in range(size)
        ]
        x = functools.reduce(_greater, copies)
    return x


def _greater(first: jax.Array, second: jax.Array) -> jax.Array:
    """The maximum; where both are equal, the gradient goes to the first. NaN is the greatest."""
    return jnp.where((first >= second) | jnp.isnan(first), first, second)


PLAIN = Form(_plain, _plain_gradients, is_inlined=False)
MATRIX = Form(_matrix, _matrix_gradients, is_inlined=True)
DEPTHWISE = Form(_depthwise, _depthwise_gradients, is_inlined=True)
