"""Conditions one after another, from the images that each needs: rendered, or of a prepared set.

Called by `evaluation`.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dst_jax.errors import RunError, UserError
from dst_jax.robustness import images, whole_videos
from dst_jax.robustness.engine import Engine, Network, Predictions
from dst_jax.robustness.records import CLEAN, Condition
from dst_jax.robustness.suites import Plan
from dst_jax.runtime.devices import Devices


class Scorer:
    """Conditions one after another, from the images that each needs."""

    def __init__(
        self,
        engine: Engine,
        plan: Plan,
        source: images.Source,
        devices: Devices,
        size: int,
        prefix: str,
    ):
        self._engine, self._plan, self._source = engine, plan, source
        self._devices, self._size, self._prefix = devices, size, prefix
        self._clean = images.CleanImages(source, devices, size)
        self._count, self._labels = 0, np.zeros(0, np.int32)
        self._ids = np.zeros(0, np.int32)

    def clean(self, networks: Sequence[Network]) -> list[Predictions]:
        """The outcome of the clean images, a network each."""
        outcomes = self._engine.score(networks, self._clean(), [CLEAN])[CLEAN]
        self._count, self._labels = len(outcomes[0].id), outcomes[0].label
        self._ids = outcomes[0].id
        return outcomes

    @property
    def pixels(self) -> int:
        """Checksum of the caller's own images, 0 for those of a named dataset."""
        return self._clean.checksum

    def conditions(
        self,
        networks: Mapping[str, Network],
        missing: Mapping[str, Collection[Condition]],
        data_dir: Any,
        cache_dir: Any,
    ) -> Iterator[tuple[Condition, dict[str, Predictions]]]:
        """Yields each condition that is missing of any network, with the outcomes of those."""
        wanted: dict[Condition, tuple[str, ...]] = {}
        for condition in self._plan.conditions:
            if names := tuple(name for name in networks if condition in missing[name]):
                wanted[condition] = names
        if self._plan.prepared:
            for condition, names in wanted.items():
                chosen = [networks[name] for name in names]
                outcomes = self._of_prepared(chosen, condition, data_dir, cache_dir)
                yield condition, dict(zip(names, outcomes, strict=True))
            return

        def together(item: tuple[Condition, tuple[str, ...]]) -> tuple:
            # Where reading is dear, all severities of a corruption in one pass.
            alone = self._clean.kept and not self._plan.reads_whole_videos(item[0].corruption)
            return (item[0] if alone else item[0].corruption, item[1])

        for (_, names), items in itertools.groupby(wanted.items(), key=together):
            chosen, asked = [networks[name] for name in names], [c for c, _ in items]
            if self._plan.reads_whole_videos(asked[0].corruption):
                size = self._size * self._devices.count
                batches = whole_videos.batches(
                    *(self._source.dataset, asked, self._plan.seed, self._ids, size),
                    *(data_dir, cache_dir),
                )
                found = whole_videos.score(self._engine, chosen, batches, self._devices)
            else:
                found = self._engine.score(chosen, self._clean(), asked)
            for condition, outcomes in found.items():
                yield condition, dict(zip(names, outcomes, strict=True))

    def _of_prepared(
        self, networks: Sequence[Network], condition: Condition, data_dir: Any, cache_dir: Any
    ) -> list[Predictions]:
        assert self._source.dataset is not None
        batches = images.prepared_batches(
            self._source.dataset,
            condition,
            self._plan.prepared,
            self._count,
            self._size * self._devices.count,
            data_dir,
            cache_dir,
        )
        placed = (images.put(batch, self._devices) for batch in batches)
        outcomes = self._engine.score(networks, placed, [CLEAN])[CLEAN]
        outcome = outcomes[0]  # the images are the same
        where = f"{self._plan.prepared} {condition.corruption} {condition.severity}"
        if len(outcome.id) != self._count:
            raise RunError(f"{where}: {len(outcome.id)} images scored, {self._count} expected")
        if not np.array_equal(np.sort(outcome.label), np.sort(self._labels)):
            raise UserError(
                f"{self._prefix}max_images",
                f"{self._count}, but the first images of {where} are not those of the clean set",
                "all images (0) where a prepared set has an order of its own",
                f"Or use {self._prefix}source=rendered",
            )
        return outcomes
