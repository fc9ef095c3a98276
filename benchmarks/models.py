"""How long a training step of VGG-16 takes: ours and plain Flax's, on one device.

    python -m benchmarks.models [--rounds 5] [--batch 64] [--out benchmarks/results]

Both take turns. "plain" is our network with Flax's pooling and the convolutions of `lax`: what
`convolution_cpu` and `max_pool` are for. `benchmarks.train_step` compares ours with PyTorch's.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import timing
from dst_jax import models
from dst_jax.models import convolution, vgg


def plain_convolve(x, kernel, strides, padding):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout)


def make_step(images: np.ndarray, labels: np.ndarray, learning_rate: float) -> Callable[[], object]:
    """A function that takes one step of SGD with Nesterov momentum on one batch."""
    module = models.create("vgg16", 10)
    optimizer = optax.sgd(learning_rate, momentum=0.9, nesterov=True)
    variables = jax.device_put(models.init(module, 0, images.shape[1:]))
    batch = jnp.asarray(images), jnp.asarray(labels)

    @jax.jit
    def step(state, images, labels):
        params, statistics, moments = state

        def loss(params):
            logits, new = module.apply(
                {"params": params, "batch_stats": statistics},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), new["batch_stats"]

        grads, statistics = jax.grad(loss, has_aux=True)(params)
        updates, moments = optimizer.update(grads, moments, params)
        return optax.apply_updates(params, updates), statistics, moments

    state = [(variables["params"], variables["batch_stats"], optimizer.init(variables["params"]))]

    def advance():
        state[0] = step(state[0], *batch)
        return state[0]

    jax.block_until_ready(advance())  # compiled with the convolutions of this moment
    return advance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="measurements, in turns")
    parser.add_argument("--batch", type=int, default=64, help="images per step")
    parser.add_argument("--out", type=Path, help="directory for models_DEVICE.json")
    options = parser.parse_args()

    generator = np.random.default_rng(0)
    images = generator.standard_normal((options.batch, 32, 32, 3)).astype(np.float32)
    labels = generator.integers(0, 10, options.batch)
    steps = {"ours": make_step(images, labels, 0.01)}
    with (
        mock.patch.object(convolution, "convolve", plain_convolve),
        mock.patch.object(vgg, "max_pool", nn.max_pool),
    ):
        steps["plain"] = make_step(images, labels, 0.01)
    measures = {name: lambda step=step: timing.seconds(step) for name, step in steps.items()}
    seconds = timing.in_turns(measures, options.rounds)
    ratios = {
        name: timing.ratios(seconds["ours"], other)
        for name, other in seconds.items()
        if name != "ours"
    }
    result = {
        "what": f"VGG-16, batch {options.batch}, 32 pixels, float32: seconds a training step",
        "circumstances": timing.circumstances(),
        "seconds": seconds,
        "ours_over": ratios,
    }
    for name, times in seconds.items():
        print(f"{name}: best {1e3 * min(times):.0f} ms of {len(times)}")
    for name, ratio in ratios.items():
        text = "{median:.2f} ({min:.2f} to {max:.2f})".format(**ratio)
        print(f"ours / {name}: {text}")
    if options.out:
        path = options.out / f"models_{jax.default_backend()}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(path)


if __name__ == "__main__":
    main()
