"""The figures of the report as SVG text: accuracy per corruption, against severity, in training.

Draws with matplotlib's objects only (no pyplot, no global state) and imports it late. Ink is
`currentColor`, so that a figure is legible on a light and on a dark page. Called by `report.write`.
"""

import functools
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dst_jax.report.groups import Comparison, Group
from dst_jax.report.runs import CLEAN
from dst_jax.report.tables import title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind tell apart; one algorithm, one colour, everywhere.
_COLOURS = {
    "dense": "#7f7f7f",
    "rigl": "#0072b2",
    "set": "#e69f00",
    "mest_g": "#cc79a7",
    "mest_r": "#56b4e9",
    "granet_g": "#d55e00",
    "granet_r": "#009e73",
    "static": "#9a7b4f",
    "static_sparse": "#9a7b4f",
}
_SPARE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#9a7b4f")
_INK, _GRID = "#010203", "#040506"  # stand for currentColor, which matplotlib cannot spell
_LINES, _MARKERS = ("-", "--", ":", "-."), ("o", "s", "^", "D")
_BARS_A_ROW = 64  # more would be thinner than their error bars
_LEGEND = 132  # characters in a row of the legend, handles included
_POINTS = 300  # a curve drawn with more looks the same
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, selectable, in the page's font
    "svg.hashsalt": "dst_jax",  # the same figure has the same bytes
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.parse_math": False,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 3.5,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
}


@dataclass(frozen=True)
class Drawing:
    """A finished figure: file stem, heading, what a blind reader needs to know, caption, SVG."""

    name: str
    heading: str
    alt: str
    caption: str
    svg: str


@dataclass(frozen=True)
class _Look:
    colour: str
    line: str
    marker: str


def draw(comparisons: Sequence[Comparison]) -> list[Drawing]:
    """Draws all figures: two for each comparison with scores, training curves for each model."""
    import matplotlib

    looks = _looks([group for comparison in comparisons for group in comparison.families])
    scored = [c for c in comparisons if c.groups and c.conditions]
    # Comparisons of one dataset and model on several suites are of the same trainings.
    trained = {(c.dataset, c.model): [g for g in c.families if _logged(g)] for c in comparisons}
    trained = {place: groups for place, groups in trained.items() if groups}
    drawings = []
    with matplotlib.rc_context(_STYLE):
        for c in scored:
            suffix = _slug(c.model, c.dataset, c.suite) if len(scored) > 1 else ""
            drawings.append(_corruptions(c, looks, suffix))
            drawings.append(_severities(c, looks, suffix))
        for (dataset, model), groups in trained.items():
            suffix = _slug(model, dataset) if len(trained) > 1 else ""
            what = " on ".join(filter(None, (model, dataset)))
            drawings.append(_training(groups, looks, suffix, what))
    return drawings


def _corruptions(comparison: Comparison, looks: Mapping[str, _Look], suffix: str) -> Drawing:
    """Grouped bars: a group a corruption, a bar a method, the spread over seeds as error bars."""
    groups, names = comparison.groups, ["clean", *comparison.corruptions]
    per_row = max(4, _BARS_A_ROW // len(groups))
    rows = math.ceil(len(names) / per_row)
    per_row = math.ceil(len(names) / rows)
    figure = _figure(9.6, 0.5 + 2.6 * rows)
    axes = figure.subplots(rows, 1, sharey=True, squeeze=False)[:, 0]
    width = 0.8 / len(groups)
    for row, ax in enumerate(axes):
        shown = names[row * per_row : (row + 1) * per_row]
        for index, group in enumerate(groups):
            values = [
                comparison.accuracy(group, [CLEAN] if name == "clean" else comparison.at(name))
                for name in shown
            ]
            places = [i + (index - (len(groups) - 1) / 2) * width for i in range(len(shown))]
            drawn = [(x, v) for x, v in zip(places, values, strict=True) if v is not None]
            ax.bar(
                [x for x, _ in drawn],
                [100 * v.mean for _, v in drawn],
                width=0.9 * width,
                color=looks[group.label].colour,
                label=group.name,
            )
            spread = [(x, v) for x, v in drawn if v.std is not None]
            if spread:
                ax.errorbar(
                    [x for x, _ in spread],
                    [100 * v.mean for _, v in spread],
                    yerr=[100 * v.std for _, v in spread if v.std is not None],
                    fmt="none",
                    ecolor=_INK,
                    elinewidth=0.8,
                )
        ax.set_xticks(range(len(shown)), [_words(name) for name in shown])
        ax.tick_params(axis="x", length=0, rotation=35)
        for label in ax.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
        ax.set_xlim(-0.6, per_row - 0.4)
        ax.grid(False, axis="x")
        ax.set_ylabel("accuracy, %")
    _legend(figure, axes[0])
    robust = "; ".join(
        f"{group.name} {100 * value.mean:.1f}"
        for group in groups
        if (value := comparison.robust(group))
    )
    return Drawing(
        name="corruptions" + suffix,
        heading="Accuracy per corruption",
        alt=f"Grouped bars of accuracy on clean images and under {len(names) - 1} corruptions, "
        f"one bar for each of {len(groups)} methods. Robust accuracy in percent: {robust}.",
        caption=f"{title(comparison)}. Bars are means over severities{_seeds_caption(groups)}.",
        svg=_svg(figure, "corruptions" + suffix),
    )


def _severities(comparison: Comparison, looks: Mapping[str, _Look], suffix: str) -> Drawing:
    """Small multiples: accuracy against severity, first the mean, then one panel a corruption."""
    names = ["mean", *comparison.corruptions]
    columns = min(5, len(names))
    rows = math.ceil(len(names) / columns)
    figure = _figure(9.6 if columns > 2 else 4.8 * columns, 0.6 + 1.75 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = grid.ravel()
    levels = sorted({c.severity for c in comparison.conditions})
    for ax, name in zip(panels, names, strict=False):
        for group in comparison.groups:
            points = []
            for level in [CLEAN.severity, *levels]:
                wanted = [
                    c
                    for c in (comparison.conditions if name == "mean" else comparison.at(name))
                    if c.severity == level
                ]
                value = comparison.accuracy(group, wanted if level else [CLEAN])
                if value is not None:
                    points.append((level, 100 * value.mean, 100 * (value.std or 0.0)))
            look = looks[group.label]
            ax.errorbar(
                [p[0] for p in points],
                [p[1] for p in points],
                yerr=[p[2] for p in points] if len(group.runs) > 1 else None,
                color=look.colour,
                linestyle=look.line,
                marker=look.marker,
                elinewidth=0.8,
                label=group.name,
            )
        ax.set_title(
            _words(name) if name != "mean" else "all corruptions",
            weight="bold" if name == "mean" else None,
        )
        ax.set_xticks([0, *levels])
    for ax in panels[len(names) :]:
        ax.set_visible(False)
    for column in range(columns):  # the lowest visible panel of each column carries the axis
        lowest = max(i for i in range(len(names)) if i % columns == column)
        panels[lowest].tick_params(labelbottom=True)
        panels[lowest].set_xlabel("severity")
    for ax in grid[:, 0]:
        ax.set_ylabel("accuracy, %")
    _legend(figure, panels[0])
    return Drawing(
        name="severity" + suffix,
        heading="Accuracy against severity",
        alt=f"Small multiples of accuracy against severity, 0 (clean) to {max(levels)}: the mean "
        f"over corruptions and one panel for each of {len(names) - 1} corruptions, one line for "
        f"each of {len(comparison.groups)} methods.",
        caption=f"{title(comparison)}. Severity 0 is the clean images"
        f"{_seeds_caption(comparison.groups)}.",
        svg=_svg(figure, "severity" + suffix),
    )


def _training(
    groups: Sequence[Group], looks: Mapping[str, _Look], suffix: str, what: str
) -> Drawing:
    """Training loss and accuracy against steps: one line a run, one colour a method."""
    figure = _figure(9.6, 3.2)
    panels = figure.subplots(1, 2, sharex=True)
    for ax, key, label, scale in zip(
        panels,
        ("loss", "accuracy"),
        ("training loss", "training accuracy, %"),
        (1, 100),
        strict=True,
    ):
        for group in groups:
            look = looks[group.label]
            for index, run in enumerate(group.runs):
                rows = [r for r in run.metrics if isinstance(r.get(key), (int, float))]
                rows = rows[:: max(1, len(rows) // _POINTS)] + rows[-1:]
                ax.plot(
                    [r["step"] for r in rows],
                    [scale * r[key] for r in rows],
                    color=look.colour,
                    linestyle=look.line,
                    alpha=0.9 if len(group.runs) == 1 else 0.6,
                    linewidth=1.5 if len(group.runs) == 1 else 1.0,
                    label=group.name if index == 0 else None,
                )
        ax.set_xlabel("step")
        ax.set_ylabel(label)
    _legend(figure, panels[0])
    return Drawing(
        name="training" + suffix,
        heading="Training curves",
        alt="Two panels of curves against the training step, loss and accuracy on training "
        f"batches, for {', '.join(group.name for group in groups)}.",
        caption=f"{f'{what}: m' if what else 'M'}eans over each logging window of training "
        "batches; one line a run.",
        svg=_svg(figure, "training" + suffix),
    )


def _logged(group: Group) -> bool:
    return any(run.metrics for run in group.runs)


def _looks(groups: Sequence[Group]) -> dict[str, _Look]:
    """One look for each label: colour by algorithm, paler and dashed for its further variants."""
    variants: dict[str, list[str]] = {}
    for group in sorted(groups, key=lambda g: (g.sparsity or 0.0, g.label)):
        names = variants.setdefault("dense" if group.is_dense else group.algorithm, [])
        if group.label not in names:
            names.append(group.label)
    strangers = sorted(a for a in variants if a not in _COLOURS)
    taken = [_COLOURS[a] for a in variants if a in _COLOURS]
    spare = [c for c in _SPARE if c not in taken] or list(_SPARE)
    colours = _COLOURS | {a: spare[i % len(spare)] for i, a in enumerate(strangers)}
    looks = {}
    for algorithm, names in variants.items():
        for rank, name in enumerate(names):
            pale = 0.55 * rank / max(1, len(names) - 1)
            looks[name] = _Look(
                _paler(colours[algorithm], pale),
                _LINES[rank % len(_LINES)],
                _MARKERS[rank % len(_MARKERS)],
            )
    return looks


def _paler(colour: str, share: float) -> str:
    channels = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(c + (235 - c) * share):02x}" for c in channels)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _legend(figure: "Figure", ax: "Axes") -> None:
    handles, labels = ax.get_legend_handles_labels()
    columns = max(1, _LEGEND // (6 + max(map(len, labels))))
    figure.legend(handles, labels, loc="outside upper left", ncols=columns)


def _svg(figure: "Figure", name: str) -> str:
    """Renders to SVG that can stand alone or inside a page beside other figures."""
    buffer = io.StringIO()
    empty: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(buffer, format="svg", metadata=empty)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.S)
    svg = svg.replace("xlink:href", "href").replace(
        ' xmlns:xlink="http://www.w3.org/1999/xlink"', ""
    )
    svg = re.sub(r'(\bid="|url\(#|\bhref="#)', rf"\g<1>{name}-", svg)  # ids are unique in a page
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', _svg_head, svg, count=1)
    return svg.replace(_INK, "currentColor").replace(_GRID, "currentColor; stroke-opacity: 0.15")


def _svg_head(match: re.Match[str]) -> str:
    width, height = match[1].split()[2:]
    size = f'viewBox="{match[1]}" width="{width}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'


def _seeds_caption(groups: Sequence[Group]) -> str:
    most = max(len(group.runs) for group in groups)
    return f"; error bars are one standard deviation over up to {most} seeds" if most > 1 else ""


@functools.cache
def _words(name: str) -> str:
    return name.replace("_", " ")


def _slug(*parts: str | None) -> str:
    return "".join(
        "-" + re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts if part
    )
