"""Results made of plain numbers, for tests that render nothing."""

import numpy as np

from dst_jax.robustness.metrics import ALEXNET_ERRORS, expected_calibration_error
from dst_jax.robustness.records import CLEAN, Condition, CorrectBits, Score
from dst_jax.robustness.result import Result

SETTING = ("c", "rendered+jpeg85", "imagenet224", 0)
GRID = [Condition(name, severity) for name in ALEXNET_ERRORS for severity in range(1, 6)]


def of_accuracies(accuracies, clean=0.75, dataset="imagenet2012", n=1000, setting=SETTING):
    """A result without per-image record: condition -> accuracy."""
    suite, source, preset, seed = setting
    rows = {CLEAN: clean, **accuracies}
    return Result(
        dataset,
        tuple(Score(suite, source, *c, n, a, 0.1, preset, seed, "cafe") for c, a in rows.items()),
    )


def of_hits(hits, clean=None, labels=None, setting=SETTING, dataset="imagenet2012"):
    """A result of bool [N] per condition."""
    suite, source, preset, seed = setting
    n = len(next(iter(hits.values())))
    hits = {CLEAN: np.ones(n, bool) if clean is None else clean, **hits}
    labels = np.zeros(n, np.int32) if labels is None else labels
    ids = np.arange(n, dtype=np.int32)
    ece = {c: expected_calibration_error(np.full(n, 0.5), h) for c, h in hits.items()}
    records = {c: CorrectBits.pack(h, ids, labels) for c, h in hits.items()}
    images = f"{records[CLEAN].images:08x}"
    rows = [
        Score(suite, source, *c, n, float(h.mean()), ece[c], preset, seed, images)
        for c, h in hits.items()
    ]
    return Result(dataset, tuple(rows), records)


def metrics_15() -> tuple[str, ...]:
    """The corruptions of ImageNet-C."""
    return tuple(ALEXNET_ERRORS)
