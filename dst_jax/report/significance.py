"""Whether a gain is more than the choice of test images: a paired bootstrap over images.

Needs which images each run classified correctly, `robustness.npz`; without it there is no interval.
Called by `tables`.
"""

import statistics
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from dst_jax.bootstrap import Interval, bootstrap
from dst_jax.report.groups import Comparison, Group
from dst_jax.report.runs import Condition, suite_of
from dst_jax.workdir import read_arrays


def interval(comparison: Comparison, group: Group) -> Interval | None:
    """The interval of a group's gain over its dense baseline; None where images are not known."""
    base = comparison.baseline(group)
    if base is None or not comparison.conditions:
        return None
    ours, theirs = (_share_correct(comparison, side) for side in (group, base))
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return None
    return bootstrap(ours - theirs)


def _share_correct(comparison: Comparison, group: Group) -> np.ndarray | None:
    """For each image the share of conditions and seeds under which it is right: [N]."""
    runs = []
    for run in group.runs:
        hits = _hits(run.directory).get(comparison.suite, {})
        wanted = [hits[condition] for condition in comparison.conditions if condition in hits]
        sizes = {run.scores[comparison.suite][c].n for c in comparison.conditions}
        if len(wanted) != len(comparison.conditions) or len(sizes) != 1:
            return None
        n = sizes.pop()
        if any(8 * len(bits) < n for bits in wanted):
            return None
        right = np.mean([np.unpackbits(bits, count=n) for bits in wanted], axis=0)
        stated = statistics.fmean(
            run.scores[comparison.suite][c].accuracy for c in comparison.conditions
        )
        if abs(right.mean() - stated) > 1e-6:  # a crash may have left one file older
            return None
        runs.append(right)
    alike = {len(right) for right in runs}
    return np.mean(runs, axis=0) if len(alike) == 1 else None


@cache
def _hits(directory: Path) -> Mapping[str, Mapping[Condition, np.ndarray]]:
    """Packed bits, one an image, by suite (as the scores name it) and condition."""
    found: dict[str, dict[Condition, np.ndarray]] = {}
    for name, bits in read_arrays(directory / "robustness.npz").items():
        parts = name.split("/")
        if parts[-1] != "bits" or len(parts) < 6 or bits.dtype != np.uint8 or bits.ndim != 1:
            continue
        suite, source = parts[0], "/".join(parts[1:-5])
        preset, seed, corruption, severity = parts[-5:-1]
        row = {"suite": suite, "source": source, "preset": preset, "seed": seed}
        if severity.isdigit():
            condition = Condition(corruption, int(severity))
            found.setdefault(suite_of(row), {})[condition] = bits
    return found


def note(intervals: Sequence[Interval | None]) -> str:
    """What the intervals are, for under the table; empty without any."""
    known = next(filter(None, intervals), None)
    if known is None:
        return ""
    return (
        f"Intervals are {100 * known.level:.0f} % percentile intervals of the gain, from "
        f"{known.resamples:,} paired bootstrap samples of the test images: they hold the chance in "
        "the images, not that in the training."
    )
