"""What may be said of a gain, and the paragraph that a reader takes away: three sentences.

A verdict is a t test over seeds (paired where both sides have the same seeds), corrected for the
number of comparisons on the page (Holm), so that the chance of any false one on it is at most
`ERROR_RATE`. One seed gets no verdict, a toy run none either. Numbers are those of
`robustness.gains`. Called by `report.write`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dst_jax.data.datasets import DATASETS
from dst_jax.report import published
from dst_jax.report.groups import Comparison, Group
from dst_jax.report.runs import counted
from dst_jax.report.wording import some
from dst_jax.statistics import LEVEL, Difference, holm

ERROR_RATE = 1 - LEVEL
MORE, LESS, OPEN = "more robust", "less robust", "not resolved"
ONE_SEED, NO_SPREAD = "one seed: no verdict", "no spread: no verdict"
TOY, UNFINISHED = "toy: no verdict", "unfinished: no verdict"
# What is said of a comparison's tests: (how many kinds there are, whether any is paired).
_PAIRING = {
    (1, True): "paired by seed",
    (1, False): "not paired by seed",
    (2, True): "paired by seed where both sides have the same seeds",
}

# The claim of Wu et al. 2025: which methods, at which sparsities.
METHODS = ("set", "rigl", "mest_r", "mest_g", "granet_r", "granet_g")
LOW, HIGH = 0.1, 0.5


class Verdict(NamedTuple):
    """What may be said of a group against its dense baseline.

    Attributes:
      text: `MORE`, `LESS` or `OPEN`; or why there is no verdict.
      p: the probability that it rests on, corrected; None where there is no verdict.
      paired: whether the test was paired by seed; None where there is no verdict.
    """

    text: str
    p: float | None = None
    paired: bool | None = None


Verdicts = Mapping[tuple[int, Path], Verdict]


def judge(comparisons: Sequence[Comparison]) -> dict[tuple[int, Path], Verdict]:
    """Judges every gain of a page; see `of` for how to look one up."""
    found: dict[tuple[int, Path], Verdict] = {}
    tested: list[tuple[tuple[int, Path], Difference]] = []
    for index, comparison in enumerate(comparisons):
        for group in comparison.groups:
            if (gain := comparison.gain(group)) is None:
                continue
            key = (index, group.runs[0].directory)
            base = comparison.baseline(group)
            assert base is not None
            if any(toy(comparison, side) for side in (group, base)):
                found[key] = Verdict(TOY)
            elif group.unfinished or base.unfinished:
                found[key] = Verdict(UNFINISHED)
            elif min(len(group.runs), len(base.runs)) < 2:
                found[key] = Verdict(ONE_SEED)
            elif gain.over_seeds is None:
                found[key] = Verdict(NO_SPREAD)
            else:
                tested.append((key, gain.over_seeds))
    for (key, test), p in zip(tested, holm([test.p for _, test in tested]), strict=True):
        sign = MORE if test.mean > 0 else LESS
        found[key] = Verdict(sign if p < ERROR_RATE else OPEN, p, test.paired)
    return found


def of(verdicts: Verdicts, index: int, group: Group) -> Verdict | None:
    """The verdict on a group of the comparison of that index; None where it has no baseline."""
    return verdicts.get((index, group.runs[0].directory))


def toy(comparison: Comparison, group: Group) -> str:
    """Why a group's numbers say nothing of its method, in words; "" where they may."""
    if reason := group.runs[0].toy:
        return reason
    clean, known = comparison.clean(group), DATASETS.get(comparison.dataset or "")
    if clean is None or known is None:
        return ""
    chance = 1 / known.num_classes
    error = (chance * (1 - chance) / comparison.of(group)[0].n) ** 0.5
    return "accuracy at chance" if clean.mean <= chance + 3 * error else ""


def paragraph(comparison: Comparison, index: int, verdicts: Verdicts) -> str:
    """What was run, what it shows, how sure that is: at most three sentences."""
    sentences = [_scope(comparison), _shown(comparison, index, verdicts)]
    sentences.append(_certainty(comparison, index, verdicts))
    return " ".join(filter(None, sentences))


def _scope(comparison: Comparison) -> str:
    count = sum(len(group.runs) for group in comparison.groups)
    what = " on ".join(filter(None, (comparison.model, comparison.dataset)))
    if not comparison.groups:
        none = f"No run{f' of {what}' if what else ''}"
        scored = any(run.results for group in comparison.not_counted for run in group.runs)
        return (
            f"{none} {'is included: the table says why' if scored else 'has been evaluated yet'}."
        )
    seeds = sorted({len(group.runs) for group in comparison.groups})
    each = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    text = f"{counted(count, 'run')}{f' of {what}' if what else ''}, {each} "
    text += f"seed{'' if each == '1' else 's'} per method, scored on {comparison.suite}"
    if lacking := sorted(set(map(comparison.lacking, comparison.groups)) - {""}):
        every = (
            ""
            if len(lacking) == 1 and all(map(comparison.lacking, comparison.groups))
            else ("some of them ")
        )
        text += f", {every}INCOMPLETE ({lacking[0]})"
    if others := sum(len(group.runs) for group in comparison.not_counted):
        text += f"; {counted(others, 'run')} not counted, see the table"
    return text + "."


def _shown(comparison: Comparison, index: int, verdicts: Verdicts) -> str:
    if not comparison.groups:
        return ""
    by_text: dict[str, list[str]] = {}
    for group in comparison.groups:
        if (verdict := of(verdicts, index, group)) is not None:
            gain = comparison.gain(group)
            assert gain is not None
            size = f" ({100 * gain.absolute:+.1f} pp)" if verdict.p is not None else ""
            by_text.setdefault(verdict.text, []).append(f"{group.name}{size}")
    if by_text:
        parts = [
            f"{text}{' than dense' if text in (MORE, LESS) else ''}: {some(by_text[text])}"
            for text in (MORE, LESS, OPEN, ONE_SEED, NO_SPREAD, TOY, UNFINISHED)
            if text in by_text
        ]
        return f"{_capital('; '.join(parts))}."
    if not any(group.is_dense for group in comparison.all_groups):
        return "There is no dense run to compare with, so no gain is given."
    if all(group.is_dense for group in comparison.groups):
        return "There is no sparse run to compare with dense."
    return "No sparse run has a dense baseline: the notes say which options differ."


def _certainty(comparison: Comparison, index: int, verdicts: Verdicts) -> str:
    if not comparison.groups:
        return ""
    parts = []
    mine = [verdict for g in comparison.groups if (verdict := of(verdicts, index, g))]
    kinds = {verdict.paired for verdict in mine if verdict.p is not None}
    if kinds:
        tested = sum(verdict.p is not None for verdict in verdicts.values())
        tests = f"the {tested} comparisons" if tested > 1 else "the one comparison"
        parts.append(
            f"the verdicts are t tests over seeds, {_PAIRING[len(kinds), True in kinds]}, "
            f"corrected for {tests} of this page (Holm), so that the chance of any false one is at "
            f"most {ERROR_RATE:.0%}"
        )
    elif mine:
        parts.append("no difference can be told from chance")
    parts.append(_claim(comparison, index, verdicts))
    return f"{_capital('; '.join(parts))}."


def _claim(comparison: Comparison, index: int, verdicts: Verdicts) -> str:
    """What it says of the paper's claim: of complete benchmarks of its datasets, with seeds."""
    claim = "dynamic sparsity of 10 to 50 % is more robust than dense"
    if comparison.dataset not in {row.dataset for row in published.PUBLISHED}:
        return (
            "the dataset is none of those of Wu et al. 2025, so nothing here is about their "
            f"claim that {claim}"
        )
    claim = f"the claim of Wu et al. 2025 that {claim}"
    words = {MORE: "supported by", LESS: "contradicted by", OPEN: "not resolved for"}
    found: dict[str, list[str]] = {}
    for group in comparison.groups:
        verdict = of(verdicts, index, group)
        if _is_tested(comparison, group) and verdict is not None and verdict.p is not None:
            found.setdefault(words[verdict.text], []).append(group.name)
    if not found:
        return f"these runs do not test {claim}"
    texts = ", ".join(f"{word} {some(names)}" for word, names in found.items())
    return f"{claim} is, on this network and benchmark, {texts}"


def _is_tested(comparison: Comparison, group: Group) -> bool:
    if comparison.image_source is None or not comparison.image_source.benchmark.source:
        return False
    share = group.sparsity
    within = share is not None and LOW - 1e-9 <= share <= HIGH + 1e-9
    whole = not comparison.lacking(group) and not any(run.part_of_data for run in group.runs)
    return group.algorithm in METHODS and within and whole and not group.unfinished


def note(comparison: Comparison, index: int, verdicts: Verdicts) -> str:
    """What the verdicts of the table are, for under it; empty without any."""
    names: dict[bool | None, list[str]] = {}
    for group in comparison.groups:
        verdict = of(verdicts, index, group)
        if verdict is not None and verdict.p is not None:
            names.setdefault(verdict.paired, []).append(group.name)
    if not names:
        return ""
    pairs = "the samples are the differences of the runs of the same seed"
    why = "as the sides' seeds differ or are not known"
    welch = "Welch's statistic, degrees of freedom of the side with fewer seeds"
    if False not in names:
        kind = f"It is paired: {pairs}."
    elif True not in names:
        kind = f"It is not paired, {why}: {welch}."
    else:
        kind = f"It is paired ({pairs}), but not that of {some(names[False])}, {why} ({welch})."
    return (
        f"A verdict is given where a t test over seeds has p < {ERROR_RATE:.2f} after Holm's "
        f"correction for all comparisons of the page. {kind} Intervals over seeds are those of the "
        "same test, each gain by itself, without that correction."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
