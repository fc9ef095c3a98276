"""What is stored of an evaluation: a row per condition, what rows share, which images were right.

Plain tuples, no JAX; what is made of them is in `result`, how they lie on disk in `storage`.
"""

import zlib
from typing import NamedTuple

import numpy as np


class Condition(NamedTuple):
    """What images go through: a corruption's name and its severity 1..5, or ("clean", 0)."""

    corruption: str
    severity: int


CLEAN = Condition("clean", 0)


class Setting(NamedTuple):
    """What the rows of one result share, and so what tells results in one directory apart.

    Attributes:
      suite: a benchmark's name, a key of `data.benchmarks.SUITES`, a prepared corrupted set, or
        corruptions joined by "+".
      source: where the images come from; see `suites.Plan`.
      preset: constants of the rendered corruptions, "" for prepared images.
      seed: of the rendered corruptions, 0 for prepared images.
      n: number of images.
      images: CRC-32 of the ids and labels of the clean images, 8 hexadecimal digits; "" where a
        file of an older version does not tell.
    """

    suite: str
    source: str
    preset: str
    seed: int
    n: int
    images: str

    @property
    def text(self) -> str:
        """What was scored and how, without the images, as "c, rendered (cifar32, seed 0)"."""
        text = ", ".join(filter(None, (self.suite, self.source)))
        return f"{text} ({self.preset}, seed {self.seed})" if self.preset else text


class Score(NamedTuple):
    """One row of `robustness.csv`: a condition, and what it was scored with.

    Attributes:
      suite: see `Setting`.
      source: see `Setting`.
      corruption: its name in `dst_jax.corruptions`, or "clean".
      severity: 1..5, 0 for clean images.
      n: see `Setting`.
      accuracy: top-1, in [0, 1].
      ece: expected calibration error, 15 bins, in [0, 1]; NaN where it is not known.
      preset: see `Setting`.
      seed: see `Setting`.
      images: see `Setting`.
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
    images: str = ""

    @property
    def condition(self) -> Condition:
        """The row's condition."""
        return Condition(self.corruption, self.severity)

    @property
    def setting(self) -> Setting:
        """What it shares with the other rows of its result."""
        return Setting(self.suite, self.source, self.preset, self.seed, self.n, self.images)


class CorrectBits(NamedTuple):
    """Which images were classified correctly under one condition.

    Attributes:
      bits: uint8, `np.packbits` of bool [N] in the order of the image ids.
      images: CRC-32 of the ids and labels: equal where two records are of the same images.
    """

    bits: np.ndarray
    images: int

    @classmethod
    def pack(cls, correct: np.ndarray, ids: np.ndarray, labels: np.ndarray) -> "CorrectBits":
        """Packs bool [N], int32 [N] and int32 [N]."""
        return cls(np.packbits(correct), checksum(ids, labels))

    def unpack(self, n: int) -> np.ndarray:
        """Bool [N]."""
        return np.unpackbits(self.bits, count=n).astype(bool)


def checksum(ids: np.ndarray, labels: np.ndarray) -> int:
    """CRC-32 of image ids and labels, int32 [N] each: what identifies a set of images."""
    return zlib.crc32(np.stack([ids, labels]).astype("<i4").tobytes())


class Fingerprint(NamedTuple):
    """What identifies the model whose scores a directory holds.

    Attributes:
      weights: SHA-256 of the arrays that `predict` carries, "" if it is a bare function.
      classes: int32 [P], the classes that it gives to fixed synthetic images.
      confidence: float32 [P], the largest softmax probabilities there.
    """

    weights: str
    classes: np.ndarray
    confidence: np.ndarray

    def is_of(self, other: "Fingerprint") -> bool:
        """Whether both can be one model: the same weights, and predictions equal but for rounding.

        Bare functions have predictions only. Another kind of device rounds otherwise, which moves
        a probability in the third digit and rarely a class: one class of twenty may differ, and
        probabilities by 0.02 in the mean. So two functions that answer nearly alike, as averages
        of the same weights, are told apart only where their weights can be seen.
        """
        if self.weights and other.weights and self.weights != other.weights:
            return False
        if self.classes.shape != other.classes.shape:
            return False
        changed = np.mean(self.classes != other.classes)
        moved = np.mean(np.abs(self.confidence - other.confidence))
        return bool(changed <= 0.05 and moved <= 0.02)
