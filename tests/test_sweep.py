"""Sweeps: the plan in words, one run by its index, and jobs that survive a kill."""

import fcntl
import importlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import runs

from dst_jax import config as config_lib
from dst_jax import experiment, launcher, sweep
from dst_jax.errors import RunError, UserError
from dst_jax.workdir import locked, write_json

CARD = """
from configs import cifar10_mlp
SWEEPS = {"pair": [{"sparsity.algorithm": name, "seed": 0} for name in ("dense", "set")]}
get_config = cifar10_mlp.get_config
"""


def progress(path, evaluated=True):
    return sweep.progress(path, {"train": {"steps": 40}}, lambda config, path: evaluated)


def test_how_far_a_run_is(tmp_path):
    assert progress(tmp_path / "none").state == "not begun"
    (tmp_path / "checkpoints" / "16").mkdir(parents=True)
    (tmp_path / "checkpoints" / "20.orbax-checkpoint-tmp-1").mkdir()
    assert progress(tmp_path).state == "step 16 of 40"
    with locked(tmp_path):
        assert progress(tmp_path).state == "running, step 16 of 40"
    write_json(tmp_path / "summary.json", {"step": 40, "seconds": 3700.0})
    assert progress(tmp_path, evaluated=False).state == "trained, not evaluated to the end"
    assert not progress(tmp_path, evaluated=False).finished
    assert progress(tmp_path).state == "finished, 40 steps in 1:01:40"


def test_a_run_starts_while_others_ask_whether_it_runs(tmp_path):
    """The old probe took the lock: about one start in twenty of these was refused."""
    probe = f"""
from pathlib import Path
from dst_jax.sweep import is_running
is_running(Path({str(tmp_path)!r}))
print("ready", flush=True)
while True:
    is_running(Path({str(tmp_path)!r}))
"""
    with locked(tmp_path):
        assert sweep.is_running(tmp_path)
    prober = subprocess.Popen(
        [sys.executable, "-c", probe], cwd=runs.ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert prober.stdout.readline() == "ready\n"
        refused = starts = 0
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            starts += 1
            try:
                with locked(tmp_path):
                    pass
            except UserError:
                refused += 1
        assert prober.poll() is None
    finally:
        prober.kill()
        prober.communicate()
    assert (refused, starts > 1000) == (0, True)


def test_two_that_ask_whether_a_run_is_running_do_not_see_each_other(tmp_path):
    (tmp_path / ".lock").touch()
    with open(tmp_path / ".lock") as other:  # another program in the middle of its probe
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not sweep.is_running(tmp_path)
    with open(tmp_path / ".lock", "w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert sweep.is_running(tmp_path)
        with pytest.raises(UserError, match="in use by another run"), locked(tmp_path):
            pass
    assert not sweep.is_running(tmp_path)


def test_the_cost_is_not_known_before_a_run_is_done():
    new = sweep.Progress(100, 0, None, False, False)
    done = sweep.Progress(100, 100, 50.0, True, False)
    begun = sweep.Progress(100, 40, None, False, False)
    text = sweep.describe("x", [{"a": new}, {"b": begun}])
    assert text.startswith("sweep x: 2 runs, 0 finished\n    0  a  not begun\n    1  b  step 40")
    assert text.endswith("cost: 160 steps to train; the time is not known until one run is done")
    text = sweep.describe("x", [{"a": new}, {"b": begun}, {"c": done}])
    assert "about 0:01:20 one run after another at the 2 steps/s of the 1 trained run;" in text
    assert sweep.describe("x", [{"c": done}]).endswith("cost: nothing left to train")


def test_an_index_beyond_the_sweep_is_refused():
    assert list(sweep.chosen(3, sweep.Sweep(name="x", index=2))) == [2]
    with pytest.raises(UserError, match=r"--sweep_index: found 3; expected 0 to 2"):
        sweep.chosen(3, sweep.Sweep(name="x", index=3))


# --- names ---


def planned(*members, **changes):
    """The names of a sweep of these members, and the directories of their runs."""
    config = config_lib.default()
    config.sparsity.algorithm = "rigl"
    for name, value in changes.items():
        config[name] = value
    runs = sweep.plan(config, sweep.Sweep(lists={"x": members}, name="x"))
    paths = [experiment.seeds_of(Path("w"), name, member) for name, member in runs]
    return [name for name, _ in runs], [str(path) for group in paths for path in group]


ALGORITHM, SPARSITY = "sparsity.algorithm", "sparsity.sparsity"


def test_a_value_of_another_option_is_named_with_its_option():
    names, paths = planned(
        {ALGORITHM: "rigl", "sparsity.drop_fraction": 0.3, "seed": 0},
        {ALGORITHM: "rigl", SPARSITY: 0.3, "seed": 0},
        {ALGORITHM: "rigl", "sparsity.initial_density": 0.9, "seed": 0},
        {ALGORITHM: "rigl", "train.batch_size": 64},  # eval has a batch_size too
        {ALGORITHM: "rigl", "eval.batch_size": 64},
        {"eval.seed": 1},
        {"seed": 1},
    )
    assert names == [
        *("rigl-drop_fraction=0.3-0", "rigl-0.3-0", "rigl-initial_density=0.9-0"),
        *("rigl-train.batch_size=64", "rigl-eval.batch_size=64", "eval.seed=1", "1"),
    ]
    assert paths == [f"w/{name}" for name in names]
    assert planned({}) == (["card"], ["w/card"])  # not the directory of the sweep itself


@pytest.mark.parametrize(
    ("members", "found"),
    [
        (
            [{SPARSITY: 0.0}, {"seed": 2}, {"seed": 0}],
            "runs 0 {'sparsity.sparsity': 0.0} and 2 {'seed': 0}",
        ),
        (
            [{"sparsity.exclude": "a/b"}, {"sparsity.exclude": "a_b"}],
            "runs 0 {'sparsity.exclude': 'a/b'} and 1 {'sparsity.exclude': 'a_b'}, of the same "
            "name, exclude=a_b",
        ),
        (
            [{"seed": 1}, {ALGORITHM: "rigl", "seed": 1}],
            "runs 0 {'seed': 1} and 1 {'sparsity.algorithm': 'rigl', 'seed': 1}, with the same",
        ),
        (
            [{"num_seeds": 3}, {"seed": 2}],
            "runs 0 {'num_seeds': 3} and 1 {'seed': 2}, with the same options",
        ),
    ],
)
def test_members_that_would_be_one_run_are_refused_in_a_line_that_names_both(members, found):
    members = [dict(member) for member in members]
    if SPARSITY in members[0]:
        members[0][SPARSITY] = 0  # a whole number, so that its name is that of seed 0
        found = found.replace("0.0", "0")
    with pytest.raises(UserError) as error:
        planned(*members)
    text = str(error.value)
    assert text.startswith(f"--sweep=x: found {found}")
    assert "\n" not in text


def test_a_value_makes_one_directory_whatever_is_in_it():
    names, paths = planned(
        {"sparsity.exclude": ".*/kernel|../x y"},
        {"train.milestones": ("50%", "75%")},
        {"eval.frost_dir": "/data/frost"},
        {ALGORITHM: ".."},
    )
    assert names[:3] == [
        *("exclude=._kernel_.._x_y", "milestones=50%,75%", "frost_dir=_data_frost")
    ]
    assert all(path.count("/") == 1 for path in paths)
    assert names[3] not in (".", "..")
    assert not Path(paths[3]).is_relative_to("w/..")


def test_several_seeds_of_a_member_are_directories_named_after_their_seeds():
    names, paths = planned(
        {ALGORITHM: "dense", "num_seeds": 2},
        {ALGORITHM: "rigl", "num_seeds": 2, "seed": 3},
        {ALGORITHM: "rigl", "num_seeds": 2, "seed": 7},
    )
    assert names == ["dense", "rigl", "rigl"]
    runs = ("dense-seed0", "dense-seed1", "rigl-seed3", "rigl-seed4", "rigl-seed7", "rigl-seed8")
    assert paths == [f"w/{name}" for name in runs]


def test_a_member_with_a_value_of_the_wrong_kind_is_one_line():
    with pytest.raises(UserError) as error:
        planned({"sparsity.update_freq": ("100",)})
    assert str(error.value).startswith("--sweep=x: sparsity.update_freq: found ('100',); expected")
    with pytest.raises(UserError, match="--sweep=x: num_seeds: found 0; expected at least 1"):
        planned({"num_seeds": 0})


def test_the_sweeps_of_the_cards_keep_the_names_of_their_runs():
    def names(card, name):
        module = importlib.import_module(f"configs.{card}")
        lists = sweep.Sweep(lists=module.SWEEPS, name=name)
        return [run for run, _ in sweep.plan(module.get_config(), lists)]

    figure2 = names("cifar100_resnet34", "figure2")
    assert figure2[:4] == ["dense-0", "dense-1", "dense-2", "set-0.3-0"]
    assert figure2[-1] == "granet_g-0.7-2"
    assert names("imagenet_resnet50", "table1")[3] == "rigl-0.1-0"
    assert names("digits_rigl", "paper")[3] == "set-0.5-0"
    assert names("cifar10_resnet20", "methods")[-1] == "rigl-2"
    assert "dense-width=45-0" in names("cifar100_resnet34", "ablation")


# --- jobs ---


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
    saved = time.monotonic()
    assert job.communicate()[0] == "143\n"
    assert time.monotonic() - saved >= seconds


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
    assert "did not leave in 0.5 s; it will go on from its latest checkpoint" in (
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


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--sweep_index=0"], "--sweep_index: found no sweep; expected --sweep=NAME"),
        (["--mode=plan"], "--mode=plan: found no sweep"),
        (["--launcher=local"], "--launcher: found no sweep"),
        (["--sweep=demo", "--launcher=local", "--sweep_index=1"], "--sweep_index: found a --laun"),
        (["--sweep=demo", "--launcher_options=jobs=2"], "--launcher_options: found no launcher"),
        (["--sweep=demo", "--launcher=local", "--mode=train"], "--launcher: found --mode=train"),
        (["--sweep=demo", "--sweep_index=9"], "--sweep_index: found 9; expected 0 to 1"),
    ],
)
def test_flags_that_do_not_fit_are_one_line(arguments, text, tmp_path, cache_dir):
    done = runs.run(runs.command(tmp_path, cache_dir, *arguments))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert text in done.stderr
    assert not list(tmp_path.iterdir())


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
    assert "tiny: digits stands in for cifar10" in done.stdout
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
