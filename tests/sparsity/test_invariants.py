"""What must hold at every step of every algorithm with fixed counts, under any optimizer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dst_jax import sparsity
from tests.sparsity.conftest import random_like

# JaxPruner's code has MultiSteps inside; the warning is tested in `test_misuse`.
pytestmark = pytest.mark.filterwarnings("ignore:optax.MultiSteps")

STEPS, FREQ = 9, 2


def is_kernel(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


def label(params):
    return jax.tree.map(lambda p: "kernel" if p.ndim > 1 else "rest", params)


OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "nesterov": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": optax.adam(1e-2),
    "adamw": optax.adamw(1e-2, weight_decay=0.1),
    "lamb": optax.lamb(1e-2),
    "lion": optax.lion(1e-2),
    "rmsprop": optax.rmsprop(1e-2, momentum=0.9),
    "adafactor": optax.adafactor(1e-2, min_dim_size_to_factor=8),
    "inject_hyperparams": optax.inject_hyperparams(optax.adam)(
        learning_rate=optax.linear_schedule(0.1, 0.0, 20)
    ),
    "multi_steps": optax.MultiSteps(optax.adam(1e-2), every_k_schedule=2),
    "masked": optax.masked(optax.sgd(0.1, momentum=0.9), is_kernel),
    "chain": optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.add_decayed_weights(1e-3, mask=is_kernel),
        optax.trace(0.9),
        optax.scale_by_learning_rate(optax.cosine_decay_schedule(0.1, 20)),
    ),
    "multi_transform": optax.multi_transform(
        {"kernel": optax.adam(1e-2), "rest": optax.sgd(0.1, momentum=0.9)}, label
    ),
}
QUICK = [
    ("rigl", "adam", "keep", True),
    ("rigl", "momentum", "zero", True),
    ("set", "chain", "keep", False),
    ("static", "momentum", "keep", False),
]
MORE = [("rigl", name, "keep", True) for name in OPTIMIZERS if name != "adam"] + [
    ("rigl", "adam", "zero", True),
    ("rigl", "momentum", "zero", False),
    ("rigl", "multi_steps", "keep", False),
    ("set", "momentum", "keep", True),
    ("set", "adamw", "zero", True),
    ("static", "adamw", "keep", False),
]
CASES = QUICK + [pytest.param(*case, marks=pytest.mark.slow) for case in MORE]


def make(algorithm, *, packed=False, **options):
    if algorithm == "static":
        options = {}
    return sparsity.create_updater_from_config(
        {
            "algorithm": algorithm,
            "dist_type": "erk",
            "sparsity": 0.7,
            "update_freq": FREQ,
            "update_start_step": 2,
            "update_end_step": 8,
            "drop_fraction": 0.5,
            "rng_seed": 3,
            "use_packed_masks": packed,
            **options,
        }
    )


def moments_by_shape(inner_state, shape):
    """Every array of the optimizer state with a kernel's shape (all kernels differ in shape)."""
    return [leaf for leaf in jax.tree.leaves(inner_state) if jnp.shape(leaf) == shape]


def masked_layers(params, masks):
    pairs = sparsity.mask_trees.map_masks(lambda m, p: (p, m), masks, params)
    return jax.tree.leaves(pairs, is_leaf=lambda x: isinstance(x, tuple))


@pytest.mark.parametrize(("algorithm", "optimizer", "regrow_same", "skip"), CASES)
def test_invariants(params, algorithm, optimizer, regrow_same, skip):
    updater = make(algorithm, regrow_same=regrow_same, skip_gradients=skip)
    tx = updater.wrap_optax(OPTIMIZERS[optimizer])
    state = tx.init(params)
    params = updater.post_gradient_update(params, state)
    counts = jax.tree.map(jnp.sum, state.masks)
    tolerance = 1e-20 if optimizer == "adafactor" else 0.0  # it adds 1e-30 to squared gradients

    @jax.jit
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return updater.post_gradient_update(optax.apply_updates(params, updates), state), state

    changed = 0
    for t in range(STEPS):
        before_params, before = params, state
        params, state = step(params, state, random_like(params, 10 + t))
        is_update = algorithm != "static" and updater.scheduler.is_mask_update_iter(t)
        assert jax.tree.map(jnp.sum, state.masks) == counts  # I2
        for (new_w, new), (old_w, old) in zip(
            masked_layers(params, state.masks),
            masked_layers(before_params, before.masks),
            strict=True,
        ):
            if new is None:  # I7
                if is_update and skip:
                    np.testing.assert_array_equal(new_w, old_w)
                continue
            inactive, fresh = new == 0, (old == 0) & (new == 1)
            assert not np.any(np.asarray(new_w)[inactive])  # I1
            moments = moments_by_shape(state.inner_state, new.shape)
            for moment in moments:
                assert np.abs(np.asarray(moment)[inactive]).max(initial=0) <= tolerance  # I5
            if not is_update:
                np.testing.assert_array_equal(new, old)
                continue
            changed += int(fresh.sum())
            if not skip:
                continue
            assert not np.any(np.asarray(new_w)[fresh])  # I4
            for moment in moments:
                assert not np.any(np.asarray(moment)[fresh])  # I4
            stayed = np.asarray((old == 1) & (new == 1))
            same = np.asarray(new_w)[stayed] == np.asarray(old_w)[stayed]
            if regrow_same == "keep" or (old == 1).all():
                assert same.all()
            else:
                assert not np.any(np.asarray(new_w)[stayed][~same])
    assert (changed > 0) == (algorithm != "static")


@pytest.mark.slow
@pytest.mark.parametrize("regrow_same", ["keep", "zero"])
def test_loop_without_wrapper(params, regrow_same):
    """The host's loop: an update step of its own, no branch; the same as the wrapper."""
    updater = make("rigl", regrow_same=regrow_same)
    inner = optax.sgd(0.1, momentum=0.9)
    tx = updater.wrap_optax(inner)
    wrapped = tx.init(params)
    state = updater.init_state(params)._replace(inner_state=inner.init(params))
    ours = theirs = updater.post_gradient_update(params, state)

    @jax.jit
    def ordinary(params, state, grads):
        grads = updater.apply_masks(grads, state.masks)
        updates, inner_state = inner.update(grads, state.inner_state, params)
        params = updater.apply_masks(optax.apply_updates(params, updates), state.masks)
        return params, state._replace(inner_state=inner_state)

    @jax.jit
    def update(params, state, grads, step):
        return updater.update_params_and_state(state._replace(count=step), params, grads)

    for t in range(STEPS):
        grads = random_like(params, 10 + t)
        if updater.scheduler.is_mask_update_iter(t):
            ours, state = update(ours, state, grads, t)
        else:
            ours, state = ordinary(ours, state, grads)
        updates, wrapped = jax.jit(tx.update)(grads, wrapped, theirs)
        theirs = updater.post_gradient_update(optax.apply_updates(theirs, updates), wrapped)
        jax.tree.map(np.testing.assert_array_equal, state.masks, wrapped.masks)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), ours, theirs
        )


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["set", "rigl"])
def test_masks_are_the_same_everywhere(params, algorithm):
    """I6: eager, compiled, under pmap, and with params spread over devices; packed or not."""
    updater = make(algorithm)
    state = updater.init_state(params)
    state = state._replace(inner_state=optax.adam(1e-3).init(params), count=jnp.int32(4))
    params = updater.post_gradient_update(params, state)
    # Coarse gradients tie a lot.
    grads = jax.tree.map(jnp.round, random_like(params, 5))
    eager = updater.update_state(state, params, grads).masks
    jitted = jax.jit(updater.update_state)(state, params, grads).masks
    jax.tree.map(np.testing.assert_array_equal, eager, jitted)

    def stack(tree):
        return jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 4), tree)

    pmapped = jax.pmap(updater.update_state)(stack(state), stack(params), stack(grads)).masks
    for device in range(4):
        jax.tree.map(lambda a, b, d=device: np.testing.assert_array_equal(a[d], b), pmapped, eager)

    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))

    def put(leaf):
        even = jnp.ndim(leaf) > 1 and leaf.shape[-1] % 2 == 0
        spec = [None] * (jnp.ndim(leaf) - 1) + ["x"] if even else []
        placed = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
        return jax.device_put(leaf, placed)

    spread = jax.tree.map(put, (state, params, grads))
    sharded = jax.jit(updater.update_state)(*spread).masks
    jax.tree.map(np.testing.assert_array_equal, sharded, eager)

    packing = make(algorithm, packed=True)
    bits = packing.init_state(params)
    packed_state = bits._replace(inner_state=state.inner_state, count=state.count)
    after = packing.update_state(packed_state, params, grads)
    unpacked = sparsity.mask_trees.unpack_masks(after.masks, params)
    jax.tree.map(np.testing.assert_array_equal, unpacked, eager)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", sparsity.all_algorithm_names())
def test_every_algorithm_packed_and_abstract(params, algorithm):
    """Packed masks give the same training; init_state works compiled and abstract."""
    config = {
        "algorithm": algorithm,
        "dist_type": "uniform",
        "sparsity": 0.6,
        "update_freq": 2,
        "update_start_step": 1,
        "update_end_step": 5,
        "is_sparse_gradients": True,
    }
    results = []
    for packed in (False, True):
        updater = sparsity.create_updater_from_config(config | {"use_packed_masks": packed})
        # Adam-Fisher ranks by Adam's second moment.
        inner = optax.adam(0.1) if algorithm == "adam-fisher" else optax.sgd(0.1, momentum=0.9)
        tx = updater.wrap_optax(inner)
        state = tx.init(params)
        jitted = jax.jit(tx.init)(params)
        jax.tree.map(np.testing.assert_array_equal, state.masks, jitted.masks)
        abstract = jax.eval_shape(tx.init, params)
        assert jax.tree.structure(abstract.masks) == jax.tree.structure(state.masks)
        weights = params
        update = jax.jit(tx.update)
        for t in range(6):
            seen = updater.pre_forward_update(weights, state)
            grads = jax.tree.map(jnp.add, random_like(params, t), seen)
            updates, state = update(grads, state, weights)
            weights = updater.post_gradient_update(optax.apply_updates(weights, updates), state)
        results.append(weights)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), *results)
    total = sparsity.summarize_sparsity(results[0], only_total_sparsity=True)["_total_sparsity"]
    # Those that are sparse in the forward pass only keep dense weights.
    keeps_dense = algorithm in ("no_prune", "dense", "magnitude_ste", "random_ste", "topkast")
    assert total == pytest.approx(0.0 if keeps_dense else 0.6, abs=0.04)
