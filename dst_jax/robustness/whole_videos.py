"""Scores perturbations along time: of the whole video, of which the network's clip is then taken.

The published evaluation does so (Schiappa et al. 2023). Eight frames that were taken before cannot
be jumbled in boxes of nine, nor be sampled to every 32nd. Called by `scorer`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from dst_jax.corruptions import video
from dst_jax.data import Dataset
from dst_jax.data.perturbed_clips import perturbed_clips
from dst_jax.robustness import images
from dst_jax.robustness.engine import Engine, Predictions
from dst_jax.robustness.networks import Network
from dst_jax.robustness.records import CLEAN, Condition
from dst_jax.runtime.devices import Devices

# Condition -> a batch in the format of `data.eval_batches`, of the same clips for each condition
Batches = dict[Condition, images.HostBatch]


def batches(
    dataset: Dataset | None,
    conditions: Sequence[Condition],
    seed: int,
    ids: np.ndarray,
    size: int,
    data_dir: Any,
    cache_dir: Any,
) -> Iterator[Batches]:
    """The clips of perturbed videos, all conditions in one reading.

    Args:
      dataset: of videos, with `Plan.reads_whole_videos`.
      conditions: all along time.
      seed: of the evaluation.
      ids: int [N], the numbers of the videos.
      size: clips of a batch over all devices.
      data_dir: where TFDS datasets are prepared.
      cache_dir: where decoded arrays are cached.
    """
    assert dataset is not None

    def orders(length: int, number: int) -> list[np.ndarray]:
        return [
            video.frame_order(condition.corruption, length, number, condition.severity, seed)
            for condition in conditions
        ]

    for batch in perturbed_clips(dataset, orders, ids.tolist(), size, data_dir, cache_dir):
        yield {
            condition: {**batch, "image": batch["image"][:, index]}
            for index, condition in enumerate(conditions)
        }


def score(
    engine: Engine, networks: Sequence[Network], batches: Iterable[Batches], devices: Devices
) -> dict[Condition, list[Predictions]]:
    """What `Engine.score` gives, of clips as they are."""
    parts: dict[Condition, list[list[Predictions]]] = {}
    for batch in batches:
        for condition, host in batch.items():
            placed = images.put(host, devices)
            found = engine.score(networks, [placed], [CLEAN])[CLEAN]
            parts.setdefault(condition, []).append(found)
    return {
        condition: [_joined(of_network) for of_network in zip(*found, strict=True)]
        for condition, found in parts.items()
    }


def _joined(parts: Sequence[Predictions]) -> Predictions:
    """Predictions of all batches; fields that are not kept stay None."""
    fields: list[Any] = [
        None if of[0] is None else np.concatenate(of) for of in zip(*parts, strict=True)
    ]
    return Predictions(*fields)
