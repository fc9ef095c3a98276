"""What goes wrong with `wrap_optax` and configs, and what its user is told, once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dst_jax import sparsity
from dst_jax.sparsity import told
from tests.sparsity import trees

RIGL = {"algorithm": "rigl", "dist_type": "erk", "sparsity": 0.5, "drop_fraction": 0.3,
        "update_freq": 2, "update_start_step": 2, "update_end_step": 8, "rng_seed": 0}  # fmt: skip


def updater_of(**options):
    return sparsity.create_updater_from_config(RIGL | options)


def gradients(params, t):
    return jax.tree.map(lambda p: jnp.sin(5 * p + t), params)


def train(tx, params, steps=6, **extra):
    """A plain optax loop: nothing but `apply_updates`."""
    state, rows = tx.init(params), []
    for t in range(steps):
        updates, state = jax.jit(tx.update)(gradients(params, t), state, params, **extra)
        params = optax.apply_updates(params, updates)
        rows.append((params, state))
    return rows


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("algorithm", ["rigl", "static", "magnitude", "granet_r", "snfs", "acdc"])
def test_updates_bring_inactive_weights_to_zero(algorithm, packed, dtype):
    options = RIGL | {"algorithm": algorithm, "use_packed_masks": packed}
    updater = sparsity.create_updater_from_config(options)
    params = jax.tree.map(lambda p: p.astype(dtype), trees.make("linen"))
    for weights, state in train(updater.wrap_optax(optax.sgd(0.1, momentum=0.9)), params):
        assert sparsity.unmasked_weights(weights, state) == {}
        again = updater.post_gradient_update(weights, state)
        jax.tree.map(np.testing.assert_array_equal, weights, again)
    assert sparsity.check(updater, weights, state) == []


def test_the_updates_of_jaxpruner():
    """Masked by nobody: those of the inner optimizer."""
    params, updater = trees.make("linen"), updater_of()
    tx = updater.wrap_optax(optax.sgd(0.1), apply_masks=False)
    state = tx.init(params)
    grads = gradients(params, 0)
    updates, state = tx.update(grads, state, params)
    seen = updater.mask_gradients(grads, state, params)
    jax.tree.map(lambda u, g: np.testing.assert_allclose(u, -0.1 * g, rtol=1e-6), updates, seen)
    assert sparsity.unmasked_weights(optax.apply_updates(params, updates), state)


def test_updates_of_fewer_bits_than_the_weights():
    tx = updater_of().wrap_optax(
        optax.stateless(lambda u, p: jax.tree.map(lambda x: x.astype(jnp.bfloat16), u))
    )
    weights, state = train(tx, trees.make("linen"))[-1]
    assert sparsity.unmasked_weights(weights, state) == {}


@pytest.mark.parametrize("algorithm", ["magnitude_ste", "random_ste", "topkast", "dense"])
def test_weights_that_stay_dense_do(algorithm):
    tx = sparsity.create_updater_from_config(RIGL | {"algorithm": algorithm}).wrap_optax(
        optax.sgd(0.1)
    )
    weights, _ = train(tx, trees.make("linen"))[-1]
    assert all((leaf != 0).all() for leaf in jax.tree.leaves(weights))


@pytest.mark.parametrize("when", ["before", "after"])
def test_whether_new_weights_take_a_step_at_once(when):
    updater = updater_of(
        update_freq=3, update_start_step=3, skip_gradients=False, drop_fraction=0.9
    )
    rows = train(
        updater.wrap_optax(optax.sgd(0.1, momentum=0.9), mask_update=when), trees.make("linen"), 5
    )
    (_, old), (weights, new) = rows[2], rows[3]
    fresh = [
        np.asarray((b == 1) & (a == 0))
        for a, b in zip(*map(jax.tree.leaves, (old.masks, new.masks)), strict=True)
    ]
    kernels = [w for w in jax.tree.leaves(weights) if w.ndim > 1]
    moved = sum(int((np.asarray(w)[f] != 0).sum()) for w, f in zip(kernels, fresh, strict=True))
    assert moved == (sum(map(np.sum, fresh)) if when == "before" else 0)
    assert sum(map(np.sum, fresh)) > 0
    momentum = [m for m in jax.tree.leaves(new.inner_state[0].trace) if m.ndim > 1]
    if when == "after":
        assert not any(np.asarray(m)[f].any() for m, f in zip(momentum, fresh, strict=True))
    with pytest.raises(ValueError, match="mask_update: found 'later'; expected before or after"):
        updater.wrap_optax(optax.sgd(0.1), mask_update="later")


def test_after_is_the_order_of_the_training_loop():
    """Step with the old masks, then new masks by the stepped weights, as `training.step` has it."""
    updater = updater_of(
        skip_gradients=False, regrow_same="zero", drop_fraction_schedule="constant"
    )
    inner = optax.sgd(0.1, momentum=0.9)
    ours = trees.make("linen")
    state = updater.init_state(ours)
    ours = updater.post_gradient_update(ours, state)
    state = state._replace(inner_state=inner.init(ours))
    tx = updater.wrap_optax(inner, mask_update="after")
    theirs, wrapped = ours, tx.init(ours)
    for t in range(7):
        grads = gradients(trees.make("linen"), t)
        updates, inner_state = inner.update(
            updater.mask_gradients(grads, state, ours), state.inner_state, ours
        )
        ours = updater.post_gradient_update(optax.apply_updates(ours, updates), state)
        state = state._replace(inner_state=inner_state, count=jnp.int32(t))
        if updater.is_mask_update(t):
            ours, state = updater.update_params_and_state(state, ours, grads)
        updates, wrapped = tx.update(grads, wrapped, theirs)
        theirs = optax.apply_updates(theirs, updates)
        jax.tree.map(np.testing.assert_array_equal, state.masks, wrapped.masks)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), ours, theirs
        )


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_gradients_that_are_not_finite_leave_the_masks_alone(compiled, skip):
    params = trees.make("linen")
    tx = updater_of(skip_gradients=skip, update_start_step=0).wrap_optax(
        optax.sgd(0.1, momentum=0.9)
    )
    state = tx.init(params)
    grads = jax.tree.map(lambda p: p.at[0].set(jnp.nan), params)
    update = jax.jit(tx.update) if compiled else tx.update
    if compiled:
        updates, after = update(grads, state, params)
    else:
        with pytest.warns(UserWarning, match="gradients: found NaN or infinity on an update step"):
            updates, after = update(grads, state, params)
    jax.tree.map(np.testing.assert_array_equal, state.masks, after.masks)
    if skip:
        weights = optax.apply_updates(params, updates)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(weights))
        assert sparsity.unmasked_weights(weights, after) == {}
    _, changed = update(gradients(params, 0), state, params)
    assert any(
        (a != b).any()
        for a, b in zip(*map(jax.tree.leaves, (state.masks, changed.masks)), strict=True)
    )


def test_multi_steps():
    params = trees.make("linen")
    inside = optax.MultiSteps(optax.sgd(0.1), 2)
    for inner in (inside, optax.chain(optax.clip(1.0), inside.gradient_transformation())):
        told.forget()
        with pytest.warns(UserWarning, match="optax.MultiSteps: found inside wrap_optax"):
            updater_of().wrap_optax(inner).init(params)
    tx = optax.MultiSteps(updater_of().wrap_optax(optax.sgd(0.1)), 2)
    rows = train(tx, params, 8)
    assert int(sparsity.find_state(rows[-1][1]).count) == 4
    for weights, state in rows[1:]:
        assert sparsity.unmasked_weights(weights, state) == {}


@pytest.mark.parametrize(
    ("inner", "extra"),
    [
        (optax.chain(optax.adam(1e-2), optax.contrib.reduce_on_plateau()), {"value": 1.0}),
        (optax.polyak_sgd(), {"value": 1.0}),
        (optax.contrib.momo(), {"value": 1.0}),
        (optax.sgd(0.1), {"value": 1.0}),  # which takes none
    ],
)
def test_extra_arguments_reach_the_inner_optimizer(inner, extra):
    weights, state = train(updater_of().wrap_optax(inner), trees.make("linen"), **extra)[-1]
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(weights))
    assert sparsity.unmasked_weights(weights, state) == {}


def test_lbfgs_with_its_line_search():
    batch = jax.random.normal(jax.random.key(0), (16, 6))
    (w1, b1), (w2, b2), (w3, b3) = trees.arrays()

    def loss(params):
        x = batch
        for w, b in params:
            x = jnp.tanh(x @ w + b[None])
        return jnp.mean((x - 0.5) ** 2)

    params = [(w1, b1), (w2, b2), (w3, b3)]
    tx = updater_of().wrap_optax(optax.lbfgs())
    state, first = tx.init(params), float(loss(params))

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=loss)
        return optax.apply_updates(params, updates), state

    for _ in range(8):
        params, state = step(params, state)
    assert float(loss(params)) < first
    assert sparsity.unmasked_weights(params, state) == {}


@pytest.mark.parametrize(
    ("inner", "field", "start"),
    [
        (optax.adagrad(0.1), "sum_of_squares", 0.1),
        (optax.rmsprop(0.1, initial_scale=1.0), "nu", 1.0),
        (optax.yogi(0.1), "nu", 1e-6),
        (optax.rprop(0.1), "step_sizes", 0.1),
        (optax.adam(0.1), "mu", 0.0),
    ],
)
def test_new_weights_start_from_what_the_optimizer_starts_from(inner, field, start):
    rows = train(updater_of(drop_fraction=0.9).wrap_optax(inner), trees.make("linen"), 3)
    (_, old), (_, new) = rows[1], rows[2]
    found = sparsity.optimizer_state.find_moments(new.inner_state, trees.make("linen"), field)
    rows = zip(*(jax.tree.leaves(tree) for tree in (old.masks, new.masks)), strict=True)
    kernels = [np.asarray(m) for m in jax.tree.leaves(found) if m.ndim > 1]
    for (before, after), moment in zip(rows, kernels, strict=True):
        fresh = np.asarray((after == 1) & (before == 0))
        assert fresh.any()
        np.testing.assert_allclose(moment[fresh], start)
        assert np.unique(moment[np.asarray((after == 1) & (before == 1))]).size > 1


@pytest.mark.parametrize("algorithm", ["static", "rigl", "magnitude"])
def test_schedule_free_weights_are_as_sparse(algorithm):
    updater = sparsity.create_updater_from_config(RIGL | {"algorithm": algorithm})
    inner = optax.contrib.schedule_free_adamw(1e-2, warmup_steps=2)
    for weights, state in train(updater.wrap_optax(inner), trees.make("linen"), 7):
        evaluated = optax.contrib.schedule_free_eval_params(state.inner_state, weights)
        assert sparsity.unmasked_weights(evaluated, state) == {}


def test_a_running_average_is_masked():
    rows = train(updater_of(drop_fraction=0.9).wrap_optax(optax.sgd(0.1)), trees.make("linen"))
    average, wrong = rows[0][0], []
    for weights, state in rows[1:]:
        average = optax.incremental_update(weights, average, 0.1)
        wrong.append(sparsity.unmasked_weights(average, state))
        average = sparsity.masked(average, state)
        assert sparsity.unmasked_weights(average, state) == {}
    assert any(wrong)  # where masks have moved


def test_params_are_needed():
    tx, params = updater_of().wrap_optax(optax.sgd(0.1)), trees.make("linen")
    with pytest.raises(
        ValueError, match=r"params: found none; expected tx.update.grads, state, par"
    ):
        tx.update(params, tx.init(params))
    with pytest.raises(ValueError, match="gradients: found a tree of another structure"):
        tx.update({"x": jnp.ones(3)}, tx.init(params), params)
    some = {**params, "Dense_0": {"kernel": None, "bias": params["Dense_0"]["bias"]}}
    with pytest.raises(
        ValueError, match="gradients: found none for Dense_0/kernel, which has a mask"
    ):
        tx.update(some, tx.init(params), params)


def test_a_schedule_that_never_updates():
    absent = {key: value for key, value in RIGL.items() if key != "update_start_step"}
    with pytest.warns(
        UserWarning, match="update_start_step: found none, so the masks of rigl never"
    ):
        sparsity.create_updater_from_config(absent)
    sparsity.create_updater_from_config(absent)  # said once
    sparsity.create_updater_from_config(RIGL | {"update_start_step": None})  # meant so
    late = {"update_freq": 4000, "update_start_step": 1, "update_end_step": 10_000}
    with pytest.raises(
        ValueError, match="update_freq: found 4000 from step 1 on, and no update before"
    ):
        updater_of(**late, total_steps=12)
    updater_of(total_steps=12)
    updater = updater_of(**late)
    weights, state = train(updater.wrap_optax(optax.sgd(0.1)), trees.make("linen"))[-1]
    with pytest.warns(UserWarning, match="RigL: found no mask update in 6 steps"):
        assert len(sparsity.check(updater, weights, state)) == 1
    with pytest.warns(UserWarning, match=r"RigL: found \d+ weights that are masked but not 0"):
        sparsity.check(updater, trees.make("linen"), state)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"sparsity": 1.5}, "sparsity: found 1.5"),
        ({"sparsity": -0.1}, "sparsity: found -0.1"),
        ({"sparsity": float("nan")}, "sparsity: found nan"),
        ({"custom_sparsity_map": {"a/kernel": 1.2}}, "custom_sparsity_map of a/kernel: found 1.2"),
    ],
)
def test_a_share_beyond_all_is_refused(options, found):
    with pytest.raises(ValueError, match=f"{found}; expected a share"):
        updater_of(**options)
