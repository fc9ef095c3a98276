"""A run read back: what four devices saved, on one; a record that a kill has cut short."""

import json
import os

import jax
import numpy as np
import pytest
import runs

from dst_jax import models, saved_run
from dst_jax.errors import UserError
from dst_jax.runtime.checkpoint import Checkpoints
from dst_jax.runtime.devices import Devices
from dst_jax.training import build, step

READ = """
import sys, jax, numpy as np, dst_jax
run = dst_jax.load_run(sys.argv[1])
assert jax.device_count() == 1
images = np.arange(2 * 32 * 32 * 3, dtype=np.uint8).reshape(2, 32, 32, 3)
logits = run.predict(images)
assert logits.devices() == {jax.devices()[0]}
active = sum(int(mask.sum()) for mask in jax.tree.leaves(run.masks))
print(run.step, active, [line["step"] for line in run.metrics], *np.asarray(logits).ravel())
"""


def test_one_device_reads_what_four_saved(tmp_path):
    config = runs.small_config(model__name="mlp", model__width=0)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "metrics.jsonl").write_text('{"step": 8}\n{"step": 16}\n{"st')
    recipe = build.recipe(config)
    variables = models.init(recipe.model, 0, (32, 32, 3))
    devices = Devices("jit")
    assert devices.count == 4
    state = devices.replicate(step.init_state(recipe, variables))
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(7, state)
    checkpoints.close()

    env = {**runs.environment(1), "JAX_NUM_CPU_DEVICES": "1"}
    done = runs.run([runs.sys.executable, "-c", READ, os.fspath(tmp_path)], env)
    assert done.returncode == 0, done.stderr
    found = done.stdout.split()
    images = np.arange(2 * 32 * 32 * 3, dtype=np.uint8).reshape(2, 32, 32, 3)
    expected = build.logits_function(config)({"params": state.params}, images)
    active = sum(int(mask.sum()) for mask in jax.tree.leaves(state.sparse.masks))
    assert found[:4] == ["0", str(active), "[8,", "16]"]
    np.testing.assert_allclose(np.array(found[4:], float), np.ravel(expected), rtol=1e-5, atol=1e-6)


def saved(tmp_path, state, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, jax.tree.map(jax.numpy.asarray, state))
    checkpoints.close()


@pytest.mark.parametrize(
    ("name", "value", "zero"),
    [
        ("resnet20", "published", False),
        ("resnet20", "yes", True),
        ("resnet50", "no", False),
        ("resnet3d50", "published", True),
        ("resnet3d50", "no", False),
        ("efficientnet_b0", "published", False),
        ("efficientnet_b0", "yes", True),
    ],
)
def test_the_config_says_whether_residual_blocks_start_at_zero(name, value, zero):
    config = runs.small_config(model__name=name, model__zero_init_residual=value)
    assert build.model(config).zero_init_residual is zero


def test_a_foreign_checkpoint_is_refused_in_one_line(tmp_path):
    config = runs.small_config(model__name="mlp", model__width=4)
    saved(tmp_path, {"weights": np.zeros(3)}, config)
    with pytest.raises(UserError, match="a checkpoint without step, params, sparse"):
        saved_run.load_run(tmp_path)


def test_a_checkpoint_of_another_network_is_refused_in_one_line(tmp_path):
    config = runs.small_config(model__name="mlp", model__width=4)
    other = models.init(
        build.model({**config, "model": {**config["model"], "width": 5}}), 0, (32, 32, 3)
    )
    state = {"step": np.int32(1), "params": other["params"], "sparse": {"count": np.int32(0)}}
    saved(tmp_path, state, config)
    with pytest.raises(UserError, match=r"found shape .*5.*; expected .*4.*config.json has it"):
        saved_run.load_run(tmp_path)


def test_a_config_of_another_version_is_completed(tmp_path):
    config = runs.small_config(model__name="mlp", model__width=4)
    variables = models.init(build.model(config), 0, (32, 32, 3))
    state = {"step": np.int32(1), "params": variables["params"], "sparse": {"count": np.int32(0)}}
    del config["analysis"], config["log"]["tensorboard"]
    config["model"]["since_removed"] = 1
    saved(tmp_path, state, config)
    run = saved_run.load_run(tmp_path)
    assert run.config["analysis"]["images"] == 256
    assert run.config["log"]["tensorboard"] is False
    assert run.predict(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 10)
    for images in (np.zeros((1, 32, 32, 3)), np.zeros((1, 16, 16, 3), np.uint8)):
        with pytest.raises(
            UserError, match=r"predict: images: found .*; expected uint8 \[B, 32, 3"
        ):
            run.predict(images)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(UserError, match="the resolved config of a run"):
        saved_run.load_run(tmp_path)


def test_a_bucket_stays_one():
    from etils import epath

    assert os.fspath(epath.Path("gs://bucket/run") / "checkpoints") == "gs://bucket/run/checkpoints"


def test_a_directory_of_runs_names_those_inside(tmp_path):
    for name in ("rigl-0", "dense-0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    with pytest.raises(UserError, match="a directory of 2 runs; expected one of them: dense-0, ri"):
        saved_run.load_run(tmp_path)
    with pytest.raises(UserError, match="found no such file; expected a run directory"):
        saved_run.load_run(tmp_path / "none")
