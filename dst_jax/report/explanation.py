"""What the analyses say of the paper's two explanations, in sentences made of their numbers.

Spectral: sparse networks lean less on high frequencies. Spatial: whole channels lose their
connections. Neither sentence judges more than the sign of a number. Called by `report.write`.
"""

from collections.abc import Sequence

import numpy as np

from dst_jax.report.figures.drawing import styles_for
from dst_jax.report.figures.spatial import mean_stripes
from dst_jax.report.groups import Comparison
from dst_jax.report.read_analyses import (
    Arrays,
    Sample,
    curves,
    high_shares,
    over_dense,
    samples,
    with_part,
)


def paragraph(comparison: Comparison) -> str:
    """Sums up what was analysed of a comparison; empty where nothing was."""
    found = samples(comparison, styles_for(comparison.all_groups))
    sentences = [_attenuation(found), _order(comparison, found), _stripes(found)]
    return " ".join(filter(None, sentences))


def _attenuation(found: Sequence[Sample]) -> str:
    """Mean accuracy over the radii without high, and without low, frequencies."""
    parts = []
    for band in ("high", "low"):
        pairs = over_dense(curves(with_part(found, "attenuation"), "attenuation", "radii", band))
        texts: dict[str, list[str]] = {}
        for sample, curve, dense, base in pairs:
            gain = _average(curve) - _average(base)
            text = f"{sample.group.name} {_average(curve):.1f} % ({gain:+.1f} pp)"
            texts.setdefault(f"{dense.group.name} {_average(base):.1f} %", []).append(text)
        if not texts:
            return ""
        listed = "; ".join(f"{base}, {', '.join(sparse)}" for base, sparse in texts.items())
        parts.append(f"without {band} frequencies: {listed}")
    return (
        f"Accuracy on clean test images, mean over the attenuation radii, {'; '.join(parts)}. The "
        "paper finds sparse above dense without high frequencies and level without low ones."
    )


def _average(curve: Arrays) -> float:
    """The mean of a curve over radii above 0, in percent."""
    return float(100 * curve["mean"][curve["x"] > 0].mean())


def _order(comparison: Comparison, found: Sequence[Sample]) -> str:
    """Whether the gain grows with the high frequencies of a corruption."""
    shares = high_shares(found)
    names = [name for name in comparison.corruptions if name in shares]
    if len(names) < 4:
        return ""
    texts = []
    for group in comparison.groups:
        gains = comparison.relative_gains(group)
        if all(name in gains for name in names):
            of_names = (np.array([table[name] for name in names]) for table in (shares, gains))
            texts.append(f"{group.name} {rank_correlation(*of_names):+.2f}")
    if not texts:
        return ""
    return (
        "Rank correlation (Spearman) of the relative gain with the share of high frequencies, over "
        f"{len(names)} corruptions: {', '.join(texts)}; the paper finds the largest gains where "
        "high frequencies are many."
    )


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation of two [N], with mean ranks for ties; 0 where one is constant."""
    from scipy import stats  # slow to import, and few reports need it

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(stats.spearmanr(first, second).statistic)


def _stripes(found: Sequence[Sample]) -> str:
    texts = [
        f"{sample.group.name} {np.mean([mean_stripes(run) for run in sample.of('weights')]):.3f}"
        for sample in with_part(found, "weights")
        if not sample.group.is_dense
    ]
    if not texts:
        return ""
    return (
        f"Mean stripe score (0: as by chance, 1: every channel full or empty): {', '.join(texts)}."
    )
