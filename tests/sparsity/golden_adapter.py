"""Answers the golden vectors' questions with dst_jax.sparsity: NumPy in, NumPy out."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dst_jax import sparsity
from dst_jax.sparsity import (
    mask_calculator,
    sparsity_distributions,
    sparsity_schedules,
    sparsity_types,
)
from dst_jax.sparsity.algorithms import global_pruners, sparse_trainers


def topk(scores, s):
    return np.asarray(mask_calculator.topk_mask_calculator(scores, s))


def _structured(scores, s, sparsity_type):
    return np.asarray(mask_calculator.get_topk_fn(sparsity_type)(scores, s))


def nm(scores, s, n, m, axis):
    return _structured(scores, s, sparsity_types.NByM(n, m, axis))


def block(scores, s, block_height, block_width, use_avg_pooling):
    return _structured(
        scores, s, sparsity_types.Block((block_height, block_width), use_avg_pooling)
    )


def channel(scores, s, axis):
    return _structured(scores, s, sparsity_types.Channel(axis))


def erdos_renyi(shapes, s, custom=None, include_kernel=True, power=1.0):
    return sparsity_distributions.get_sparsities_erdos_renyi(
        shapes, s, custom, include_kernel, power
    )


def uniform(shapes, s, custom=None):
    tree = {(k,): np.empty(v, np.int8) for k, v in shapes.items()}
    custom = {(k,): v for k, v in (custom or {}).items()}
    flat = {k[0]: v for k, v in tree.items()}
    return sparsity_distributions.uniform(flat, s, lambda *_: True, custom)


def _schedule(kind, update_freq=1, start=None, end=None, target_step=None, power=3):
    return {
        "no_update": lambda: sparsity_schedules.NoUpdateSchedule(),
        "one_shot": lambda: sparsity_schedules.OneShotSchedule(target_step),
        "periodic": lambda: sparsity_schedules.PeriodicSchedule(update_freq, start, end),
        "polynomial": lambda: sparsity_schedules.PolynomialSchedule(update_freq, start, end, power),
    }[kind]()


def is_update(
    kind,
    step,
    update_freq=1,
    update_start_step=None,
    update_end_step=None,
    target_step=None,
    **_,
):
    schedule = _schedule(kind, update_freq, update_start_step, update_end_step, target_step)
    answer = schedule.is_mask_update_iter(step)
    assert isinstance(answer, bool)
    assert bool(schedule.is_mask_update_iter(jnp.int32(step))) == answer
    return answer


def sparsity_at(kind, target, step, update_start_step=None, update_end_step=None, power=3, **_):
    schedule = _schedule(kind, 1, update_start_step, update_end_step, 0, power)
    answer = schedule.get_sparsity_at_step(target, step)
    traced = schedule.get_sparsity_at_step(target, jnp.int32(step))
    np.testing.assert_allclose(traced, answer, 1e-6, 1e-6)
    return float(answer)


def cosine_drop(drop_fraction, update_end_step, step):
    updater = sparsity.create_updater_from_config(
        {
            "algorithm": "rigl",
            "dist_type": "erk",
            "sparsity": 0.5,
            "update_start_step": 0,
            "update_end_step": update_end_step,
            "update_freq": 1,
            "drop_fraction": drop_fraction,
        }
    )
    return np.asarray([updater.drop_fraction_fn(int(s)) for s in np.ravel(step)]).reshape(
        np.shape(step)
    )


def update_masks(old, drop_score, grow_score, drop_fraction, eps=1e-5):
    updater = sparsity.RigL(eps=eps)
    counts = updater._layer_counts(jnp.array([old.sum()], jnp.int32), drop_fraction)
    kept, new = updater._drop_and_grow([old], [drop_score], [grow_score], *counts)
    np.testing.assert_array_equal(
        new[0], updater._update_masks(old, drop_score, grow_score, drop_fraction)
    )
    return np.asarray(kept[0]), np.asarray(new[0])


def restart(accumulator, old, new):
    activated = ((old == 0) & (new == 1)).astype(np.uint8)
    state = optax.TraceState(trace={"w": accumulator})
    return np.asarray(sparse_trainers.restart_inner_state(state, {"w": activated}).trace["w"])


def global_masks(scores, s, normalise, eps=1e-8):
    updater = global_pruners.GlobalMagnitudePruning(
        sparsity=s, use_normalization=normalise, normalization_eps=eps
    )
    return updater.create_masks(scores, s)


def pack(mask):
    return np.asarray(sparsity.mask_trees.pack_masks({"m": mask})["m"])


def unpack(packed, shape):
    param = jax.ShapeDtypeStruct(shape, jnp.float32)
    return np.asarray(sparsity.mask_trees.unpack_masks({"m": packed}, {"m": param})["m"])


@dataclasses.dataclass
class StaleMomentumRigL(sparsity.RigL):
    """JaxPruner leaves the moments of dropped weights to decay; params are the same either way."""

    def _moments_to_reset(self, old, new):
        return (1 - old) & new


def _optimizer(name):
    return {
        "rigl_adam": optax.adam(0.01, b1=0.9, b2=0.999, eps=1e-8),
        "rigl_noskip": optax.sgd(0.05, momentum=0.9, nesterov=True),
    }.get(name, optax.sgd(0.05, momentum=0.9))


def _updater(name, case):
    periodic = sparsity_schedules.PeriodicSchedule(3, 2, 14)
    cosine = optax.cosine_decay_schedule(0.3, 14)
    if case["algorithm"] == "rigl":
        return StaleMomentumRigL(
            scheduler=periodic,
            drop_fraction_fn=optax.constant_schedule(0.5) if name == "rigl_noskip" else cosine,
            skip_gradients=case["skip_gradients"],
        )
    if name == "static":
        return sparsity.StaticRandomSparse()
    cls = sparsity.MagnitudePruning if name == "magnitude" else sparsity.SaliencyPruning
    return cls(
        scheduler=sparsity_schedules.PolynomialSchedule(3, 2, 14, 3),
        sparsity_distribution_fn=functools.partial(sparsity_distributions.uniform, sparsity=0.75),
    )


def trajectory(name, case, params0, grads, masks0):
    """Runs JaxPruner's way: wrap_optax inside jit, apply_updates, post_gradient_update."""
    updater = _updater(name, case)
    tx = updater.wrap_optax(_optimizer(name), apply_masks=False)
    params = {k: jnp.asarray(v) for k, v in params0.items()}
    state = tx.init(params)
    if case["initial_masks"] == "traj/masks0":
        state = state._replace(masks=masks0)

    @jax.jit
    def step(params, state, grad):
        updates, state = tx.update(grad, state, params)
        params = optax.apply_updates(params, updates)
        return updater.post_gradient_update(params, state), state, updates

    out = {key: {k: [] for k in params0} for key in ("masks", "params", "updates", "trace")}
    flags = []
    for t in range(next(iter(grads.values())).shape[0]):
        flags.append(bool(updater.scheduler.is_mask_update_iter(t)))
        params, state, updates = step(params, state, {k: g[t] for k, g in grads.items()})
        moments = state.inner_state[0]
        trace = moments.mu if name == "rigl_adam" else moments.trace
        rows = {"masks": state.masks, "params": params, "updates": updates, "trace": trace}
        for key, row in rows.items():
            for k in params0:
                out[key][k].append(row[k])
    stacked = {
        key: {k: np.stack(v) for k, v in rows.items() if v[0] is not None}
        for key, rows in out.items()
    }
    assert not any(math.isnan(float(v.sum())) for v in stacked["params"].values())
    return {"is_update": np.array(flags), **stacked}
