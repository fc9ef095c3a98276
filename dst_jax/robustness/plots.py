"""Figures of results: accuracy per corruption, and against severity. matplotlib is imported late.

Figures are objects without pyplot: nothing is shown, and the caller saves them
(`figure.savefig("a.svg")`). Called by `result`; the figures of the report are in `report.figures`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dst_jax.robustness.kept_numbers import Reliability
    from dst_jax.robustness.result import Result


def corruptions(results: "Sequence[Result]", labels: Sequence[str] = ()) -> "Figure":
    """Bars of accuracy in percent: clean images, then each corruption's mean over severities.

    Args:
      results: a bar each; corruptions that one lacks have no bar.
      labels: a name for each result; none: no legend for one, numbers for several.
    """
    names = ["clean", *dict.fromkeys(name for result in results for name in result.corruptions)]
    figure, axes = _figure(max(6.4, 1.5 + 0.42 * len(names)))
    width = 0.8 / len(results)
    for index, (result, label) in enumerate(zip(results, _labels(results, labels), strict=True)):
        values = {"clean": result.clean_accuracy, **result.by_corruption}
        shown = [(place, values.get(name)) for place, name in enumerate(names)]
        drawn = [(place, value) for place, value in shown if value is not None]
        offset = (index - (len(results) - 1) / 2) * width
        axes.bar(
            [place + offset for place, _ in drawn],
            [100 * value for _, value in drawn],
            width=0.9 * width,
            label=label,
        )
    axes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names])
    for text in axes.get_xticklabels():
        text.set(rotation=40, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.7, len(names) - 0.3)
    axes.grid(False, axis="x")
    return _finish(figure, axes, results, labels)


def severities(results: "Sequence[Result]", labels: Sequence[str] = ()) -> "Figure":
    """Lines of mean accuracy over corruptions in percent against severity; 0 is clean images."""
    figure, axes = _figure(6.4)
    for result, label in zip(results, _labels(results, labels), strict=True):
        points: dict[int, float] = dict(result.by_severity)
        if result.clean_accuracy is not None:
            points[0] = result.clean_accuracy
        levels = sorted(points)
        axes.plot(levels, [100 * points[level] for level in levels], marker="o", label=label)
    axes.set_xticks(sorted({0, *(s for result in results for s in result.severities)}))
    axes.set_xlabel("severity")
    return _finish(figure, axes, results, labels)


def reliability(result: "Result", points: "Reliability", label: str = "") -> "Figure":
    """A line of accuracy against confidence in percent, over bars of the share of images."""
    figure, axes = _figure(4.2)
    filled = points.images > 0
    centres = 50 * (points.edges[1:] + points.edges[:-1])
    shares = 100 * points.images / points.images.sum()
    axes.bar(centres, shares, width=90 / len(shares), color="0.85", label="share of images")
    axes.plot([0, 100], [0, 100], color="0.5", linewidth=1, linestyle="--")
    axes.plot(
        100 * points.confidence[filled],
        100 * points.accuracy[filled],
        marker="o",
        label=label or "accuracy",
    )
    axes.set_xlabel("confidence, %")
    axes.set_xlim(0, 100)
    return _finish(figure, axes, [result], [label])


def _figure(width: float) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.grid(True, alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylabel("accuracy, %")
    return figure, axes


def _labels(results: "Sequence[Result]", labels: Sequence[str]) -> Sequence[str]:
    return labels or [str(number) for number in range(1, len(results) + 1)]


def _finish(
    figure: "Figure", axes: Any, results: "Sequence[Result]", labels: Sequence[str]
) -> "Figure":
    setting = results[0].setting
    what = [results[0].dataset, setting.suite, setting.source]
    axes.set_title(", ".join(filter(None, what)) + f", {results[0].n:,} images", fontsize="medium")
    if labels or len(results) > 1:
        figure.legend(loc="outside upper right", ncols=4, fontsize="small")
    axes.set_ylim(bottom=0)
    return figure
