"""Figures of what training tried, and of where networks look.

Exploration from `metrics.jsonl`, saliency maps from `analysis/saliency.npz`. Called by
`figures.analysis`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dst_jax.report.figures.drawing import (
    INK,
    Drawing,
    add_legend,
    new_figure,
    raster,
    to_svg,
    words,
)
from dst_jax.report.read_analyses import Sample, with_part

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NETWORKS = 7  # at most so many side by side
_SIDE = 112  # pixels; larger pictures are shrunk, so that the page stays small

_RATES = (
    ("explored", "explored so far, %", 100),
    ("explored_sparse", "explored, sparse layers, %", 100),
    ("mask_churn", "active weights replaced, %", 100),
    ("regrown_same", "grown that were just dropped, %", 100),
    ("grown_survival", "grown that survive an update, %", 100),
    ("gradient_norm_active", "gradient norm at updates", 1),
)


def exploration(found: Sequence[Sample], what: str, suffix: str) -> Drawing | None:
    """ITOP rates, churn, regrowth, survival and gradients during training."""
    found = [
        s for s in found if not s.group.is_dense and any(_rows(r, "explored") for r in s.group.runs)
    ]
    rates = [rate for rate in _RATES if any(_rows(r, rate[0]) for s in found for r in s.group.runs)]
    if not found or not rates:
        return None
    columns, rows = min(3, len(rates)), -(-len(rates) // 3)
    figure = new_figure(9.6, 0.4 + 2.3 * rows)
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for ax in panels[len(rates) :]:
        ax.set_visible(False)
    for ax, (key, label, scale) in zip(panels, rates, strict=False):
        for sample in found:
            for index, run in enumerate(sample.group.runs):
                style = {"color": sample.style.colour, "linewidth": 1.2}
                points = _rows(run, key)
                name = sample.group.name if index == 0 else None
                ax.plot(
                    [step for step, _ in points],
                    [scale * value for _, value in points],
                    marker=sample.style.marker if len(points) < 40 else None,
                    label=name,
                    **style,
                )
                if key == "gradient_norm_active":
                    others = _rows(run, "gradient_norm_inactive")
                    ax.plot(
                        [step for step, _ in others],
                        [value for _, value in others],
                        linestyle=":",
                        **style,
                    )
        ax.set_title(label, loc="left")
        ax.set_ylim(0, None)
    for ax in panels[max(0, len(rates) - columns) : len(rates)]:
        ax.set_xlabel("step")
        ax.tick_params(labelbottom=True)
    add_legend(figure, panels[0])
    last = "; ".join(f"{s.group.name} {_last(s):.1f} %" for s in found)
    name = "exploration" + suffix
    return Drawing(
        name=name,
        heading="Exploration during training",
        alt="Panels against the training step: share of weights that have been active (ITOP "
        "rate) over all and over sparse layers, share of active weights replaced by an update, "
        "share of grown weights that were just dropped, share that survives the next update, and "
        f"gradient norms. Explored in the end: {last}.",
        caption=f"{what}one line per run, means over logging windows. Explored: active at some "
        "time, over the maskable weights (the ITOP rate). Gradient norms: solid of active, dotted "
        f"of inactive weights, at mask updates. Explored in the end: {last}.",
        svg=to_svg(figure, name),
    )


def _last(sample: Sample) -> float:
    """The last ITOP rate in percent, mean over seeds."""
    points = [_rows(run, "explored") for run in sample.group.runs]
    return float(100 * np.mean([rows[-1][1] for rows in points if rows]))


def _rows(run, key: str) -> list[tuple[int, float]]:
    return [
        (row["step"], row[key])
        for row in run.metrics
        if isinstance(row.get(key), (int, float)) and np.isfinite(row[key])
    ]


def saliency(found: Sequence[Sample], what: str, suffix: str) -> Drawing | None:
    """Where each network looks: clean and corrupted pictures, one column per method."""
    runs = [
        (sample, run)
        for sample in with_part(found, "saliency")
        for run in sample.of("saliency")[:1]
        if str(run["method"]) and "ids" in run
    ]
    runs = [(s, run) for s, run in runs if np.array_equal(run["ids"], runs[0][1]["ids"])]
    if not runs:
        return None
    left_out = len(runs) - len(runs[:_NETWORKS])
    runs, first = runs[:_NETWORKS], runs[0][1]
    count = len(first["ids"])
    figure, halves = _two_halves(count, 1 + len(runs))
    condition = f"{words(str(first['corruption']))} {int(first['severity'])}"
    hits = {s.group.name: [0, 0] for s, _ in runs}
    for row in range(count):
        label = int(first["labels"][row])
        for half, kind in enumerate(("clean", "corrupted")):
            axes = halves[half][row]
            picture = _shrunk(first[f"{kind}_images"][row] / 255)
            _picture(axes[0], picture, f"class {label}" if half == 0 else "")
            if row == 0:
                axes[0].set_title(kind if half == 0 else condition)
            for ax, (sample, run) in zip(axes[1:], runs, strict=True):
                guess = int(run[f"{kind}_predictions"][row])
                right = guess == label
                hits[sample.group.name][half] += right
                overlaid = _overlay(picture, run[f"{kind}_maps"][row])
                _picture(ax, overlaid, f"{'✓' if right else '✗'} {guess}")
                if row == 0:
                    ax.set_title(sample.group.name)
    told = "; ".join(f"{n} {a} clean and {b} corrupted" for n, (a, b) in hits.items())
    name = "saliency" + suffix
    return Drawing(
        name=name,
        heading=f"Where the networks look: {first['method']}",
        alt=f"Rows of {count} test pictures, clean and with {condition}; beside each the maps of "
        f"{', '.join(hits)} for the true class. Right of {count}: {told}.",
        caption=f"{what}{first['method']} for the true class, first seed; the first test image of "
        f"each of {count} classes, bright where the evidence is, each map scaled to its own "
        "maximum. Under each map: what the network says."
        + (f" {left_out} more networks are not drawn." if left_out else ""),
        svg=to_svg(figure, name),
    )


def _two_halves(rows: int, columns: int) -> tuple["Figure", tuple[np.ndarray, np.ndarray]]:
    """A figure with two grids of square axes [rows, columns]: side by side, or stacked if wide."""
    if columns <= 4:
        figure = new_figure(9.6, 0.6 + rows * (4.8 / columns + 0.15))
        ratios = [1.0] * columns + [0.15] + [1.0] * columns
        grid = figure.subplots(rows, 2 * columns + 1, squeeze=False, width_ratios=ratios)
        for ax in grid[:, columns]:
            ax.set_visible(False)  # a gap between the two
        return figure, (grid[:, :columns], grid[:, columns + 1 :])
    figure = new_figure(9.6, 0.8 + 2 * rows * (9.6 / columns + 0.15))
    grid = figure.subplots(2 * rows, columns, squeeze=False)
    return figure, (grid[:rows], grid[rows:])


def _picture(ax, picture: np.ndarray, text: str) -> None:
    raster(ax, np.clip(picture, 0, 1))
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel(text, color=INK, labelpad=2)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _shrunk(picture: np.ndarray) -> np.ndarray:
    """Averages blocks until the picture is small enough: [H, W, 3]."""
    factor = -(-picture.shape[0] // _SIDE)
    side = picture.shape[0] // factor
    cut = picture[: side * factor, : side * factor]
    return cut.reshape(side, factor, side, factor, -1).mean((1, 3))


def _overlay(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A map [h, w], enlarged and scaled to its maximum, laid over the dimmed picture [H, W, 3]."""
    import matplotlib

    heat = _enlarged(values, picture.shape[0])
    heat = heat / heat.max() if heat.max() > 0 else heat
    grey = picture.mean(-1, keepdims=True)
    colours = matplotlib.colormaps["inferno"](heat)[..., :3]
    return 0.45 * grey + 0.55 * colours


def _enlarged(values: np.ndarray, side: int) -> np.ndarray:
    """Bilinear, each value at the middle of its cell."""
    for axis in (0, 1):
        run_paths = (np.arange(side) + 0.5) * values.shape[axis] / side - 0.5
        known = np.arange(values.shape[axis])
        values = np.apply_along_axis(
            lambda line, p=run_paths, k=known: np.interp(p, k, line), axis, values
        )
    return values
