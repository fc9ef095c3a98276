"""Conditions one after another, from the images that each needs: rendered, or of a prepared set.

Called by `evaluation`.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dst_jax.errors import RunError, UserError
from dst_jax.robustness import corrupted_images, images, whole_videos
from dst_jax.robustness.engine import Engine, Predictions
from dst_jax.robustness.networks import Network, highest_confidence_of_probabilities
from dst_jax.robustness.predict_functions import Checked
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
        nothing = np.zeros(0, np.int32)
        self._facts = corrupted_images.CleanFacts(nothing, nothing)

    def clean(self, networks: Sequence[Network]) -> list[Predictions]:
        """The outcome of the clean images, a network each."""
        outcomes = self._engine.score(networks, self._clean(), [CLEAN])[CLEAN]
        self._facts = corrupted_images.CleanFacts(outcomes[0].id, outcomes[0].label)
        return outcomes

    def check_outputs(
        self, network: Network, checked: Checked, clean: Predictions, outputs: str
    ) -> None:
        """Refuses probabilities that are taken for logits, and what is declared to be some.

        Args:
          network: which.
          checked: its function.
          clean: its outcome of all clean images.
          outputs: one of `networks.OUTPUTS`, what it shall give.

        Raises:
          UserError: it gives the other.
        """
        option = "--outputs=probabilities" if self._prefix == "--" else 'outputs="probabilities"'
        if (clean.confidence < 0).any():
            found = f"{clean.problem} of the clean ones"
            raise UserError(checked.where, found, f"probabilities, as {option} says, or logits")
        if outputs == "logits" and self._gives_probabilities(network, clean, checked.classes):
            found = "rows without a negative number and with the sum 1, probabilities,"
            found = f"{found} for all {len(clean.id):,} clean images"
            raise UserError(checked.where, found, f"logits, or {option}")

    def _gives_probabilities(self, network: Network, clean: Predictions, classes: int) -> bool:
        if clean.confidence.max() > highest_confidence_of_probabilities(classes):
            return False  # probabilities that are taken for logits are never so sure
        highest = 0
        for batch in self._clean():
            kinds = network.kinds(batch.rows["image"])[batch.real]
            if kinds.size and not kinds.min():
                return False  # as a rule in the first batch
            highest = max(highest, *kinds.tolist())
        return highest == 2

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
        if self._plan.files and wanted:
            corrupted_images.check_clean(
                self._source, self._plan, self._facts, self._clean(), self._prefix
            )
        if self._plan.prepared or self._plan.files:
            for condition, names in wanted.items():
                chosen = [networks[name] for name in names]
                outcomes = self._of_files(chosen, condition, data_dir, cache_dir)
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
                    *(self._source.dataset, asked, self._plan.seed, self._facts.id, size),
                    *(data_dir, cache_dir),
                )
                found = whole_videos.score(self._engine, chosen, batches, self._devices)
            else:
                found = self._engine.score(chosen, self._clean(), asked)
            for condition, outcomes in found.items():
                yield condition, dict(zip(names, outcomes, strict=True))

    def _of_files(
        self, networks: Sequence[Network], condition: Condition, data_dir: Any, cache_dir: Any
    ) -> list[Predictions]:
        batches = corrupted_images.batches(
            *(self._source, self._plan, condition, self._facts),
            self._size * self._devices.count,
            *(data_dir, cache_dir, self._prefix),
        )
        placed = (images.put(batch, self._devices) for batch in batches)
        outcomes = self._engine.score(networks, placed, [CLEAN])[CLEAN]
        outcome, count = outcomes[0], len(self._facts.id)  # the images are the same
        if len(outcome.id) != count:
            where = f"{self._plan.prepared or self._plan.files} {' '.join(map(str, condition))}"
            raise RunError(f"{where}: {len(outcome.id)} images scored, {count} expected")
        found = corrupted_images.CleanFacts(outcome.id, outcome.label)
        corrupted_images.check(self._plan, condition, self._facts, found)
        return outcomes
