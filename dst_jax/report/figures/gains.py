"""Figures that compare sparse with dense: gain per corruption, accuracy against sparsity.

Figures 1 to 4 of Wu et al. 2025 from `robustness.csv` of the runs. Called by `report.write`.
"""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from dst_jax.report.figures.drawing import (
    STYLE,
    Drawing,
    LineStyle,
    add_legend,
    new_figure,
    paler,
    slug,
    styles_for,
    to_svg,
    words,
)
from dst_jax.report.groups import Comparison, Group, scope
from dst_jax.report.read_analyses import Sample, high_shares, samples
from dst_jax.report.recipes import settings
from dst_jax.report.tables import title
from dst_jax.report.wording import accuracy_text, percent
from dst_jax.robustness import CLEAN


def draw(comparisons: Sequence[Comparison]) -> list[Drawing]:
    """Draws the gains and, where there are several sparsities, accuracy against sparsity."""
    import matplotlib

    styles = styles_for([group for comparison in comparisons for group in comparison.all_groups])
    scored = [c for c in comparisons if c.groups and c.conditions]
    drawings = []
    with matplotlib.rc_context(STYLE):
        for c in scored:
            suffix = slug(c.model, c.dataset, c.suite) if len(scored) > 1 else ""
            found = samples(c, styles)
            made = [_gains(c, found, styles, suffix), _sparsities(c, styles, suffix)]
            drawings += [drawing for drawing in made if drawing is not None]
    return drawings


def _relative(c: Comparison, group: Group, base: Group, corruption: str, severity: int):
    """Relative gain over dense at one condition, None where a side is missing or dense is 0."""
    condition = [k for k in c.at(corruption) if k.severity == severity]
    mine, theirs = c.accuracy(group, condition), c.accuracy(base, condition)
    if mine is None or theirs is None or not theirs.mean:
        return None
    return (mine.mean - theirs.mean) / theirs.mean


def _gains(
    c: Comparison, found: Sequence[Sample], styles: dict[str, LineStyle], suffix: str
) -> Drawing | None:
    """Relative gain per corruption and severity: five bars, light to dark (figures 3 and 4)."""
    judged = [(group, base) for group in c.groups if (base := c.baseline(group)) is not None]
    if not judged:
        return None
    shares = high_shares(found)
    names = sorted(c.corruptions, key=lambda name: -shares.get(name, -1.0))
    levels = sorted({k.severity for k in c.conditions})
    figure = new_figure(9.6, 0.9 + 1.9 * len(judged))
    panels = figure.subplots(len(judged), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    width = 0.8 / len(levels)
    wins = []
    for ax, (group, base) in zip(panels, judged, strict=True):
        above = 0
        for index, level in enumerate(levels):
            values = [_relative(c, group, base, name, level) for name in names]
            run_paths = [
                i + (index - (len(levels) - 1) / 2) * width
                for i, value in enumerate(values)
                if value is not None
            ]
            ax.bar(
                run_paths,
                [100 * value for value in values if value is not None],
                width=0.92 * width,
                color=paler(styles[group.label].colour, 0.75 * (1 - (index + 1) / len(levels))),
            )
        for name in names:
            mine, theirs = c.accuracy(group, c.at(name)), c.accuracy(base, c.at(name))
            above += mine is not None and theirs is not None and mine.mean > theirs.mean
        wins.append(f"{group.name} above dense on {above} of {len(names)}")
        ax.axhline(0, color="#7f7f7f", linewidth=0.8)
        ax.set_ylabel("relative gain, %")
        ax.set_title(_numbers(c, group, base), loc="left")
        ax.grid(False, axis="x")
    slanted = len(names) > 8
    labels = [
        words(name).replace(" ", " " if slanted else "\n")
        + (f"{', ' if slanted else chr(10)}{100 * shares[name]:.0f} %" if name in shares else "")
        for name in names
    ]
    panels[-1].set_xticks(range(len(names)), labels)
    panels[-1].tick_params(axis="x", length=0)
    if slanted:
        for text in panels[-1].get_xticklabels():
            text.set(rotation=40, ha="right", rotation_mode="anchor")
    panels[-1].set_xlim(-0.6, len(names) - 0.4)
    order = (
        "Corruptions with the most high frequencies first; the percentage is the share of the "
        "energy of (corrupted minus clean image) beyond half of the highest frequency, measured "
        "on rendered images"
        if shares
        else "Corruptions in the order of evaluation; --mode=analyze orders them by frequency"
    )
    name = "gains" + suffix
    return Drawing(
        name=name,
        heading="Relative robustness gain",
        alt=f"Grouped bars of the relative gain in accuracy over dense, for {len(names)} "
        f"corruptions and {len(levels)} severities each. {'; '.join(wins)}.",
        caption=f"{title(c)}. (sparse - dense) / dense, means over seeds; light to dark: severity "
        f"{levels[0]} to {levels[-1]}. {order}.",
        svg=to_svg(figure, name),
    )


def _numbers(c: Comparison, group: Group, base: Group) -> str:
    texts = []
    for label, number in (("robust", c.robust), ("clean", c.clean)):
        mine, theirs = number(group), number(base)
        if mine is not None and theirs is not None:
            texts.append(f"{label} {accuracy_text(mine, 1)} % (dense {accuracy_text(theirs, 1)} %)")
    incomplete = ", INCOMPLETE" if c.lacking(group) else ""
    return f"{group.name}: {', '.join(texts)}{incomplete}"


def _line(c: Comparison, group: Group) -> str:
    """What the points of one line share: everything but the sparsity and what follows from it."""
    own = {
        key: value
        for key, value in settings(group.runs[0]).items()
        if key not in ("sparsity.sparsity", "sparsity.initial_density")
    }
    return json.dumps([own, scope(c.of(group)[0])[:2]], sort_keys=True, default=str)


def _title(groups: Sequence[Group], lines: Mapping[tuple[str, str], Sequence[Group]]) -> str:
    """The algorithm; of several recipes of one, the method as the table has it."""
    algorithm = groups[0].algorithm
    alone = sum(name == algorithm for name, _ in lines) == 1
    return algorithm if alone else groups[0].method


def _sparsities(c: Comparison, styles: dict[str, LineStyle], suffix: str) -> Drawing | None:
    """Robust and clean accuracy against sparsity, seeds as bands (figure 2)."""
    lines: dict[tuple[str, str], list[Group]] = {}
    for group in c.groups:
        if not group.is_dense and group.sparsity is not None and not group.unfinished:
            lines.setdefault((group.algorithm, _line(c, group)), []).append(group)
    if max((len({g.sparsity for g in groups}) for groups in lines.values()), default=0) < 2:
        return None
    bases = [c.baseline(group) for groups in lines.values() for group in groups]
    dense = list({group.name: group for group in bases if group is not None}.values())
    figure = new_figure(9.6, 3.6)
    panels = figure.subplots(1, 2, sharex=True)
    for ax, label, conditions in (
        (panels[0], "robust accuracy, %", list(c.conditions)),
        (panels[1], "clean accuracy, %", [CLEAN]),
    ):
        for groups in lines.values():
            style = styles[groups[0].label]
            points = [(g.sparsity, v) for g in groups if (v := c.accuracy(g, conditions))]
            points.sort(key=lambda point: point[0] or 0.0)
            x = np.array([100 * (sparsity or 0.0) for sparsity, _ in points])
            mean = np.array([100 * value.mean for _, value in points])
            std = np.array([100 * (value.std or 0.0) for _, value in points])
            ax.plot(x, mean, color=style.colour, marker=style.marker, label=_title(groups, lines))
            if std.any():
                ax.fill_between(x, mean - std, mean + std, color=style.colour, alpha=0.2, lw=0)
        for group in dense:
            value, colour = c.accuracy(group, conditions), styles[group.label].colour
            if value is not None:
                ax.axhline(100 * value.mean, color=colour, linestyle="--", label=group.name)
                spread = value.std or 0.0
                ax.axhspan(
                    100 * (value.mean - spread),
                    100 * (value.mean + spread),
                    color=colour,
                    alpha=0.2,
                    lw=0,
                )
        ax.set_xlabel("sparsity, %")
        ax.set_ylabel(label)
    add_legend(figure, panels[0])
    tried = sorted({g.sparsity or 0.0 for groups in lines.values() for g in groups})
    name = "sparsity" + suffix
    return Drawing(
        name=name,
        heading="Accuracy against sparsity",
        alt="Robust and clean accuracy against sparsity, one line per method and a dashed line for "
        f"its dense baseline; sparsities in percent: {', '.join(map(percent, tried))}.",
        caption=f"{title(c)}. Bands are one standard deviation over seeds.",
        svg=to_svg(figure, name),
    )
