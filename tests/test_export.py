"""A run as one file, by `run.export` and by `dst-jax export`; what a notebook asks of a run."""

import json
import re
import shutil
import sys

import jax
import numpy as np
import pytest
import runs

import dst_jax
from dst_jax import models, robustness
from dst_jax.errors import UserError
from dst_jax.runtime.checkpoint import Checkpoints
from dst_jax.training import build, step

SHAPE = (32, 32, 3)


def saved(path, **changes):
    """The directory of a run that has taken no step."""
    config = runs.small_config(**changes)
    recipe = build.recipe(config)
    state = step.init_state(recipe, models.init(recipe.model, 0, SHAPE))
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    checkpoints = Checkpoints(path / "checkpoints")
    checkpoints.save(1, jax.tree.map(jax.numpy.asarray, state))
    checkpoints.close()
    return path


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("export") / "run", sparsity__sparsity=0.9)


def same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_package_lists_its_parts():
    code = "import dst_jax; print(*dir(dst_jax)); print(dst_jax.corruptions.corrupt.__name__)"
    done = runs.run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    listed = done.stdout.split()
    assert {"sparsity", "corruptions", "robustness", "models", "load_run"} <= set(listed)


def test_a_run_in_a_notebook(workdir):
    run = dst_jax.load_run(workdir)
    assert run.config.model.name == run.config["model"]["name"] == "resnet20"
    assert "model" in dir(run.config)
    assert "name" in dir(run.config.model)
    with pytest.raises(AttributeError, match="the config has no 'models', but "):
        run.config.models  # noqa: B018 - it raises
    assert json.loads(json.dumps(run.config)) == json.loads((workdir / "config.json").read_text())
    assert run.dataset.num_classes == 10
    active, maskable = (
        sum(int(count(mask)) for mask in jax.tree.leaves(run.masks)) for count in (np.sum, np.size)
    )
    text = repr(run)
    assert len(text.splitlines()) <= 6
    assert max(map(len, text.splitlines()[1:])) <= 100
    assert f"{active:,} of {maskable:,} maskable weights active, sparsity 0." in text
    with pytest.raises(UserError, match=r"scores of nothing; .* Score it: dst-jax --mode=evaluate"):
        run.robustness  # noqa: B018 - it raises


def scores(suite, robust):
    """A result of one corruption, without a record of the images."""
    rows = [("clean", 0, 0.75), ("fog", 1, robust)]
    return robustness.Result(
        "digits",
        tuple(
            robustness.Score(suite, "rendered", name, severity, 40, value, 0.1, "cifar32", 0)
            for name, severity, value in rows
        ),
    )


def test_the_scores_of_a_run(workdir, tmp_path):
    path = shutil.copytree(workdir, tmp_path / "run")
    robustness.save(path, scores("fog", 0.5))
    run = dst_jax.load_run(path)
    assert run.robustness.clean_accuracy == 0.75
    assert run.robustness.robust_accuracy == 0.5
    assert "clean 75.0%, robust 50.0%" in repr(run).splitlines()[-1]
    robustness.save(path, scores("snow+fog", 0.5))
    with pytest.raises(UserError, match=r"scores of 'fog', 'snow\+fog'; .*load\('.*suite="):
        run.robustness  # noqa: B018 - it raises
    assert "scored" not in repr(run)


@pytest.mark.parametrize("format", ["safetensors", "compact"])
def test_weights_come_back_with_the_same_bits(workdir, format, tmp_path):
    run = dst_jax.load_run(workdir)
    done = run.export(tmp_path / "x.safetensors", format)
    assert done.size == (tmp_path / "x.safetensors").stat().st_size
    found = models.load_weights(done.path)
    same(found["params"], run.params)
    same(found["batch_stats"], run.batch_stats)
    if format == "compact":
        same(found["masks"], run.masks)
    expected = sum(map(np.sum, jax.tree.leaves(run.masks))) / sum(
        map(np.size, jax.tree.leaves(run.masks))
    )
    assert f"density {expected:.4f}" in repr(done)
    assert re.search(r"\d+\.\d% of the \d+\.\d kB of the dense weights", repr(done))


def test_a_pytorch_state_dict_comes_back_with_the_same_bits(tmp_path):
    run = dst_jax.load_run(saved(tmp_path / "run", model__name="resnet18"))
    done = run.export(tmp_path / "x.safetensors", "torch")
    loaded = models.load_torch("resnet18", done.path, width=4, depth=1)
    same(loaded["params"], run.params)
    same(loaded["batch_stats"], run.batch_stats)


def test_pytorch_computes_the_same_with_what_was_exported(tmp_path):
    modules = pytest.importorskip("tests.models.torch_modules", reason="PyTorch is absent")
    import torch

    from dst_jax.models import safetensors_files

    run = dst_jax.load_run(saved(tmp_path / "run", model__name="resnet18"))
    run.export(tmp_path / "x.safetensors", "torch")
    tensors, _ = safetensors_files.read(tmp_path / "x.safetensors")
    network = modules.ResNet(4, (1, 1, 1, 1), 10)
    names = {"downsample": "shortcut", "fc.": "linear."}  # torchvision's -> this module's
    state = {}
    for key, tensor in tensors.items():
        for theirs, ours in names.items():
            key = key.replace(theirs, ours)
        state[key] = torch.from_numpy(np.array(tensor))
    network.load_state_dict(state)  # strict: every name is there, and no other
    images = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(np.float32)
    variables = {"params": run.params, "batch_stats": run.batch_stats}
    expected = modules.logits(network.eval(), images)
    np.testing.assert_allclose(run.model.apply(variables, images), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet20", "vgg16", "efficientnet_b0", "deit_small"])
def test_stablehlo_takes_any_number_of_images(name, tmp_path):
    from jax import export

    changes = {"model__name": name, "model__width": 16, "model__stem": "published"}
    run = dst_jax.load_run(saved(tmp_path / "run", **changes))
    done = run.export(tmp_path / "x.stablehlo", "stablehlo")
    exported = export.deserialize(bytearray(done.path.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert str(exported.in_avals[0].shape) == "(batch, 32, 32, 3)"
    generator = np.random.default_rng(0)
    for count in (1, 3):
        images = generator.integers(0, 256, (count, *SHAPE), np.uint8)
        expected = jax.jit(run.predict)(images)
        np.testing.assert_allclose(exported.call(images), expected, rtol=1e-5, atol=1e-6)


def test_the_command_writes_what_python_does(workdir, tmp_path):
    command = [sys.executable, "run.py", "export", str(workdir)]
    done = runs.run([*command, str(tmp_path / "x.safetensors"), "--format=compact"])
    assert done.returncode == 0, done.stderr
    assert "compact is the smaller below 0.97" in done.stdout
    dst_jax.load_run(workdir).export(tmp_path / "y.safetensors", "compact")
    contents = [(tmp_path / f"{name}.safetensors").read_bytes() for name in "xy"]
    assert contents[0] == contents[1]
    done = runs.run([*command, str(tmp_path / "z.safetensors"), "--format=torch"])
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "config.model.name: found resnet20; expected one of resnet18, " in done.stderr
    assert not (tmp_path / "z.safetensors").exists()


def test_nothing_else_is_written(workdir, tmp_path):
    run = dst_jax.load_run(workdir)
    with pytest.raises(UserError, match=r"none/x.safetensors: found No such file"):
        run.export(tmp_path / "none" / "x.safetensors")
    for name, format, text in (
        ("x.npz", "compact", r"x.npz: found a name for format compact; expected a file \*.safet"),
        ("x.safetensors", "stablehlo", r"expected a file \*.stablehlo"),
        ("x.safetensors", "onnx", "format: found onnx; expected one of safetensors, compact, "),
    ):
        with pytest.raises(UserError, match=text):
            run.export(tmp_path / name, format)
    assert list(tmp_path.iterdir()) == []
