"""The optimizer as a unit-rate optax transformation, and the learning rate as a function of step.

They are kept apart so that the rate follows the number of completed batches even where a mask
update takes the place of an optimizer step (inside the transformation it would lag by one each
time). Called by `train`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax


def kernels(params: Any) -> Any:
    """True at the leaves named `kernel`: the only ones that weight decay touches."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path[-1:], simple=True) == "kernel", params
    )


def create(train: Mapping[str, Any]) -> optax.GradientTransformation:
    """Builds the update direction from the resolved options `train.*`.

    The step is `params - learning_rate * direction`. Clipping comes first and so sees the masked
    gradient. `sgd` adds L2 decay to the gradient before momentum, as PyTorch's does; `adamw`
    decouples it (Loshchilov and Hutter 2019).
    """
    parts = []
    if train["clip_norm"]:
        parts.append(optax.clip_by_global_norm(train["clip_norm"]))
    decay = optax.add_decayed_weights(train["weight_decay"], mask=kernels)
    if train["optimizer"] == "sgd":
        parts += [decay, optax.trace(train["momentum"], nesterov=train["nesterov"])]
    else:
        parts += [
            optax.scale_by_adam(train["momentum"], train["adam_b2"], train["adam_eps"]),
            decay,
        ]
    return optax.chain(*parts)


def learning_rate(train: Mapping[str, Any]) -> Callable[[jax.Array], jax.Array]:
    """The learning rate at a step (completed batches): linear warm-up, then the schedule.

    `cosine` falls to `learning_rate_floor` at the end of the training, counted from the end of the
    warm-up; `step` multiplies by `decay_factor` at each milestone, `exponential` after every
    `decay_every` steps (EfficientNet's), both counted from the start.
    """
    peak, total, warmup = train["learning_rate"], train["steps"], train["warmup"]
    milestones, floor = train["milestones"], train["learning_rate_floor"]

    def rate(step: jax.Array) -> jax.Array:
        now = jnp.asarray(step, jnp.float32)
        if train["schedule"] == "cosine":
            done = jnp.clip((now - warmup) / max(1, total - warmup), 0.0, 1.0)
            factor = 0.5 * (1.0 + jnp.cos(math.pi * done))
            if floor:
                factor = floor / peak + (1 - floor / peak) * factor
        elif train["schedule"] == "step":
            passed = sum((now >= milestone).astype(jnp.float32) for milestone in milestones)
            factor = jnp.asarray(train["decay_factor"], jnp.float32) ** passed
        elif train["schedule"] == "exponential":
            passed = jnp.floor(now / train["decay_every"])
            factor = jnp.asarray(train["decay_factor"], jnp.float32) ** passed
        else:
            factor = jnp.float32(1.0)
        if warmup:
            factor = jnp.where(now < warmup, (now + 1.0) / warmup, factor)
        return peak * factor

    return rate
