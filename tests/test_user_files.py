"""The user's own files: edited ones are told apart or refused; how `--import` names them."""

import dataclasses
import functools
import hashlib
import json
import linecache
import sys
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from dst_jax import (
    command_flags,
    corruptions,
    data,
    experiment,
    models,
    paths,
    registration,
    robustness,
    run_configs,
    user_files,
)
from dst_jax.config import cards
from dst_jax.corruptions import registry
from dst_jax.data import arrays, datasets, prepared
from dst_jax.errors import TRACEBACK, UserError
from dst_jax.runtime.devices import Devices
from dst_jax.training import build


@pytest.fixture
def cell():
    """Registers the corruption `dim` as a notebook's cell does, and takes it out again."""

    def run(factor, rows=(1.0, 2.0, 3.0, 4.0, 5.0)):
        source = f"def apply(image, draws, constants):\n    return image * {factor}\n"
        name = f"<cell of {factor}>"
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        scope = {"corruptions": corruptions, "rows": rows}
        exec(compile(source, name, "exec"), scope)
        register = (
            "corruptions.register_corruption(corruptions.Corruption('dim', 'own', "
            "corruptions.columns('s'), apply, corruptions.no_draw), rows=rows)"
        )
        exec(compile(register, "<cell>", "exec"), scope)
        return user_files.mark_of_corruption("dim")

    yield run
    for names in (registry.CORRUPTIONS, registry.ROWS, registry.REGISTERED_IN):
        names.pop("dim", None)


def test_an_edited_cell_has_another_mark_and_the_same_cell_the_same(cell):
    first = cell(0.5)
    assert len(first) == 8
    assert cell(0.6) != first
    assert cell(0.5, rows=(1.0, 2.0, 3.0, 4.0, 6.0)) != first
    assert cell(0.5) == first


def test_a_network_whose_file_was_edited_since_its_training_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text("one")
    entry = {"kind": "model", "name": "mine", "file": str(file)}
    entry["sha256"] = hashlib.sha256(b"one").hexdigest()
    (tmp_path / "environment.json").write_text(json.dumps({"starts": [{"registered": [entry]}]}))
    monkeypatch.setitem(models.REGISTERED_IN, "mine", str(file))
    user_files.check_model(tmp_path)
    file.write_text("two")
    with pytest.raises(UserError, match=r"model mine: found .*mine.py with SHA-256 \w{8};"):
        user_files.check_model(tmp_path)
    monkeypatch.delitem(models.REGISTERED_IN, "mine")  # registered in Python: nothing is known
    user_files.check_model(tmp_path)


def test_a_file_that_ends_the_program_is_an_error(tmp_path):
    (tmp_path / "mine.py").write_text("import sys\n\nsys.exit(0)\n")
    with pytest.raises(UserError, match=r"--import: found .*mine.py, which calls sys.exit\(0\)"):
        user_files.load(str(tmp_path / "mine.py"), "--import")


def test_import_may_be_given_more_than_once_and_with_commas():
    values = flags.FlagValues()
    holder = command_flags.of_files("files", values)
    values(["program", "--import=a.py", "--import=b.py, c", "--import=a.py"])
    assert command_flags.files_of(holder) == ["a.py", "b.py", "c"]


IMAGES, KEYS = jnp.zeros((2, 32, 32, 3), jnp.uint8), jax.random.split(jax.random.key(0), 2)


@pytest.fixture
def own():
    """Registers a corruption `mine` of a function, and takes it out again."""

    def register(apply):
        corruptions.register_corruption(
            corruptions.Corruption(
                "mine", "own", corruptions.columns("s"), apply, corruptions.no_draw
            ),
            rows=(1.0, 2.0, 3.0, 4.0, 5.0),
        )

    yield register
    for names in (registry.CORRUPTIONS, registry.ROWS, registry.REGISTERED_IN):
        names.pop("mine", None)


@pytest.mark.parametrize("edge", [slice(0, 20), (..., slice(0, 1)), (0, 0, 0)])
def test_a_corruption_that_gives_no_image_of_the_size_is_refused(edge, own):
    own(lambda image, draws, constants: image[edge].astype(jnp.float32))
    with pytest.raises(ValueError, match=r"mine: found \[.*\], .* for an image \[32, 32, 3\]; exp"):
        corruptions.corrupt("mine", IMAGES, KEYS, 1, "cifar32")


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_nan_and_infinity_of_a_corruption_are_no_black_or_white_pixels(bad, own):
    def apply(image, draws, constants):
        broken = (jnp.arange(32)[:, None, None] == 3) & (constants["s"] > 2) & (image > 0)
        return jnp.where(broken, bad, image.astype(jnp.float32))

    own(apply)
    images = IMAGES.at[1].set(9)
    text = r"mine: found NaN or infinity at severity 3 in 1 of 2 images that it gives; expected f"
    assert (corruptions.corrupt("mine", images, KEYS, 2, "cifar32") == images).all()
    with pytest.raises(ValueError, match=text):
        corruptions.corrupt("mine", images, KEYS, 3, "cifar32")
    score = functools.partial(
        robustness.evaluate,
        lambda x: jax.nn.one_hot(x[:, 0, 0, 0] % 2, 2),
        (np.asarray(images), np.zeros(2, np.int32)),
        ["mine"],
        devices=Devices(devices=jax.devices()[:1]),
    )
    assert score(severities=(2,)).scores
    with pytest.raises(UserError, match=text):
        score(severities=(3,))


def test_what_own_code_raises_is_told_with_its_object_file_and_line(tmp_path, monkeypatch):
    """Deep in JAX and ours, and in a helper that lies beside the file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_own_help.py").write_text("def f(x):\n    return x + x[:, 1:]\n")
    (tmp_path / "my_own_file.py").write_text(
        "import my_own_help\n\n\ndef apply(x):\n    return my_own_help.f(x)\n"
        "\n\ndef read(split):\n    raise OSError('no\\ndisk')\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    module = user_files.load("my_own_file.py", "--import")
    monkeypatch.setitem(models.REGISTERED_IN, "mine", module.__file__)
    with pytest.raises(TypeError) as caught:
        jax.eval_shape(module.apply, jnp.zeros((2, 3)))
    told = str(user_files.failure(caught.value))
    assert told.startswith("model mine: found TypeError: add got incompatible shapes")
    assert told.endswith(" at my_own_help.py:2, in f; expected code that runs. " + TRACEBACK)
    assert user_files.failure(ValueError("ours")) is None
    monkeypatch.setitem(datasets.REGISTERED_IN, "own", module.__file__)
    own = data.Dataset("own", 2, (32, 32, 3), (0, 0, 0), (1, 1, 1), 2, read=module.read)
    with pytest.raises(
        UserError, match=r"dataset own: found OSError: no at my_own_file.py:9, in r"
    ):
        data.load_arrays(own, "train")


class Outputs(nn.Module):
    """Gives as many logits as it likes."""

    num_classes: int
    dtype: str = "float32"
    kind: str = "right"

    @nn.compact
    def __call__(self, images, train=False):
        if self.kind == "fails":
            raise KeyError("own")
        x = nn.Dense({"right": self.num_classes}.get(self.kind, 7))(images.mean((1, 2)))
        return (x, x) if self.kind == "two" else x


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("seven", "model mine: found [2, 7], which it gives for 2 images; expected logits [2, 10]"),
        (
            "two",
            "model mine: found tuple, which it gives for 2 images; expected logits [2, 10]: di",
        ),
        ("fails", "model mine: found KeyError: 'own' at "),
        ("right", ""),
    ],
)
def test_a_model_with_other_logits_than_classes_is_told_before_a_start(kind, told, monkeypatch):
    entry = dataclasses.replace(models.MODELS["mlp"], factory=functools.partial(Outputs, kind=kind))
    monkeypatch.setitem(models.MODELS, "mine", entry)
    monkeypatch.setitem(models.REGISTERED_IN, "mine", __file__)
    config = {
        "data": {"name": "digits"},
        "model": {
            **{"name": "mine", "width": 0, "depth": 0, "stem": "published", "dropout": -1},
            **{"drop_path": -1, "zero_init_residual": "published", "dtype": "float32"},
        },
    }
    if not told:
        build.check_own_model(config)
        return
    with pytest.raises(UserError) as caught:
        build.check_own_model(config)
    assert str(caught.value).startswith(told)


def test_an_empty_split_is_called_empty():
    own = data.Dataset("own", 2, (8, 8, 3), (0, 0, 0), (1, 1, 1), 2, read=lambda split: none)
    none = (np.zeros((0, 8, 8, 3), np.uint8), np.zeros(0, np.int32))
    with pytest.raises(UserError, match=r"images of read\('test'\) of dataset own: found no image"):
        data.load_arrays(own, "test")


def test_a_prepared_dataset_registered_with_other_classes_is_refused(monkeypatch):
    info = SimpleNamespace(features={"label": SimpleNamespace(num_classes=3)})
    builder = SimpleNamespace(info=info, data_path="prepared/own")
    monkeypatch.setattr(prepared, "find_config", lambda *arguments: builder)
    monkeypatch.setitem(datasets.REGISTERED_IN, "own", __file__)
    own = data.Dataset("own", 2, (8, 8, 3), (0, 0, 0), (1, 1, 1), 2)
    with pytest.raises(UserError, match="prepared/own: found labels of 3 classes; expected 2 clas"):
        prepared.find_clean(own, None)
    assert prepared.find_clean(dataclasses.replace(own, num_classes=3), None) is builder


def test_modules_beside_a_file_are_part_of_its_digest(tmp_path):
    """By the `import` statements: what is installed, ours, or merely lies there is no part."""
    write = {
        "mine.py": "import json\nimport numpy\nimport one\nfrom dst_jax import data\n",
        "one.py": "def late():\n    from pack.deep import thing\n",
        "pack/__init__.py": "",
        "pack/deep.py": "from . import near\nfrom .. import nothing\nfrom ..far import x\n",
        "pack/near.py": "import mine\n",
        "json.py": "",
        "dst_jax.py": "",
        "other.py": "import mine\n",
        "broken.py": "x = (\n",
    }
    for name, text in write.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    file = str(tmp_path / "mine.py")
    names = ["one.py", "pack/__init__.py", "pack/deep.py", "pack/near.py"]
    assert registration.beside(file) == [str(tmp_path / name) for name in names]
    first = registration.digest(file)
    for name in ("json.py", "other.py", "dst_jax.py"):
        (tmp_path / name).write_text("edited = 1\n")
    assert registration.digest(file) == first
    for name in names:
        before = registration.digest(file)
        (tmp_path / name).write_text(write[name] + "# edited\n")
        assert registration.digest(file) != before
    lone, broken = (str(tmp_path / name) for name in ("other.py", "broken.py"))
    assert registration.digest(lone) == hashlib.sha256(b"edited = 1\n").hexdigest()
    assert registration.digest(broken) == hashlib.sha256(b"x = (\n").hexdigest()
    assert registration.digest("<cell>") == ""


def test_an_edited_helper_is_an_edited_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text("import helper\n")
    (tmp_path / "helper.py").write_text("SCALE = 1\n")
    monkeypatch.setitem(models.MODELS, "mine", models.MODELS["mlp"])
    monkeypatch.setitem(models.REGISTERED_IN, "mine", str(tmp_path / "mine.py"))
    (entry,) = user_files.record(CONFIG)
    assert entry["modules"] == ["helper.py"]
    (tmp_path / "environment.json").write_text(json.dumps({"starts": [{"registered": [entry]}]}))
    user_files.check_model(tmp_path)
    (tmp_path / "helper.py").write_text("SCALE = 2\n")
    with pytest.raises(UserError, match=r"model mine: found .*mine.py \(with helper.py\) with SHA"):
        user_files.check_model(tmp_path)
    config = {**CONFIG, "train": {"steps": 12}}
    run = run_configs.RunConfig(config, {}, None, data_found=False)
    places = paths.RunPaths(tmp_path, None, tmp_path)
    (states,) = experiment._states([{tmp_path: run}], places)  # as --mode=plan asks it
    status = states[tmp_path.name]
    assert status.state == "not begun, with an earlier mine.py"
    done = dataclasses.replace(status, seconds=3.0, evaluated=True)
    assert done.state == "finished, 12 steps in 0:00:03, with an earlier mine.py"
    user_files.warn_if_changed(tmp_path)
    assert "which is not the file it was trained with (SHA-256 " in capsys.readouterr().err


CONFIG = {
    "model": {"name": "mine"},
    "data": {"name": "digits"},
    "sparsity": {"algorithm": "rigl"},
}


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (("cat", "cow"), "found 2 with cow and without dog; expected the 2 of its training"),
        (("cat", "cow", "dog"), "found 3 with cow; expected the 2 of its training, in their order"),
        (("dog", "cat"), "found 2 in another order; expected the 2 of its training"),
        (("cat", "dog"), ""),
    ],
)
def test_a_run_is_not_taken_to_other_classes(now, told, tmp_path, monkeypatch):
    def registered(names):
        own = data.Dataset("own", 2, (8, 8, 3), (0, 0, 0), (1, 1, 1), 2, class_names=names)
        monkeypatch.setitem(data.DATASETS, "own", own)
        monkeypatch.setitem(datasets.REGISTERED_IN, "own", __file__)

    registered(("cat", "dog"))
    config = {**CONFIG, "model": {"name": "mlp"}, "data": {"name": "own"}}
    (entry,) = user_files.record(config)
    (tmp_path / "environment.json").write_text(json.dumps({"starts": [{"registered": [entry]}]}))
    registered(now)
    if not told:
        user_files.check_classes(tmp_path)
        return
    with pytest.raises(UserError, match=f"classes of dataset own: {told}"):
        user_files.check_classes(tmp_path)


def test_the_toy_form_of_a_card_sets_nothing_that_an_own_model_lacks(monkeypatch):
    entry = dataclasses.replace(models.MODELS["mlp"], factory=Narrow)
    monkeypatch.setitem(models.MODELS, "mine", entry)
    monkeypatch.setitem(models.REGISTERED_IN, "mine", __file__)
    card = cards.load("cifar10_resnet20")
    config = card.get_config("tiny,model=mine")
    asked = dict(config.model)
    assert 0 not in (asked["width"], asked["depth"])
    resolved = run_configs.as_published(config)
    assert (resolved["model"]["width"], resolved["model"]["depth"]) == (asked["width"], 0)
    whole = card.get_config("model=mine")
    whole.model.depth = 3  # no toy form: a wish that cannot be met is told
    assert run_configs.check_names(whole)["model.depth"] == 3


class Narrow(nn.Module):
    """Has a width, and no depth."""

    num_classes: int
    dtype: str = "float32"
    width: int = 4

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Dense(self.width)(images.reshape(len(images), -1))
        return nn.Dense(self.num_classes, name="classifier")(x)


def test_splits_that_overlap_or_lack_a_class_are_told():
    draw = np.random.default_rng(0)
    splits = {
        "train": (draw.integers(0, 256, (6, 8, 8, 3), np.uint8), np.array([0, 0, 0, 1, 1, 1])),
        "test": (draw.integers(0, 256, (4, 8, 8, 3), np.uint8), np.array([0, 1, 2, 2])),
    }
    own = data.Dataset("own", 3, (8, 8, 3), (0, 0, 0), (1, 1, 1), 6, read=splits.__getitem__)
    lacking = "data: own has no training image of 1 of 3 classes (2), and 2 test images of them"
    assert arrays.doubts(own) == [lacking]
    splits["test"][0][1] = splits["train"][0][4]
    found = arrays.doubts(own, lambda count: count // 3)
    assert found[0] == "data: own has 1 of 4 test images in its training images too"
    assert found[2].startswith("data: own holds out its last 2 training images, of 1 of 2 classes:")
    splits["train"] = (splits["train"][0], np.array([0, 1, 2, 0, 1, 2]))
    fresh = dataclasses.replace(own, read=lambda split: splits[split], train_split="train")
    assert arrays.doubts(fresh, lambda count: count // 2) == found[:1]
    assert arrays.doubts(data.get("digits")) == []


def test_test_labels_beyond_the_classes_are_told_before_a_training(tmp_path, monkeypatch):
    images = np.zeros((4, 32, 32, 3), np.uint8)
    labels = {"train": np.array([0, 1, 0, 1]), "test": np.array([0, 1, 2, 2])}
    own = data.Dataset(
        *("own", 2, (32, 32, 3), (0, 0, 0), (1, 1, 1), 4),
        read=lambda split: (images, labels[split]),
    )
    monkeypatch.setitem(data.DATASETS, "own", own)
    config = cards.load("digits_rigl").get_config("model=mlp")
    config.data.name, config.train.batch_size = "own", 2
    places = paths.RunPaths(tmp_path, None, tmp_path)
    with pytest.raises(
        UserError, match=r"labels of read\('test'\) of dataset own: found labels fro"
    ):
        run_configs.of_call(config, tmp_path / "run", places, {})


def test_a_file_that_moved_is_asked_for_by_its_name(tmp_path):
    entry = {"kind": "model", "name": "gone", "file": "/elsewhere/my_model.py", "sha256": "ab"}
    (tmp_path / "environment.json").write_text(json.dumps({"starts": [{"registered": [entry]}]}))
    config = {**CONFIG, "model": {"name": "gone"}}
    told = r"/elsewhere/my_model.py is not here: add --import=my_model.py, with its path of today$"
    with pytest.raises(UserError, match=told):
        user_files.check(tmp_path, config)
    with pytest.raises(UserError, match=r"is not on this machine: import it from where it is now$"):
        user_files.check(tmp_path, config, python=True)


def test_what_is_scored_with_an_edited_corruption_was_not_trained_with_it(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "mine.py").write_text("edited")
    entry = {"kind": "corruption", "name": "mine", "file": "mine.py", "sha256": "ab" * 32}
    (tmp_path / "environment.json").write_text(json.dumps({"starts": [{"registered": [entry]}]}))
    monkeypatch.setitem(registry.REGISTERED_IN, "mine", str(tmp_path / "mine.py"))
    user_files.warn_if_changed(tmp_path)
    told = capsys.readouterr().err
    assert "edited since a start of this run (SHA-256 abababab, now " in told
    assert "trained" not in told
