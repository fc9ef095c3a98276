"""A run that is killed, stopped or damaged: what it loses, and what it ends with."""

import json
import random
import signal
import subprocess
import time

import pytest
import runs


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, cache_dir):
    """A run in one go, and the seconds it takes once everything is compiled."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    for path in (workdir / "first", workdir / "second"):
        started = time.monotonic()
        done = runs.run(runs.command(path, cache_dir, "--mode=train", checkpoint__every="5"))
        assert done.returncode == 0, done.stderr
    runs.assert_same_state(workdir / "first", workdir / "second")
    return workdir / "second", time.monotonic() - started


def start(workdir, cache_dir):
    return subprocess.Popen(
        runs.command(workdir, cache_dir, "--mode=train", checkpoint__every="5"),
        cwd=runs.ROOT,
        env=runs.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_killed_at_ten_moments_a_run_ends_with_the_same_bits(tmp_path, cache_dir, uninterrupted):
    whole, seconds = uninterrupted
    moments, kills, attempt = random.Random(0), 0, 0
    while kills < 10:  # over as many runs as it takes
        attempt += 1
        workdir = tmp_path / str(attempt)
        process = start(workdir, cache_dir)
        while process.poll() is None:
            if kills < 10:
                try:
                    process.wait(timeout=moments.uniform(0.1, 1.0) * seconds)
                except subprocess.TimeoutExpired:
                    process.kill()
                    kills += 1
            _, errors = process.communicate()
            if process.returncode == -signal.SIGKILL:
                process = start(workdir, cache_dir)
        assert process.returncode == 0, errors
        runs.assert_same_state(whole, workdir)
        assert runs.record(whole) == runs.record(workdir)
    print(f"{kills} kills over {attempt} runs")


@pytest.mark.slow
def test_sigterm_saves_says_so_and_resumes_with_the_same_bits(tmp_path, cache_dir, uninterrupted):
    whole, _ = uninterrupted
    process = start(tmp_path, cache_dir)
    while not list((tmp_path / "checkpoints").glob("[0-9]*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 143, errors
    assert "stopped by SIGTERM: checkpoint of step" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "summary.json").exists()
    assert (
        runs.run(
            runs.command(tmp_path, cache_dir, "--mode=train", checkpoint__every="5")
        ).returncode
        == 0
    )
    runs.assert_same_state(whole, tmp_path)
    assert runs.record(whole) == runs.record(tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["finished"]


def test_the_record_of_undone_work_is_dropped(tmp_path):
    from dst_jax.training.metrics_log import MetricsFile

    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 8}\n{"step": 16}\n{"st')
    file = MetricsFile(path, step=10)
    file.write({"step": 12})
    file.close()
    assert path.read_text() == '{"step": 8}\n{"step": 12}\n'
