"""Turns recorded draws into ours where the form differs; the numbers stay what they are."""

import numpy as np

from dst_jax.corruptions.constants import ROWS
from dst_jax.corruptions.noise import poisson_tables


def shot_noise(draws, image, row, rows):
    """Counts -> a uniform number that inverts to the same count."""
    cumulative = poisson_tables(rows)[0][rows.index(row)].astype(np.float32)
    counts = np.minimum(draws["counts"], row)
    upper = cumulative[image, counts]
    lower = np.where(counts > 0, cumulative[image, np.maximum(counts - 1, 0)], 0.0)
    return {"u": ((lower.astype(np.float64) + upper) / 2).astype(np.float32)}


def glass_blur(draws, image, row, rows):
    """Offsets in visiting order, last pixel first -> offsets at their pixels, all sweeps."""
    H, W, _ = image.shape
    _, delta, sweeps = row
    offsets = np.zeros((max(r[2] for r in rows), H, W, 2), np.int32)
    visiting = draws["off"][:, ::-1, ::-1]
    offsets[:sweeps, delta + 1 : H - delta + 1, delta + 1 : W - delta + 1] = visiting
    return {"offsets": offsets}


def fog(draws, image, row, rows):
    """The arrays of the levels -> one flat array."""
    return {"u": np.concatenate([draws[key].reshape(-1) for key in sorted(draws)])}


def elastic_transform(draws, image, row, rows):
    """Shifts in pixels -> shares of the jitter."""
    points = (draws["pts"] / row[2]).astype(np.float32)
    return {"points": points, "ux": draws["ux"], "uy": draws["uy"]}


def adapt(name, draws, image, severity, preset):
    rows = ROWS[name][preset]
    function = {
        "shot_noise": shot_noise,
        "glass_blur": glass_blur,
        "fog": fog,
        "elastic_transform": elastic_transform,
    }.get(name)
    return draws if function is None else function(draws, image, rows[severity - 1], rows)
