"""What is stored of an evaluation: a row a condition, what rows share, which images were right.

Plain tuples; what is made of them is in `result`, how they lie on disk in `storage`.
"""

import zlib
from typing import NamedTuple

import numpy as np

from dst_jax.robustness.suites import Condition


class Score(NamedTuple):
    """One row of `robustness.csv`: a condition, and what it was scored with.

    Attributes:
      suite: name of the suite.
      source: where the images come from; see `suites.Plan`.
      corruption: its name in `dst_jax.corruptions`, or "clean".
      severity: 1..5, 0 for clean images.
      n: number of images.
      accuracy: top-1, in [0, 1].
      ece: expected calibration error, 15 bins, in [0, 1].
      preset: constants of the rendered corruptions, "" for prepared images.
      seed: of the rendered corruptions, 0 for prepared images.
    """

    suite: str
    source: str
    corruption: str
    severity: int
    n: int
    accuracy: float
    ece: float
    preset: str
    seed: int

    @property
    def condition(self) -> Condition:
        """The row's condition."""
        return Condition(self.corruption, self.severity)


class Setting(NamedTuple):
    """What the rows of one result share."""

    suite: str
    source: str
    preset: str
    seed: int


def setting_of(row: Score) -> Setting:
    """The setting of a row."""
    return Setting(row.suite, row.source, row.preset, row.seed)


class Hits(NamedTuple):
    """Which images were classified correctly under one condition.

    Attributes:
      bits: uint8, `np.packbits` of bool [N] in the order of the image ids.
      images: CRC-32 of the ids and labels: equal where two records are of the same images.
    """

    bits: np.ndarray
    images: int

    @classmethod
    def pack(cls, correct: np.ndarray, ids: np.ndarray, labels: np.ndarray) -> "Hits":
        """Packs bool [N], int32 [N] and int32 [N]."""
        numbers = np.stack([ids, labels]).astype("<i4").tobytes()
        return cls(np.packbits(correct), zlib.crc32(numbers))

    def unpack(self, n: int) -> np.ndarray:
        """Bool [N]."""
        return np.unpackbits(self.bits, count=n).astype(bool)
