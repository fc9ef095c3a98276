"""`run.py` as somebody meets it who has not read the code: help, what is printed, what is kept.

Usage errors on the command line are in `test_usage_errors`.
"""

import json
import subprocess
import sys
import time

import pytest
import runs


def main(*arguments, **options):
    return runs.run([sys.executable, "run.py", *arguments], **options)


def files(directory):
    return {
        path: path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache_dir):
    """A whole small run: trained, evaluated, reported."""
    workdir = tmp_path_factory.mktemp("finished")
    done = runs.run(runs.command(workdir, cache_dir))
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_help_is_quick_and_names_every_flag():
    started = time.monotonic()
    done = main("--help")
    assert done.returncode == 0
    for flag in (
        "config",
        "workdir",
        "data_dir",
        "cache_dir",
        "mode",
        "sweep",
        "multihost",
        "predict",
        "suite",
    ):
        assert f"--{flag}" in done.stdout
    assert time.monotonic() - started < 10  # a hang, not a benchmark


def test_help_imports_neither_jax_nor_tensorflow():
    code = (
        "import sys; sys.argv = ['run.py', '--help']\n"
        "import runpy\n"
        "try: runpy.run_path('run.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not {'jax', 'tensorflow', 'matplotlib'} & set(sys.modules), 'heavy import'"
    )
    done = runs.run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr


def test_windows_is_refused_in_one_line():
    code = "import sys; sys.platform = 'win32'; import dst_jax.cli"
    done = runs.run([sys.executable, "-c", code])
    assert done.returncode == 2
    assert done.stderr == "dst-jax: found Windows; expected Linux or macOS, or Windows' WSL\n"


def test_describing_a_network_needs_no_data_and_leaves_nothing_behind(tmp_path):
    arguments = ("--config=configs/resnet50_rigl.py", "--mode=describe")
    done = main(*arguments, f"--workdir={tmp_path}/run", f"--data_dir={tmp_path}/none")
    assert (done.returncode, done.stderr) == (0, "")
    assert "parameters: 25,557,032\nmaskable: 25,502,912 in 54 layers" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_reader_that_leaves_early_gets_no_traceback():
    command = f"{sys.executable} run.py --config={runs.CARD} --mode=describe"
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -0; exit ${{PIPESTATUS[0]}}"],
        **{"cwd": runs.ROOT, "env": runs.environment(), "capture_output": True, "text": True},
    )
    assert (done.returncode, done.stderr) == (141, "")


def test_an_unwritable_workdir(tmp_path, cache_dir):
    (tmp_path / "file").write_text("in the way")
    done = runs.run(runs.command(tmp_path / "file" / "run", cache_dir))
    assert done.returncode == 2
    assert "expected a directory that can be written" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_workdir_of_another_config_is_refused_with_what_differs(finished, cache_dir):
    workdir, _ = finished
    before = files(workdir)
    done = runs.run(runs.command(workdir, cache_dir, "--config.seed=3", train__learning_rate=0.2))
    assert done.returncode == 2
    assert (
        "config.seed was 0 and is 3; config.train.learning_rate was 0.1 and is 0.2" in done.stderr
    )
    assert files(workdir) == before


def change(checkpoint):
    """Another byte in the middle of every file of data."""
    for path in checkpoint.rglob("d/*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)


def cut(checkpoint):
    """The largest file ends early: the index is whole, and every array fails to be read."""
    path = max(checkpoint.rglob("d/*"), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:100])


def test_a_damaged_checkpoint_is_one_line_and_is_left_alone(finished, cache_dir, tmp_path):
    import shutil

    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    (workdir / "summary.json").unlink()
    (workdir / "robustness.csv").unlink()
    latest = max((workdir / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    for mode, harm in (("train", change), ("evaluate", cut)):
        shutil.copytree(finished[0] / "checkpoints" / latest.name, latest, dirs_exist_ok=True)
        harm(latest)
        before = files(workdir / "checkpoints")
        done = runs.run(runs.command(workdir, cache_dir, f"--mode={mode}"))
        assert done.returncode == 2, done.stderr
        assert f"{latest}: found a damaged checkpoint" in done.stderr
        assert "Traceback" not in done.stderr
        assert files(workdir / "checkpoints") == before
    shutil.rmtree(latest)  # what the line advises
    assert runs.run(runs.command(workdir, cache_dir)).returncode == 0
    runs.assert_same_state(finished[0], workdir)


def test_a_run_ends_with_its_table_and_its_page(finished):
    workdir, done = finished
    assert done.stdout.rstrip().endswith(f"report: {workdir / 'report.html'}")
    assert "rigl" in done.stdout
    for name in (
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "model.json",
        "summary.json",
        "robustness.csv",
        "parameters.txt",
        "report.html",
        "report.csv",
        "report.md",
    ):
        assert (workdir / name).stat().st_size, name
    model = json.loads((workdir / "model.json").read_text())
    assert model["active"] == round(0.5 * model["maskable"])


def test_the_same_command_again_does_nothing_but_the_report(finished, cache_dir):
    workdir, _ = finished
    before = files(workdir)
    done = runs.run(runs.command(workdir, cache_dir))
    assert done.returncode == 0
    after = files(workdir)
    changed = {path.name for path in before if after[path] != before[path]}
    assert changed <= {"report.html"}


def test_an_existing_run_needs_no_card(finished, cache_dir):
    workdir, _ = finished
    for mode in ("evaluate", "report"):
        done = main(f"--mode={mode}", f"--workdir={workdir}", f"--cache_dir={cache_dir}")
        assert done.returncode == 0, done.stderr


def test_a_run_in_use_is_not_written_by_a_second_program(finished, cache_dir):
    from dst_jax.runtime.run_dir import locked

    workdir, _ = finished
    with locked(workdir):
        done = runs.run(runs.command(workdir, cache_dir))
    assert done.returncode == 2
    assert "a directory in use by another run" in done.stderr


def test_a_digits_run_never_imports_tensorflow(tmp_path, cache_dir):
    arguments = runs.command(tmp_path, cache_dir, train__epochs=0.25, model__name="mlp")[2:]
    code = (
        f"import sys; sys.argv = ['run.py', *{arguments!r}]\n"
        "import runpy\n"
        "try: runpy.run_path('run.py', run_name='__main__')\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "assert 'tensorflow' not in sys.modules"
    )
    done = runs.run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_sweep_keeps_finished_runs_and_reports_over_all(tmp_path, cache_dir):
    small = {"model__name": "mlp", "model__width": 32, "train__epochs": 0.5}
    arguments = runs.command(tmp_path, cache_dir, "--sweep=demo", **small)
    done = runs.run(arguments)
    assert done.returncode == 0, done.stderr
    for name in ("dense", "rigl"):
        for seed in range(5):
            assert (tmp_path / f"{name}-seed{seed}" / "summary.json").exists()
        assert f"\n{name} " in done.stdout
    before = {
        path: content for path, content in files(tmp_path).items() if "report" not in str(path)
    }
    again = runs.run(arguments)
    assert again.returncode == 0
    assert again.stdout.splitlines()[-2:] == done.stdout.splitlines()[-2:]
    after = files(tmp_path)
    assert all(after[path] == content for path, content in before.items())


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path, cache_dir):
    import socket

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    options = {"model__name": "mlp", "model__width": 32}
    whole = runs.run(runs.command(tmp_path / "one", cache_dir, **options), env=runs.environment(2))
    assert whole.returncode == 0, whole.stderr
    processes = [
        subprocess.Popen(
            runs.command(
                tmp_path / "two", cache_dir, f"--multihost=localhost:{port},2,{index}", **options
            ),
            cwd=runs.ROOT,
            env=runs.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    printed = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    assert "report:" in printed[0][0]
    assert "report" not in printed[1][0]
    runs.assert_same_state(tmp_path / "one", tmp_path / "two")
    assert runs.record(tmp_path / "one") == runs.record(tmp_path / "two")
    one, two = ((tmp_path / name / "robustness.csv").read_text() for name in ("one", "two"))
    assert one == two
