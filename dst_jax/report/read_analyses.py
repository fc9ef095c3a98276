"""Reads what `analyze` left in run directories, and what its figures share.

A part that is missing or damaged is left out, and told by `lacking`; reading never raises. Called
by `figures.analysis`, `figures.gains`, `corruption_table` and `explanation`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dst_jax.config.options import ANALYSES
from dst_jax.report.figures.drawing import LineStyle
from dst_jax.report.groups import Comparison, Group, differences
from dst_jax.report.wording import these_runs
from dst_jax.runtime.run_dir import read_arrays

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Arrays = dict[str, np.ndarray]

# What must be in a file for it to be drawn.
_NEEDED = {
    "weights": ("layers", "size", "active", "stripes_out", "stripes_in", "path_dead", "nonzero"),
    "attenuation": ("radii", "low", "high", "n"),
    "heat_map": ("axis", "cells", "errors", "size", "norm", "n"),
    "noise": ("bandwidths", "low", "high", "norm", "n"),
    "corruptions": ("names", "severities", "high_share", "n"),
    "saliency": ("method",),
}


@dataclass(frozen=True)
class Sample:
    """A group of runs with its line style and, for each run, what of its analysis can be read."""

    group: Group
    style: LineStyle
    parts: tuple[dict[str, Arrays], ...]

    def of(self, part: str) -> list[Arrays]:
        """The arrays of a part, one for each run that has it."""
        return [parts[part] for parts in self.parts if part in parts]


def read(directory: Path) -> dict[str, Arrays]:
    """The parts of a run's analysis that are whole."""
    found = {}
    for part in ANALYSES:
        arrays = read_arrays(directory / "analysis" / f"{part}.npz")
        if arrays and all(name in arrays for name in _NEEDED[part]):
            found[part] = arrays
    return found


def samples(comparison: Comparison, styles: dict[str, LineStyle]) -> list[Sample]:
    """All groups of a comparison with what was analysed of their trainings.

    Without runs that are no sample of their group: copies, and networks of another sparsity.
    """
    groups = [
        replace(group, runs=tuple(run for run in group.runs if comparison.is_sample(run)))
        for group in comparison.all_groups
    ]
    return [
        Sample(group, styles[group.label], tuple(read(run.directory) for run in group.runs))
        for group in groups
        if any(run.exists for run in group.runs)
    ]


def lacking(found: Sequence[Sample]) -> str:
    """Says which runs lack which parts, and which parts are damaged; "" if nothing was analysed."""
    if not any(parts for sample in found for parts in sample.parts):
        return ""
    missing: dict[str, list[str]] = {}
    damaged = []
    for sample in found:
        for run, parts in zip(sample.group.runs, sample.parts, strict=True):
            absent = [part for part in ANALYSES if part not in parts]
            there = [p for p in absent if (run.directory / "analysis" / f"{p}.npz").exists()]
            damaged += [f"{run.directory.name}/analysis/{part}.npz" for part in there]
            if none := [part for part in absent if part not in there]:
                missing.setdefault(", ".join(none), []).append(run.directory.name)
    sentences = []
    if missing:
        count = sum(len(sample.parts) for sample in found)
        texts = [f"{these_runs(names, count)} without {parts}" for parts, names in missing.items()]
        sentences.append(f"Not analysed: {'; '.join(texts)} (--mode=analyze).")
    if damaged:
        sentences.append(f"Damaged, and left out: {', '.join(damaged)}.")
    return " ".join(sentences)


def with_part(found: Sequence[Sample], part: str) -> list[Sample]:
    """The groups of which at least one run has that part."""
    return [sample for sample in found if sample.of(part)]


def high_shares(found: Sequence[Sample]) -> dict[str, float]:
    """Share of high frequencies in each corruption, as rendered for one of the runs: in [0, 1]."""
    for sample in with_part(found, "corruptions"):
        run = sample.of("corruptions")[0]
        means = [
            np.mean(row[np.isfinite(row)]) if np.isfinite(row).any() else None
            for row in run["high_share"]
        ]
        pairs = zip(run["names"].tolist(), means, strict=True)
        return {name: float(value) for name, value in pairs if value is not None}
    return {}


def curves(found: Iterable[Sample], part: str, x: str, y: str) -> list[tuple[Sample, Arrays]]:
    """Mean and spread over seeds of a curve; seeds on another grid or other images are left out."""
    drawn = []
    for sample in found:
        runs = sample.of(part)
        n = runs[0].get("n", np.array(0))  # curves of weights are of no images
        alike = [run for run in runs if np.array_equal(run[x], runs[0][x]) and run.get("n", n) == n]
        values = np.stack([run[y] for run in alike])
        spread = values.std(0, ddof=1) if len(alike) > 1 else np.zeros(values.shape[1])
        curve = {"x": runs[0][x], "mean": values.mean(0), "std": spread, "n": n}
        drawn.append((sample, curve))
    return drawn


def over_dense(
    drawn: Iterable[tuple[Sample, Arrays]],
) -> list[tuple[Sample, Arrays, Sample, Arrays]]:
    """Sparse curves with those of their dense baselines, on the same grid and number of images.

    A baseline differs from its group in the sparse training alone, as everywhere in the report.
    """
    pairs = list(drawn)
    found = []
    for sample, curve in pairs:
        for other, base in pairs:
            alike = np.array_equal(curve["x"], base["x"]) and curve["n"] == base["n"]
            dense = other.group.is_dense and not sample.group.is_dense
            if dense and alike and not differences(sample.group, other.group):
                found.append((sample, curve, other, base))
                break
    return found


def plot(ax: "Axes", drawn: Iterable[tuple[Sample, Arrays]], scale: float = 100.0) -> None:
    """Draws curves with their spread over seeds as bands."""
    for sample, curve in drawn:
        mean, std = scale * curve["mean"], scale * curve["std"]
        ax.plot(
            curve["x"],
            mean,
            color=sample.style.colour,
            linestyle=sample.style.line,
            marker=sample.style.marker,
            label=sample.group.name,
        )
        if std.any():
            ax.fill_between(
                curve["x"], mean - std, mean + std, color=sample.style.colour, alpha=0.2, lw=0
            )


def sizes_text(found: Sequence[Sample], part: str) -> str:
    """How many images an accuracy rests on, in words."""
    counts = sorted({int(run["n"]) for sample in found for run in sample.of(part)})
    return " or ".join(f"{n:,}" for n in counts) + " clean test images"
