"""mCE by hand, ECE against a loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dst_jax.robustness import metrics

ALEXNET = {name: [error] * 5 for name, error in metrics.ALEXNET_ERRORS.items()}


def test_alexnet_is_100_percent():
    assert metrics.mean_corruption_error(ALEXNET) == 100
    relative = metrics.relative_mean_corruption_error(ALEXNET, metrics.ALEXNET_CLEAN_ERROR)
    assert relative == pytest.approx(100, abs=1e-9)


def test_mce_by_hand():
    # Half of AlexNet's errors for all but fog, whose errors sum to 2.5 over the severities:
    # CE of fog = 2.5 / (5 * 0.819324) = 0.610259; mCE = (14 * 0.5 + 0.610259) / 15 = 50.7351 %.
    errors = {name: [value / 2 for value in row] for name, row in ALEXNET.items()}
    errors["fog"] = [0.3, 0.4, 0.5, 0.6, 0.7]
    assert metrics.mean_corruption_error(errors) == pytest.approx(50.7351, abs=1e-4)


def test_relative_mce_by_hand():
    # Each error is 0.2 above a clean error of 0.1, so each ratio is 0.2 / (AlexNet's - 0.4348).
    errors = {name: [0.3] * 5 for name in ALEXNET}
    ratios = [0.2 / (row[0] - 0.4348) for row in ALEXNET.values()]
    found = metrics.relative_mean_corruption_error(errors, 0.1)
    assert found == pytest.approx(100 * sum(ratios) / 15)


def test_the_published_resnet50_comes_out():
    # CE of torchvision's ResNet-50 in whole percent, of table 1 of Hendrycks & Dietterich 2019,
    # whose mCE is 76.7; the errors follow from them by AlexNet's.
    rounded = [80, 82, 83, 75, 89, 78, 80, 78, 75, 66, 57, 71, 85, 77, 77]
    errors = {
        name: [ce / 100 * row[0]] * 5
        for ce, (name, row) in zip(rounded, ALEXNET.items(), strict=True)
    }
    assert metrics.mean_corruption_error(errors) == pytest.approx(76.7, abs=0.5)


@pytest.mark.parametrize("change", ["one less", "four severities", "one more"])
def test_mce_is_of_the_15_by_5_only(change):
    errors = dict(ALEXNET)
    if change == "one less":
        del errors["fog"]
    elif change == "four severities":
        errors["fog"] = errors["fog"][:4]
    else:
        errors["saturate"] = [0.5] * 5
    with pytest.raises(ValueError, match="the 15 of ImageNet-C"):
        metrics.mean_corruption_error(errors)
    with pytest.raises(ValueError, match="the 15 of ImageNet-C"):
        metrics.relative_mean_corruption_error(errors, 0.2)


def loop_ece(confidence, correct):
    total = 0.0
    for index in range(15):
        inside = [
            (float(c), bool(k))
            for c, k in zip(confidence, correct, strict=True)
            if index / 15 < c <= (index + 1) / 15 or (index == 0 and c == 0)
        ]
        if inside:
            accuracy = sum(k for _, k in inside) / len(inside)
            mean = sum(c for c, _ in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean)
    return total


# A bin's edge k / 15 is no float32: which side it falls on is not what is tested here.
CONFIDENCE = st.floats(0, 1, width=32).filter(
    lambda c: abs(c * 15 - round(c * 15)) > 1e-5 or c == 1
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(CONFIDENCE, st.booleans()), min_size=1, max_size=40))
def test_ece_is_the_loop(pairs):
    confidence = np.array([c for c, _ in pairs], np.float32)
    correct = np.array([k for _, k in pairs])
    found = metrics.expected_calibration_error(confidence, correct)
    assert found == pytest.approx(loop_ece(confidence, correct), abs=1e-12)


def test_ece_by_hand():
    # Two images in one bin, confidence 0.9, one right: 2/3 * |0.5 - 0.9|; one at 0.2, wrong.
    found = metrics.expected_calibration_error(
        np.array([0.9, 0.9, 0.2]), np.array([True, False, False])
    )
    assert found == pytest.approx(2 / 3 * 0.4 + 1 / 3 * 0.2)
