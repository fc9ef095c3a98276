"""Scores a predict function on clean and corrupted images: top-1 accuracy a condition.

A condition is (corruption, severity); clean images are ("clean", 0). Corruptions are rendered on
the device from the clean images, their randomness keyed by (corruption, severity, image id), so
that batch size, order and number of devices change nothing. No image is dropped: the tail of a
dataset is padded with weight 0. For any `predict(images) -> logits`; `evaluate` applies it to our
runs.
"""

import csv
import functools
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dst_jax import corruptions
from dst_jax.corruptions import video
from dst_jax.data import VIDEO
from dst_jax.errors import UserError
from dst_jax.workdir import write_text

Predict = Callable[[jax.Array], jax.Array]
Batch = Mapping[str, Any]


class Condition(NamedTuple):
    """What images go through: a corruption's name and its severity 1..5, or ("clean", 0)."""

    corruption: str
    severity: int


CLEAN = Condition("clean", 0)


class Score(NamedTuple):
    """Top-1 accuracy, in [0, 1], over n images of one condition of a suite."""

    suite: str
    corruption: str
    severity: int
    n: int
    accuracy: float


@functools.partial(jax.jit, static_argnames=("name", "preset", "frost_dir"))
def _render(
    images: jax.Array,
    ids: jax.Array,
    severity: jax.Array,
    seed: int,
    *,
    name: str,
    preset: str,
    frost_dir: str | None,
) -> jax.Array:
    if preset == VIDEO:
        return video.perturb_batch(name, images, ids, severity, seed)
    keys = corruptions.example_keys(seed, name, severity, ids)
    return corruptions.corrupt(name, images, keys, severity, preset, frost_dir=frost_dir)


@jax.jit
def _correct(
    predict: Predict, images: jax.Array, labels: jax.Array, weights: jax.Array
) -> jax.Array:
    hits = (jnp.argmax(predict(images), -1) == labels) & (weights > 0)
    return jnp.sum(hits, dtype=jnp.int32)


def score(
    predict: Predict,
    batches: Callable[[], Iterable[Batch]],
    conditions: Sequence[Condition],
    *,
    preset: str,
    seed: int = 0,
    frost_dir: str | None = None,
    at_once: bool = False,
) -> Iterator[tuple[Condition, int, float]]:
    """Scores conditions rendered from clean images, one after another.

    Args:
      predict: maps images uint8 [B, H, W, 3] to logits [B, classes]. If it is a pytree (for example
        `jax.tree_util.Partial(function, variables)`), its weights are not compiled in as constants.
      batches: gives the clean images anew at each call, as {"image": uint8 [B, H, W, 3], "label":
        int32 [B], "id": int32 [B], "weight": float32 [B]}; weight 0 marks padding.
      conditions: what to score.
      preset: constants of the corruptions, one of `dst_jax.corruptions.PRESETS`.
      seed: seed of the corruptions.
      frost_dir: directory of the photographs of frost; only `frost` needs it.
      at_once: one pass over the images for all conditions (images that are costly to read) instead
        of one for each (images that lie on the device; a result as soon as possible).

    Yields:
      (condition, n, accuracy).
    """
    if not isinstance(predict, jax.tree_util.Partial):
        predict = jax.tree_util.Partial(predict)
    groups = [list(conditions)] if at_once else [[condition] for condition in conditions]
    for group in filter(None, groups):
        correct = dict.fromkeys(group, jnp.int32(0))
        seen = jnp.int32(0)
        for batch in batches():
            seen += jnp.sum(batch["weight"] > 0, dtype=jnp.int32)
            for condition in group:
                images = batch["image"]
                if condition != CLEAN:
                    images = _render(
                        images,
                        batch["id"],
                        condition.severity,
                        seed,
                        name=condition.corruption,
                        preset=preset,
                        frost_dir=frost_dir,
                    )
                correct[condition] += _correct(predict, images, batch["label"], batch["weight"])
        n = int(seen)  # the one wait for the device
        for condition in group:
            yield condition, n, int(correct[condition]) / n


def robust_accuracy(scores: Iterable[Score]) -> float:
    """Plain mean of accuracy over corruptions x severities (Wu et al. 2025, section 4.1)."""
    values = [row.accuracy for row in scores if row.corruption != CLEAN.corruption]
    return sum(values) / len(values)


def read_scores(path: Path) -> list[Score]:
    """Reads `robustness.csv`; an empty list if there is none.

    Raises:
      UserError: it is not such a file.
    """
    if not path.exists():
        return []
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        return [
            Score(
                r["suite"], r["corruption"], int(r["severity"]), int(r["n"]), float(r["accuracy"])
            )
            for r in rows
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            str(path), f"a damaged table ({error})", ",".join(Score._fields), f"Delete {path}"
        ) from None


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Writes `robustness.csv` atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Score._fields)
    writer.writerows(scores)
    write_text(path, text.getvalue())
