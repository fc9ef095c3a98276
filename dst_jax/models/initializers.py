"""Laws of the initial weights, each able to draw in JAX and, much faster, in NumPy.

A model names its laws; `initialization.init` draws from them on the host. Constants (zeros, ones)
are Flax's own.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class VarianceScaling:
    """Zero-mean weights of variance `scale / fan`, as `jax.nn.initializers.variance_scaling`.

    Attributes:
      scale: positive factor.
      mode: "fan_in" (inputs of one output, kernel window included) or "fan_out" (the converse).
      distribution: "normal" (not truncated) or "uniform".
    """

    scale: float
    mode: Literal["fan_in", "fan_out"]
    distribution: Literal["normal", "uniform"]

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        """Draws in JAX: the signature that Flax expects of an initialiser."""
        law = jax.nn.initializers.variance_scaling(self.scale, self.mode, self.distribution)
        return law(key, shape, dtype)

    def sample(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draws float32 [shape] on the host; the last two axes are inputs and outputs."""
        window = math.prod(shape[:-2])
        fan = window * (shape[-2] if self.mode == "fan_in" else shape[-1])
        deviation = np.float32(math.sqrt(self.scale / fan))
        if self.distribution == "normal":
            return deviation * generator.standard_normal(shape, dtype=np.float32)
        bound = deviation * np.float32(math.sqrt(3))
        return bound * (2 * generator.random(shape, dtype=np.float32) - 1)


@dataclasses.dataclass(frozen=True)
class Normal:
    """Zero-mean normal weights of one deviation, whatever the shape.

    Attributes:
      deviation: standard deviation, positive.
    """

    deviation: float

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        """Draws in JAX: the signature that Flax expects of an initialiser."""
        return self.deviation * jax.random.normal(key, shape, dtype)

    def sample(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draws float32 [shape] on the host."""
        return np.float32(self.deviation) * generator.standard_normal(shape, dtype=np.float32)


# He et al. 2015: the variance of activations (fan_in) or of gradients (fan_out) stays constant
# through layers followed by ReLU. Published ResNet recipes use fan_out.
HE_NORMAL_FAN_IN = VarianceScaling(2.0, "fan_in", "normal")
HE_NORMAL_FAN_OUT = VarianceScaling(2.0, "fan_out", "normal")

# Uniform within 1 / sqrt(fan_in): what PyTorch gives linear layers and convolutions by itself,
# hence the classifier of the published sparse-training results. Global magnitude pruning sees this
# scale.
PYTORCH = VarianceScaling(1 / 3, "fan_in", "uniform")
CLASSIFIER = PYTORCH


def last_scale(zero: bool) -> Callable[..., jax.Array]:
    """Law of the scale of a residual block's last BatchNorm; 0 makes the block its shortcut."""
    return nn.initializers.zeros if zero else nn.initializers.ones
