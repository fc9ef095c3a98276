"""`--mode=evaluate --predict=...` as somebody meets it who has a network and no run of ours."""

import json
import re
import sys

import numpy as np
import pytest
import runs
from PIL import Image

from dst_jax.errors import UserError
from dst_jax.robustness import command, storage

DOCS = (runs.ROOT / "docs" / "robustness.md").read_text()
MODULE = """
import jax
import jax.numpy as jnp

def predict(images):
    return jax.nn.one_hot(images[:, 0, 0, 0] % 10, 10)

def make_predict(scale=1):
    return lambda images: scale * predict(images)

def logits(images):
    return images[:, 0, :10, 0] / 10.0

def shares(images):
    return jax.nn.softmax(images[:, 0, :10, 0] / 10.0, -1)

def shares_of_numpy(images):
    import numpy as np

    return np.asarray(shares(np.array(images)))

def make_number():
    return 3

def make_error():
    raise OSError("no such weights")

NUMBER = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "their_module.py").write_text(MODULE)
    (tmp_path / "broken_module.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "syntax_module.py").write_text("def f(:\n")
    yield tmp_path
    for name in ("their_module", "broken_module", "syntax_module"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "text", ["their_module:predict", "their_module:make_predict", "./their_module.py:make_predict"]
)
def test_a_function_or_what_makes_it(module, text):
    import numpy as np

    logits = command.load_predict(text)(np.full((2, 4, 4, 3), 13, np.uint8))
    assert np.argmax(logits, -1).tolist() == [3, 3]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("their_module", "found their_module; expected MODULE:ATTRIBUTE"),
        (":predict", "found :predict; expected MODULE:ATTRIBUTE"),
        ("no_module:predict", "found no module no_module; expected MODULE:ATTRIBUTE"),
        ("none.py:predict", "found no file none.py"),
        ("broken_module:f", "broken_module fails: ModuleNotFoundError: No module named 'nothing"),
        ("syntax_module:f", "syntax_module fails: SyntaxError"),
        (
            "their_module:predikt",
            r"found no predikt in their_module; expected one of its functions \(predict, make_pr",
        ),
        ("their_module:NUMBER", "found NUMBER of type int"),
        ("their_module:make_number", r"found make_number\(\) gives a int"),
        ("their_module:make_error", r"make_error\(\) fails: OSError: no such weights"),
    ],
)
def test_what_is_no_function_is_one_line(module, text, expected):
    with pytest.raises(UserError, match=f"--predict: {expected}|{expected}") as caught:
        command.load_predict(text)
    assert "\n" not in str(caught.value)


def example():
    """The ten lines of the documentation."""
    (block,) = re.findall(r"```python\n(# my_module.py\n.*?)```", DOCS, re.DOTALL)
    return block


def main(*arguments):
    return runs.run([sys.executable, "run.py", "--mode=evaluate", *arguments])


@pytest.mark.slow
def test_the_ten_line_example_and_the_command_of_the_documentation(tmp_path, cache_dir):
    assert len(example().strip().splitlines()) <= 12
    (tmp_path / "my_module.py").write_text(example())
    arguments = [
        f"--predict={tmp_path / 'my_module.py'}:make_predict",
        "--dataset=digits",
        f"--workdir={tmp_path / 'scores'}",
        f"--cache_dir={cache_dir}",
        "--suite=gaussian_noise,contrast",
        "--severities=1,5",
        "--max_images=50",
    ]
    done = main(*arguments)
    assert done.returncode == 0, done.stderr
    result = storage.load(tmp_path / "scores")
    assert result.n == 50
    assert result.conditions == (
        *(("gaussian_noise", s) for s in (1, 5)),
        *(("contrast", s) for s in (1, 5)),
    )
    assert result.dataset == "digits"
    assert done.stdout.endswith(f"{result.table()}\n")
    assert "mCE is not defined: the dataset is digits" in done.stdout
    (figure,) = (tmp_path / "scores" / "figures").glob("*.svg")
    assert str(figure) in done.stdout
    assert "<svg" in figure.read_text()
    facts = json.loads((tmp_path / "scores" / "robustness.json").read_text())
    assert facts["results"][0]["clean_accuracy"] == result.clean_accuracy
    again = main(*arguments)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert "5/5" in again.stderr  # nothing but the clean images was scored again


@pytest.mark.slow
def test_a_folder_and_published_files_by_the_command(tmp_path, cache_dir):
    """Four images of two classes, of which the second is wrong under fog; three are listed."""
    (tmp_path / "their_module.py").write_text(
        "import jax\n\ndef predict(images):\n    return jax.nn.one_hot(images[:, 0, 0, 0], 12)\n"
    )
    for part, second in (("val", 11), ("C/fog/3", 10)):
        for name, value in (("cat", 10), ("dog", second)):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(2):
                image = Image.fromarray(np.full((32, 32, 3), value, np.uint8))
                image.save(tmp_path / part / name / f"{index}.png")
    (tmp_path / "ids.txt").write_text("cat/1.png\ndog/0.png\ndog/1.png\n")
    done = main(
        f"--predict={tmp_path / 'their_module.py'}:predict",
        f"--dataset=folder:{tmp_path / 'val'}",
        "--side=32",
        "--classes=10,11",
        f"--source={tmp_path / 'C'}",
        "--suite=fog",
        "--severities=3",
        f"--image_ids={tmp_path / 'ids.txt'}",
        f"--workdir={tmp_path / 'scores'}",
        f"--cache_dir={cache_dir}",
    )
    assert done.returncode == 0, done.stderr
    result = storage.load(tmp_path / "scores")
    assert (result.n, result.clean_accuracy, result.accuracy("fog", 3)) == (3, 1.0, 1 / 3)
    assert re.fullmatch(r"files/[0-9a-f]{8}\+classes-[0-9a-f]{8}", result.setting.source)


def test_the_python_of_the_documentation(tmp_path, cache_dir, monkeypatch):
    block, *_ = re.findall(r"```python\n(from dst_jax.*?)```", DOCS, re.DOTALL)
    (tmp_path / "my_module.py").write_text(example())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_dir))
    exec(block, {})
    sys.modules.pop("my_module")
    assert storage.load("scores").corruptions == ("contrast", "pixelate")
    assert (tmp_path / "corruptions.svg").stat().st_size > 1000


def test_a_function_of_numpy_that_gives_probabilities(module, cache_dir, capsys):
    options = {"suite": "contrast", "severities": (1,), "max_images": 20, "quiet": True}
    arguments = ("their_module:shares_of_numpy", "digits", module / "scores", None, cache_dir)
    with pytest.raises(UserError, match=r"--predict: .* logits, or --outputs=probabilities"):
        command.run(*arguments, **options)
    text = command.run(*arguments, outputs="probabilities", **options)
    result = storage.load(module / "scores")
    assert (result.n, result.conditions) == (20, (("contrast", 1),))
    assert result.table() in text


MISTAKES = {
    "no dataset": (["--predict=a:b"], "--dataset: found nothing; expected the name of a dataset"),
    "no predict": (["--dataset=digits"], "--predict: found nothing; expected MODULE:ATTRIBUTE"),
    "mode": (
        ["--predict=a:b", "--dataset=digits", "--mode=all"],
        "--mode: found all; expected evaluate",
    ),
    "config": (
        ["--predict=a:b", "--dataset=digits", f"--config={runs.CARD}"],
        "--predict: found --config or --sweep as well",
    ),
    "severities": (
        ["--predict=a:b", "--dataset=digits", "--severities=a"],
        "--severities: found a; expected severities from 1 to 5",
    ),
    "batch size": (
        ["--predict=a:b", "--dataset=digits", "--eval_batch_size=a"],
        "--eval_batch_size: found a; expected a whole number, at least 1",
    ),
    "seed": (
        ["--predict=a:b", "--dataset=digits", "--eval_seed=-1"],
        "--eval_seed: found -1; expected a whole number, at least 0",
    ),
    "outputs": (
        ["--outputs=probabilities", "--dataset=digits"],
        "--predict: found nothing; expected MODULE:ATTRIBUTE",
    ),
    "probabilities": (
        ["--predict=MODULE:shares", "--dataset=digits", "--max_images=8", "--suite=contrast"],
        "--predict: found rows without a negative number and with the sum 1",
    ),
    "logits": (
        [
            *("--predict=MODULE:logits", "--dataset=digits", "--max_images=8", "--suite=contrast"),
            "--outputs=probabilities",
        ],
        "--predict: found what is negative or does not sum to 1",
    ),
    "no card": (
        ["--workdir=x", "--config.eval.suite=c"],
        "--config.eval.suite: found no --config; expected a card whose option it changes",
    ),
    "suite": (
        ["--predict=MODULE", "--dataset=digits", "--suite=comon"],
        "--suite: found comon; expected one of common, c,",
    ),
    "flag without a function": (
        ["--workdir=x", "--side=32"],
        "--side: found no --predict; expected --predict and --dataset with it",
    ),
    "folder": (
        ["--predict=MODULE", "--dataset=folder:/no/such/folder"],
        "/no/such/folder: found no folder there; expected a folder of images",
    ),
    "side": (
        ["--predict=MODULE", "--dataset=digits", "--side=32"],
        "--side: found --dataset=digits; expected --dataset=folder:PATH with it",
    ),
    "dataset": (
        ["--predict=MODULE", "--dataset=digts"],
        "--dataset: found digts; expected one of cifar10, cifar100, digits",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_with_exit_code_2(name, tmp_path, cache_dir):
    arguments, text = MISTAKES[name]
    (tmp_path / "their_module.py").write_text(MODULE)
    path = f"--predict={tmp_path / 'their_module.py'}"
    arguments = [
        f"{path}:{argument.partition(':')[2] or 'predict'}"
        if argument.startswith("--predict=MODULE")
        else argument
        for argument in arguments
    ]
    if name not in ("no card", "flag without a function"):
        arguments.append(f"--workdir={tmp_path / 'scores'}")
    done = main(f"--cache_dir={cache_dir}", *arguments)
    assert done.returncode == 2, done.stderr
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
