"""`model.init_from`: where first weights come from, what a run records of them, how it resumes."""

import dataclasses
import hashlib
import json
import shutil

import jax
import numpy as np
import pytest
import runs

import dst_jax
from dst_jax import config as config_lib
from dst_jax import models
from dst_jax.errors import UserError
from dst_jax.models import safetensors_files, torch_weights
from dst_jax.models.leaf_paths import by_path
from dst_jax.report import recipes
from dst_jax.robustness.engine import digest
from dst_jax.runtime import run_dir
from dst_jax.runtime.checkpoint import Checkpoints
from dst_jax.training import build, initial_weights, step

SHAPE = (32, 32, 3)
RESNET = {"model__name": "resnet18", "model__width": 4, "model__depth": 1}


def finished(path, seed=5, **changes):
    """The directory of a run that stands at its last step, without having been trained."""
    config = runs.small_config(model__name="mlp", model__width=6, seed=seed, **changes)
    recipe = build.recipe(config)
    state = step.init_state(recipe, models.init(recipe.model, seed, SHAPE))
    state = jax.tree.map(jax.numpy.asarray, state)
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    checkpoints = Checkpoints(path / "checkpoints")
    total = config["train"]["steps"]
    checkpoints.save(total, dataclasses.replace(state, step=jax.numpy.int32(total)))
    checkpoints.close()
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("source") / "run")


def config_from(path, **changes):
    changes = {"model__name": "mlp", "model__width": 6, **changes}
    return runs.small_config(model__init_from=str(path), **changes)


def drawn(config):
    return models.init(build.model(config), config["seed"], SHAPE)


def same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_run_gives_its_evaluated_weights(source):
    run = dst_jax.load_run(source)
    config = config_from(source)
    variables, text = initial_weights.into(config, drawn(config))
    same(variables["params"], run.params)
    assert text.startswith("weights: 4 of 4 leaves from ")
    # As `weights` in the run's model.json, so that the two can be held against each other.
    assert initial_weights.recorded(config, source.parent / "new") == digest(run.predict)


@pytest.mark.parametrize("layout", ["safetensors", "compact"])
def test_an_exported_run_gives_the_same(source, layout, tmp_path):
    run = dst_jax.load_run(source)
    path = tmp_path / "x.safetensors"
    run.export(path, layout)
    config = config_from(path)
    same(initial_weights.into(config, drawn(config))[0]["params"], run.params)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()  # what `sha256sum` prints
    assert initial_weights.recorded(config, tmp_path / "new") == sha256


@pytest.fixture
def torch_file(tmp_path):
    """A ResNet-18 with seven classes in PyTorch's names, and its variables."""
    config = runs.small_config(**RESNET)
    module = build.model(config).clone(num_classes=7)
    variables = models.init(module, 3, SHAPE)
    path = tmp_path / "resnet.safetensors"
    path.write_bytes(
        safetensors_files.encoded(*torch_weights.to_torch("resnet18", module, variables))
    )
    return path, variables


def test_another_number_of_classes_is_drawn_anew_only_if_asked_for(torch_file):
    path, theirs = torch_file
    with pytest.raises(UserError, match=r"fc.bias: found shape \[7\]; .*init_fresh='\^classifier"):
        initial_weights.check(config_from(path, **RESNET))
    config = config_from(path, model__init_fresh="^classifier/", **RESNET)
    initial_weights.check(config)
    first = drawn(config)
    variables, text = initial_weights.into(config, first)
    assert text.endswith("drawn anew, as init_fresh says: classifier/bias, classifier/kernel")
    same(variables["params"].pop("classifier"), first["params"]["classifier"])
    theirs["params"].pop("classifier")
    same(variables, theirs)


def test_what_does_not_fit_is_told_before_the_training(source, tmp_path, torch_file):
    def refused(text, path, **changes):
        config = config_from(path, **changes)

        def start():
            initial_weights.recorded(config, tmp_path / "new")
            initial_weights.check(config)

        with pytest.raises(UserError, match=text) as error:
            start()
        assert "\n" not in str(error.value)

    refused(
        r"kernel: found shape \[6, 10\]; expected \[7, 10\].*init_fresh",
        source,
        model__width=7,
    )
    refused(
        "found no bn1/bias, .* and .* more; besides it fc1/bias, fc1/kernel; expected the",
        source,
        **RESNET,
    )
    refused("found nothing there; expected a file .safetensors", tmp_path / "none.safetensors")
    (tmp_path / "net.pt").write_bytes(b"")
    refused("a file .pt, which is a pickle; .* Convert it", tmp_path / "net.pt")
    refused(
        "found no layer1.1.bn1.bias, .* and .* more", torch_file[0], **RESNET | {"model__depth": 2}
    )
    refused(
        "model.name: found resnet20; expected one of resnet18",
        torch_file[0],
        **RESNET | {"model__name": "resnet20"},
    )
    unfinished = shutil.copytree(source, tmp_path / "unfinished")
    config = json.loads((unfinished / "config.json").read_text())
    config["train"]["steps"] += 1
    (unfinished / "config.json").write_text(json.dumps(config))
    refused("found a training at step 44 of 45; expected a finished", unfinished)


def test_options_that_mean_nothing_without_it_are_refused():
    for name in ("model__init_fresh", "model__init_sha256"):
        with pytest.raises(UserError, match=r"expected nothing without config.model.init_from"):
            runs.small_config(**{name: "a"})
    with pytest.raises(UserError, match=r"init_fresh: found .*expected a regular expression"):
        runs.small_config(model__init_from="x", model__init_fresh="(")


def test_the_weights_and_not_their_place_are_what_runs_share(source, tmp_path):
    config = config_from(source, model__init_sha256="a" * 64)
    moved = config_from(tmp_path, model__init_sha256="a" * 64)
    other = config_from(source, model__init_sha256="b" * 64)
    assert config_lib.differences(config, moved) == []
    (difference,) = config_lib.differences(config, other)
    assert difference.startswith("config.model.init_sha256 was")
    assert "model.init_from".startswith(recipes.RECORDS)
    assert not "model.init_sha256".startswith(recipes.RECORDS)
    with pytest.raises(UserError, match=f"init_sha256: found {'a' * 64}; expected .*, which "):
        initial_weights.recorded(config, tmp_path / "new")


def test_first_masks_by_magnitude_keep_the_largest_of_each_layer(source, cache_dir, tmp_path):
    """As many in each layer as random masks would, and the largest, by NumPy."""
    config = config_from(source, sparsity__initial_mask="magnitude", train__ema=0.9)
    recipe = build.recipe(config)
    variables, _ = initial_weights.into(config, drawn(config))
    first = step.init_state(recipe, variables)
    state = initial_weights.by_magnitude(first, variables["params"], recipe)
    params, masks = by_path(variables["params"]), by_path(state.sparse.masks)
    assert masks.keys() == by_path(first.sparse.masks).keys() != set()
    for path, mask in masks.items():
        weights, count = np.abs(params[path]), int(by_path(first.sparse.masks)[path].sum())
        expected = np.zeros(weights.size, np.uint8)
        expected[np.argsort(-weights.ravel(), kind="stable")[:count]] = 1
        np.testing.assert_array_equal(mask, expected.reshape(mask.shape), err_msg=path)
        for tree in (state.params, state.ema["params"]):
            np.testing.assert_array_equal(by_path(tree)[path], params[path] * mask)
        np.testing.assert_array_equal(by_path(state.union)[path], mask)


@pytest.mark.slow
def test_a_training_starts_from_them_and_resumes_without_them(source, tmp_path, cache_dir):
    """By the command: the same bits in one go and in two, the weights gone in between."""
    weights = tmp_path / "x.safetensors"
    dst_jax.load_run(source).export(weights)

    def start(workdir, *arguments, **changes):
        options = {
            "model.name": "mlp",
            "model.width": 6,
            "model.init_from": weights,
            "sparsity.initial_mask": "magnitude",
        }
        changes = {**{name.replace(".", "__"): value for name, value in options.items()}, **changes}
        return runs.run(runs.command(workdir, cache_dir, "--mode=train", *arguments, **changes))

    done = start(tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    assert "weights: 4 of 4 leaves from" in done.stdout
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert config["model"]["init_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()

    again = shutil.copytree(tmp_path / "whole", tmp_path / "again")
    (again / "summary.json").unlink()
    shutil.rmtree(again / "checkpoints" / str(run_dir.checkpoint_steps(again)[-1]))
    weights.rename(tmp_path / "gone.safetensors")
    done = start(again)
    assert done.returncode == 0, done.stderr
    assert "weights:" not in done.stdout
    runs.assert_same_state(tmp_path / "whole", again)

    other = dict(by_path(dst_jax.load_run(source).params))
    changed = {f"params/{path}": np.asarray(leaf) + 1 for path, leaf in other.items()}
    weights.write_bytes(safetensors_files.encoded(changed, {}))
    done = start(again)
    assert done.returncode == 2
    assert "the run of another config: config.model.init_sha256 was" in done.stderr
