"""Every params tree with every algorithm and every optimizer of optax.

The default run holds each algorithm, each optimizer and each tree with several of the others;
`-m full` runs the product. Each case is a plain optax loop of five steps.
"""

import functools
import inspect
import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib
from optax._src import alias

from dst_jax import sparsity
from dst_jax.sparsity import param_paths, told
from tests.sparsity import trees

STEPS = 5
NAMES = {kind: name for name, kind in sparsity.ALGORITHM_REGISTRY.items()}  # no synonyms
ALGORITHMS = tuple(NAMES.values())

# Those of `optax.contrib` that take plain gradients; the rest of a call is what they require.
CONTRIB = {
    "acprop": lambda: contrib.acprop(1e-2),
    "ademamix": lambda: contrib.ademamix(1e-2),
    "simplified_ademamix": lambda: contrib.simplified_ademamix(1e-2),
    "adopt": lambda: contrib.adopt(1e-2),
    "cocob": lambda: contrib.cocob(),
    "dadapt_adamw": lambda: contrib.dadapt_adamw(),
    "dog": lambda: contrib.dog(),
    "dowg": lambda: contrib.dowg(),
    "galore": lambda: contrib.galore(1e-2, rank=2),
    "madgrad": lambda: contrib.madgrad(1e-2),
    "mechanize": lambda: contrib.mechanize(optax.adam(1e-2)),
    "momo": lambda: contrib.momo(),
    "momo_adam": lambda: contrib.momo_adam(),
    "muon": lambda: contrib.muon(1e-2),
    "prodigy": lambda: contrib.prodigy(),
    "reduce_on_plateau": lambda: optax.chain(optax.adam(1e-2), contrib.reduce_on_plateau()),
    "sam": lambda: contrib.sam(optax.adam(1e-2), optax.sgd(0.05)),
    "schedule_free": lambda: contrib.schedule_free(optax.adam(1e-2, b1=0.0), 1e-2),
    "schedule_free_adamw": lambda: contrib.schedule_free_adamw(1e-2, warmup_steps=2),
    "schedule_free_sgd": lambda: contrib.schedule_free_sgd(1e-2, warmup_steps=2),
    "sophia": lambda: contrib.sophia(1e-2),
    "split_real_and_imaginary": lambda: contrib.split_real_and_imaginary(optax.adam(1e-2)),
    "dpsgd": lambda: contrib.dpsgd(1e-2, 1.0, 0.1, 0),
}
# Not of its own accord in this product: what `refused` says.
PER_EXAMPLE = {"dpsgd"}


def _aliases():
    """Every function of optax's aliases, with a learning rate where it has one."""
    found = {}
    for name, function in inspect.getmembers(alias, inspect.isfunction):
        if function.__module__ != alias.__name__ or name.startswith("_"):
            continue
        rate = inspect.signature(function).parameters.get("learning_rate")
        takes = rate is not None and rate.default is inspect.Parameter.empty
        found[name] = functools.partial(function, 1e-2) if takes else function
    return found


OPTIMIZERS = {**_aliases(), **{k: v for k, v in CONTRIB.items() if hasattr(contrib, k)}}
OPTIMIZERS["noisy_sgd"] = lambda: optax.noisy_sgd(1e-2, key=0)


def made(optimizer):
    with warnings.catch_warnings():  # optax says which of its own are deprecated
        warnings.simplefilter("ignore")
        return OPTIMIZERS[optimizer]()


DENSE_STORE = {"no_prune", "dense", "magnitude_ste", "random_ste", "topkast"}
CONSTANT = {"static", "static_sparse", "set", "rigl", "topkast"}
RESTARTS = {"set", "rigl", "mest_r", "mest_g", "granet_r", "granet_g"}  # and skip the step


def refused(algorithm, optimizer):
    """The word of the error that a pair ends in, or None."""
    if optimizer in PER_EXAMPLE and algorithm not in ("dense", "no_prune"):
        return "optimizer: found"
    if optimizer == "acprop" and algorithm in ("acdc", "adam-fisher", "topkast"):
        return "optimizer: found optax.contrib.acprop"
    return None


def has_moments(algorithm, optimizer, params):
    field = {"adam-fisher": "nu", "snfs": None}.get(algorithm, "")
    if field == "":
        return True
    state = made(optimizer).init(params)
    return sparsity.optimizer_state.find_moments(state, params, field) is not None


def updater_of(algorithm):
    options = {"drop_fraction": 0.5, "drop_fraction_schedule": "constant"}
    if not hasattr(sparsity.ALGORITHM_REGISTRY[algorithm], "drop_fraction_fn"):
        options = {}
    return sparsity.create_updater_from_config(
        {"algorithm": algorithm, "dist_type": "uniform", "sparsity": 0.5, "update_freq": 2,
         "update_start_step": 2, "update_end_step": 6, "rng_seed": 3, **options}
    )  # fmt: skip


def run(tx, params, optimizer):
    """Params, state and updates after each step, stacked."""

    def loss(params):
        return 0.5 * sum(jnp.vdot(p - 0.1, p - 0.1) for p in jax.tree.leaves(params))

    def step(carry, t):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        grads = jax.tree.map(lambda g, p: g + 0.3 * jnp.sin(7 * p + t), grads, params)
        more = {"value": value, "value_fn": loss, "grad": grads}
        more = {"sophia": {"obj_fn": loss}, "sam": {}}.get(optimizer, more)
        updates, state = tx.update(grads, state, params, **more)
        params = jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, updates)
        return (params, state), (params, state, updates)

    def all_steps(params):
        carry, rows = (params, tx.init(params)), []
        for t in range(STEPS):  # not a scan: some states change their types at the first step
            carry, row = step(carry, t)
            rows.append(row)
        return rows

    return jax.jit(all_steps)(params)


def check(kind, algorithm, optimizer):
    told.forget()
    params, updater = trees.make(kind), updater_of(algorithm)
    if (text := refused(algorithm, optimizer)) is not None:
        with pytest.raises(ValueError, match=text):
            updater.wrap_optax(made(optimizer)).init(params)
        return
    if not has_moments(algorithm, optimizer, params):
        with pytest.raises(ValueError, match=r"found no (momentum|Adam state)"):
            run(updater.wrap_optax(made(optimizer)), params, optimizer)
        return
    inner = made(optimizer)
    if optimizer in PER_EXAMPLE:  # a dense training is optax's own: it asks for such gradients
        with pytest.raises(ValueError, match="batch dimension"):
            run(updater.wrap_optax(inner), params, optimizer)
        return
    rows = run(updater.wrap_optax(inner), params, optimizer)
    sizes, counts = [], []
    for t, (weights, state, updates) in enumerate(rows):
        assert jax.tree.structure(weights) == jax.tree.structure(params)
        assert all(np.isfinite(np.asarray(w)).all() for w in jax.tree.leaves(weights))
        masks = param_paths.parts(state.masks, weights)
        counts.append([None if m is None else int(m.sum()) for m in masks])
        if algorithm not in DENSE_STORE:  # I1, by the updates alone
            assert sparsity.unmasked_weights(weights, state) == {}
        if not updater.is_mask_update(t) and t:
            sizes.append(float(optax.tree.norm(updates)))
        before = masks
        # ACProp's second moments start from the layer's mean.
        if algorithm in RESTARTS and updater.is_mask_update(t) and optimizer != "acprop":
            fresh_moments_are_initial(
                rows[t - 1][1], state, weights, optax.with_extra_args_support(inner)
            )
    if algorithm in CONSTANT:
        assert all(row == counts[0] for row in counts)
    assert all(m is None or set(np.unique(m)) <= {0, 1} for m in before)
    # No jump where masks have changed: 10 times the largest step before, and what is near 0. A
    # line search may take any step that lowers the loss.
    assert optimizer == "lbfgs" or max(sizes[1:]) <= 10 * sizes[0] + 1.0, sizes


def fresh_moments_are_initial(before, after, weights, inner):
    """I4: at new weights, moments are what the optimizer's `init` gives."""
    initial = inner.init(weights)
    masks = zip(
        *(param_paths.parts(s.masks, weights) for s in (before, after)), jax.tree.leaves(weights),
        strict=True,
    )  # fmt: skip
    fresh = {
        w.shape: np.asarray((new == 1) & (old == 0)) for old, new, w in masks if old is not None
    }
    leaves = zip(jax.tree.leaves(after.inner_state), jax.tree.leaves(initial), strict=True)
    for found, first in leaves:
        if (mark := fresh.get(jnp.shape(found))) is not None and mark.ndim > 1:
            np.testing.assert_array_equal(np.asarray(found)[mark], np.asarray(first)[mark])


def some():
    """Each optimizer with RigL, each algorithm with Adam, and every tree with either in turn."""
    kinds = itertools.cycle(trees.TREES)
    for optimizer in OPTIMIZERS:
        yield next(kinds), "rigl", optimizer
    for algorithm in ALGORITHMS:
        yield next(kinds), algorithm, "adam"
    for kind in trees.TREES:
        yield kind, "granet_g", "lion"


@pytest.mark.parametrize(("kind", "algorithm", "optimizer"), list(dict.fromkeys(some())))
def test_some_of_the_product(kind, algorithm, optimizer):
    check(kind, algorithm, optimizer)


@pytest.mark.full
@pytest.mark.slow  # so that `-m "not slow"`, which replaces the default, leaves it out as well
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kind", trees.TREES)
def test_the_product(kind, algorithm, optimizer):
    check(kind, algorithm, optimizer)
