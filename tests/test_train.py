"""Training inside this process: invariants, devices, divergence."""

import dataclasses

import jax
import numpy as np
import pytest
import runs

from dst_jax import checkpoint, data, models, optimizer, saved_run, step, train
from dst_jax.errors import RunError, UserError
from dst_jax.parallel import Devices
from dst_jax.workdir import claim


def trained(config, devices, steps, cache_dir):
    """The state after some steps, and the masks after each update."""
    dataset = data.get("digits")
    pipeline = train.create_pipeline(config, devices, None, cache_dir)
    model, updater = saved_run.create_model(config), train.create_updater(config)
    recipe = step.Recipe(
        model=model,
        optimizer=optimizer.create(config["train"]),
        updater=updater,
        learning_rate=optimizer.learning_rate(config["train"]),
        label_smoothing=0.0,
        seed=config["seed"],
    )
    ordinary, update = map(devices.compile, step.programs(recipe, pipeline.draw))
    variables = models.init(model, config["seed"], dataset.image_shape)
    state = devices.replicate(jax.jit(lambda v: step.init_state(recipe, v))(variables))
    updates = 0
    for now in range(steps):
        is_update = updater.scheduler.is_mask_update_iter(now)
        updates += is_update
        state = (update if is_update else ordinary)(state, pipeline.feed(now), 1)
    return state, devices.canonical(state), updates


@pytest.fixture(scope="module")
def config():
    return runs.small_config(
        sparsity__update_freq="9", sparsity__update_end_step="100%", train__epochs=5.0
    )


@pytest.fixture(scope="module")
def one_device(config, cache_dir):
    devices = Devices("jit", jax.devices()[:1])
    _, state, updates = trained(config, devices, 50, cache_dir)
    assert updates == 5
    return jax.tree.map(np.asarray, state)


def test_four_devices_train_what_one_does(config, one_device, cache_dir):
    _, state, _ = trained(config, Devices("jit", jax.devices()[:4]), 50, cache_dir)
    for a, b in zip(
        jax.tree.leaves(one_device.sparse.masks), jax.tree.leaves(state.sparse.masks), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    for (path, a), b in zip(
        jax.tree.leaves_with_path(one_device.params), jax.tree.leaves(state.params), strict=True
    ):
        error = np.linalg.norm(np.asarray(b) - a) / np.linalg.norm(a)
        assert error < 1e-6, (jax.tree_util.keystr(path), error)


def test_pmap_trains_with_the_same_masks_on_all_devices(config, cache_dir):
    stacked, state, _ = trained(config, Devices("pmap", jax.devices()[:4]), 50, cache_dir)
    for mask in jax.tree.leaves(stacked.sparse.masks):
        copies = np.asarray(mask)
        assert copies.shape[0] == 4
        np.testing.assert_array_equal(copies, copies[:1].repeat(4, 0))
    window = state.window
    assert int(window.examples) == 50 * 128
    assert float(window.loss) / 50 < 1.5


def test_invariants_after_updates(config, one_device):
    state, sparsity = one_device, config["sparsity"]["sparsity"]
    size = active = 0
    moments = state.sparse.inner_state[1].trace
    for param, mask, moment, union in zip(
        jax.tree.leaves(state.params),
        _with_none(state.sparse.masks),
        jax.tree.leaves(moments),
        _with_none(state.union),
        strict=True,
    ):
        assert (mask is not None) == (param.ndim > 1)
        if mask is None:
            continue
        size, active = size + mask.size, active + int(mask.sum(dtype=np.int64))
        assert not param[mask == 0].any()  # inactive weights are exactly 0
        assert not moment[mask == 0].any()  # and so are their moments
        assert (union >= mask).all()
    assert active == round((1 - sparsity) * size)
    assert sum(u.sum(dtype=np.int64) for u in jax.tree.leaves(state.union)) > active


def _with_none(tree):
    return jax.tree.leaves(tree, is_leaf=lambda leaf: leaf is None)


def test_a_program_of_many_steps_is_the_same_as_many_programs(config, one_device, cache_dir):
    # also: an ordinary program holds no mask update, so it changes no mask
    devices = Devices("jit", jax.devices()[:1])
    pipeline = train.create_pipeline(config, devices, None, cache_dir)
    recipe = step.Recipe(
        saved_run.create_model(config),
        optimizer.create(config["train"]),
        train.create_updater(config),
        optimizer.learning_rate(config["train"]),
        0.0,
        0,
    )
    ordinary, _ = map(devices.compile, step.programs(recipe, pipeline.draw))
    first = dataclasses.replace(one_device, step=np.int32(0))
    first = devices.replicate(first)
    at_once = ordinary(first, pipeline.feed(0), 6)
    singly = first
    for _ in range(6):
        singly = ordinary(singly, pipeline.feed(0), 1)
    for a, b in zip(jax.tree.leaves(at_once), jax.tree.leaves(singly), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(
        jax.tree.leaves(at_once.sparse.masks), jax.tree.leaves(first.sparse.masks), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_divergence_is_told_with_its_step_and_is_never_saved(tmp_path, cache_dir):
    config = runs.small_config(train__learning_rate=1e30, train__warmup="0", checkpoint__every="2")
    claim(tmp_path, config)
    with pytest.raises(RunError, match=r"not finite at step \d+; .*checkpoint"):
        train.train(config, tmp_path, None, cache_dir)
    for path in (tmp_path / "checkpoints").glob("[0-9]*"):
        saved = checkpoint.read(tmp_path / "checkpoints", int(path.name))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(saved["params"]))


def test_a_batch_that_the_devices_cannot_share_is_refused(tmp_path, cache_dir):
    config = runs.small_config(train__batch_size=30)
    with pytest.raises(UserError, match=r"config.train.batch_size: found 30; .*4 devices"):
        train.train(config, tmp_path, None, cache_dir)
