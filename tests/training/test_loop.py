"""Training inside this process: invariants, devices, divergence."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import runs
from trainer import Trainer, assert_same_masks, relative_errors

from dst_jax.errors import RunError, UserError
from dst_jax.report.runs import read as read_run
from dst_jax.runtime import checkpoint
from dst_jax.runtime.devices import Devices
from dst_jax.runtime.run_dir import claim
from dst_jax.training import loop

pytestmark = pytest.mark.usefixtures("compiled_in_full")


FIFTY_STEPS = {
    "sparsity__update_freq": "9",
    "sparsity__update_end_step": "100%",
    "train__epochs": 1.25,
}


@pytest.fixture(scope="module")
def config():
    return runs.small_config(**FIFTY_STEPS)


@pytest.fixture(scope="module")
def one_device(config, cache_dir):
    trainer = Trainer(config, Devices("jit", jax.devices()[:1]), cache_dir)
    assert sum(map(trainer.is_update, range(50))) == 5
    return list(trainer.states(50))


def test_four_devices_train_what_one_does(cache_dir):
    config = runs.small_config(model__name="mlp", model__width=0, **FIFTY_STEPS)
    *_, one = Trainer(config, Devices("jit", jax.devices()[:1]), cache_dir).states(50)
    *_, four = Trainer(config, Devices("jit", jax.devices()[:4]), cache_dir).states(50)
    assert_same_masks(one, four)
    assert max(relative_errors(one.params, four.params).values()) < 1e-6


def test_each_step_of_a_convolutional_network_is_the_same_on_four_devices(
    config, one_device, cache_dir
):
    # Step by step from the same state: left alone, a network of ReLUs and BatchNorm amplifies the
    # rounding of a different order of sums a thousandfold whenever an activation crosses zero.
    trainer = Trainer(config, Devices("jit", jax.devices()[:4]), cache_dir)
    errors = []
    for now in range(1, 49):
        found = trainer.step(trainer.devices.replicate(one_device[now - 1]), now)
        expected = one_device[now]
        assert_same_masks(expected, found)
        assert float(found.metrics.loss) == pytest.approx(float(expected.metrics.loss), rel=1e-6)
        a, b = (
            np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.params)])
            for state in (expected, found)
        )
        errors.append(np.linalg.norm(b - a) / np.linalg.norm(a))
    assert np.median(errors) < 1e-7
    assert max(errors) < 1e-4  # a step in which an activation crossed zero


def test_pmap_trains_with_the_same_masks_on_all_devices(config, cache_dir):
    trainer = Trainer(config, Devices("pmap", jax.devices()[:4]), cache_dir)
    state = trainer.first()
    losses = [0.0]
    for now in range(20):
        state = trainer.step(state, now)
        losses.append(float(np.asarray(state.metrics.loss)[0]))
    for mask in jax.tree.leaves(state.sparse.masks):
        copies = np.asarray(mask)
        assert copies.shape[0] == 4
        np.testing.assert_array_equal(copies, copies[:1].repeat(4, 0))
    assert int(trainer.devices.canonical(state).metrics.examples) == 20 * 32
    assert losses[20] - losses[15] < losses[5]  # the last five steps against the first five


def test_invariants_after_updates(config, one_device):
    state, sparsity = one_device[-1], config["sparsity"]["sparsity"]
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
    trainer = Trainer(config, Devices("jit", jax.devices()[:1]), cache_dir)
    first = trainer.devices.replicate(dataclasses.replace(one_device[-1], step=np.int32(0)))
    at_once = trainer.run(trainer.ordinary, first, 0, 6)
    singly = first
    for _ in range(6):
        singly = trainer.run(trainer.ordinary, singly, 0, 1)
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
        loop.train([config], [tmp_path], None, cache_dir)
    for path in (tmp_path / "checkpoints").glob("[0-9]*"):
        saved = checkpoint.read(tmp_path / "checkpoints", int(path.name))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(saved["params"]))
    told = json.loads((tmp_path / "failure.json").read_text())
    assert told["reason"].startswith("training diverged: loss or gradient not finite at step")
    assert read_run(tmp_path).status.startswith(told["reason"])


def test_a_failure_is_of_the_last_start_alone(tmp_path, cache_dir):
    config = runs.small_config(model__name="mlp", model__width=8, train__warmup="0")
    claim(tmp_path, config)
    (tmp_path / "failure.json").write_text('{"step": 1, "reason": "training diverged"}')
    loop.train([config], [tmp_path], None, cache_dir)
    assert not (tmp_path / "failure.json").exists()
    assert not read_run(tmp_path).failure


def test_a_batch_that_the_devices_cannot_share_is_refused(tmp_path, cache_dir):
    config = runs.small_config(train__batch_size=30)
    with pytest.raises(UserError, match=r"config.train.batch_size: found 30; .*4 devices"):
        loop.train([config], [tmp_path], None, cache_dir)


def test_bfloat16_computes_and_float32_is_kept_and_tensorboard_is_written(tmp_path, cache_dir):
    config = runs.small_config(
        model__dtype="bfloat16",
        model__name="mlp",
        model__width=16,
        train__epochs=0.25,
        sparsity__update_freq="4",
        log__tensorboard=True,
    )
    claim(tmp_path, config)
    loop.train([config], [tmp_path], None, cache_dir)
    saved = checkpoint.read(tmp_path / "checkpoints")
    for leaf in jax.tree.leaves((saved["params"], saved["sparse"]["inner_state"])):
        assert leaf.dtype == np.float32
        assert np.isfinite(leaf).all()
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_micro_batches_that_the_devices_cannot_share_are_refused(tmp_path, cache_dir):
    config = runs.small_config(train__grad_accum_steps=16)
    with pytest.raises(UserError, match=r"found 32; expected a multiple of the 4 devices times"):
        loop.train([config], [tmp_path], None, cache_dir)
