"""Numbers that need the record of which images were right: intervals and paired differences.

Images are what is drawn, each with all its conditions and with all models' answers. They tell how
much of a number is due to the choice of test images. No files and no JAX. Called by `result`.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from dst_jax.data.benchmarks import SEVERITIES
from dst_jax.errors import UserError
from dst_jax.robustness import metrics
from dst_jax.robustness.records import CLEAN, Condition, Setting
from dst_jax.statistics import Interval, bootstrap, bootstrap_columns

if TYPE_CHECKING:
    from dst_jax.robustness.result import Result


def share_correct(result: "Result", conditions: Iterable[Condition] | None) -> np.ndarray:
    """See `Result.share_correct`."""
    wanted = list(result.counted if conditions is None else conditions)
    lost = [condition for condition in wanted if condition not in result.hits]
    if lost or not wanted:
        raise UserError(
            "robustness.npz",
            f"no record of {lost[0].corruption} {lost[0].severity}" if lost else "no condition",
            "which images were right, for every condition",
            "Evaluate it again with the same path",
        )
    if len({result.hits[condition].images for condition in wanted}) > 1:
        raise UserError("robustness.npz", "other images under some conditions", "the same")
    total = np.zeros(result.n, np.int64)
    for condition in wanted:
        total += result.hits[condition].unpack(result.n)
    return total / len(wanted)


def interval(result: "Result", conditions: Iterable[Condition] | None, **options: Any) -> Interval:
    """See `Result.interval`."""
    return bootstrap(share_correct(result, conditions), **options)


def intervals(result: "Result", **options: Any) -> dict[str, Interval]:
    """See `Result.intervals`."""
    names, shares = _columns(result)
    return dict(zip(names, bootstrap_columns(shares, **options), strict=True))


def difference(
    ours: "Result", theirs: "Result", conditions: Iterable[Condition] | None, **options: Any
) -> Interval:
    """See `Result.difference`."""
    ours.check_same(theirs)
    wanted = list(ours.counted if conditions is None else conditions)
    shares = share_correct(ours, wanted), share_correct(theirs, wanted)
    _check_images(ours, theirs, wanted[0])
    return bootstrap(shares[0] - shares[1], **options)


def differences(ours: "Result", theirs: "Result", **options: Any) -> dict[str, Interval]:
    """See `Result.differences`."""
    ours.check_same(theirs)
    (names, mine), (_, others) = _columns(ours), _columns(theirs)
    for condition in ours.hits:
        _check_images(ours, theirs, condition)
    return dict(zip(names, bootstrap_columns(mine - others, **options), strict=True))


def _columns(result: "Result") -> tuple[list[str], np.ndarray]:
    """Names, and for each the share of its conditions under which an image is right: [N, names]."""
    groups: dict[str, list[Condition]] = {}
    if result.clean_accuracy is not None:
        groups["clean"] = [CLEAN]
    for condition in result.conditions:
        groups.setdefault(condition.corruption, []).append(condition)
    if result.counted:
        groups["robust"] = list(result.counted)
    return list(groups), np.stack([share_correct(result, c) for c in groups.values()], -1)


def _check_images(ours: "Result", theirs: "Result", condition: Condition) -> None:
    if ours.hits[condition].images != theirs.hits[condition].images:
        raise UserError("other result", "other images", "the same images in both")


def mce_interval(result: "Result", **options: Any) -> Interval | None:
    """See `Result.mce_interval`: mCE is a mean over images, each with its share of it."""
    if result.why_no_mce:
        return None
    total = np.zeros(result.n)
    for name, alexnet in metrics.ALEXNET_ERRORS.items():
        right = share_correct(result, [Condition(name, level) for level in SEVERITIES])
        total += (1 - right) / alexnet
    return bootstrap(100 * total / len(metrics.ALEXNET_ERRORS), **options)


def check_same(result: "Result", other: "Result") -> None:
    """See `Result.check_same`."""
    mine, others = result.setting, other.setting
    for what, ours, theirs in (
        ("dataset", result.dataset, other.dataset),
        *((f, getattr(mine, f), getattr(others, f)) for f in Setting._fields[:4]),
        ("number of images", result.n, other.n),
        ("images", mine.images, others.images),
        ("conditions", {r.condition for r in result.scores}, {r.condition for r in other.scores}),
    ):
        if ours != theirs:
            told = what not in ("conditions", "images")
            raise UserError(
                f"other result: {what}",
                repr(theirs) if told else f"other {what}",
                repr(ours) if told else "the same as here",
            )
