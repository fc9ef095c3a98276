"""Turns recorded draws into ours where the form differs; the recorded numbers stay what they are."""

import numpy as np

from dst_jax.corruptions.constants import ROWS
from dst_jax.corruptions.noise import poisson_tables


def shot_noise(draws, image, severity, preset):
    """Counts -> a uniform number that inverts to the same count."""
    cumulative = poisson_tables(ROWS["shot_noise"][preset])[0][severity - 1].astype(np.float32)
    photons = ROWS["shot_noise"][preset][severity - 1]
    counts = np.minimum(draws["counts"], photons)
    upper = cumulative[image, counts]
    lower = np.where(counts > 0, cumulative[image, np.maximum(counts - 1, 0)], 0.0)
    return {"u": ((lower.astype(np.float64) + upper) / 2).astype(np.float32)}


ADAPT = {"shot_noise": shot_noise}
