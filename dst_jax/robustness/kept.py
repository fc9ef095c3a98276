"""What is kept of each image's prediction, if an evaluation is asked to.

`keep="top5"` keeps the five largest classes and what the proper scores need, `keep="logits"` all
logits besides. What is made of it is in `kept_numbers`, how it lies on disk in `kept_files`. NumPy
on the host, no JAX. Called by these and by `result_writer`.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

KEEP = ("", "top5", "logits")  # each holds what those before it hold
TOP = 5
NAMES = ("id", "label", "top", "confidence", "nll", "brier", "logits")


@dataclasses.dataclass(frozen=True)
class Kept:
    """The predictions of one condition, in the order of the image ids.

    Attributes:
      keep: "top5" or "logits".
      classes: how many logits the network has.
      arrays: "id" and "label" int32 [N]; "top" int32 [N, 5], the most probable classes, the first
        first (fewer than 5 if there are fewer); "confidence" float32 [N], the largest probability;
        "nll" float32 [N], minus the logarithm of the label's probability; "brier" float32 [N], the
        squared distance of the probabilities from the label; with keep="logits" also "logits",
        float32 [N, classes] (of a function that gives probabilities their logarithms).
    """

    keep: str
    classes: int
    arrays: Mapping[str, np.ndarray]

    @classmethod
    def of(
        cls,
        keep: str,
        ids: np.ndarray,
        labels: np.ndarray,
        confidence: np.ndarray,
        logits: np.ndarray,
    ) -> "Kept":
        """Keeps what `keep` says of int32 [N], int32 [N], float32 [N] and float32 [N, classes]."""
        rows = np.arange(len(labels))
        exact = logits.astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            exact -= exact.max(-1, keepdims=True)
            exact -= np.log(np.exp(exact).sum(-1, keepdims=True))
        nll = -exact[rows, labels]
        shares = np.exp(exact)
        shares[rows, labels] -= 1
        arrays = {
            "id": ids,
            "label": labels,
            "top": largest(logits, TOP),
            "confidence": confidence.astype(np.float32),
            "nll": nll.astype(np.float32),
            "brier": np.square(shares).sum(-1).astype(np.float32),
        }
        if keep == "logits":
            arrays["logits"] = logits.astype(np.float32)
        return cls(keep, logits.shape[1], arrays)

    def holds(self, keep: str) -> bool:
        """Whether this is at least what `keep` says."""
        return KEEP.index(self.keep) >= KEEP.index(keep)

    @property
    def correct(self) -> np.ndarray:
        """Bool [N], whether the class is the label."""
        return self.arrays["top"][:, 0] == self.arrays["label"]


def largest(logits: np.ndarray, k: int) -> np.ndarray:
    """The k largest classes of each row [N, classes], int32 [N, k]; of equal ones the lower."""
    left = np.maximum(logits, np.finfo(np.float32).min)  # so that -infinity is what was taken
    rows = np.arange(len(left))
    found = np.empty((len(left), min(k, left.shape[1])), np.int32)
    for place in range(found.shape[1]):
        found[:, place] = left.argmax(-1)
        left[rows, found[:, place]] = -np.inf
    return found
