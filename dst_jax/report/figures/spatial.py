"""Figures of weights: kernel maps, layers one by one, fan-in and fan-out.

Figure 5 of Wu et al. 2025 with numbers to it, from `analysis/weights.npz` of the runs. Called by
`figures.analysis`.
"""

from collections.abc import Callable, Sequence

import numpy as np

from dst_jax.report.figures.drawing import (
    Drawing,
    add_legend,
    new_figure,
    raster,
    small_multiples,
    to_svg,
)
from dst_jax.report.read_analyses import Arrays, Sample, with_part

_LABELS = 36  # more names of layers would touch each other


def kernel_maps(found: Sequence[Sample], what: str, suffix: str) -> Drawing | None:
    """Active weights and sum of |w| of every kernel of a layer, over output and input channels."""
    found = with_part(found, "weights")
    if not found:
        return None
    firsts = [(sample, sample.of("weights")[0]) for sample in found]
    mapped, taps = str(firsts[0][1]["mapped"]), int(firsts[0][1]["taps"])
    figure, bands = small_multiples(2, len(firsts))
    highest = max(float(run["magnitude"].max()) for _, run in firsts) or 1.0
    texts = []
    for column, (sample, run) in enumerate(firsts):
        scores = _stripes(run, mapped)
        numbers = (
            "" if scores is None else f"\nstripes: out {_two(scores[0])}, in {_two(scores[1])}"
        )
        texts.append(f"{sample.group.name}{numbers.replace(chr(10), ' ')}")
        for row, (values, top) in enumerate(
            ((run["nonzero"], max(taps, 1)), (run["magnitude"], highest))
        ):
            ax = bands[row][column]
            ax.set_visible(True)
            shown = raster(ax, values, cmap="cividis", vmin=0, vmax=top)
            ax.set_xlabel("input channel")
            ax.set_ylabel("output channel")
            ax.set_title(sample.group.name + (numbers if row == 0 else ""), loc="left")
            if column == len(firsts) - 1:
                label = f"active weights of {taps}" if row == 0 else "sum of |w|"
                figure.colorbar(shown, ax=bands[row], label=label, shrink=0.8)
    name = "kernels" + suffix
    return Drawing(
        name=name,
        heading="Kernels of one layer",
        alt=f"For each method two images over output and input channels of {mapped}: the number "
        f"of active weights and the sum of |w| of each kernel. {'; '.join(texts)}.",
        caption=f"{what}{mapped.removesuffix('/kernel')}, first seed. Dark lines are channels that "
        "lost their connections. Stripes: the share of the mask's variance that the channel "
        "explains, 0 by chance, 1 if every channel is full or empty.",
        svg=to_svg(figure, name),
    )


def _two(value: float) -> str:
    """Two digits, without a minus before 0.00."""
    return f"{value + 0.0 if abs(value) >= 0.005 else 0.0:.2f}"


def _stripes(run: Arrays, layer: str) -> tuple[float, float] | None:
    index = run["layers"].tolist().index(layer)
    scores = float(run["stripes_out"][index]), float(run["stripes_in"][index])
    return None if np.isnan(scores).any() else scores


def layers(found: Sequence[Sample], what: str, suffix: str) -> Drawing | None:
    """Sparsity, stripes and dead units, layer by layer, of the sparse methods."""
    found = [s for s in with_part(found, "weights") if not s.group.is_dense]
    if not found:
        return None
    names = found[0].of("weights")[0]["layers"].tolist()
    runs = [
        (sample, [run for run in sample.of("weights") if run["layers"].tolist() == names])
        for sample in found
    ]
    measures: list[tuple[str, Callable[[Arrays], np.ndarray]]] = [
        ("sparsity, %", lambda run: 100 * (1 - run["active"] / run["size"])),
        ("stripes, outputs", lambda run: run["stripes_out"]),
        ("stripes, inputs", lambda run: run["stripes_in"]),
        ("dead outputs, %", _dead),
    ]
    if not any(_dead(run).any() for _, alike in runs for run in alike):
        measures.pop()  # the caption says that there is none
    figure = new_figure(9.6, 1.2 + 1.3 * len(measures))
    panels = figure.subplots(len(measures), 1, sharex=True)
    width = 0.8 / len(runs)
    for ax, (label, measure) in zip(panels, measures, strict=True):
        for index, (sample, alike) in enumerate(runs):
            values = np.stack([measure(run) for run in alike]) if alike else np.empty((0, 0))
            if not values.size:
                continue
            shown = np.isfinite(values).any(0)
            run_paths = np.arange(len(names)) + (index - (len(runs) - 1) / 2) * width
            ax.bar(
                run_paths[shown],
                np.nanmean(values[:, shown], axis=0),
                width=0.9 * width,
                color=sample.style.colour,
                label=sample.group.name,
            )
        ax.axhline(0, color="#7f7f7f", linewidth=0.6)
        ax.set_ylabel(label)
        ax.grid(False, axis="x")
    every = -(-len(names) // _LABELS)
    ticks = range(0, len(names), every)
    panels[-1].set_xticks(ticks, [names[i].removesuffix("/kernel") for i in ticks])
    for text in panels[-1].get_xticklabels():
        text.set(rotation=40, ha="right", rotation_mode="anchor")
    panels[-1].set_xlim(-0.6, len(names) - 0.4)
    add_legend(figure, panels[0])
    totals = "; ".join(_totals(sample.group.name, alike) for sample, alike in runs if alike)
    name = "layers" + suffix
    return Drawing(
        name=name,
        heading="Layer by layer",
        alt=f"Rows of bars over {len(names)} layers: sparsity, stripe score of outputs and of "
        f"inputs, and dead outputs where there are any. {totals}.",
        caption=f"{what}mean over seeds. A dead output lies on no path of active weights from the "
        "image to a logit (where the network has attention: it has no active input). No bar: the "
        f"layer is full. {totals}.",
        svg=to_svg(figure, name),
    )


def _dead(run: Arrays) -> np.ndarray:
    dead = np.where(run["path_dead"] >= 0, run["path_dead"], run["dead_outputs"])
    return 100 * dead / run["outputs"]


def _totals(name: str, runs: Sequence[Arrays]) -> str:
    """The numbers that sum a method up."""
    explored = np.mean([float(run["explored"].sum()) / float(run["size"].sum()) for run in runs])
    score = np.mean([mean_stripes(run) for run in runs])
    dead = np.mean([float(_dead(run) @ run["outputs"] / run["outputs"].sum()) for run in runs])
    return (
        f"{name}: mean stripe score {score:.3f}, {dead:.2f} % of the outputs dead, "
        f"{100 * explored:.1f} % of the weights explored"
    )


def mean_stripes(run: Arrays) -> float:
    """Mean stripe score over layers that are not full, outputs and inputs alike."""
    scores = np.concatenate([run["stripes_out"], run["stripes_in"]])
    scores = scores[np.isfinite(scores)]
    return float(scores.mean()) if scores.size else 0.0


def fans(found: Sequence[Sample], what: str, suffix: str) -> Drawing | None:
    """Histograms of the active weights of channels, of one layer."""
    found = [s for s in with_part(found, "weights") if not s.group.is_dense]
    if not found:
        return None
    mapped = str(found[0].of("weights")[0]["mapped"])
    figure = new_figure(9.6, 2.8)
    panels = figure.subplots(1, 2)
    for ax, key, label, room in zip(
        panels,
        ("fan_in", "fan_out"),
        ("active inputs of an output channel", "active outputs of an input channel"),
        ("fan_out", "fan_in"),
        strict=True,
    ):
        full = 0
        for sample in found:
            run = sample.of("weights")[0]
            full = max(full, int(run["taps"]) * len(run[room]))
        edges = np.linspace(0, full, 25)
        for sample in found:
            counts = np.concatenate([r[key] for r in sample.of("weights")])
            heights, _ = np.histogram(counts, edges)
            ax.stairs(
                100 * heights / len(counts),
                edges,
                color=sample.style.colour,
                linestyle=sample.style.line,
                linewidth=1.5,
                label=sample.group.name,
            )
        ax.set_xlabel(f"{label} (of {full:,})")
        ax.set_ylabel("channels, %")
    add_legend(figure, panels[0])
    name = "fans" + suffix
    return Drawing(
        name=name,
        heading="Fan-in and fan-out",
        alt=f"Two histograms over the channels of {mapped}: active inputs of each output and "
        f"active outputs of each input, for {', '.join(s.group.name for s in found)}.",
        caption=f"{what}{mapped.removesuffix('/kernel')}, all seeds together.",
        svg=to_svg(figure, name),
    )
