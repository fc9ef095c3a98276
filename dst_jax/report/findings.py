"""What the numbers of a comparison say, in one plain paragraph.

Wording only; statistics are in `groups`. It says so when sparse training is not better, when a
difference is within the spread of seeds, and when results are missing. Called by `report.write`.
"""

import math

from dst_jax.report.groups import Comparison, Group
from dst_jax.report.runs import counted
from dst_jax.report.tables import MANY_IMAGES, accuracy_text, extent


def paragraph(comparison: Comparison) -> str:
    """Summarises a comparison in a few sentences."""
    sentences = [_scope(comparison)]
    judged = [(gain[0], g) for g in comparison.groups if (gain := comparison.gain(g)) is not None]
    if judged:
        sentences += _verdict(comparison, judged)
    else:
        sentences.append(_no_verdict(comparison))
    if comparison.idle:
        count = sum(len(group.runs) for group in comparison.idle)
        sentences.append(
            f"{count} {'run has' if count == 1 else 'runs have'} no result here yet; see the table."
        )
    return " ".join(sentences)


def _scope(comparison: Comparison) -> str:
    count = sum(len(group.runs) for group in comparison.groups)
    what = " on ".join(filter(None, (comparison.model, comparison.dataset)))
    runs = counted(count, "run") + (f" of {what}" if what else "")
    if not comparison.groups:
        return f"No run{f' of {what}' if what else ''} has been evaluated yet."
    if not comparison.conditions:
        return f"{runs}, evaluated on {comparison.suite}."
    return f"{runs}, evaluated on {comparison.suite} ({extent(comparison)})."


def _verdict(comparison: Comparison, judged: list[tuple[float, Group]]) -> list[str]:
    digits = 2 if comparison.images >= MANY_IMAGES else 1
    gain, best = max(judged, key=lambda pair: pair[0])
    dense = comparison.baseline(best)
    mine, theirs = comparison.robust(best), comparison.robust(dense) if dense else None
    if dense is None or mine is None or theirs is None:
        return []
    better = sum(value > 0 for value, _ in judged)
    clean = [_clean(comparison, group, digits) for group in (best, dense)]
    numbers = (
        f"{accuracy_text(mine, digits)} % robust accuracy{clean[0]} against "
        f"{accuracy_text(theirs, digits)} %{clean[1]} of {dense.name}"
    )
    size = f"{100 * gain:+.{digits}f} pp"
    if theirs.mean > 0:
        size += f", {100 * gain / theirs.mean:+.{digits}f} % relative"
    if len(judged) == 1:
        verb = "is more robust than dense" if gain > 0 else "is not more robust than dense"
        sentences = [f"{_capital(best.name)} {verb}: it reaches {numbers} ({size})."]
    elif gain > 0:
        sentences = [
            f"{better} of {len(judged)} sparse configurations score above dense. The highest, "
            f"{best.name}, reaches {numbers} ({size}); it is picked by these very "
            "numbers, which flatters it."
        ]
    else:
        sentences = [
            f"None of the {len(judged)} sparse configurations is more robust than dense. The "
            f"highest, {best.name}, reaches {numbers} ({size})."
        ]
    sentences.append(_certainty(gain, mine.std, mine.n, theirs.std, theirs.n, digits))
    sentences.append(_wins(comparison, best, dense, digits))
    return sentences


def _clean(comparison: Comparison, group: Group, digits: int) -> str:
    clean = comparison.clean(group)
    return f" (clean {accuracy_text(clean, digits)} %)" if clean else ""


def _certainty(
    gain: float, std: float | None, n: int, dense_std: float | None, dense_n: int, digits: int
) -> str:
    """Sets the gain against the standard error of a difference of two means over seeds."""
    if std is None or dense_std is None:
        return "With a single seed on a side, nothing tells this difference from chance."
    error = math.sqrt(std**2 / n + dense_std**2 / dense_n)
    twice = f"twice its standard error over seeds ({2 * 100 * error:.{digits}f} pp)"
    if abs(gain) > 2 * error:
        return f"The difference is larger than {twice}."
    return f"The difference is within {twice}: these seeds do not resolve it."


def _wins(comparison: Comparison, group: Group, dense: Group, digits: int) -> str:
    wins = 0
    for corruption in comparison.corruptions:
        mine = comparison.accuracy(group, comparison.at(corruption))
        theirs = comparison.accuracy(dense, comparison.at(corruption))
        wins += mine is not None and theirs is not None and mine.mean > theirs.mean
    text = f"It is above dense on {wins} of {counted(len(comparison.corruptions), 'corruption')}"
    clean, dense_clean = comparison.clean(group), comparison.clean(dense)
    if clean and dense_clean:
        difference = 100 * (clean.mean - dense_clean.mean)
        text += f"; on clean images the two differ by {difference:+.{digits}f} pp"
    return text + "."


def _no_verdict(comparison: Comparison) -> str:
    if not comparison.groups:
        return "There is nothing to compare."
    if not any(group.is_dense for group in comparison.groups):
        return "There is no dense run to compare with, so no gain is given."
    if all(group.is_dense for group in comparison.groups):
        return "There is no sparse run to compare with dense."
    if not comparison.conditions:
        return "The runs have no corrupted condition in common, so no gain is given."
    return (
        "No sparse run shares its number of training steps and of test images with a dense run, "
        "so no gain is given."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
