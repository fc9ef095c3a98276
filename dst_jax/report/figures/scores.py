"""The figures of the report as SVG text: accuracy per corruption, against severity, in training.

What explains them is in `figures.analysis`, how they look in `drawing`. Called by `report.write`.
"""

import math
from collections.abc import Mapping, Sequence

from dst_jax.report.figures.drawing import (
    INK,
    STYLE,
    Drawing,
    LineStyle,
    add_legend,
    new_figure,
    seeds_caption,
    slug,
    styles_for,
    to_svg,
    words,
)
from dst_jax.report.groups import Comparison, Group
from dst_jax.report.tables import title
from dst_jax.robustness import CLEAN

_BARS_A_ROW = 64  # more would be thinner than their error bars
_POINTS = 300  # a curve drawn with more looks the same


def draw(comparisons: Sequence[Comparison]) -> list[Drawing]:
    """Draws all figures: two for each comparison with scores, training curves for each model."""
    import matplotlib

    styles = styles_for([group for comparison in comparisons for group in comparison.all_groups])
    scored = [c for c in comparisons if c.groups and c.conditions]
    # Comparisons of one dataset and model on several suites are of the same trainings.
    trained = {(c.dataset, c.model): [g for g in c.all_groups if _logged(g)] for c in comparisons}
    trained = {key: groups for key, groups in trained.items() if groups}
    drawings = []
    with matplotlib.rc_context(STYLE):
        for c in scored:
            suffix = slug(c.model, c.dataset, c.suite) if len(scored) > 1 else ""
            drawings.append(_corruptions(c, styles, suffix))
            drawings.append(_severities(c, styles, suffix))
        for (dataset, model), groups in trained.items():
            suffix = slug(model, dataset) if len(trained) > 1 else ""
            what = " on ".join(filter(None, (model, dataset)))
            drawings.append(_training(groups, styles, suffix, what))
    return drawings


def _corruptions(comparison: Comparison, styles: Mapping[str, LineStyle], suffix: str) -> Drawing:
    """Grouped bars: a group per corruption, a bar per method, spread over seeds as error bars."""
    groups, names = comparison.groups, ["clean", *comparison.corruptions]
    per_row = max(4, _BARS_A_ROW // len(groups))
    rows = math.ceil(len(names) / per_row)
    per_row = math.ceil(len(names) / rows)
    figure = new_figure(9.6, 0.5 + 2.6 * rows)
    axes = figure.subplots(rows, 1, sharey=True, squeeze=False)[:, 0]
    width = 0.8 / len(groups)
    for row, ax in enumerate(axes):
        shown = names[row * per_row : (row + 1) * per_row]
        for index, group in enumerate(groups):
            values = [
                comparison.accuracy(group, [CLEAN] if name == "clean" else comparison.at(name))
                for name in shown
            ]
            run_paths = [i + (index - (len(groups) - 1) / 2) * width for i in range(len(shown))]
            drawn = [(x, v) for x, v in zip(run_paths, values, strict=True) if v is not None]
            ax.bar(
                [x for x, _ in drawn],
                [100 * v.mean for _, v in drawn],
                width=0.9 * width,
                color=styles[group.label].colour,
                label=group.name,
            )
            spread = [(x, v) for x, v in drawn if v.std is not None]
            if spread:
                ax.errorbar(
                    [x for x, _ in spread],
                    [100 * v.mean for _, v in spread],
                    yerr=[100 * v.std for _, v in spread if v.std is not None],
                    fmt="none",
                    ecolor=INK,
                    elinewidth=0.8,
                )
        ax.set_xticks(range(len(shown)), [words(name) for name in shown])
        ax.tick_params(axis="x", length=0, rotation=35)
        for label in ax.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
        ax.set_xlim(-0.6, per_row - 0.4)
        ax.grid(False, axis="x")
        ax.set_ylabel("accuracy, %")
    add_legend(figure, axes[0])
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
        caption=f"{title(comparison)}. Bars are means over severities{seeds_caption(groups)}.",
        svg=to_svg(figure, "corruptions" + suffix),
    )


def _severities(comparison: Comparison, styles: Mapping[str, LineStyle], suffix: str) -> Drawing:
    """Small multiples: accuracy against severity, first the mean, then one panel per corruption."""
    names = ["mean", *comparison.corruptions]
    columns = min(5, len(names))
    rows = math.ceil(len(names) / columns)
    figure = new_figure(9.6 if columns > 2 else 4.8 * columns, 0.6 + 1.75 * rows)
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
            style = styles[group.label]
            ax.errorbar(
                [p[0] for p in points],
                [p[1] for p in points],
                yerr=[p[2] for p in points] if len(group.runs) > 1 else None,
                color=style.colour,
                linestyle=style.line,
                marker=style.marker,
                elinewidth=0.8,
                label=group.name,
            )
        ax.set_title(
            words(name) if name != "mean" else "all corruptions",
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
    add_legend(figure, panels[0])
    return Drawing(
        name="severity" + suffix,
        heading="Accuracy against severity",
        alt=f"Small multiples of accuracy against severity, 0 (clean) to {max(levels)}: the mean "
        f"over corruptions and one panel for each of {len(names) - 1} corruptions, one line for "
        f"each of {len(comparison.groups)} methods.",
        caption=f"{title(comparison)}. Severity 0 is the clean images"
        f"{seeds_caption(comparison.groups)}.",
        svg=to_svg(figure, "severity" + suffix),
    )


def _training(
    groups: Sequence[Group], styles: Mapping[str, LineStyle], suffix: str, what: str
) -> Drawing:
    """Training loss and accuracy against steps: one line per run, one colour per method."""
    figure = new_figure(9.6, 3.2)
    panels = figure.subplots(1, 2, sharex=True)
    for ax, key, label, scale in zip(
        panels,
        ("loss", "accuracy"),
        ("training loss", "training accuracy, %"),
        (1, 100),
        strict=True,
    ):
        for group in groups:
            style = styles[group.label]
            for index, run in enumerate(group.runs):
                rows = [r for r in run.metrics if isinstance(r.get(key), (int, float))]
                rows = rows[:: max(1, len(rows) // _POINTS)] + rows[-1:]
                ax.plot(
                    [r["step"] for r in rows],
                    [scale * r[key] for r in rows],
                    color=style.colour,
                    linestyle=style.line,
                    alpha=0.9 if len(group.runs) == 1 else 0.6,
                    linewidth=1.5 if len(group.runs) == 1 else 1.0,
                    label=group.name if index == 0 else None,
                )
        ax.set_xlabel("step")
        ax.set_ylabel(label)
    add_legend(figure, panels[0])
    return Drawing(
        name="training" + suffix,
        heading="Training curves",
        alt="Two panels of curves against the training step, loss and accuracy on training "
        f"batches, for {', '.join(group.name for group in groups)}.",
        caption=f"{f'{what}: m' if what else 'M'}eans over each logging window of training "
        "batches; one line per run.",
        svg=to_svg(figure, "training" + suffix),
    )


def _logged(group: Group) -> bool:
    return any(run.metrics for run in group.runs)
