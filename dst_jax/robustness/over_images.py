"""Numbers that need the record of which images were right: intervals and paired differences.

A part of `Result`. Images are what is drawn, each with all its conditions and with all models'
answers. They tell how much of a number is due to the choice of test images. No files and no JAX.
Called by `result`.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dst_jax.data.benchmarks import SEVERITIES
from dst_jax.errors import UserError
from dst_jax.robustness import metrics
from dst_jax.robustness.records import CLEAN, Condition, CorrectBits, Score, Setting
from dst_jax.statistics import Interval, bootstrap, bootstrap_columns


class ImageNumbers:
    """What `Result` makes of its records; UserError where one that is needed is lost."""

    dataset: str
    scores: tuple[Score, ...]
    hits: Mapping[Condition, CorrectBits]
    if TYPE_CHECKING:  # see `Result`

        @property
        def setting(self) -> Setting: ...  # noqa: D102
        @property
        def n(self) -> int: ...  # noqa: D102
        @property
        def conditions(self) -> tuple[Condition, ...]: ...  # noqa: D102
        @property
        def counted(self) -> tuple[Condition, ...]: ...  # noqa: D102
        @property
        def clean_accuracy(self) -> float | None: ...  # noqa: D102
        @property
        def why_no_mce(self) -> str: ...  # noqa: D102

    def difference(
        self, other: "ImageNumbers", conditions: Iterable[Condition] | None = None, **options: Any
    ) -> Interval:
        """Robust accuracy minus the other's, with a bootstrap interval; see `bootstrap`.

        Paired and clustered by image: an image is drawn with all its conditions, for both models.

        Args:
          other: scored on the same conditions of the same images.
          conditions: the mean is over these; None: those of the benchmark.
          **options: of `bootstrap`.

        Raises:
          UserError: the two were not scored on the same conditions of the same images.
        """
        self.check_same(other)
        wanted = list(self.counted if conditions is None else conditions)
        shares = self.share_correct(wanted), other.share_correct(wanted)
        _check_images(self, other, wanted[0])
        return bootstrap(shares[0] - shares[1], **options)

    def differences(self, other: "ImageNumbers", **options: Any) -> dict[str, Interval]:
        """The same for clean images ("clean"), each corruption and the benchmark ("robust").

        All intervals come from the same draws. Each is a 95 % interval by itself.
        """
        self.check_same(other)
        (names, mine), (_, others) = _columns(self), _columns(other)
        for condition in self.hits:
            _check_images(self, other, condition)
        return dict(zip(names, bootstrap_columns(mine - others, **options), strict=True))

    def same_answers(self, other: "ImageNumbers") -> bool:
        """Whether the other has the same record of which images were right, under all conditions.

        Two trainings do not: it is one training twice. False where a record is lost.
        """
        scored = {row.condition for row in self.scores}
        if set(self.hits) != scored or set(other.hits) != scored:
            return False
        return all(np.array_equal(h.bits, other.hits[c].bits) for c, h in self.hits.items())

    def interval(self, conditions: Iterable[Condition] | None = None, **options: Any) -> Interval:
        """Robust accuracy with a bootstrap interval, clustered by image; see `bootstrap`.

        It tells how much of it is due to the choice of test images, and nothing about another
        training with another seed: see `over_seeds`.

        Args:
          conditions: the mean is over these; None: those of the benchmark.
          **options: of `bootstrap`.
        """
        return bootstrap(self.share_correct(conditions), **options)

    def intervals(self, **options: Any) -> dict[str, Interval]:
        """The same for clean images ("clean"), each corruption and the benchmark ("robust")."""
        names, shares = _columns(self)
        return dict(zip(names, bootstrap_columns(shares, **options), strict=True))

    def mce_interval(self, **options: Any) -> Interval | None:
        """The mCE in percent with a bootstrap interval over images; None where it is not defined.

        It is a mean over images, each with its share of it. AlexNet's errors, which it is divided
        by, count as exact.
        """
        if self.why_no_mce:
            return None
        total = np.zeros(self.n)
        for name, alexnet in metrics.ALEXNET_ERRORS.items():
            right = self.share_correct([Condition(name, level) for level in SEVERITIES])
            total += (1 - right) / alexnet
        return bootstrap(100 * total / len(metrics.ALEXNET_ERRORS), **options)

    def share_correct(self, conditions: Iterable[Condition] | None = None) -> np.ndarray:
        """The share of the benchmark's conditions under which each image is right: float64 [N].

        Args:
          conditions: these instead.

        Raises:
          UserError: the per-image record of a condition is lost, or the conditions do not share
            their images.
        """
        wanted = list(self.counted if conditions is None else conditions)
        lost = [condition for condition in wanted if condition not in self.hits]
        if lost or not wanted:
            raise UserError(
                "robustness.npz",
                f"no record of {lost[0].corruption} {lost[0].severity}" if lost else "no condition",
                "which images were right, for every condition",
                "Evaluate it again with the same path",
            )
        if len({self.hits[condition].images for condition in wanted}) > 1:
            raise UserError("robustness.npz", "other images under some conditions", "the same")
        total = np.zeros(self.n, np.int64)
        for condition in wanted:
            total += self.hits[condition].unpack(self.n)
        return total / len(wanted)

    def check_same(self, other: "ImageNumbers") -> None:
        """Raises UserError unless the other was scored on the same conditions and images.

        Args:
          other: another self.
        """
        mine, others = self.setting, other.setting
        for what, ours, theirs in (
            ("dataset", self.dataset, other.dataset),
            *((f, getattr(mine, f), getattr(others, f)) for f in Setting._fields[:4]),
            ("number of images", self.n, other.n),
            ("images", mine.images, others.images),
            ("conditions", *({row.condition for row in r.scores} for r in (self, other))),
        ):
            if ours != theirs:
                told = what not in ("conditions", "images")
                raise UserError(
                    f"other result: {what}",
                    repr(theirs) if told else f"other {what}",
                    repr(ours) if told else "the same as here",
                )


def _columns(result: "ImageNumbers") -> tuple[list[str], np.ndarray]:
    """Names, and for each the share of its conditions under which an image is right: [N, names]."""
    groups: dict[str, list[Condition]] = {}
    if result.clean_accuracy is not None:
        groups["clean"] = [CLEAN]
    for condition in result.conditions:
        groups.setdefault(condition.corruption, []).append(condition)
    if result.counted:
        groups["robust"] = list(result.counted)
    return list(groups), np.stack([result.share_correct(c) for c in groups.values()], -1)


def _check_images(ours: "ImageNumbers", theirs: "ImageNumbers", condition: Condition) -> None:
    if ours.hits[condition].images != theirs.hits[condition].images:
        raise UserError("other result", "other images", "the same images in both")
