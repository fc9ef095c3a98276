"""The optimizer as a unit-rate optax transformation, and the learning rate as a function of step.

They are kept apart so that the rate follows the number of completed batches even where a mask
update takes the place of an optimizer step (inside the transformation it would lag by one each
time). Called by `build`.
"""

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
    """The learning rate at a step (completed batches): linear warm-up, then optax's schedule.

    `cosine` falls to `learning_rate_floor` at the end of the training, counted from the end of the
    warm-up; `step` multiplies by `decay_factor` at each milestone, `exponential` after every
    `decay_every` steps (EfficientNet's), both counted from the start, which is why they are not
    joined by `optax.join_schedules`: it starts each schedule anew.

    The warm-up is a line here, not `optax.linear_schedule`: that one subtracts from its end value
    in float32, and is 0.1 % off in the first of ImageNet's 25,020 steps. The cosine is optax's over
    the share of the training, which rounds as runs of earlier versions did.
    """
    peak, total, warmup = train["learning_rate"], train["steps"], train["warmup"]
    decay, milestones = train["decay_factor"], list(train["milestones"])
    floor = train["learning_rate_floor"] and train["learning_rate_floor"] / peak

    name = train["schedule"]
    if name == "exponential" and not decay:  # optax takes a factor of 0 for no decay at all
        name, milestones = "step", [train["decay_every"]]

    schedule: Callable[[jax.Array], Any] = optax.constant_schedule(1.0)
    if name == "cosine":
        of_share = optax.cosine_decay_schedule(1.0, 1.0, alpha=floor)

        def schedule(now: jax.Array) -> jax.Array:
            return of_share((now - warmup) / max(1, total - warmup))

    elif name == "step":
        schedule = optax.piecewise_constant_schedule(
            1.0, {step: decay ** milestones.count(step) for step in milestones}
        )
    elif name == "exponential":
        schedule = optax.exponential_decay(1.0, train["decay_every"], decay, staircase=True)

    def rate(step: jax.Array) -> jax.Array:
        now = jnp.asarray(step, jnp.float32)
        return peak * jnp.where(now < warmup, (now + 1.0) / max(1, warmup), schedule(now))

    return rate
