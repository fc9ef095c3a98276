"""The numbers that need more of each prediction than whether it is right: a part of `Result`.

Of the predictions that an evaluation with `keep="top5"` or `keep="logits"` left. Everywhere
`conditions` is one condition, several, or None for those of the benchmark. NumPy, no JAX. Called by
`result`.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dst_jax.errors import UserError
from dst_jax.robustness import metrics
from dst_jax.robustness.kept import TOP, Kept, largest
from dst_jax.robustness.records import Condition

Conditions = Condition | Iterable[Condition] | None


class Reliability(NamedTuple):
    """How often the network is right where it is so sure; the points of a reliability diagram.

    Attributes:
      edges: float64 [bins + 1], from 0 to 1; a bin is open below and closed above.
      images: int64 [bins], how many (of all conditions) are in the bin.
      confidence: float64 [bins], their mean confidence; NaN in an empty bin.
      accuracy: float64 [bins], the share of them that is right; NaN in an empty bin.
    """

    edges: np.ndarray
    images: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


class KeptNumbers:
    """What `Result` makes of kept predictions; each raises UserError where they were not kept."""

    kept: Mapping[Condition, Kept]
    if TYPE_CHECKING:

        @property
        def counted(self) -> tuple[Condition, ...]:
            """See `Result.counted`."""

    def keeps(self, keep: str, conditions: Iterable[Condition]) -> bool:
        """Whether what `keep` says ("top5", "logits", or "" for nothing) is there."""
        return not keep or all(c in self.kept and self.kept[c].holds(keep) for c in conditions)

    def top_k(self, k: int = TOP, conditions: Conditions = None) -> float:
        """Share of images whose label is among the k largest logits; the mean over conditions.

        More than 5 need keep="logits". Of equal logits the lower class counts as the larger.
        """
        if k < 1:
            raise UserError("top_k: k", k, "at least 1")
        shares = []
        for kept in self._chosen(conditions, "top5" if k <= TOP else "logits"):
            top = kept.arrays["top"][:, :k] if k <= TOP else largest(kept.arrays["logits"], k)
            shares.append((top == kept.arrays["label"][:, None]).any(-1).mean())
        return float(np.mean(shares))

    def confusion(self, conditions: Conditions = None) -> np.ndarray:
        """How many images of each class (rows) were taken for which (columns).

        Returns:
          int64 [classes, classes], as many as the network has logits; the sum over conditions.
        """
        found = self._chosen(conditions)
        classes = found[0].classes
        total = np.zeros((classes, classes), np.int64)
        for kept in found:
            np.add.at(total, (kept.arrays["label"], kept.arrays["top"][:, 0]), 1)
        return total

    def per_class(self, conditions: Conditions = None) -> np.ndarray:
        """Accuracy on the images of each class, all conditions together; NaN where it has none.

        Returns:
          float64 [classes], as many as the network has logits.
        """
        table = self.confusion(conditions)
        with np.errstate(invalid="ignore"):
            return np.diag(table) / table.sum(-1)

    def nll(self, conditions: Conditions = None) -> float:
        """Mean of -log(softmax probability of the label), in nats; the mean over conditions."""
        return self._mean("nll", conditions)

    def brier(self, conditions: Conditions = None) -> float:
        """Mean of the sum over classes of (probability - (1 if it is the label else 0))^2.

        In [0, 2], the original definition (Brier 1950); the mean over conditions.
        """
        return self._mean("brier", conditions)

    def _mean(self, name: str, conditions: Conditions) -> float:
        found = self._chosen(conditions)
        return float(np.mean([kept.arrays[name].astype(np.float64).mean() for kept in found]))

    def reliability(self, conditions: Conditions = None, bins: int = metrics.BINS) -> Reliability:
        """Accuracy against confidence in bins of equal width, all conditions together."""
        if bins < 1:
            raise UserError("reliability: bins", bins, "at least 1")
        images, sure, right = (np.zeros(bins) for _ in range(3))
        for kept in self._chosen(conditions):
            confidence = kept.arrays["confidence"].astype(np.float64)
            which = metrics.bin_of(confidence, bins)
            images += np.bincount(which, minlength=bins)
            sure += np.bincount(which, confidence, bins)
            right += np.bincount(which, kept.correct, bins)
        with np.errstate(invalid="ignore"):
            means = (sure / images, right / images)
        return Reliability(np.linspace(0, 1, bins + 1), images.astype(np.int64), *means)

    def _chosen(self, conditions: Conditions, keep: str = "top5") -> list[Kept]:
        """What is kept of conditions.

        Raises:
          UserError: of one of them it is not.
        """
        if conditions is None:
            wanted = list(self.counted)
        else:
            listed: Any = tuple(conditions)
            alone = len(listed) == 2 and isinstance(listed[0], str)
            wanted = [Condition(*pair) for pair in ([listed] if alone else listed)]
        if not wanted:
            raise UserError("conditions", "none that was scored", "at least one condition")
        for condition in wanted:
            found = self.kept.get(condition)
            if found is None or not found.holds(keep):
                what = "predictions" if keep == "top5" else "logits"
                told = f"{' '.join(map(str, condition))} without its {what}"
                or_more = " or 'logits'" if keep == "top5" else ""
                hint = "Evaluate it again with that and the same path: the scores stay as they are"
                raise UserError(
                    "predictions", told, f"an evaluation with keep={keep!r}{or_more}", hint
                )
        return [self.kept[condition] for condition in wanted]
