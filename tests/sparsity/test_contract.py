"""Every algorithm with every kind of optimizer, masks packed or not, on one device or four.

The default run covers every pair of choices; `-m full` runs the product. Each case takes 30 steps
on the tree of a Flax network (convolutions, biases, BatchNorm, a dense layer).
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dst_jax import sparsity
from dst_jax.sparsity import mask_trees

# JaxPruner's code has MultiSteps inside; the warning is tested in `test_misuse`.
pytestmark = pytest.mark.filterwarnings("ignore:optax.MultiSteps")

STEPS, SPARSITY = 30, 0.6
NAMES = {kind: name for name, kind in sparsity.ALGORITHM_REGISTRY.items()}  # no synonyms
ALGORITHMS = tuple(NAMES.values())
OPTIMIZERS = {
    "momentum": optax.sgd(0.05, momentum=0.9),
    "adamw": optax.adamw(1e-2, weight_decay=0.1),
    "inject": optax.inject_hyperparams(optax.adam)(optax.linear_schedule(0.1, 0.0, 40)),
    "multi_steps": optax.MultiSteps(optax.adam(1e-2), every_k_schedule=2),
    "lion": optax.lion(1e-2),
}
MODES = ("jit", "jit of 4 devices", "pmap")
AXES = (ALGORITHMS, tuple(OPTIMIZERS), (False, True), MODES)

DENSE_STORE = {"no_prune", "dense", "magnitude_ste", "random_ste", "topkast"}  # I1 does not apply
CONSTANT = {"static", "static_sparse", "set", "rigl", "topkast"}  # every layer's count
EXACT_AT_THE_END = {"mest_r", "mest_g", "granet_r", "granet_g", "gmp", "snfs"}  # their sum
MOMENTS_MASKED = (CONSTANT | EXACT_AT_THE_END | {"acdc"}) - {"snfs"}


def is_possible(algorithm, optimizer):
    """Adam's Fisher information needs second moments."""
    return algorithm != "adam-fisher" or optimizer in ("adamw", "inject", "multi_steps")


def covering():
    """Cases that together hold every possible pair of choices, found greedily."""
    product = [case for case in itertools.product(*AXES) if is_possible(*case[:2])]

    def pairs_of(case):
        return set(itertools.combinations(enumerate(case), 2))

    missing, cases = set().union(*map(pairs_of, product)), []
    while missing:
        best = max(product, key=lambda case: len(pairs_of(case) & missing))
        cases.append(best)
        missing -= pairs_of(best)
    return cases, product


PAIRWISE, PRODUCT = covering()


def updater_of(algorithm, packed):
    return sparsity.create_updater_from_config(
        {
            "algorithm": algorithm,
            "dist_type": "erk",
            "sparsity": SPARSITY,
            "update_freq": 3,
            "update_start_step": 2,
            "update_end_step": 26,
            "drop_fraction": 0.5,
            "rng_seed": 3,
            "use_packed_masks": packed,
        }
    )


def run(updater, tx, params, mode):
    """Params and state after each step, stacked, and copies of the last masks on all devices."""

    def all_steps(params, data):
        state = tx.init(params)
        params = updater.post_gradient_update(params, state)

        def step(carry, t):
            params, state = carry
            scale = data.mean()
            if mode == "pmap":
                scale = jax.lax.pmean(scale, "devices")
            key = jax.random.fold_in(jax.random.key(1), t)
            noise = sparsity.generate_random_scores(params, key)
            grads = jax.tree.map(lambda x, p: scale * (x - 0.5) + 0.01 * p, noise, params)
            updates, state = tx.update(grads, state, params)
            params = updater.post_gradient_update(optax.apply_updates(params, updates), state)
            return (params, state), (params, state)

        return jax.lax.scan(step, (params, state), jnp.arange(STEPS))[1]

    data = jnp.linspace(0.5, 1.5, 8)
    devices = jax.devices()[:4]
    if mode == "pmap":
        program = jax.pmap(all_steps, "devices", in_axes=(None, 0), devices=devices)
        found = program(params, data.reshape(4, 2))
        copies = [[np.asarray(m[i]) for m in jax.tree.leaves(found[1].masks)] for i in range(4)]
        return jax.tree.map(lambda leaf: np.asarray(leaf[0]), found), copies
    count = 4 if mode == "jit of 4 devices" else 1
    mesh = jax.make_mesh((count,), ("d",), (AxisType.Auto,), devices=devices[:count])
    data = jax.device_put(data, NamedSharding(mesh, PartitionSpec("d")))
    params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    found = jax.jit(all_steps)(params, data)
    copies = [
        [np.asarray(m.addressable_shards[i].data) for m in jax.tree.leaves(found[1].masks)]
        for i in range(mesh.size)
    ]
    return jax.tree.map(np.asarray, found), copies


def check(params, algorithm, optimizer, packed, mode):
    updater = updater_of(algorithm, packed)
    (weights, state), copies = run(updater, updater.wrap_optax(OPTIMIZERS[optimizer]), params, mode)
    for copy in copies[1:]:  # I6
        jax.tree.map(np.testing.assert_array_equal, copies[0], copy)
    unpack = functools.partial(unpacked, params=params) if packed else lambda masks: masks
    masks = unpack(state.masks)
    trained = masks if state.backward_masks is None else unpack(state.backward_masks)
    targets = updater.init_state(params).masks
    rows = mask_trees.map_masks(lambda *row: row, targets, masks, trained, weights, params)
    totals = np.zeros(STEPS, int)
    for target, mask, train, weight, start in jax.tree.leaves(rows, is_leaf=is_row):
        if target is None:  # I7
            assert mask is None
            assert start.ndim <= 1 or "ste" in algorithm or algorithm in ("no_prune", "dense")
            assert (weight[-1] != np.asarray(start)).any()
            continue
        assert ((mask == 0) | (mask == 1)).all()
        counts = mask.reshape(STEPS, -1).sum(1, dtype=int)
        totals += counts
        if algorithm in CONSTANT:  # I2
            assert (counts == counts[0]).all()
        if algorithm not in DENSE_STORE:  # I1
            assert not weight[mask == 0].any()
        if algorithm in MOMENTS_MASKED:  # I5
            for moment in jax.tree.leaves(state.inner_state):
                if moment.shape == weight.shape:
                    assert not moment[train == 0].any()
        for t in range(1, STEPS):
            old, new, is_update = mask[t - 1], mask[t], updater.scheduler.is_mask_update_iter(t)
            if not is_update:
                np.testing.assert_array_equal(old, new)
            elif updater.skip_gradients and algorithm not in DENSE_STORE:  # I4
                assert not weight[t][(old == 0) & (new == 1)].any()
    size = sum(p.size for p in jax.tree.leaves(params) if p.ndim > 1)
    if algorithm in CONSTANT | EXACT_AT_THE_END:
        assert totals[-1] == round((1 - SPARSITY) * size)
    moving = {"static", "static_sparse", "no_prune", "dense", "magnitude_ste", "random_ste"}
    if algorithm not in moving:
        changed = jax.tree.map(lambda m: (m[0] != m[-1]).any(), masks)
        assert any(jax.tree.leaves(changed))


def is_row(node):
    return isinstance(node, tuple)


def unpacked(masks, params):
    return mask_trees.map_masks(
        lambda m, p: (
            None if m is None else np.unpackbits(m, axis=1, count=p.size).reshape(STEPS, *p.shape)
        ),
        masks,
        params,
    )


@pytest.mark.parametrize(("algorithm", "optimizer", "packed", "mode"), PAIRWISE)
def test_every_pair(params, algorithm, optimizer, packed, mode):
    check(params, algorithm, optimizer, packed, mode)


@pytest.mark.full
@pytest.mark.slow  # so that `-m "not slow"`, which replaces the default, leaves it out as well
@pytest.mark.parametrize(("algorithm", "optimizer", "packed", "mode"), PRODUCT)
def test_the_product(params, algorithm, optimizer, packed, mode):
    check(params, algorithm, optimizer, packed, mode)
