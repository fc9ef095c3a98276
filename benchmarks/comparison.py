"""One line of a table of measurements: ours against a named alternative. Called by `train_step`."""

import dataclasses
import statistics
from collections.abc import Sequence

from benchmarks import timing


@dataclasses.dataclass
class Line:
    """One comparison: figures of both sides, a round each, or why there are none.

    Attributes:
      what: what was measured.
      alternative: what it is compared with.
      unit: of the figures.
      aim: the ratio that we want; "" where none was set.
      ours: our figures.
      other: those of the alternative; those at the same index are of the same round.
      inverse: the ratio is other / ours.
      missing: why there are no figures; "" where there are.
    """

    what: str
    alternative: str
    unit: str
    aim: str
    ours: Sequence[float] = ()
    other: Sequence[float] = ()
    inverse: bool = False
    missing: str = ""

    def ratio(self) -> dict[str, float]:
        """Median, least and greatest ratio."""
        return timing.ratios(
            *((self.other, self.ours) if self.inverse else (self.ours, self.other))
        )

    def markdown(self) -> str:
        """The line of the table."""
        if self.missing:
            return (
                f"| {self.what} | {self.alternative} | | | missing: {self.missing} | {self.aim} |"
            )
        ours, other = (f"{statistics.median(side):.4g}" for side in (self.ours, self.other))
        ratio = self.ratio()
        spread = f"{ratio['median']:.3g} ({ratio['min']:.3g}..{ratio['max']:.3g})"
        return (
            f"| {self.what}, {self.unit} | {self.alternative} | {ours} | {other} | {spread} |"
            f" {self.aim} |"
        )
