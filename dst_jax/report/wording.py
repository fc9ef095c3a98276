"""How numbers and lists of names are written in tables and sentences. Called in this package."""

from collections.abc import Sequence

from dst_jax.statistics import Estimate

MISSING = "–"
MANY_IMAGES = 10_000  # from here on a hundredth of a percentage point is one image or more


def accuracy_text(value: Estimate, digits: int, lacking: str = "") -> str:
    """An accuracy in percent: "62.1", or "62.1 ± 0.4" over several seeds.

    Args:
      value: in [0, 1].
      digits: decimals.
      lacking: of a robust accuracy, what of its benchmark was not scored.
    """
    spread = "" if value.std is None else f" ± {100 * value.std:.{digits}f}"
    incomplete = f" (incomplete: {lacking})" if lacking else ""
    return f"{100 * value.mean:.{digits}f}{spread}{incomplete}"


def percent(share: float) -> str:
    """A share as a percentage without needless digits: 0.5 -> "50", 0.125 -> "12.5"."""
    return f"{100 * share:.6g}"


def some(names: Sequence[str], limit: int = 6) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def these_runs(names: Sequence[str], among: int) -> str:
    """Names of runs; many of them that are all there are, as their number."""
    return f"all {among} runs" if len(names) == among > 2 else some(names)
