"""The table corruption by corruption: every method's accuracy and its gain over dense.

What figure 1 of Wu et al. 2025 draws, as numbers; the order is that of `figures.gains`. Only rows
of cells: the markup is in `html_tables`. Called by `page`.
"""

from dst_jax.report.figures.drawing import styles_for, words
from dst_jax.report.groups import Comparison, Group
from dst_jax.report.html_tables import Datum
from dst_jax.report.read_analyses import high_shares, samples
from dst_jax.report.wording import MANY_IMAGES, MISSING, accuracy_text
from dst_jax.robustness import CLEAN, Condition
from dst_jax.statistics import Estimate


def build(comparison: Comparison) -> tuple[list[str], list[list[Datum]]]:
    """Heads and rows: clean images, robust accuracy, then one corruption a row.

    Corruptions with the most high frequencies come first, where they were measured.
    """
    shares = high_shares(samples(comparison, styles_for(comparison.all_groups)))
    names = sorted(comparison.corruptions, key=lambda name: -shares.get(name, -1.0))
    heads = ["Corruption", "High frequencies, %"]
    for group in comparison.groups:
        heads.append(f"{group.name}, %")
        if comparison.baseline(group) is not None:
            heads.append(f"{group.name}, gain pp")
    lines: list[tuple[str, list[Condition]]] = [
        ("clean images", [CLEAN]),
        ("robust accuracy", list(comparison.conditions)),
        *((name, comparison.at(name)) for name in names),
    ]
    rows = []
    for name, conditions in lines:
        share = shares.get(name)
        row = [Datum(words(name)), _share(share)]
        for group in comparison.groups:
            if name == "robust accuracy":
                row += _robust(comparison, group)
            else:
                row += _cells(comparison, group, conditions)
        rows.append(row)
    return heads, rows


def _share(share: float | None) -> Datum:
    return Datum(MISSING, None) if share is None else Datum(f"{100 * share:.0f}", share)


def _robust(comparison: Comparison, group: Group) -> list[Datum]:
    """Robust accuracy, with what lacks of its benchmark, and the gain as the results have it."""
    digits = 2 if comparison.images >= MANY_IMAGES else 1
    value, gain = comparison.robust(group), comparison.gain(group)
    lacking = comparison.lacking(group)
    text = accuracy_text(value, digits, lacking) if value else MISSING
    cells = [Datum(text, value.mean if value else None)]
    if comparison.baseline(group) is not None:
        cells.append(
            Datum(f"{100 * gain.absolute:+.{digits}f}", gain.absolute)
            if gain
            else Datum(MISSING, None)
        )
    return cells


def _cells(comparison: Comparison, group: Group, conditions: list[Condition]) -> list[Datum]:
    digits = 2 if comparison.images >= MANY_IMAGES else 1
    mine, base = comparison.accuracy(group, conditions), comparison.baseline(group)
    cells = [_accuracy(mine, digits)]
    if base is not None:
        theirs = comparison.accuracy(base, conditions)
        if mine is None or theirs is None:
            cells.append(Datum(MISSING, None))
        else:
            gain = mine.mean - theirs.mean
            cells.append(Datum(f"{100 * gain:+.{digits}f}", gain))
    return cells


def _accuracy(value: Estimate | None, digits: int) -> Datum:
    return Datum(accuracy_text(value, digits), value.mean) if value else Datum(MISSING, None)
