"""Figures of frequencies: attenuation, Fourier heat maps, band-limited noise, first-layer kernels.

Figures 6 and 7 of Wu et al. 2025 and the analyses of Yin et al. 2019, from `analysis/` of the runs.
Called by `figures.analysis`.
"""

from collections.abc import Sequence

import numpy as np

from dst_jax.analysis.frequencies import heat_map_square
from dst_jax.report.figures.drawing import (
    Drawing,
    add_legend,
    new_figure,
    raster,
    small_multiples,
    to_svg,
)
from dst_jax.report.groups import differences
from dst_jax.report.read_analyses import (
    Arrays,
    Sample,
    curves,
    over_dense,
    plot,
    sizes_text,
    with_part,
)

_BANDS = ("low", "high")


def attenuation(found: Sequence[Sample], what: str, suffix: str) -> Drawing | None:
    """RA curves: accuracy against the radius of a low- and of a high-frequency attenuation."""
    found = with_part(found, "attenuation")
    if not found:
        return None
    bands = {band: curves(found, "attenuation", "radii", band) for band in _BANDS}
    gains = [
        (sample, {**curve, "mean": curve["mean"] - base["mean"]})
        for sample, curve, _, base in over_dense(bands["high"])
    ]
    figure = new_figure(9.6, 3.2)
    panels = figure.subplots(1, 3 if gains else 2, sharex=True)
    titles = ("low frequencies removed", "high frequencies removed", "high removed: minus dense")
    for ax, text in zip(panels, titles, strict=False):
        ax.set_title(text, loc="left")
        ax.set_xlabel("radius r, frequencies")
    for ax, band in zip(panels, _BANDS, strict=False):
        plot(ax, bands[band])
        ax.set_ylabel("accuracy, %")
        ax.set_ylim(0, 102)
    if gains:
        plot(panels[2], gains)
        panels[2].axhline(0, color=found[0].style.colour, linewidth=0.8)
        panels[2].set_ylabel("difference, pp")
    add_legend(figure, panels[0])
    name = "attenuation" + suffix
    return Drawing(
        name=name,
        heading="Accuracy without low or without high frequencies",
        alt="Curves of accuracy against the attenuation radius, one panel with the low and one "
        f"with the high frequencies of the images removed, for {_names(found)}. "
        + _at_half(bands["high"]),
        caption=f"{what}{sizes_text(found, 'attenuation')}; radius 0 leaves them whole and a "
        "larger one removes more. Low: a square of side r around frequency 0, which is the mean; "
        "high: a frame of width r/2. Nothing is clipped." + _bands_caption(found, "attenuation"),
        svg=to_svg(figure, name),
    )


def examples(found: Sequence[Sample], what: str, suffix: str) -> Drawing | None:
    """What the attenuations leave of one test image (figure 6)."""
    runs = [run for s in with_part(found, "attenuation") for run in s.of("attenuation")]
    run = next((run for run in runs if "examples" in run), None)
    if run is None:
        return None
    radii = run["example_radii"].tolist()
    figure = new_figure(9.6, 4.6)
    grid = figure.subplots(2, 1 + len(radii), squeeze=False)
    for row, band in enumerate(_BANDS):
        pictures = [run["example"], *run["examples"][row]]
        names = ["whole", *(f"{band} removed, r = {radius:g}" for radius in radii)]
        for ax, picture, name in zip(grid[row], pictures, names, strict=True):
            raster(ax, picture)
            ax.set_title(name, loc="left")
            ax.set_axis_off()
    name = "attenuated" + suffix
    return Drawing(
        name=name,
        heading="What an attenuation leaves",
        alt="A test image, whole and with its low or its high frequencies removed, at the radii "
        f"{', '.join(f'{radius:g}' for radius in radii)}.",
        caption=f"{what}the first test image. Without low frequencies it is shown about mid grey, "
        "in place of the mean, which is removed too.",
        svg=to_svg(figure, name),
    )


def _at_half(drawn: Sequence[tuple[Sample, Arrays]]) -> str:
    texts = []
    for sample, curve in drawn:
        middle = len(curve["x"]) // 2
        texts.append(f"{sample.group.name} {100 * curve['mean'][middle]:.1f} %")
    return f"At the middle radius, high frequencies removed: {', '.join(texts)}."


def heat_maps(found: Sequence[Sample], what: str, suffix: str) -> Drawing | None:
    """Fourier heat maps: the error under a perturbation of each frequency, and against dense."""
    found = with_part(found, "heat_map")
    if not found:
        return None
    maps = []
    for sample in found:
        squares = [_square(run) for run in sample.of("heat_map")]
        alike = [square for square in squares if square.shape == squares[0].shape]
        maps.append((sample, sample.of("heat_map")[0], np.mean(alike, axis=0)))
    against = [
        (place, sample, run, square - base)
        for place, (sample, run, square) in enumerate(maps)
        for base in _bases(sample, run, square, maps)[:1]
    ]
    figure, bands = small_multiples(2 if against else 1, len(maps))
    top = max(10.0, *(float(np.nanmax(100 * square)) for *_, square in maps))
    for ax, (sample, run, square) in zip(bands[0], maps, strict=True):
        shown = _show(ax, run, 100 * square, sample.group.name, "viridis", 0, top)
    figure.colorbar(shown, ax=bands[0], label="error, %", shrink=0.8)
    if against:
        limit = max(float(np.nanmax(np.abs(100 * square))) for *_, square in against) or 1.0
        chosen = [bands[1][place] for place, *_ in against]
        for ax, (_, sample, run, square) in zip(chosen, against, strict=True):
            text = f"{sample.group.name} minus dense"
            shown = _show(ax, run, 100 * square, text, "PuOr", -limit, limit)
        figure.colorbar(shown, ax=chosen, label="difference, pp", shrink=0.8)
    first = maps[0][1]
    step = int(np.diff(first["axis"]).min()) if len(first["axis"]) > 1 else 1
    thinned = f" Only every {step}. frequency was evaluated." if step > 1 else ""
    means = ", ".join(f"{s.group.name} {100 * np.nanmean(m):.1f} %" for s, _, m in maps)
    name = "fourier" + suffix
    return Drawing(
        name=name,
        heading="Fourier heat map",
        alt=f"Maps of the error under a perturbation of one frequency, for {_names(found)}. Mean "
        f"error over the map: {means}.",
        caption=f"{what}{sizes_text(found, 'heat_map')}, each channel plus or minus a wave of l2 "
        f"norm {float(first['norm']):.1f} (pixels in 0 to 1); frequency 0 in the middle.{thinned} "
        f"Mean over the map: {means}.",
        svg=to_svg(figure, name),
    )


def _bases(
    sample: Sample,
    run: Arrays,
    square: np.ndarray,
    maps: Sequence[tuple[Sample, Arrays, np.ndarray]],
) -> list[np.ndarray]:
    """The maps of the dense runs that a sparse group may be compared with."""
    return [
        base
        for other, theirs, base in maps
        if other.group.is_dense
        and not sample.group.is_dense
        and not differences(sample.group, other.group)
        and base.shape == square.shape
        and (theirs["n"], theirs["norm"]) == (run["n"], run["norm"])
    ]


def _square(run: Arrays) -> np.ndarray:
    """The map with its mirror images, from its distinct cells: [fy, fx]."""
    axis = run["axis"].tolist()
    return heat_map_square(int(run["size"]), axis, run["cells"], run["errors"])


def _show(ax, run: Arrays, values: np.ndarray, text: str, colours: str, low: float, high: float):
    axis = run["axis"]
    half = (axis[1] - axis[0]) / 2 if len(axis) > 1 else 0.5
    extent = (axis[0] - half, axis[-1] + half, axis[0] - half, axis[-1] + half)
    ax.set_visible(True)
    ax.set_title(text, loc="left")
    ax.set_xlabel("horizontal frequency")
    ax.set_ylabel("vertical frequency")
    return raster(ax, values, cmap=colours, vmin=low, vmax=high, extent=extent, origin="lower")


def noise(found: Sequence[Sample], what: str, suffix: str) -> Drawing | None:
    """Accuracy under noise of low or of high frequencies; the spectrum of first-layer kernels."""
    noisy, weighed = with_part(found, "noise"), with_part(found, "weights")
    if not noisy and not weighed:
        return None
    figure = new_figure(9.6, 3.2)
    panels = list(figure.subplots(1, 2 * bool(noisy) + bool(weighed), squeeze=False)[0])
    legend_from = panels[0]
    caption = []
    if noisy:
        for band in _BANDS:
            ax = panels.pop(0)
            plot(ax, curves(noisy, "noise", "bandwidths", band))
            ax.set_title(f"noise of {band} frequencies", loc="left")
            ax.set_xlabel("bandwidth, frequencies")
            ax.set_ylabel("accuracy, %")
            ax.set_ylim(0, 102)
        norm = float(noisy[0].of("noise")[0]["norm"])
        caption.append(
            f"{sizes_text(noisy, 'noise')} plus Gaussian noise that has only a band of "
            f"frequencies, of l2 norm {norm:g} whatever the bandwidth (pixels in 0 to 1)"
        )
    if weighed:
        ax = panels.pop(0)
        plot(ax, curves(weighed, "weights", "frequency", "power"), scale=1.0)
        ax.axhline(1, color="#7f7f7f", linewidth=0.8)
        ax.set_title("kernels of the first layer", loc="left")
        ax.set_xlabel("frequency, periods a pixel")
        ax.set_ylabel("power over white kernels'")
        ax.set_ylim(0, None)
        first = str(weighed[0].of("weights")[0]["first"])
        caption.append(
            f"power spectrum of {first}, averaged over rings, relative to its mean over all "
            "frequencies"
        )
    add_legend(figure, legend_from)
    name = "noise" + suffix
    return Drawing(
        name=name,
        heading="Noise of a band of frequencies, and what the first layer responds to",
        alt=f"Curves for {_names(noisy or weighed)}: accuracy against the bandwidth of noise of "
        "low and of high frequencies, and the radial power spectrum of the first layer's kernels.",
        caption=what + "; ".join(caption) + ".",
        svg=to_svg(figure, name),
    )


def _names(found: Sequence[Sample]) -> str:
    return ", ".join(sample.group.name for sample in found)


def _bands_caption(found: Sequence[Sample], part: str) -> str:
    most = max(len(sample.of(part)) for sample in found)
    return f" Bands are one standard deviation over up to {most} seeds." if most > 1 else ""
