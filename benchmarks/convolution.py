"""How much a training step costs inside a compiled loop, with plain convolutions and with ours.

    python -m benchmarks.convolution [--steps 8] [--repeats 5] [--batch 32] [--resnet]

For each kind of convolution one small network takes the same training steps twice: one dispatch a
step, and all of them inside one `lax.while_loop`. A ratio above 1 means that the loop is slower.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from benchmarks import timing
from dst_jax import models
from dst_jax.models import convolution


def plain_convolve(x, kernel, strides, padding):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout)


class SmallNet(nn.Module):
    """Four 3x3 convolutions, two of them with stride 2, and a classifier."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps images [B, H, W, 3] to logits [B, 10]."""
        x = images
        for features, stride in ((16, 1), (32, 2), (64, 2), (64, 1)):
            x = nn.relu(convolution.Conv(features, (3, 3), stride)(x))
        return nn.Dense(10)(x.mean(axis=(1, 2)))


def make_step(module: nn.Module, images: jax.Array, labels: jax.Array) -> Callable[[Any], Any]:
    """One step of SGD on a fixed batch: state -> state."""
    optimizer = optax.sgd(0.01)

    def loss(params, statistics):
        variables = {"params": params, **statistics}
        logits, new = module.apply(variables, images, train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), new

    def step(state):
        params, statistics = state
        grads, statistics = jax.grad(loss, has_aux=True)(params, statistics)
        updates, _ = optimizer.update(grads, optimizer.init(params))
        return optax.apply_updates(params, updates), statistics

    return step


def measure(module: nn.Module, batch: int, steps: int, repeats: int) -> tuple[float, float]:
    """Best seconds for `steps` steps: (one dispatch per step, one loop), measured in turns."""
    images = jax.random.normal(jax.random.key(0), (batch, 32, 32, 3))
    labels = jnp.arange(batch) % 10
    step = make_step(module, images, labels)
    variables = jax.device_put(models.init(module, 0, (32, 32, 3)))
    state = (variables.pop("params"), variables)
    one = jax.jit(step)

    @functools.partial(jax.jit, static_argnums=1)
    def loop(state, count):
        body = lambda carry: (carry[0] + 1, step(carry[1]))  # noqa: E731
        return jax.lax.while_loop(lambda carry: carry[0] < count, body, (0, state))[1]

    def dispatched(state, count):
        for _ in range(count):
            state = one(state)
        return state

    times = timing.in_turns(
        {
            "dispatched": lambda: timing.seconds(lambda: dispatched(state, steps)),
            "loop": lambda: timing.seconds(lambda: loop(state, steps)),
        },
        repeats,
    )
    return min(times["dispatched"]), min(times["loop"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=8, help="steps in one measurement")
    parser.add_argument("--repeats", type=int, default=5, help="measurements, of which the best")
    parser.add_argument("--batch", type=int, default=32, help="images per step")
    parser.add_argument("--resnet", action="store_true", help="ResNet-20 of width 8 as well")
    options = parser.parse_args()

    networks: dict[str, nn.Module] = {"CNN 16-32-64-64": SmallNet()}
    if options.resnet:
        networks["ResNet-20, width 8"] = models.create("resnet20", 10, width=8)
    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {device.platform} ({device.device_kind}),", end=" ")
    print(f"batch {options.batch}, {options.steps} steps, best of {options.repeats}\n")
    print("| network | convolution | dispatched, ms | loop, ms | loop / dispatched |")
    print("|---|---|---|---|---|")
    for name, module in networks.items():
        for kind in ("plain", "ours"):
            function = plain_convolve if kind == "plain" else convolution.convolve
            with mock.patch.object(convolution, "convolve", function):
                single, looped = measure(module, options.batch, options.steps, options.repeats)
            print(f"| {name} | {kind} | {1e3 * single:.1f} | {1e3 * looped:.1f} |", end="")
            print(f" {looped / single:.2f} |", flush=True)


if __name__ == "__main__":
    main()
