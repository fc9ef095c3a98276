"""Any params tree: paths, filters, maps, masks and updaters over it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.core import freeze

from dst_jax import sparsity
from dst_jax.sparsity import param_paths
from dst_jax.sparsity.sparsity_distributions import erk, uniform
from tests.sparsity import trees

RIGL = {"algorithm": "rigl", "dist_type": "erk", "sparsity": 0.5, "drop_fraction": 0.3,
        "update_freq": 2, "update_start_step": 2, "update_end_step": 8, "rng_seed": 0}  # fmt: skip
KERNELS = {
    "linen": {"Dense_0/kernel", "Dense_1/kernel", "Dense_2/kernel"},
    "nnx": {"layers/0/kernel", "layers/1/kernel", "layers/2/kernel"},
    "equinox": {"layers/0/weight", "layers/1/weight", "layers/2/weight"},
    "haiku": {"mlp/~/linear_0/w", "mlp/~/linear_1/w", "mlp/~/linear_2/w"},
    "pairs": {"0/0", "1/0/0", "1/1/head/0"},
}


def with_masks(tree):
    return {path for path, leaf in param_paths.by_text(tree).items() if leaf is not None}


@pytest.mark.parametrize("kind", trees.TREES)
@pytest.mark.parametrize("rule", [uniform, erk])
def test_paths_filters_and_maps(kind, rule):
    params = trees.make(kind)
    seen = {}
    found = rule(params, 0.5, lambda path, p: seen.setdefault(path, p.shape) and p.ndim > 1)
    assert all(isinstance(path, tuple) for path in seen)
    assert {param_paths.text(path) for path, shape in seen.items() if len(shape) > 1} == KERNELS[
        kind
    ]
    assert with_masks(found) == with_masks(rule(params, 0.5)) == KERNELS[kind]
    path = next(p for p in seen if len(seen[p]) > 1)
    for key in (path, param_paths.text(path)):
        own = rule(params, 0.5, custom_sparsity_map={key: 0.875})
        assert param_paths.by_text(own)[param_paths.text(path)] == 0.875
    with pytest.raises(ValueError, match="custom_sparsity_map: found nowhere/kernel, which is no"):
        rule(params, 0.5, custom_sparsity_map={("nowhere", "kernel"): 0.9})


@pytest.mark.parametrize("kind", trees.TREES)
def test_the_same_training_in_every_tree(kind):
    """Equal weights and gradients give equal masks, whatever holds them."""
    updater = sparsity.create_updater_from_config(RIGL)
    tx = updater.wrap_optax(optax.adam(1e-2))

    @jax.jit
    def step(params, state):
        grads = jax.tree.map(lambda p: jnp.sin(3 * p + state.count), params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    def train(params):
        state, given = tx.init(params), params
        for _ in range(5):
            params, state = step(params, state)
        assert jax.tree.structure(params) == jax.tree.structure(given)
        assert sparsity.unmasked_weights(params, state) == {}
        return params, state

    _, state = train(trees.make(kind))
    assert with_masks(state.masks) == KERNELS[kind]
    # First masks are drawn in the order of the leaves, and an Equinox kernel is [out, in].
    reference, _ = zip(*masks_of(train(trees.make("haiku"))[1], "haiku"), strict=True)
    found, _ = zip(*masks_of(state, kind), strict=True)
    for ours, theirs in zip(found, reference, strict=True):
        assert ours.sum() == theirs.sum()
        if kind in ("linen", "nnx"):
            np.testing.assert_array_equal(ours, theirs)


def masks_of(state, kind):
    """(mask, path) of each layer, in the order of their names."""
    named = param_paths.by_text(state.masks)
    return [(np.asarray(named[path]), path) for path in sorted(KERNELS[kind])]


def test_boxes_frozen_dicts_and_numbers():
    kernel = jnp.ones((4, 4))
    boxed = {"a": nn.Partitioned(kernel, (None, "d")), "b": freeze({"kernel": kernel})}
    assert set(param_paths.by_text(boxed)) == {"a", "b/kernel"}
    state = sparsity.create_updater_from_config(RIGL).init_state(boxed)
    assert isinstance(state.masks["a"], nn.Partitioned)
    assert uniform({"w": kernel, "n": 3, "k": jax.random.key(0)}, 0.5) == {
        "w": 0.5,
        "n": None,
        "k": None,
    }
    assert uniform(kernel, 0.5) == 0.5
    with pytest.raises(
        ValueError, match="params: found function at act; expected a tree of arrays"
    ):
        uniform({"w": kernel, "act": lambda x: x}, 0.5)
    with pytest.raises(ValueError, match=r"found no layer to mask among 1 arrays \(b \[4\]\)"):
        erk({"b": jnp.ones(4)}, 0.5)
    with pytest.warns(UserWarning, match="RigL: found no layer to mask, so the training is dense"):
        sparsity.create_updater_from_config(RIGL | {"dist_type": "uniform"}).init_state(
            {"b": jnp.ones(4)}
        )


@pytest.mark.parametrize("around", ["masked", "multi_transform", "chain"])
def test_parts_of_a_tree_that_optax_hides(around):
    params = {"a": {"kernel": jnp.ones((8, 16))}, "b": {"kernel": jnp.ones((16, 4))}}
    tx = sparsity.create_updater_from_config(RIGL).wrap_optax(optax.adam(1e-3))
    tx = {
        "masked": lambda: optax.masked(tx, {"a": True, "b": False}),
        "multi_transform": lambda: optax.multi_transform(
            {"sparse": tx, "rest": optax.sgd(0.1)}, {"a": "sparse", "b": "rest"}
        ),
        "chain": lambda: optax.chain(optax.clip(1.0), tx),
    }[around]()
    state = tx.init(params)
    for _ in range(4):
        updates, state = jax.jit(tx.update)(params, state, params)
        params = optax.apply_updates(params, updates)
    found = sparsity.find_state(state)
    assert (
        int((params["a"]["kernel"] == 0).sum()) == int((found.masks["a"]["kernel"] == 0).sum()) > 0
    )
    assert with_masks(found.masks) == (
        {"a/kernel", "b/kernel"} if around == "chain" else {"a/kernel"}
    )
    updater = sparsity.create_updater_from_config(RIGL)
    again = updater.post_gradient_update(params, state)  # harmless, and finds the state
    jax.tree.map(np.testing.assert_array_equal, again, params)
    assert "a/kernel" in sparsity.layer_table(params, state)


def test_several_states_and_none():
    params = {"a": {"kernel": jnp.ones((8, 16))}, "b": {"kernel": jnp.ones((16, 4))}}
    updater = sparsity.create_updater_from_config(RIGL | {"dist_type": "uniform"})
    tx = optax.multi_transform(
        {name: updater.wrap_optax(optax.sgd(0.1)) for name in "ab"}, {"a": "a", "b": "b"}
    )
    state = tx.init(params)
    assert len(sparsity.find_states(state)) == 2
    with pytest.raises(ValueError, match="state: found 2 SparseState in"):
        sparsity.find_state(state)
    masked = sparsity.masked(params, state)
    assert [int(p.sum()) for p in jax.tree.leaves(masked)] == [64, 32]
    with pytest.raises(ValueError, match="state: found no SparseState in tuple; expected one, as"):
        sparsity.masked(params, optax.adam(1.0).init(params))


def test_nnx_optimizer():
    model = trees.NNXNet(nnx.Rngs(0))
    updater = sparsity.create_updater_from_config(RIGL)
    optimizer = nnx.Optimizer(model, updater.wrap_optax(optax.adam(1e-2)), wrt=nnx.Param)
    batch = jax.random.normal(jax.random.key(0), (8, 6))

    @nnx.jit
    def step(model, optimizer):
        grads = nnx.grad(lambda model: jnp.mean((model(batch) - 1) ** 2))(model)
        optimizer.update(model, grads)

    before = sparsity.find_state(optimizer)
    for _ in range(5):
        step(model, optimizer)
    params, state = nnx.state(model, nnx.Param), sparsity.find_state(optimizer)
    assert int(state.count) == 5
    assert sparsity.unmasked_weights(params, optimizer) == {}
    assert any(
        (a != b).any()
        for a, b in zip(*map(jax.tree.leaves, (before.masks, state.masks)), strict=True)
    )
    assert "layers/0/kernel" in sparsity.layer_table(params, optimizer)
    assert "weights active" in repr(state)
    jax.tree.map(np.testing.assert_array_equal, sparsity.masked(params, optimizer), params)


def test_equinox_module_as_params():
    """`tx.update(grads, state, model)`, with the functions of the model in the tree."""
    eqx = pytest.importorskip("equinox", reason="Equinox is not installed")
    model = eqx.nn.MLP(6, 4, 8, 2, key=jax.random.key(0))
    tx = sparsity.create_updater_from_config(RIGL).wrap_optax(optax.adam(1e-2))
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))
    batch = jax.random.normal(jax.random.key(1), (8, 6))

    @eqx.filter_jit
    def step(model, state):
        grads = eqx.filter_grad(lambda model: jnp.mean((jax.vmap(model)(batch) - 1) ** 2))(model)
        updates, state = tx.update(grads, state, model)
        return eqx.apply_updates(model, updates), state

    for _ in range(5):
        model, state = step(model, state)
    assert sparsity.unmasked_weights(eqx.filter(model, eqx.is_inexact_array), state) == {}


@pytest.mark.parametrize("algorithm", sparsity.all_algorithm_names())
def test_frozen_layers_are_never_touched(algorithm):
    if algorithm in ("dense", "no_prune"):
        pytest.skip("a dense training masks nothing")
    params = trees.make("linen")
    labels = {"Dense_0": "freeze", "Dense_1": "train", "Dense_2": "train"}
    inner = optax.multi_transform(
        {"train": optax.adam(1e-2), "freeze": optax.set_to_zero()}, labels
    )
    inner = optax.chain(inner, optax.scale_by_learning_rate(optax.linear_schedule(0.0, 1.0, 4)))
    config = RIGL | {"algorithm": algorithm, "drop_fraction_schedule": "constant"}
    if algorithm not in sparsity.ALGORITHM_REGISTRY or not hasattr(
        sparsity.ALGORITHM_REGISTRY[algorithm], "drop_fraction_fn"
    ):
        config.pop("drop_fraction_schedule")
    updater = sparsity.create_updater_from_config(config)
    tx = updater.wrap_optax(inner)
    state = tx.init(params)
    weights = params
    update = jax.jit(tx.update)
    for t in range(6):
        grads = jax.tree.map(lambda p, t=t: jnp.cos(5 * p + t), params)
        updates, state = update(grads, state, weights)
        weights = updater.post_gradient_update(optax.apply_updates(weights, updates), state)
    assert state.masks["Dense_0"]["kernel"] is None
    jax.tree.map(np.testing.assert_array_equal, weights["Dense_0"], params["Dense_0"])
    assert (weights["Dense_1"]["kernel"] != params["Dense_1"]["kernel"]).any()
    forward = updater.forward_masks(weights, state)
    assert forward["Dense_0"]["kernel"] is None
    assert forward["Dense_1"]["kernel"].shape == (8, 8)


def test_what_is_frozen_is_read_from_the_program():
    from dst_jax.sparsity import inner_optimizer

    params = {"a": jnp.ones((2, 2)), "b": jnp.ones((2, 2))}

    def frozen(inner):
        return inner_optimizer.read(optax.with_extra_args_support(inner), params).frozen

    rest = {"a": True, "b": False}
    assert frozen(optax.chain(optax.adam(0.1), optax.masked(optax.set_to_zero(), rest))) == {("a",)}
    assert frozen(optax.chain(optax.sgd(1.0, 0.9), optax.contrib.reduce_on_plateau())) == set()
    assert frozen(optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation()) == set()
    assert (
        frozen(optax.sgd(optax.linear_schedule(0.0, 1.0, 5))) == set()
    )  # 0 at first, not for ever
    groups = optax.multi_transform(
        {"on": optax.adam(0.1), "off": optax.set_to_zero()}, {"a": "on", "b": "off"}
    )
    assert frozen(optax.chain(groups, optax.contrib.reduce_on_plateau())) == {("b",)}
    assert frozen(optax.MultiSteps(groups, 2).gradient_transformation()) == {("b",)}
    assert frozen(optax.set_to_zero()) == set()  # nothing moves: nothing to leave alone
