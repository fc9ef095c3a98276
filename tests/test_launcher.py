"""The members of a sweep as jobs, which survive a kill and wait for a checkpoint."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import runs

from dst_jax import launcher
from dst_jax.errors import RunError, UserError

CARD = """
from dst_jax.config import cards
cifar10_mlp = cards.load("cifar10_mlp")
SWEEPS = {"pair": [{"sparsity.algorithm": name, "seed": 0} for name in ("dense", "set")]}
get_config = cifar10_mlp.get_config
"""


def launch(tmp_path, script, members, options="jobs=2", running=lambda index: False):
    """Launches `script` as the members' command."""
    program = tmp_path / "member.py"
    program.write_text(f"import pathlib, sys, time\nindex = sys.argv[-1][-1]\n{script}")
    launcher.launch(
        "local",
        options,
        (sys.executable, str(program)),
        members,
        tmp_path / "jobs",
        running,
    )


@pytest.fixture(scope="module")
def submitit():
    return pytest.importorskip("submitit", reason="submitit is not installed (extra `launch`)")


def test_each_member_is_a_job_and_a_failure_is_told_when_the_others_are_done(submitit, tmp_path):
    script = f"""
if index == "1":
    sys.exit("run.py: config.seed: found 1; expected another")
pathlib.Path({str(tmp_path)!r}, index).touch()
"""
    with pytest.raises(RunError) as error:
        launch(tmp_path, script, {0: "zero", 1: "one", 2: "two"})
    text = "1 of 3 jobs failed: one ended with 1 (run.py: config.seed: found 1; expected another)"
    assert str(error.value) == text
    assert (tmp_path / "0").exists()
    assert (tmp_path / "2").exists()


def test_a_member_that_runs_already_is_waited_for(submitit, tmp_path):
    asked = []

    def running(index):
        asked.append(index)
        return len(asked) < 3

    launch(tmp_path, f"pathlib.Path({str(tmp_path)!r}, index).touch()", {5: "five"}, "", running)
    assert (tmp_path / "5").exists()
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("local", "jobs=0", "--launcher_options: found jobs=0; expected a whole number"),
        ("local", "jobs", "--launcher_options: found jobs; expected name=value"),
        ("local", "colour=3", "--launcher_options: found colour=3"),
        ("slurm", "", "--launcher: found slurm, but no Slurm on this machine"),
    ],
)
def test_a_wrong_launcher_is_one_line(submitit, tmp_path, name, options, text):
    with pytest.raises(UserError) as error:
        launcher.launch(name, options, (), {0: "x"}, tmp_path, lambda index: False)
    assert str(error.value).startswith(text)
    assert "\n" not in str(error.value)


def test_without_submitit_the_command_that_installs_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"pip install 'dst-jax\[launch\]'"):
        launcher.launch("local", "", (), {0: "x"}, tmp_path, lambda index: False)


# A member that takes its time to save when it gets SIGTERM, and dies of a second one, as ours does.
SLOW_TO_SAVE = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
if (folder / "started").exists():  # the second start
    (folder / "resumed").write_text(str((folder / "saved").exists()))
    sys.exit(0)
def save(number, frame):
    signal.signal(number, signal.SIG_DFL)
    time.sleep(1.5)
    (folder / "saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
(folder / "new").write_text(str(os.getppid()))
(folder / "new").rename(folder / "started")
time.sleep(60)
sys.exit("nobody told me to stop")
"""


def slow_member(folder, **options):
    return launcher.Member((sys.executable, "-c", SLOW_TO_SAVE, str(folder)), ".", **options)


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.05)


def test_a_preempted_job_is_queued_again_when_its_checkpoint_is_saved(submitit, tmp_path):
    executor = submitit.LocalExecutor(tmp_path / "jobs")
    executor.update_parameters(timeout_min=60)
    job = executor.submit(slow_member(tmp_path))
    wait_for(tmp_path / "started")
    # What Slurm does by submitit's wish; the local controller starts the job again as Slurm would.
    os.kill(int((tmp_path / "started").read_text()), signal.SIGUSR2)
    assert job.result() == 0
    assert (tmp_path / "resumed").read_text() == "True"


@pytest.mark.parametrize(("executor", "seconds"), [("slurm", 2.0), ("local", 0.0)])
def test_a_cancelled_job_passes_sigterm_on_and_waits_for_its_command(tmp_path, executor, seconds):
    """On Slurm it then waits for the end of the preemption, or it would not be queued again."""
    program = f"""
import sys
sys.path.insert(0, {str(runs.ROOT)!r})
from dst_jax.launcher import Member
print(Member((sys.executable, "-c", {SLOW_TO_SAVE!r}, {str(tmp_path)!r}), ".", (), 2.0)())
"""
    job = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "SUBMITIT_EXECUTOR": executor},
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for(tmp_path / "started")
    job.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    job.send_signal(signal.SIGTERM)  # Slurm may send it again; the command must not get it twice
    wait_for(tmp_path / "saved")
    assert job.communicate()[0] == "143\n"
    # From when it was saved, and not from when this program, on a busy machine, found out.
    assert time.time() - (tmp_path / "saved").stat().st_mtime >= seconds


def test_the_wait_for_a_checkpoint_has_an_end(submitit, tmp_path, capsys):
    member = slow_member(tmp_path, grace_seconds=0.5)
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1); time.sleep(60)"
    process = member._process = subprocess.Popen(
        [sys.executable, "-uc", stubborn], stdout=subprocess.PIPE
    )
    try:
        process.stdout.readline()
        began = time.monotonic()
        again = member.checkpoint()
        assert 0.5 < time.monotonic() - began < 5
    finally:
        process.kill()
        process.communicate()
    assert "did not stop in 0.5 s; it will go on from its latest checkpoint" in (
        capsys.readouterr().err
    )
    assert again.function.command == member.command
    assert again.function._process is None


def test_the_wait_for_a_checkpoint_follows_slurms_notice():
    assert launcher._grace_seconds("slurm", "") == 80
    assert launcher._grace_seconds("slurm", "slurm_signal_delay_s=300,jobs=2") == 290
    assert launcher._grace_seconds("local", "") == 20
    with pytest.raises(UserError, match="found slurm_signal_delay_s=5; expected whole seconds"):
        launcher._grace_seconds("slurm", "slurm_signal_delay_s=5")


def sweep_command(card, workdir, cache_dir, *arguments):
    return [
        sys.executable,
        "run.py",
        f"--config={card}",
        f"--workdir={workdir}",
        f"--cache_dir={cache_dir}",
        *arguments,
    ]


def environment():
    """Jobs find submitit and this checkout where this process finds them."""
    return {**runs.environment(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def killed_and_finished(command, workdir, sent):
    """Kills a launched sweep once a run of it is finished, and lets the same command finish it."""
    process = subprocess.Popen(
        command, cwd=runs.ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while process.poll() is None and not list(Path(workdir).glob("*/robustness.csv")):
        time.sleep(0.1)
    process.send_signal(sent)
    process.communicate()
    assert process.returncode in (128 + sent, -sent)
    before = {path: path.read_bytes() for path in Path(workdir).glob("*/summary.json")}
    assert before
    again = runs.run(command, env=environment())
    assert again.returncode == 0, again.stderr
    assert all(path.read_bytes() == content for path, content in before.items())
    return again


@pytest.mark.slow
def test_a_launched_sweep_survives_a_kill(submitit, tmp_path, cache_dir):
    (tmp_path / "pair.py").write_text(CARD)
    command = sweep_command(
        f"{tmp_path / 'pair.py'}:tiny", tmp_path / "sweep", cache_dir, "--sweep=pair"
    )
    done = killed_and_finished([*command, "--launcher=local"], tmp_path / "sweep", signal.SIGTERM)
    assert "tiny: digits in place of cifar10" in done.stdout
    assert re.search(r"    0  dense-0  (finished|trained)", done.stdout)
    assert re.search(r"\ndense +0 +1 .*\nset +50 +1 ", done.stdout)
    one = runs.run([*command, "--sweep_index=1"], env=environment())  # the last one: a report
    assert one.stdout.splitlines()[-1].startswith("report: "), one.stderr


@pytest.mark.full
def test_figure_2_of_a_card_completes_as_jobs(submitit, tmp_path, cache_dir):
    card = "configs/cifar100_resnet34.py:tiny"
    command = sweep_command(card, tmp_path, cache_dir, "--sweep=figure2", "--launcher=local")
    done = killed_and_finished([*command, "--launcher_options=jobs=2"], tmp_path, signal.SIGKILL)
    for method in ("set", "rigl"):
        for percent in (30, 40):
            assert re.search(rf"\n{method} +{percent} +2 +[\d.]+ ± [\d.]+ ", done.stdout)
