"""Scores the held-out training images while a run trains: `validation/...` in metrics.jsonl.

What is chosen (a checkpoint, a learning rate) is chosen by these; the test set is for `evaluate`.
Called by `loop`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dst_jax import data
from dst_jax.errors import RunError
from dst_jax.runtime.devices import Devices
from dst_jax.training import build
from dst_jax.training.step import Recipe, TrainState, forward_network

Config = Mapping[str, Any]


def create(
    config: Config, recipe: Recipe, devices: Devices, data_dir: str | None, cache_dir: Path
) -> Callable[..., dict[str, float]] | None:
    """A function (state between two steps, seed=) to the metrics of the held-out images.

    Returns:
      The function, which gives {"validation/accuracy": share in [0, 1], "validation/loss": mean
      cross-entropy in nats}; None where `config.data.validation` is 0.
    """
    share = config["data"]["validation"]
    if not share:
        return None
    dataset = data.get(config["data"]["name"])
    resident = data.is_resident(dataset, config["data"]["input"])
    batch_size = config["eval"]["batch_size"] * devices.count
    logits_of = build.logits_function(config)
    count = data.num_examples(dataset, dataset.train_split, data_dir, cache_dir)
    expected = data.num_held_out(count, share)
    kept: list[Any] = []

    @jax.jit
    def score(
        state: TrainState, batch: Any, seed: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        variables = state.ema or {"params": state.params, "batch_stats": state.batch_stats}
        updater = recipe.with_seed(seed).updater
        params, _ = forward_network(updater, variables["params"], state.sparse, state.step)
        variables = {**variables, "params": params}
        logits, seen = logits_of(variables, batch["image"]), batch["weight"] > 0
        hits = (jnp.argmax(logits, -1) == batch["label"]) & seen
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return (
            jnp.sum(hits, dtype=jnp.int32),
            jnp.sum(jnp.where(seen, losses, 0)),
            jnp.sum(seen, dtype=jnp.int32),
        )

    def batches() -> Any:
        found = data.held_out_batches(
            dataset, share, batch_size, data_dir, cache_dir, resident=resident
        )
        return map(devices.shard_rows, found)

    def validate(state: TrainState, seed: Any) -> dict[str, float]:
        if resident and not kept:
            kept.extend(batches())
        state = devices.canonical(state)
        correct, loss, seen = 0, 0.0, 0
        for batch in kept or batches():
            sums = score(state, batch, seed)
            correct, loss, seen = correct + int(sums[0]), loss + float(sums[1]), seen + int(sums[2])
        if seen != expected:
            raise RunError(f"validation: {seen} images scored, {expected} expected")
        return {"validation/accuracy": correct / seen, "validation/loss": loss / seen}

    return validate


def forward_masks(recipe: Recipe, devices: Devices) -> Callable[..., Any] | None:
    """A function (state between two steps, seed=) to the masks of its next forward pass.

    Returns:
      The function; None where these are the masks that the state holds.
    """
    if not recipe.updater.keeps_dense_weights:
        return None

    @jax.jit
    def masks_of(state: TrainState, seed: jax.Array) -> Any:
        updater = recipe.with_seed(seed).updater
        return forward_network(updater, state.params, state.sparse, state.step)[1]

    return lambda state, seed: masks_of(devices.canonical(state), seed)
