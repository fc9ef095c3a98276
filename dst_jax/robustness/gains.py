"""Several results together: means over seeds, and the gain of one set of trainings over another.

One result is in `result`. No JAX, no files. Called by whoever has trained several seeds, and by the
report, which shows these numbers and computes none of its own.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from dst_jax.errors import UserError
from dst_jax.robustness.result import Result
from dst_jax.statistics import (
    Difference,
    Estimate,
    Interval,
    bootstrap,
    difference,
    estimate,
    paired_difference,
)

_MEANS = ("clean_accuracy", "robust_accuracy", "mce", "relative_mce", "clean_ece", "mean_ece")


class Gain(NamedTuple):
    """What one set of trainings has over another in robust accuracy.

    Attributes:
      absolute: difference of the means over seeds, in [-1, 1].
      relative: that over the other's mean (Wu et al. 2025, footnote 2); None where that is 0.
      over_seeds: t interval of the difference, `paired` by seed or not (see `gain`); None where a
        side has one seed, or there is no spread.
      over_images: paired bootstrap interval over the test images, of these trainings; None where
        which images were right is not on record.
    """

    absolute: float
    relative: float | None
    over_seeds: Difference | None
    over_images: Interval | None


def over_seeds(results: Sequence[Result]) -> dict[str, Estimate]:
    """Mean and sample standard deviation (n - 1) of every number over several trainings.

    Args:
      results: of models that differ in the seed of their training, scored alike. They may differ in
        the seed of the corruptions too: of one model they give the mean over corruption seeds, and
        the spread is that of the random draws alone; of several, each with a seed of its own, that
        of both together.

    Returns:
      Name of a number, as `Result.summary` has it, -> mean, std and n; of those of corruptions and
      categories "by_corruption/fog", "by_category/noise". Numbers that are not defined are left
      out.

    Raises:
      UserError: there is none, one is there twice, or they were not scored alike.
    """
    _check_alike([_of_seed(result, 0) for result in results], "over_seeds")
    for seed in {result.setting.seed for result in results}:
        same = [result for result in results if result.setting.seed == seed]
        _check_samples(same, "over_seeds")
    tables = [dict(_numbers(result)) for result in results]
    found = {name: estimate([table[name] for table in tables]) for name in tables[0]}
    return {name: value for name, value in found.items() if value}


def gain(
    ours: Sequence[Result],
    theirs: Sequence[Result],
    *,
    seeds: tuple[Sequence[int | None], Sequence[int | None]] | None = None,
) -> Gain:
    """The gain in robust accuracy of one set of trainings over another.

    With the seeds of the trainings, `gain(sparse, dense, seeds=([0, 1, 2], [0, 1, 2]))`, the
    interval over seeds is that of the differences of the runs of the same seed
    (`statistics.paired_difference`), if both sides have the same seeds, in whatever order. If they
    have not, even if they share some, or without `seeds`, the sides count as independent
    (`statistics.difference`). `over_seeds.paired` of the result says which it was.

    Args:
      ours: one result per seed.
      theirs: of the baseline, one result per seed; the numbers of seeds may differ.
      seeds: of the trainings of `ours` and of `theirs`, in their order: the number that decided
        initial weights and data order, None where it is not known (then nothing is paired).

    Raises:
      UserError: a side has none or one twice, they were not all scored on the same conditions and
        images, or `seeds` is not one seed a result, each once on a side.
    """
    if not ours or not theirs:
        raise UserError("gain", "no result on one side", "at least one on each")
    _check_alike([*ours, *theirs], "gain")
    for side in (ours, theirs):
        _check_samples(side, "gain")
    pairs = None if seeds is None else _pairs((ours, theirs), seeds)
    values = [[result.robust_accuracy for result in side] for side in (ours, theirs)]
    if any(value is None for side in values for value in side):
        raise UserError("gain", "a result without robust accuracy", "a scored condition")
    sides = [[float(value) for value in side if value is not None] for side in values]
    means = [float(np.mean(side)) for side in sides]
    absolute = means[0] - means[1]
    return Gain(
        absolute,
        absolute / means[1] if means[1] > 0 else None,
        difference(sides[0], sides[1])
        if pairs is None
        else paired_difference(sides[0], [sides[1][index] for index in pairs]),
        _over_images(ours, theirs),
    )


def _pairs(
    sides: tuple[Sequence[Result], Sequence[Result]],
    seeds: tuple[Sequence[int | None], Sequence[int | None]],
) -> list[int] | None:
    """For each of our results the index of theirs of the same seed; None unless all have one."""
    try:
        ours, theirs = (list(side) for side in seeds)
    except (TypeError, ValueError):
        raise UserError("gain: seeds", seeds, "(seeds of ours, seeds of theirs)") from None
    for name, side, results in zip(("ours", "theirs"), (ours, theirs), sides, strict=True):
        if len(side) != len(results):
            found = f"{len(side)} of {name}, which has {len(results)} results"
            raise UserError("gain: seeds", found, "one per result")
        known = [seed for seed in side if seed is not None]
        if twice := [seed for seed in known if known.count(seed) > 1]:
            raise UserError("gain: seeds", f"{twice[0]} twice in {name}", "each training once")
    if None in ours or set(ours) != set(theirs):
        return None
    return [theirs.index(seed) for seed in ours]


def _over_images(ours: Sequence[Result], theirs: Sequence[Result]) -> Interval | None:
    try:
        shares = [np.mean([r.share_correct() for r in side], axis=0) for side in (ours, theirs)]
    except UserError:  # a record is lost: the accuracies are still there
        return None
    images = {r.hits[r.counted[0]].images for side in (ours, theirs) for r in side}
    return bootstrap(shares[0] - shares[1]) if len(images) == 1 else None


def _of_seed(result: Result, seed: int) -> Result:
    """The same result, as if its corruptions had been drawn with that seed."""
    rows = tuple(row._replace(seed=seed) for row in result.scores)
    return dataclasses.replace(result, scores=rows)


def _check_alike(results: Sequence[Result], where: str) -> None:
    if not results:
        raise UserError(where, "no result", "at least one")
    for other in results[1:]:
        results[0].check_same(other)


def _check_samples(results: Sequence[Result], where: str) -> None:
    """Refuses one training that is given twice: it is no further sample."""
    for index, result in enumerate(results):
        for other in results[:index]:
            if result is other or result.same_answers(other):
                raise UserError(
                    where,
                    f"result {index} with the same answers on all images as another",
                    "each training once",
                )


def _numbers(result: Result) -> Iterable[tuple[str, float]]:
    for name in _MEANS:
        if (value := getattr(result, name)) is not None:
            yield name, value
    for group in ("by_category", "by_corruption", "by_severity"):
        for key, value in getattr(result, group).items():
            yield f"{group}/{key}", value
