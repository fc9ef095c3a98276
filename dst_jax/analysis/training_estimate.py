"""What trainings will take, before any of them is run: memory, arithmetic, and time at best.

Everything comes from shapes, but the speed of a matrix product, which is measured here and now. All
numbers are estimates and say so; once a run is trained, its own speed is better (`sweep.describe`).
Called for `--mode=plan`.
"""

import dataclasses
import json
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dst_jax import data
from dst_jax.analysis import flops
from dst_jax.models.convolution import Conv
from dst_jax.models.deit import DotProductAttention
from dst_jax.runtime.devices import hardware
from dst_jax.training import build
from dst_jax.training import step as step_lib

Config = Mapping[str, Any]
# Whose outputs a backward pass keeps; activation functions and sums are fused into the next layer.
_KEPT = (Conv, nn.Conv, nn.Dense, nn.BatchNorm, nn.LayerNorm, DotProductAttention)
_PASSES = 3  # forward, gradient of the activations, gradient of the weights
_SECONDS = 0.4  # that the speed of a matrix product is measured for


@dataclasses.dataclass(frozen=True)
class Needs:
    """What one training needs; bytes over all devices together, of one copy.

    Attributes:
      parameters: weights and BatchNorm statistics, with the running average if there is one.
      gradients: of all weights, dense.
      optimizer: its state.
      masks: masks, their union and the latest growth.
      images: training images that stay on the device; of a stream, two batches.
      activations: of one batch, or micro-batch, that its backward pass keeps.
      flops: of the whole training, dense: masked weights are multiplied like all others.
    """

    parameters: int
    gradients: int
    optimizer: int
    masks: int
    images: int
    activations: int
    flops: float

    @property
    def memory(self) -> int:
        """All bytes."""
        return sum(dataclasses.astuple(self)[:-1])


def needs(config: Config) -> Needs:
    """What a training needs, from its shapes alone; nothing is compiled or run.

    Args:
      config: the resolved config.
    """
    dataset, recipe = data.get(config["data"]["name"]), build.recipe(config)
    module, variables = recipe.model, build.shapes(config)
    state = jax.eval_shape(lambda found: step_lib.init_state(recipe, found), variables)
    batch = config["train"]["batch_size"]
    resident = data.is_resident(dataset, config["data"]["input"])
    images = config["train"]["steps_per_epoch"] * batch if resident else 2 * batch
    forward = flops.inference_flops(flops.layer_costs(module, dataset.image_shape))
    return Needs(
        parameters=_bytes((state.params, state.batch_stats, state.ema)),
        gradients=_bytes(state.params),
        optimizer=_bytes(state.sparse.inner_state),
        masks=_bytes((state.sparse.masks, state.union, state.newest)),
        images=images * (math.prod(dataset.image_shape) + 4),  # grey levels, and an int32 label
        activations=_activations(module, dataset.image_shape) * batch // recipe.grad_accum_steps,
        flops=_PASSES * forward * batch * config["train"]["steps"],
    )


def text(configs: Iterable[Config]) -> str:
    """The estimate of several trainings, one after another, in lines.

    Args:
      configs: the resolved configs; at least one.
    """
    configs = list(configs)
    known: dict[str, Needs] = {}
    found = []
    for config in configs:
        key = json.dumps({**config, "seed": 0, "eval": 0, "analysis": 0}, sort_keys=True)
        if key not in known:  # seeds need the same
            known[key] = needs(config)
        found.append(known[key])
    most = max(found, key=lambda one: one.memory)
    kinds = [field.name for field in dataclasses.fields(Needs)][:-1]
    parts = ", ".join(f"{kind} {_size(getattr(most, kind))}" for kind in kinds)
    total = sum(one.flops for one in found)
    dtype = configs[0]["model"]["dtype"]
    speed = matmul_speed(dtype)
    return "\n".join(
        [
            f"estimate of memory: {_size(most.memory)} for the largest run ({parts}); the "
            "compiler's own buffers come on top",
            f"estimate of arithmetic: {total:.3g} FLOPs for {_runs(len(found))}, counted dense",
            f"estimate of time: at best {_duration(total / speed)}, at the {speed:.3g} FLOP/s of a "
            f"{dtype} matrix product measured on {hardware()}; convolutions, input and "
            "evaluation make it longer",
        ]
    )


def matmul_speed(dtype: str) -> float:
    """Operations per second of a product of two square matrices, on all local devices together.

    Measured in less than a second on a processor of a few cores, the compilation apart.
    """
    size = 1024 if jax.default_backend() == "cpu" else 4096
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(lambda x: jnp.matmul(x, x) / size)
    product(matrix).block_until_ready()
    count, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < _SECONDS or not count:
        product(matrix).block_until_ready()
        count += 1
    # Devices of a CPU share its cores.
    devices = 1 if jax.default_backend() == "cpu" else jax.local_device_count()
    return devices * count * 2 * size**3 / seconds


def _activations(module: Any, image_shape: tuple[int, ...]) -> int:
    """Bytes that the backward pass keeps of one image."""
    kept: list[int] = []

    def note(next_call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        result = next_call(*args, **kwargs)
        if isinstance(context.module, _KEPT) and context.method_name == "__call__":
            kept.append(_bytes(result))
        return result

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with nn.intercept_methods(note):
        jax.eval_shape(module.init, jax.random.key(0), images)
    return sum(kept)


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs, one after another"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2g} seconds"
    return f"{seconds / 3600:.3g} hours" if seconds >= 3600 else f"{seconds / 60:.2g} minutes"
