"""Usage errors on the command line and in cards: one line, exit code 2, nothing harmed."""

import sys

import pytest
import runs


def main(*arguments):
    return runs.run([sys.executable, "run.py", *arguments])


USAGE_ERRORS = {
    "misspelt field": (["--config.train.epoch=3"], "config: found no field epoch; expected epochs"),
    "wrong type": (
        ["--config.train.batch_size=many"],
        "--config.train.batch_size: found many; expected a whole number, at least 1",
    ),
    "unknown model": (
        ["--config.model.name=resnet21"],
        "config.model.name: found resnet21; expected one of mlp, vgg16, vgg16_imagenet, resnet20,",
    ),
    "option that the model lacks": (
        ["--config.model.drop_path=0.1"],
        "model options: found drop_path; expected options of resnet20: width, depth, stem",
    ),
    "unknown dataset": (
        ["--config.data.name=digit"],
        "config.data.name: found digit; expected one of digits, cifar10",
    ),
    "unknown algorithm": (
        ["--config.sparsity.algorithm=rigel"],
        "config.sparsity.algorithm: found rigel; expected one of",
    ),
    "sparsity 1.2": (
        ["--config.sparsity.sparsity=1.2"],
        "config.sparsity.sparsity: found 1.2; expected a number from 0 to 1",
    ),
    "missing dataset": (
        ["--config.data.name=cifar10", "--data_dir=nowhere"],
        "the TFDS dataset cifar10, prepared. Prepare it with: python -c",
    ),
    "zero steps": (
        ["--config.train.steps=0"],
        "config.train.steps: found 0; expected a training of at least one step",
    ),
    "unknown sweep": (
        ["--sweep=dmo"],
        "--sweep: found dmo; expected a sweep of the card (demo, paper, study)",
    ),
    "unknown corruption": (
        ["--config.eval.corruptions=fogg"],
        "config.eval.corruptions: found fogg; expected among gaussian_noise",
    ),
    "update_end after the end": (
        ["--config.sparsity.update_end_step=150%"],
        "config.sparsity.update_end_step: found step 660; expected at most the end of the training",
    ),
    "unknown flag": (["--workdri=x"], "Unknown command line flag 'workdri'. Did you mean: workdir"),
    "unknown mode": (["--mode=evalute"], "--mode: found evalute; expected"),
    "nothing left to mask": (
        ["--config.sparsity.exclude=.*"],
        "config.sparsity.exclude: found .*; expected a pattern that leaves a layer to mask",
    ),
    "section": (
        ["--config.sparsity=0.5"],
        "--config.sparsity: found 0.5; expected a field of that section: --config.sparsity.library",
    ),
    "backslash": (
        ["--eval_batch_size=\\x"],
        "--eval_batch_size: found \\x; expected a whole number, at least 1",
    ),
    "backslash in a field": (["--config.train.\\x=1"], "command line: found Could not parse"),
    "umlaut": (["--config.model.name=größer"], "config.model.name: found größer; expected one of"),
    "old name": (
        ["--batch_size=32"],
        "--batch_size: found 32; expected --eval_batch_size=32, the images per batch of the "
        "evaluation. The training's is --config.train.batch_size",
    ),
    "severity 6": (["--severities=1,6"], "config.eval.severities: found 6; expected severities"),
    "severity x": (["--severities=x"], "config.eval.severities: found x; expected severities"),
    "evaluation without one": (
        ["--mode=train", "--max_images=8"],
        "--max_images: found --mode=train; expected a mode that evaluates",
    ),
    "nothing to import": (["--import=nowhere.py"], "--import: found no file nowhere.py; expected"),
    "no flag": (["train"], "command line: found train; expected flags only"),
}


@pytest.mark.parametrize("name", USAGE_ERRORS)
def test_a_usage_error_is_one_line_with_exit_code_2_and_harms_nothing(name, tmp_path, cache_dir):
    arguments, text = USAGE_ERRORS[name]
    done = main(
        f"--config={runs.CARD}", f"--workdir={tmp_path}", f"--cache_dir={cache_dir}", *arguments
    )
    assert done.returncode == 2, done.stderr
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--config: found nothing; expected an experiment card"),
        (["--config=configs/none.py"], "--config: found configs/none.py; expected an experiment"),
        (["--mode=report", "--workdir=nowhere"], "--workdir=nowhere: found no run; expected a run"),
        (["--mode=evaluate", "--workdir=nowhere"], "--workdir=nowhere: found no run"),
    ],
)
def test_without_a_run_it_says_how_to_start_one(arguments, text):
    done = main(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert text in done.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = (", "a card that fails (SyntaxError: '(' was never closed"),
        ("import no_such_module", "a card that fails (ModuleNotFoundError: No module named 'no_s"),
        ("raise RuntimeError('my\\nown')", "a card that fails (RuntimeError: my) at "),
    ],
)
def test_a_card_that_fails_is_one_line(text, told, tmp_path):
    (tmp_path / "card.py").write_text(text + "\n")
    done = main(f"--config={tmp_path / 'card.py'}", f"--workdir={tmp_path / 'run'}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert told in done.stderr


def test_a_sweep_needs_its_card(tmp_path):
    done = main("--mode=plan", "--sweep=demo", f"--workdir={tmp_path}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--sweep: found no --config; expected the card whose sweep it is" in done.stderr
