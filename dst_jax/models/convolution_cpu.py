"""Convolutions as XLA:CPU computes them fast: the three forms that `convolution` chooses from.

- stated: both backward convolutions written with the layout of the forward one. Those that
  `jax.grad` writes are some twenty times slower inside loops (jax-ml/jax#12868).
- matrix: one matrix product, for images that hold fewer pixels than the window: fewer
  multiplications, and XLA's own choice of layout there has no fast kernel (VGG16's 2x2 maps).
- taps: one multiplication a window position, summed, for depthwise convolutions, which XLA:CPU
  runs through a generic loop.

All take and give the same arrays: images [B, *image, C], kernels [*window, C, D] ([*window, 1, C]
for depthwise), with any number of image dimensions.
"""

import functools
import itertools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

Sizes = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]

# Most blocks of the matrix form: one for every pair of an input and an output position.
_MOST_BLOCKS = 16


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


def gradients_stated(strides: Sizes, padding: Padding, x, kernel, cotangent):
    """Both gradients of a plain convolution, in a function that XLA must not inline."""
    # Inlined, XLA would not read `x` from memory but work it out again, back through normalisation
    # and shortcuts, in the scattered order of the transposes: a fifth of a ResNet-20's step.
    with set_xla_metadata(inlineable="false"):
        return _gradients_stated(strides, padding, x, kernel, cotangent)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _gradients_stated(strides, padding, x, kernel, cotangent):
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


def suits_matrix(image: Sizes, window: Sizes, strides: Sizes, padding: Padding) -> bool:
    """Whether the matrix form is the better one."""
    pixels = math.prod(image)
    outputs = math.prod(output_size(image, window, strides, padding))
    return pixels < math.prod(window) and pixels * outputs <= _MOST_BLOCKS


def _taps(
    image: Sizes, window: Sizes, strides: Sizes, padding: Padding
) -> Iterator[list[Sizes | None]]:
    """For each input position: the window position by which each output position sees it."""
    output = output_size(image, window, strides, padding)
    for position in itertools.product(*map(range, image)):
        row: list[Sizes | None] = []
        for target in itertools.product(*map(range, output)):
            tap = tuple(
                i - o * s + low
                for i, o, s, (low, _) in zip(position, target, strides, padding, strict=True)
            )
            seen = all(0 <= t < k for t, k in zip(tap, window, strict=True))
            row.append(tap if seen else None)
        yield row


def _as_matrix(kernel, image: Sizes, strides: Sizes, padding: Padding):
    """The convolution as a matrix [pixels * C, outputs * D]."""
    nothing = jnp.zeros(kernel.shape[-2:], kernel.dtype)
    rows = _taps(image, kernel.shape[:-2], strides, padding)
    return jnp.concatenate(
        [
            jnp.concatenate([nothing if tap is None else kernel[tap] for tap in row], axis=1)
            for row in rows
        ]
    )


def forward_matrix(strides: Sizes, padding: Padding, x, kernel):
    """The convolution as one matrix product."""
    image = x.shape[1:-1]
    output = output_size(image, kernel.shape[:-2], strides, padding)
    y = x.reshape(x.shape[0], -1) @ _as_matrix(kernel, image, strides, padding)
    return y.reshape(x.shape[0], *output, kernel.shape[-1])


def gradients_matrix(strides: Sizes, padding: Padding, x, kernel, cotangent):
    """Both gradients of the matrix form."""
    image, window = x.shape[1:-1], kernel.shape[:-2]
    channels, features = kernel.shape[-2:]
    rows, flat = x.reshape(x.shape[0], -1), cotangent.reshape(x.shape[0], -1)
    d_x = (flat @ _as_matrix(kernel, image, strides, padding).T).reshape(x.shape)
    d_matrix = (rows.T @ flat).reshape(math.prod(image), channels, -1, features)
    # Each window position collects the blocks that it was copied to.
    blocks = {tap: jnp.zeros((), kernel.dtype) for tap in itertools.product(*map(range, window))}
    for pixel, row in enumerate(_taps(image, window, strides, padding)):
        for target, tap in enumerate(row):
            if tap is not None:
                blocks[tap] += d_matrix[pixel, :, target]
    full = [jnp.broadcast_to(block, (channels, features)) for block in blocks.values()]
    return d_x, jnp.stack(full).reshape(kernel.shape)


def _shifted(padded, tap: Sizes, output: Sizes, strides: Sizes):
    """What one window position sees of padded images: [B, *output, C]."""
    slices = tuple(
        slice(t, t + (o - 1) * s + 1, s) for t, o, s in zip(tap, output, strides, strict=True)
    )
    return padded[(slice(None), *slices)]


def forward_taps(strides: Sizes, padding: Padding, x, kernel):
    """A depthwise convolution as a sum over window positions."""
    output = output_size(x.shape[1:-1], kernel.shape[:-2], strides, padding)
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    terms = [
        _shifted(padded, tap, output, strides) * kernel[tap].reshape((1,) * (x.ndim - 1) + (-1,))
        for tap in itertools.product(*map(range, kernel.shape[:-2]))
    ]
    return functools.reduce(jnp.add, terms)


def gradients_taps(strides: Sizes, padding: Padding, x, kernel, cotangent):
    """Both gradients of `forward_taps`."""
    image, window, output = x.shape[1:-1], kernel.shape[:-2], cotangent.shape[1:-1]
    # d x: as in the stated form, the spread cotangent meets the kernel turned by 180 degrees.
    zero = jnp.zeros((), cotangent.dtype)
    margins = []
    for i, k, o, s, (low, _) in zip(image, window, output, strides, padding, strict=True):
        before = k - 1 - low
        margins.append((before, i + k - 1 - ((o - 1) * s + 1) - before, s - 1))
    spread = lax.pad(cotangent, zero, [(0, 0, 0), *margins, (0, 0, 0)])
    turned = lax.rev(kernel, tuple(range(len(window))))
    d_x = forward_taps((1,) * len(window), ((0, 0),) * len(window), spread, turned)
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    axes = tuple(range(x.ndim - 1))
    d_kernel = [
        jnp.sum(_shifted(padded, tap, output, strides) * cotangent, axes)
        for tap in itertools.product(*map(range, window))
    ]
    return d_x, jnp.stack(d_kernel).reshape(kernel.shape)
