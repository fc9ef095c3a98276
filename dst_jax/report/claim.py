"""What these runs say of the paper's claim, in sentences made of their numbers.

The claim (Wu et al. 2025): dynamic sparse training at 10 to 50 % sparsity makes a network more
robust to corruption than dense training. Where it does not hold here, or is not tested, it is said
so; clean accuracy stands beside robust accuracy, and the paper's own number beside ours. Called by
`report.write`.
"""

import math

from dst_jax.report import published
from dst_jax.report.groups import Comparison, Group
from dst_jax.report.tables import MANY_IMAGES

METHODS = ("set", "rigl", "mest_r", "mest_g", "granet_r", "granet_g")  # the paper's six
LOW, HIGH = 0.1, 0.5
_CLAIM = (
    "The claim of Wu et al. 2025, that dynamic sparse training at 10 to 50 % sparsity is more "
    "robust than dense training,"
)
_HOLDS, _FAILS, _OPEN = "holds", "does NOT hold", "is not resolved"


def paragraph(comparison: Comparison) -> str:
    """Judges the claim by one comparison; empty where nothing has been scored."""
    if not comparison.groups:
        return ""
    tested = [g for g in comparison.groups if _is_tested(g) and comparison.gain(g) is not None]
    if not tested:
        return (
            f"{_CLAIM} is not tested by these runs: it takes a finished dense run and one of "
            f"{', '.join(METHODS)} at such a sparsity, trained and scored alike."
        )
    verdicts: dict[str, list[Group]] = {}
    for group in tested:
        verdicts.setdefault(_verdict(comparison, group), []).append(group)
    parts = [
        f"it {verdict} for {_listed(comparison, verdicts[verdict])}"
        for verdict in (_HOLDS, _FAILS, _OPEN)
        if verdict in verdicts
    ]
    head = next(iter(verdicts)) if len(verdicts) == 1 else "holds only in part"
    text = f"{_CLAIM} {head} in these runs: {'; '.join(parts)}."
    if any(_error(comparison, group) is None for group in tested):
        text += " Where a side has one seed, this is the sign of a difference and may be chance."
    if _OPEN in verdicts:
        text += " Not resolved: within twice the standard error over seeds."
    return f"{text} {_theirs(comparison)}"


def _is_tested(group: Group) -> bool:
    share = group.sparsity
    within = share is not None and LOW - 1e-9 <= share <= HIGH + 1e-9
    return group.algorithm in METHODS and within and not group.unfinished


def _verdict(comparison: Comparison, group: Group) -> str:
    gain, error = comparison.gain(group), _error(comparison, group)
    assert gain is not None
    if error is not None and abs(gain[0]) <= 2 * error:
        return _OPEN
    return _HOLDS if gain[0] > 0 else _FAILS


def _error(comparison: Comparison, group: Group) -> float | None:
    """The standard error over seeds of a gain, None where a side has one seed."""
    base = comparison.baseline(group)
    sides = [comparison.robust(group), comparison.robust(base) if base else None]
    spreads = [side.std**2 / side.n for side in sides if side and side.std is not None]
    return math.sqrt(sum(spreads)) if len(spreads) == 2 else None


def _listed(comparison: Comparison, groups: list[Group]) -> str:
    digits = 2 if comparison.images >= MANY_IMAGES else 1
    texts = []
    for group in groups:
        base, gain = comparison.baseline(group), comparison.gain(group)
        numbers = f"robust {100 * gain[0]:+.{digits}f} pp" if gain else ""
        mine, theirs = comparison.clean(group), comparison.clean(base) if base else None
        if mine and theirs:
            numbers += f", clean {100 * (mine.mean - theirs.mean):+.{digits}f} pp"
        texts.append(f"{group.name} ({numbers})")
    return ", ".join(texts)


def _theirs(comparison: Comparison) -> str:
    """The paper's own numbers for what was run here, labelled as theirs."""
    rows = [row for row in published.beside([comparison]) if row.ours != published.NOT_RUN]
    if not rows:
        return "The paper's own experiments are not among these runs: its numbers stand below."
    texts = [
        f"{row.published.benchmark}, {row.method}: theirs {row.theirs} %, ours {row.ours} % "
        f"(clean {row.clean}{'' if row.clean == published.NOT_RUN else ' %'})"
        for row in rows
    ]
    return f"Beside the paper's own robust accuracies: {'; '.join(texts)}."
