"""Hands the random draws of a corruption of ours to its slow form in `common_numpy`.

Both then render one and the same image. Called by `exactness` and by the tests of corruptions.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from benchmarks import common_numpy

Draws = Mapping[str, np.ndarray]


class Given:
    """A generator like NumPy's that returns given numbers, in the order in which it is asked.

    Args:
      numbers: standard normal for `normal`; in [-1, 1] for `uniform`, the ends of its range;
        quantiles for `poisson`; what is to be returned for `random` and `integers`.
    """

    def __init__(self, *numbers: Any):
        self._numbers = iter(numbers)

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: Any = None) -> Any:
        """The next number, scaled and moved."""
        del size
        return loc + scale * np.float64(next(self._numbers))

    def uniform(self, low: float, high: float, size: Any = None) -> Any:
        """The next number, brought from [-1, 1] to [low, high]."""
        del size
        return (low + high) / 2 + (high - low) / 2 * np.float64(next(self._numbers))

    def poisson(self, rate: np.ndarray) -> np.ndarray:
        """The counts at the next quantiles."""
        return np.maximum(stats.poisson.ppf(np.float64(next(self._numbers)), rate), 0)

    def random(self, shape: Any) -> np.ndarray:
        """The next number."""
        del shape
        return next(self._numbers)

    def integers(self, *bounds: Any) -> Any:
        """The next number."""
        del bounds
        return next(self._numbers)


def _glass(draws: Draws, row: Sequence[Any]) -> list[np.ndarray]:
    """Offsets in the order of the published loop: from the last pixel to the first."""
    _, delta, sweeps = row
    inside = slice(delta + 1, 1 - delta or None)
    return [
        offset
        for sweep in draws["offsets"][:sweeps]
        for offset in sweep[inside, inside][::-1, ::-1].reshape(-1, 2)
    ]


def fog_levels(u: np.ndarray, size: int) -> list[np.ndarray]:
    """The numbers [size**2 - 1] of a fractal as three arrays a level, the coarsest first."""
    levels, start, side = [], 0, 1
    while side < size:
        stop = start + 3 * side * side
        levels.append(u[start:stop].reshape(3, side, side))
        start, side = stop, 2 * side
    return levels


def _impulse(draws: Draws, row: Any) -> list[np.ndarray]:
    """Whether a value is replaced, and by which extreme."""
    return [draws["u"], np.where(draws["u"] < 0.5 * np.float32(row), 0.0, 1.0)]


def reference(name: str, image: np.ndarray, row: Any, draws: Draws) -> np.ndarray:
    """The image that the slow form makes of the draws: uint8 [N, N, 3].

    Args:
      name: one of the 19 common corruptions.
      image: uint8 [N, N, 3].
      row: the constants of the severity.
      draws: of one image, as the corruption's `draw` makes them.
    """
    ways: dict[str, Callable[[], list[Any]]] = {
        "gaussian_noise": lambda: [draws["n"]],
        "speckle_noise": lambda: [draws["n"]],
        "spatter": lambda: [draws["n"]],
        "shot_noise": lambda: [draws["u"]],
        "impulse_noise": lambda: _impulse(draws, row),
        "glass_blur": lambda: _glass(draws, row),
        "motion_blur": lambda: [draws["angle"] / 45],
        "snow": lambda: [draws["n"], (draws["angle"] + 90) / 45],
        "frost": lambda: [int(draws[key]) for key in ("idx", "row", "col")],
        "fog": lambda: fog_levels(draws["u"], row[2]),
        "elastic_transform": lambda: [draws["points"], draws["ux"], draws["uy"]],
    }
    numbers = ways[name]() if name in ways else []
    found = common_numpy.FUNCTIONS[name](image, row, Given(*numbers))
    return np.clip(found, 0, 255).astype(np.uint8)
