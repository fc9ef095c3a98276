"""The recipes of docs/adding.md, as they stand on the page, each in an empty directory.

Files and commands are taken out of the page. A command is a process of its own, so what a later one
finds was registered by it alone.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import runs
from PIL import Image

from dst_jax import corruptions, data, load_run, models, robustness, sparsity
from dst_jax.corruptions import registry
from dst_jax.corruptions.constants import ROWS
from dst_jax.data import benchmarks, datasets
from dst_jax.errors import UserError
from dst_jax.robustness import storage, suites

PAGE = (runs.ROOT / "docs" / "adding.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
CORRUPTION = "A corruption, and a suite"
RECIPES = ("A model", "A dataset", "An image folder", CORRUPTION, "An algorithm", "A card")
PROGRAM = "import sys; from dst_jax.cli import main; sys.argv[0] = 'dst-jax'; sys.exit(main())"


def blocks(recipe):
    """The Python blocks of a recipe, and its commands."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```", SECTIONS[recipe], re.MULTILINE | re.DOTALL)
    commands = [line for kind, text in fences if not kind for line in text.splitlines()]
    return [text for kind, text in fences if kind == "python"], commands


def start(directory, cache_dir, *arguments):
    environment = {
        **runs.environment(),
        "PYTHONPATH": str(runs.ROOT),
        "XDG_CACHE_HOME": str(cache_dir.parent / "adding"),
        "TFDS_DATA_DIR": str(directory / "nothing"),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
    )


def call(directory, cache_dir, command):
    program, *arguments = shlex.split(command)
    assert program == "dst-jax"
    return start(directory, cache_dir, PROGRAM, *arguments)


def make_photos(directory):
    for split, count in (("train", 12), ("test", 6)):
        for label, name in enumerate(("cat", "dog")):
            folder = directory / "photos" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = np.full((40, 50 + index, 3), 60 + 120 * label + index, np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.{('png', 'jpg')[index % 2]}")


def follow(recipe, directory, cache_dir):
    """Writes the recipe's file and does its commands; what each printed."""
    (text, *_), commands = blocks(recipe)
    name = re.match(r"# (my_\w+\.py)\n", text)[1]
    (directory / name).write_text(text)
    if recipe == "An image folder":
        make_photos(directory)
    printed = []
    for command in commands:
        done = call(directory, cache_dir, command)
        assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
        printed.append(done.stdout)
    return printed


def scored(directory):
    lines = (directory / "runs" / "mine" / "robustness.csv").read_text().splitlines()
    names = lines[0].split(",")
    return [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]


def registered(directory):
    found = json.loads((directory / "runs" / "mine" / "environment.json").read_text())
    return [(entry["kind"], entry["name"]) for entry in found.get("registered", [])]


def test_the_page_has_these_recipes():
    assert tuple(SECTIONS)[:6] == RECIPES


def test_a_model(tmp_path, cache_dir):
    printed = follow("A model", tmp_path, cache_dir)
    assert "small_net on digits" in printed[0]
    assert "dense" in printed[1]
    assert registered(tmp_path) == [("model", "small_net")]
    facts = json.loads((tmp_path / "runs" / "mine" / "model.json").read_text())
    assert facts["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert "report: runs/mine/report.html" in printed[3]
    read_in_python(tmp_path, cache_dir)
    ask_for_the_import(tmp_path, cache_dir)
    resume_with_an_edited_file(tmp_path, cache_dir)


def read_in_python(directory, cache_dir):
    (_, text), _ = blocks("A model")
    done = start(directory, cache_dir, f"{text}\nprint(run.step, type(run.model).__name__)")
    assert done.stdout == "12 SmallNet\n", done.stderr[-2000:]
    with pytest.raises(UserError) as caught:  # nothing is registered in this process
        load_run(directory / "runs" / "mine")
    told = str(caught.value)
    assert (
        "config.json: model.name: found small_net, which is not registered; expected one of mlp,"
        in told
    )
    path = f"import sys; sys.path.insert(0, '{directory}'); import my_model"
    assert told.endswith(f"Before: {path}")


def ask_for_the_import(directory, cache_dir):
    command = "dst-jax --mode=evaluate --workdir=runs/mine"
    done = call(directory, cache_dir, command)
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert (
        "config.json: model.name: found small_net, which is not registered; expected one of mlp,"
        in done.stderr
    )
    assert done.stderr.strip().endswith(f"Use: {command} --import=my_model.py")


def resume_with_an_edited_file(directory, cache_dir):
    whole, half = directory / "runs" / "mine", directory / "runs" / "resumed"
    half.mkdir()
    for name in ("config.json", "environment.json", "metrics.jsonl"):
        (half / name).write_bytes((whole / name).read_bytes())
    shutil.copytree(whole / "checkpoints", half / "checkpoints")
    shutil.rmtree(half / "checkpoints" / "12")
    assert (half / "checkpoints" / "6").is_dir()
    file = directory / "my_model.py"
    file.write_text(file.read_text() + "# edited\n")
    resume = "dst-jax --config=my_model.py:tiny --mode=train --workdir=runs/resumed"
    done = call(directory, cache_dir, resume)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if "is not the file it was trained" in line]
    assert len(lines) == 1
    assert lines[0].startswith("runs/resumed: model small_net is registered by ")
    runs.assert_same_state(whole, half)
    starts = json.loads((half / "environment.json").read_text())["starts"]
    assert len({start["registered"][0]["sha256"] for start in starts}) == 2


def test_a_dataset(tmp_path, cache_dir):
    printed = follow("A dataset", tmp_path, cache_dir)
    assert "mlp on halves" in printed[0]
    assert registered(tmp_path) == [("dataset", "halves")]
    rows = scored(tmp_path)
    assert {row["corruption"] for row in rows} == {"clean", "gaussian_noise", "contrast"}
    assert all(row["n"] == "64" for row in rows)
    assert float(rows[0]["accuracy"]) > 0.9  # the network learned it


def test_an_image_folder(tmp_path, cache_dir):
    printed = follow("An image folder", tmp_path, cache_dir)
    assert "mlp on photos" in printed[0]
    same = "data: photos has 12 of 12 test images in its training images too\n"
    assert printed[0].count(same) == 1  # they are: see `make_photos`
    assert registered(tmp_path) == [("dataset", "photos")]
    assert [row["n"] for row in scored(tmp_path)] == ["12", "12"]
    environment = json.loads((tmp_path / "runs" / "mine" / "environment.json").read_text())
    assert environment["registered"][0]["classes"] == ["cat", "dog"]
    for split in ("train", "test"):
        (tmp_path / "photos" / split / "cat").rename(tmp_path / "photos" / split / "kitten")
    command = "dst-jax --mode=evaluate --workdir=runs/mine --import=my_folder.py"
    done = call(tmp_path, cache_dir, command)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr[-2000:]
    assert "classes of dataset photos: found 2 with kitten and without cat; exp" in done.stderr


def test_a_corruption(tmp_path, cache_dir):
    printed = follow(CORRUPTION, tmp_path, cache_dir)
    assert set(registered(tmp_path)) == {("corruption", "dead_columns"), ("suite", "sensor")}
    assert "dead_columns" in printed[1]
    # This process, as a report, has not imported the file: the scores themselves have the list.
    (found,) = (
        r for r in storage.load_all(tmp_path / "runs" / "mine") if r.setting.suite == "sensor"
    )
    assert found.benchmark.corruptions == ("dead_columns", "shot_noise", "contrast")
    assert (found.benchmark.severities, found.lacking) == ((1, 3), "64 of 360 images")
    rows = {(row["suite"], row["corruption"], row["severity"]): row for row in scored(tmp_path)}
    assert {key[1:] for key in rows if key[0] == "sensor"} == {
        ("clean", "0"),
        *((name, s) for name in found.benchmark.corruptions for s in "13"),
    }
    first = rows["sensor", "dead_columns", "1"]
    assert re.fullmatch(r"rendered\+dead_columns-[0-9a-f]{8}", first["source"])
    alone = [row for row in scored(tmp_path) if row["suite"] == "dead_columns"]
    assert {row["severity"] for row in alone} == {"0", "1", "2", "3", "4", "5"}
    # Changed code gives other scores, beside the old ones.
    file = tmp_path / "my_corruption.py"
    file.write_text(file.read_text().replace("0.3)", "0.9)"))
    command = blocks(CORRUPTION)[1][1]
    assert call(tmp_path, cache_dir, command).returncode == 0
    again = [row for row in scored(tmp_path) if row["suite"] == "dead_columns"]
    assert len(again) == 2 * len(alone)
    assert len({row["source"] for row in again}) == 2


def test_an_algorithm(tmp_path, cache_dir):
    printed = follow("An algorithm", tmp_path, cache_dir)
    assert "rigl_saliency" in printed[0]
    assert registered(tmp_path) == [("algorithm", "rigl_saliency")]
    file = tmp_path / "my_algorithm.py"
    half = "    def _layer_counts(self, n, *_):\n        return n // 2, n // 2\n\n"
    file.write_text(file.read_text().replace("    def _get", f"{half}    def _get", 1))
    done = call(tmp_path, cache_dir, blocks("An algorithm")[1][0].replace("runs/mine", "runs/bad"))
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert "dst-jax: algorithm rigl_saliency: found " in done.stderr
    assert " active weights after the mask update of step 4; expected the " in done.stderr


def test_a_card(tmp_path, cache_dir):
    printed = follow("A card", tmp_path, cache_dir)
    assert registered(tmp_path) == []
    assert "sweep both: 9 runs, 0 finished" in printed[1]


# --- names that are taken, and what is read ---

REGISTER = {
    "model": "models.register_model(name, object)",
    "dataset": "data.register_dataset(dataclasses.replace(data.get('digits'), name=name))",
    "algorithm": "sparsity.register_algorithm(name, sparsity.RigL)",
    "suite": "robustness.register_suite(name, ['fog', 'snow'], (2,))",
    "corruption": "corruptions.register_corruption(dataclasses.replace("
    "corruptions.CORRUPTIONS['contrast'], name=name), rows=(1, 2, 3, 4, 5))",
}
OURS = {
    "model": "mlp",
    "dataset": "digits",
    "algorithm": "set",
    "corruption": "fog",
    "suite": "common",
}


@pytest.fixture
def registries(monkeypatch):
    """What a test registers is forgotten after it."""
    for module, name in (
        *((models, name) for name in ("MODELS", "REGISTERED_IN")),
        *((datasets, name) for name in ("DATASETS", "REGISTERED_IN")),
        *((sparsity.api, name) for name in ("ALGORITHM_REGISTRY", "REGISTERED_IN")),
        *((registry, name) for name in ("CORRUPTIONS", "REGISTERED_IN")),
        *((benchmarks, name) for name in ("REGISTERED", "REGISTERED_IN")),
    ):
        monkeypatch.setattr(module, name, dict(getattr(module, name)))
    lists = dict(benchmarks.SUITES)
    for module in (benchmarks, suites):
        monkeypatch.setattr(module, "SUITES", lists)
    monkeypatch.setattr(registry, "ROWS", dict(ROWS))


def register(kind, name, file):
    line = (
        "import dataclasses\nfrom dst_jax import corruptions, data, models, robustness, sparsity\n"
    )
    exec(compile(line + REGISTER[kind], str(file), "exec"), {"name": name})


@pytest.mark.parametrize("kind", REGISTER)
def test_a_name_is_registered_by_one_file(kind, registries, tmp_path):
    first, second = tmp_path / "first.py", tmp_path / "second.py"
    first.touch()
    register(kind, "mine", first)
    register(kind, "mine", first)  # a card is read twice
    with pytest.raises((UserError, ValueError), match=f"found mine, registered by {first}; exp"):
        register(kind, "mine", second)
    with pytest.raises((UserError, ValueError), match=f"found {OURS[kind]}, an? {kind} of dst_jax"):
        register(kind, OURS[kind], first)
    register(kind, "cell", "<ipython-input-1>")
    register(kind, "cell", "<ipython-input-2>")  # a notebook's cells are no files


@pytest.mark.parametrize("kind", REGISTER)
def test_what_is_no_name_is_not_registered(kind, registries, tmp_path):
    """Names become parts of paths, of lists with commas and of command lines."""
    wrong = ["x/../../y", "..", "", "a b", "a,b", "-x", "größe", "a\n"]
    wrong += [] if kind == "algorithm" else ["clean"]
    wrong += ["common", "c_extra", "a-b"] if kind == "corruption" else []
    for name in wrong:
        with pytest.raises((UserError, ValueError), match=f"^register_{kind}: found "):
            register(kind, name, tmp_path / "mine.py")
    register(kind, "Mine_2", tmp_path / "mine.py")


def test_a_corruption_needs_five_rows(registries):
    contrast = corruptions.CORRUPTIONS["contrast"]
    for name, rows in (("a+b", (1, 2, 3, 4, 5)), ("mine", (1, 2, 3))):
        with pytest.raises(ValueError, match=r"^register_corruption: found "):
            corruptions.register_corruption(
                corruptions.Corruption(
                    name, "own", contrast.constants, contrast.apply, contrast.draw
                ),
                rows,
            )


def test_a_suite_is_its_list_with_its_severities(registries):
    robustness.register_suite("mine", ["snow", "fog"], severities=(4, 2))
    plan = suites.plan("mine", data.get("cifar10"), "cifar32", source="rendered")
    assert plan.suite == "mine"
    assert plan.conditions[1:] == (("snow", 2), ("snow", 4), ("fog", 2), ("fog", 4))
    assert data.benchmark_of("mine", "cifar10").conditions == plan.conditions[1:]
    only = suites.plan("mine", data.get("cifar10"), "cifar32", source="rendered", severities=(5,))
    assert only.conditions[1:] == (("snow", 5), ("fog", 5))
    # The same corruptions without the name are no suite of anybody's.
    listed = suites.plan(["fog", "snow"], data.get("cifar10"), "cifar32", source="rendered")
    assert (listed.suite, len(listed.conditions)) == ("fog+snow", 11)
    # All of a published benchmark under another name is still a list of one's own.
    robustness.register_suite("all", robustness.SUITES["common"])
    assert data.benchmark_of("all", "cifar10").name == "all"
    for arguments, text in (
        (
            ("fog", ["snow"]),
            "register_suite: found fog, a corruption; expected a name that is free",
        ),
        (("cifar10-c", ["snow"]), "register_suite: found cifar10-c, a benchmark; expected a name"),
        (("imagenet_c", ["snow"]), "register_suite: found imagenet_c, a corrupted set; expected a"),
        (
            ("x", ["snow", "fogg"]),
            "register_suite x: found fogg; expected names of corruptions. One",
        ),
        (("x", "snow"), "register_suite x: found 'snow'; expected a list of corruptions"),
        (("x", []), "register_suite x: found []; expected a list of corruptions, at least one"),
        (("x", ["snow"], (0, 1)), "register_suite x: found severities [0, 1]; expected severities"),
        (("a b", ["snow"]), "register_suite: found 'a b'; expected a name of letters, digits"),
    ):
        with pytest.raises(UserError, match=re.escape(text)):
            robustness.register_suite(*arguments)
    assert "x" not in benchmarks.REGISTERED


@pytest.mark.parametrize(
    ("gives", "text"),
    [
        (np.zeros((2, 32, 32, 3)), "found float64 [2, 32, 32, 3]; expected uint8 [N, 32, 32, 3]"),
        (np.zeros((2, 8, 8, 3), np.uint8), "found uint8 [2, 8, 8, 3]; expected uint8 [N, 32, 32"),
        (None, "found TypeError: "),
    ],
)
def test_what_a_dataset_reads_is_checked(gives, text):
    def read(split):
        return None if gives is None else (gives, np.zeros(2, int))

    own = data.Dataset("own", 2, (32, 32, 3), (0, 0, 0), (1, 1, 1), 2, read=read)
    with pytest.raises(UserError) as caught:
        data.load_arrays(own, "train")
    assert text in str(caught.value)
    assert "read('train') of dataset own" in str(caught.value)


def test_a_folder_of_images(tmp_path):
    make_photos(tmp_path)
    own = data.image_folder("photos", tmp_path / "photos", side=20)
    assert (own.num_classes, own.num_train, own.image_shape) == (2, 24, (20, 20, 3))
    images, labels = data.load_arrays(own, "train")
    assert labels.tolist() == [0] * 12 + [1] * 12
    assert abs(int(images[0].max()) - 60) <= 1
    assert abs(int(images[12].min()) - 180) <= 1
    (tmp_path / "photos" / "test" / "bird").mkdir()
    with pytest.raises(UserError, match="bird: found a class without training images"):
        data.image_folder("photos", tmp_path / "photos", side=20)
    (tmp_path / "photos" / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"0\.png: found an unreadable image"):
        data.load_arrays(data.image_folder("photos", tmp_path / "photos", 8, test="train"), "train")
    with pytest.raises(UserError, match="none: found no folder of a class"):
        data.image_folder("photos", tmp_path / "photos", side=20, train="none")
