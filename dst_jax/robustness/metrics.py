"""The numbers that follow from accuracies and confidences: mCE and ECE.

NumPy on the host, float64; no files and no JAX. Called by `result` and `result_writer`, and by
users with accuracies of other origin. Intervals are in `dst_jax.statistics`.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

# Top-1 error of AlexNet on ImageNet-C, mean over the five severities: the normaliser of mCE
# (Hendrycks & Dietterich 2019, as their repository gives it).
ALEXNET_ERRORS = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
# Of the same network (torchvision's) on the clean validation images; the paper rounds it to 43.5 %.
ALEXNET_CLEAN_ERROR = 0.4348

BINS = 15


def mean_corruption_error(errors: Mapping[str, Sequence[float]]) -> float:
    """The mCE (Hendrycks & Dietterich 2019, section 4.1), in percent; 100 for AlexNet itself.

    CE of a corruption is the sum of the top-1 errors over the five severities over the same sum for
    AlexNet; mCE is the mean of the 15.

    Args:
      errors: corruption -> its five errors in [0, 1]; exactly the 15 of ImageNet-C.
    """
    _check_table(errors)
    ratios = [
        math.fsum(errors[name]) / math.fsum([alexnet] * 5)
        for name, alexnet in ALEXNET_ERRORS.items()
    ]
    return 100 * math.fsum(ratios) / len(ratios)


def relative_mean_corruption_error(
    errors: Mapping[str, Sequence[float]], clean_error: float
) -> float:
    """Relative mCE (the same section): as mCE, of errors less the error on clean images."""
    _check_table(errors)
    ratios = [
        math.fsum(error - clean_error for error in errors[name])
        / math.fsum([alexnet - ALEXNET_CLEAN_ERROR] * 5)
        for name, alexnet in ALEXNET_ERRORS.items()
    ]
    return 100 * math.fsum(ratios) / len(ratios)


def _check_table(errors: Mapping[str, Sequence[float]]) -> None:
    if set(errors) != set(ALEXNET_ERRORS) or any(len(row) != 5 for row in errors.values()):
        raise ValueError(
            f"errors: found {len(errors)} corruptions; expected the 15 of ImageNet-C, five errors "
            "each"
        )


def bin_of(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Int64 [N]: the bin of equal width that a confidence [N] in [0, 1] falls in.

    The bins are (0, 1/bins], (1/bins, 2/bins], ...; 0 is counted in the first.
    """
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """ECE with 15 bins of equal width (Naeini et al. 2015; Guo et al. 2017, equation 3).

    The sum over bins of `n_bin / N * |accuracy of the bin - mean confidence of the bin|`. The bins
    are (0, 1/15], (1/15, 2/15], ...; confidence is the largest softmax probability.

    Args:
      confidence: [N], in [0, 1].
      correct: [N] bool.

    Returns:
      ECE in [0, 1].
    """
    confidence = np.asarray(confidence, np.float64)
    which = bin_of(confidence, BINS)
    surplus = np.bincount(which, np.asarray(correct, np.float64) - confidence, BINS)
    return float(np.abs(surplus).sum() / len(confidence))
