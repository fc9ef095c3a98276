"""What `benchmarks.versions` records of exact things: draws, first weights, masks, data, types.

Nothing here computes with rounding that a compiler may choose, except where the name says so
(`rounded`, and laws that need a logarithm). `tests/test_versions.py` holds the digests of the same
arrays. Every function yields (name, array).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from dst_jax import data, models, random_keys, sparsity
from dst_jax.corruptions import random_arrays
from dst_jax.data import augmentation, resident

Recorded = Iterator[tuple[str, np.ndarray]]

# One small network a family, and the shape of its images.
NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "mlp": ({"hidden": (8, 6)}, (6, 5, 2)),
    "vgg16": ({"width": 4, "depth": 1}, (32, 32, 3)),
    "resnet20": ({"width": 4, "depth": 1}, (8, 8, 3)),
    "resnet50": ({"width": 4, "depth": 1}, (32, 32, 3)),
    "wide_resnet22_2": ({"width": 4, "depth": 1}, (8, 8, 3)),
    "efficientnet_b0": ({"width": 8, "depth": 1}, (32, 32, 3)),
    "deit_small": ({"width": 16, "depth": 2}, (32, 32, 3)),
    "resnet3d50": ({"width": 4, "depth": 1}, (4, 16, 16, 3)),
    "i3d_r50": ({"width": 4, "depth": 2}, (4, 16, 16, 3)),
}


def leaves(tree: Any, prefix: str) -> Recorded:
    """The leaves of a tree by their paths."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        yield f"{prefix}/{name}", np.asarray(leaf)


def draws() -> Recorded:
    """Random numbers of the default generator, by every function of `jax.random` that we call."""
    key = jax.random.key(20)
    yield "random/fold_in", np.asarray(jax.random.key_data(jax.random.fold_in(key, 7)))
    yield "random/split", np.asarray(jax.random.key_data(jax.random.split(key, 5)))
    laws: dict[str, Callable[[Any], Any]] = {
        "bits": lambda k: jax.random.bits(k, (1000,), jnp.uint32),
        "uniform": lambda k: jax.random.uniform(k, (1000,)),
        "uniform_in_bounds": lambda k: jax.random.uniform(k, (1000,), minval=-0.3, maxval=1.7),
        "randint": lambda k: jax.random.randint(k, (1000,), -5, 1000),
        "bernoulli": lambda k: jax.random.bernoulli(k, 0.3, (1000,)),
        "rademacher": lambda k: jax.random.rademacher(k, (1000,)),
        "permutation": lambda k: jax.random.permutation(k, 1437),
        "ours_uniform": lambda k: random_arrays.uniform(k, (1000,), -0.3, 1.7),
        "rounded_normal": lambda k: jax.random.normal(k, (1000,)),
        "rounded_exponential": lambda k: jax.random.exponential(k, (1000,)),
        "rounded_beta": lambda k: jax.random.beta(k, 0.4, 0.4, (1000,)),
        "rounded_ours_normal": lambda k: random_arrays.normal(k, (1000,)),
    }
    for number, (name, law) in enumerate(laws.items()):
        own = jax.random.fold_in(key, number)
        yield f"random/{name}", np.asarray(jax.jit(law)(own))


def initial() -> Recorded:
    """Initial variables of a small network of each family."""
    for name, (options, image_shape) in NETWORKS.items():
        variables = models.init(models.create(name, 10, **options), 3, image_shape)
        yield from leaves(variables, f"initial/{name}")


def given(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Any]:
    """Numbers of these shapes from NumPy's Philox bits: the same bits with every version."""
    generator = np.random.Generator(np.random.Philox(seed))
    return {
        layer: {"kernel": (generator.integers(-(2**15), 2**15, shape) / 2**15).astype(np.float32)}
        for layer, shape in shapes.items()
    }


_SHAPES = {"conv": (3, 3, 4, 16), "fc1": (64, 40), "classifier": (40, 12)}
# Options beside those that all algorithms have.
_OPTIONS: dict[str, dict[str, Any]] = {
    "iterative_nm": {"sparsity_type": "nm_2,4", "sparsity": 0.5, "dist_type": "uniform"},
    "acdc": {"prune_end_step": 50},
}


def masks(jitted: bool, algorithms: Sequence[str] = ()) -> Recorded:
    """Masks of algorithms after three updates with given weights and gradients.

    Args:
      jitted: compiled as a whole, else operation by operation, from NumPy arrays.
      algorithms: which; none: all that are registered.
    """
    where = "masks_compiled" if jitted else "masks"
    for algorithm in algorithms or sparsity.all_algorithm_names():
        config = {
            "algorithm": algorithm,
            "sparsity": 0.8,
            "dist_type": "erk",
            "update_freq": 10,
            "update_start_step": 10,
            "update_end_step": 50,
            "drop_fraction": 0.3,
            "rng_seed": 5,
            **_OPTIONS.get(algorithm, {}),
        }
        known = sparsity.api.fields_of(algorithm) | {
            *("algorithm", "sparsity", "dist_type", "update_freq"),
            *("update_start_step", "update_end_step", "drop_fraction"),
        }
        config = {name: value for name, value in config.items() if name in known}
        updater = sparsity.create_updater_from_config(ConfigDict(config))
        yield from _updated(updater, f"{where}/{algorithm}", jitted)


def _updated(updater: sparsity.BaseUpdater, name: str, jitted: bool) -> Recorded:
    params = given(_SHAPES, 1)
    state = updater.init_state(jax.tree.map(jnp.asarray, params))
    # AdamBasedFisherPruning reads the second moments of the optimizer's state.
    moments = jax.tree.map(np.abs, given(_SHAPES, 9))
    inner = {"mu": jax.tree.map(np.copy, params), "nu": moments}
    state = state._replace(
        inner_state=(optax.ScaleByAdamState(np.zeros((), np.int32), inner["mu"], inner["nu"]),)
    )
    params = jax.tree.map(np.asarray, updater.post_gradient_update(params, state))
    change = updater.update_params_and_state
    if jitted:
        change = jax.jit(change)
    else:
        state = jax.tree.map(np.asarray, state)
    for step in (10, 20, 30):
        state = state._replace(count=(jnp.int32 if jitted else np.int32)(step))
        params, state = change(state, params, given(_SHAPES, step))
    yield from leaves(state.masks, name)
    yield from leaves(
        updater.forward_masks(params, state._replace(count=jnp.int32(31))), f"{name}/forward"
    )


def order() -> Recorded:
    """The order of the examples, what augmentation draws, and augmented images."""
    for epoch in (0, 3):
        yield f"data/order_{epoch}", np.asarray(resident.epoch_order(7, epoch, 1437))
    keys = random_keys.for_examples(7, 12, jnp.arange(64))
    offsets, flips = jax.jit(augmentation.crop_parameters)(keys)
    yield "data/crop_offsets", np.asarray(offsets)
    yield "data/flips", np.asarray(flips)
    images = np.random.Generator(np.random.Philox(4)).integers(0, 256, (64, 32, 32, 3), np.uint8)
    for name in ("crop", "reflect_crop_flip"):
        augment = jax.jit(augmentation.augment, static_argnums=2)
        yield f"data/{name}", np.asarray(augment(jnp.asarray(images), keys, name))
    normalise = jax.jit(lambda x: augmentation.normalise(x, data.get("digits")))
    yield "data/rounded_normalised", np.asarray(normalise(jnp.asarray(images)))


def promotion() -> Recorded:
    """The type of the sum of each pair of types, scalars of Python included; as text."""
    names = ("bool", "uint8", "int8", "int32", "uint32", "bfloat16", "float16", "float32")
    values: list[Any] = [jnp.zeros((), name) for name in names] + [True, 1, 1.0]
    rows = [[str(jnp.result_type(one, other)) for other in values] for one in values]
    yield "promotion/table", np.array(rows)
    mixed = np.zeros(2, np.float32), np.zeros(2, np.float64), np.uint8(3), np.float64(3)
    rows = [[str(np.result_type(one, other)) for other in mixed] for one in mixed]
    yield "promotion/numpy", np.array(rows)
