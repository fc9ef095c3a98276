"""Where the active weights are: per kernel, per channel, per layer (Wu et al. 2025, section 5.1).

Plain NumPy on weights and masks; a weight matrix [in, out] counts as kernels of one pixel. Which
units lie on no path from input to output is in `dead_units`. Called by `weights`, and by notebooks.
"""

from typing import NamedTuple

import numpy as np


class KernelMap(NamedTuple):
    """Figure 5 of Wu et al. 2025: two images over (output, input) channels.

    Attributes:
      nonzero: int [out, in], active weights of the kernel.
      magnitude: float [out, in], sum of |w| over the kernel.
    """

    nonzero: np.ndarray
    magnitude: np.ndarray


def _as_kernels(array: np.ndarray) -> np.ndarray:
    """[..., in, out] as [taps, in, out]."""
    return np.asarray(array).reshape(-1, *array.shape[-2:])


def kernel_map(kernel: np.ndarray, mask: np.ndarray | None = None) -> KernelMap:
    """Counts and sums the weights of every kernel of a layer.

    Args:
      kernel: [..., in, out], such as [3, 3, C, D] or [C, D].
      mask: 0/1 of the same shape; None: everything is active.
    """
    weights = _as_kernels(kernel)
    active = np.ones(weights.shape, bool) if mask is None else _as_kernels(mask) != 0
    return KernelMap(
        active.sum(0, dtype=np.int32).T, np.abs(weights * active).sum(0, dtype=np.float64).T
    )


def fans(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Active weights of each channel.

    Args:
      mask: 0/1 [..., in, out].

    Returns:
      (fan-in of each output channel [out], fan-out of each input channel [in]).
    """
    active = _as_kernels(mask) != 0
    return active.sum((0, 1), dtype=np.int64), active.sum((0, 2), dtype=np.int64)


def stripe_score(counts: np.ndarray, room: int) -> float | None:
    """How far active weights are gathered in whole channels; 0 is chance, 1 is all or nothing.

    The share of the mask's variance that the channel explains (eta squared: the variance of the
    channels' densities over d (1 - d), d the layer's density), shifted and scaled such that masks
    drawn at random with the same number of active weights have mean 0. It is the number to the
    dark lines in figure 5 of Wu et al. 2025.

    Args:
      counts: [channels], active weights of each channel: a fan-in or a fan-out.
      room: weights of a channel, >= 2.

    Returns:
      At most 1, about 0 by chance, below where channels are more equal than by chance; None for a
      layer that is full, empty, or of one channel, where the number means nothing.
    """
    channels, total = len(counts), len(counts) * room
    density = counts.sum() / total
    if channels < 2 or room < 2 or not 0 < density < 1:
        return None
    explained = np.mean((counts / room - density) ** 2) / (density * (1 - density))
    # Counts of a random mask are hypergeometric.
    chance = (total - room) / (room * (total - 1))
    return float((explained - chance) / (1 - chance))


def stripe_scores(mask: np.ndarray) -> tuple[float | None, float | None]:
    """`stripe_score` over the output and over the input channels of a mask [..., in, out]."""
    fan_in, fan_out = fans(mask)
    return stripe_score(fan_in, mask.size // len(fan_in)), stripe_score(
        fan_out, mask.size // len(fan_out)
    )


def dead_channels(mask: np.ndarray) -> tuple[int, int]:
    """Numbers of (outputs without an active input, inputs without an active output)."""
    fan_in, fan_out = fans(mask)
    return int((fan_in == 0).sum()), int((fan_out == 0).sum())
