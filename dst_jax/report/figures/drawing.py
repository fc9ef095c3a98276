"""What all figures of the report share: colours, style, legends, and a figure as SVG text.

Draws with matplotlib's objects only (no pyplot, no global state) and imports it late. Ink is
`currentColor`, so that a figure is legible on a light and on a dark page. Used by the files of
figures in this package.
"""

import functools
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dst_jax.report.groups import Group

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
INK, _GRID = "#010203", "#040506"  # stand for currentColor, which matplotlib cannot spell
LINES, MARKERS = ("-", "--", ":", "-."), ("o", "s", "^", "D")
_LEGEND = 132  # characters in a row of the legend, handles included
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, selectable, in the page's font
    "svg.hashsalt": "dst_jax",  # the same figure has the same bytes
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
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
class LineStyle:
    """How the lines and bars of a method are drawn."""

    colour: str
    line: str
    marker: str


def styles_for(groups: Sequence[Group]) -> dict[str, LineStyle]:
    """One look for each label: colour by algorithm, paler and dashed for its further variants."""
    variants: dict[str, list[str]] = {}
    for group in sorted(groups, key=lambda g: (g.sparsity or 0.0, g.label)):
        names = variants.setdefault("dense" if group.is_dense else group.algorithm, [])
        if group.label not in names:
            names.append(group.label)
    others = sorted(a for a in variants if a not in _COLOURS)
    taken = [_COLOURS[a] for a in variants if a in _COLOURS]
    spare = [c for c in _SPARE if c not in taken] or list(_SPARE)
    colours = _COLOURS | {a: spare[i % len(spare)] for i, a in enumerate(others)}
    styles = {}
    for algorithm, names in variants.items():
        for rank, name in enumerate(names):
            pale = 0.55 * rank / max(1, len(names) - 1)
            styles[name] = LineStyle(
                paler(colours[algorithm], pale),
                LINES[rank % len(LINES)],
                MARKERS[rank % len(MARKERS)],
            )
    return styles


def paler(colour: str, share: float) -> str:
    """A colour mixed with that share, in [0, 1], of light grey."""
    channels = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(c + (235 - c) * share):02x}" for c in channels)


def new_figure(width: float, height: float) -> "Figure":
    """A figure of that size in inches, laid out by itself."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def small_multiples(bands: int, count: int) -> tuple["Figure", list[list["Axes"]]]:
    """A figure of `bands` times `count` square pictures, at most four side by side, all hidden yet.

    Returns:
      The figure, and for each band its `count` axes; a band begins a new row.
    """
    columns = min(4, max(3, count))
    rows = -(-count // columns)
    figure = new_figure(9.6, bands * rows * (0.55 + 8.2 / columns))
    grid = figure.subplots(bands * rows, columns, squeeze=False)
    for ax in grid.ravel():
        ax.set_visible(False)
    starts = range(0, bands * rows, rows)
    return figure, [grid[start : start + rows].ravel()[:count].tolist() for start in starts]


def add_legend(figure: "Figure", ax: "Axes") -> None:
    """Puts the legend of a panel above the figure."""
    handles, labels = ax.get_legend_handles_labels()
    columns = max(1, _LEGEND // (6 + max(map(len, labels))))
    figure.legend(handles, labels, loc="outside upper left", ncols=columns)


def raster(ax: "Axes", values: Any, **options: Any) -> Any:
    """Draws an image [H, W] or [H, W, 3] with sharp pixels and without a grid."""
    ax.grid(False)
    return ax.imshow(values, interpolation="none", aspect="equal", **options)


def to_svg(figure: "Figure", name: str) -> str:
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
    return svg.replace(INK, "currentColor").replace(_GRID, "currentColor; stroke-opacity: 0.15")


def _svg_head(match: re.Match[str]) -> str:
    width, height = match[1].split()[2:]
    size = f'viewBox="{match[1]}" width="{width}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'


def seeds_caption(groups: Sequence[Group]) -> str:
    """Says what error bars mean, where there are any."""
    most = max(len(group.runs) for group in groups)
    return f"; error bars are one standard deviation over up to {most} seeds" if most > 1 else ""


@functools.cache
def words(name: str) -> str:
    """The name of a corruption as words."""
    return name.replace("_", " ")


def slug(*parts: str | None) -> str:
    """The part of a file name that tells figures of several models and datasets apart."""
    return "".join(
        "-" + re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts if part
    )
