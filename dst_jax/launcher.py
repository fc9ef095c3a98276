"""Runs the members of a sweep as jobs, through submitit: on this machine or on Slurm.

A job is the command of one member, `dst-jax ... --sweep_index=I`; what it did is in the member's
run directory and nowhere else, so a killed sweep goes on with the same command. The only file that
imports submitit (extra `launch`). Called by `experiment`.
"""

import ast
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dst_jax.errors import PROGRAMS, RunError, UserError
from dst_jax.runtime.interrupt import Interrupt, InterruptedRunError

LAUNCHERS = ("local", "slurm")
# submitit kills a local job after 2 minutes, and asks Slurm for 5, unless it is told otherwise.
_TIMEOUT_MIN = 24 * 60
_POLL_SECONDS = 0.2
# submitit's defaults: from its signal that a job is about to end to the end.
_SIGNAL_DELAY_SECONDS = {"local": 30, "slurm": 90}
_REQUEUE_SECONDS = 10


@dataclasses.dataclass
class Member:
    """One member's command, as a job. submitit calls it on the machine that the job gets.

    When Slurm takes the machine back, the command gets SIGTERM once, upon which it saves a
    checkpoint and stops. The job waits for that, as its end kills what still runs in it.

    Attributes:
      command: the command line.
      directory: where it runs.
      environment: variables to set there; None: to unset.
      grace_seconds: the longest wait for the command to stop.
    """

    command: tuple[str, ...]
    directory: str
    environment: tuple[tuple[str, str | None], ...] = ()
    grace_seconds: float = 20.0
    _process: subprocess.Popen | None = dataclasses.field(default=None, init=False, repr=False)
    _asked_to_stop: bool = dataclasses.field(default=False, init=False, repr=False)

    def __call__(self) -> int:
        """Runs the command and returns its exit code; a job that is cancelled ends it first."""
        environment = dict(os.environ)
        for name, value in self.environment:
            environment.pop(name, None)
            if value is not None:
                environment[name] = value
        # A session of its own: Ctrl-C at the sweep must reach it once, as a SIGTERM from here.
        process = self._process = subprocess.Popen(
            self.command, cwd=self.directory, env=environment, start_new_session=True
        )
        previous = signal.signal(signal.SIGTERM, lambda number, frame: self._ask_to_stop())
        try:
            code = process.wait()
            if self._asked_to_stop and os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
                # Of a preemption SIGTERM is the first half. A job that has ended by itself when the
                # second comes, Slurm's kill or submitit's signal, is not queued again.
                time.sleep(self.grace_seconds)
            return code
        finally:
            self._stop()
            signal.signal(signal.SIGTERM, previous or signal.SIG_DFL)

    def checkpoint(self) -> Any:
        """What submitit queues again when Slurm takes the machine back: the same command.

        submitit calls it in the handler of its signal and then has Slurm requeue the job, which
        kills what is left of it; so the wait for the command is here.
        """
        from submitit.helpers import DelayedSubmission

        self._stop()
        return DelayedSubmission(dataclasses.replace(self))  # without the process

    def _ask_to_stop(self) -> None:
        """Sends SIGTERM, once: the command saves a checkpoint and stops; a second would kill it."""
        if self._process is not None and not self._asked_to_stop:
            self._asked_to_stop = True
            self._process.send_signal(signal.SIGTERM)

    def _stop(self) -> None:
        """Asks a running command to stop, and waits until it has, or `grace_seconds` are over."""
        deadline = time.monotonic() + self.grace_seconds
        while self._process is not None and _is_alive(self._process):
            self._ask_to_stop()
            if time.monotonic() > deadline:
                print(
                    f"the command did not stop in {self.grace_seconds:g} s; it will go on from "
                    "its latest checkpoint",
                    file=sys.stderr,
                    flush=True,
                )
                return
            time.sleep(_POLL_SECONDS)


def _is_alive(process: subprocess.Popen) -> bool:
    """Whether a child runs. For signal handlers, in which `Popen.wait` may hold its own lock."""
    if process.returncode is not None:
        return False
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def launch(
    launcher: str,
    options: str,
    command: Sequence[str],
    members: Mapping[int, str],
    folder: Path,
    running: Callable[[int], bool],
) -> None:
    """Submits a job for each member and waits for all of them.

    Args:
      launcher: one of `LAUNCHERS`.
      options: `name=value` with commas between: parameters of `submitit.AutoExecutor`, such as
        `timeout_min=600,slurm_partition=gpu,gpus_per_node=1`, and `jobs`, the most at a time (by
        default 1 for local, no limit for slurm).
      command: the command that does one member, without `--sweep_index`.
      members: index -> name of those that are not finished.
      folder: where submitit keeps its files and the output of the jobs.
      running: whether a living program works on the member of that index, as a job of a sweep that
        was killed; it is waited for, and then submitted for what it may have left.

    Raises:
      UserError: submitit is not installed, the machine has no Slurm, or an option is unknown.
      RunError: a job failed; the text names the file of what it printed.
      InterruptedRunError: SIGTERM or Ctrl-C; the jobs were told to save and stop.
    """
    executor, limit = _executor(launcher, options, folder)
    grace = _grace_seconds(launcher, options)
    environment = () if "gpus_per_node" in options else _visible_devices(launcher)
    waiting, total = list(members), len(members)
    jobs: dict[int, Any] = {}
    failed: list[str] = []
    with Interrupt() as interrupt:
        while waiting or jobs:
            if interrupt.requested:
                for job in jobs.values():
                    job.cancel(check=False)
                raise InterruptedRunError(
                    interrupt.requested, f"{total - len(waiting) - len(jobs)} of {total} jobs done"
                )
            free = [index for index in waiting if not running(index)][: limit - len(jobs)]
            if free:
                jobs |= _submit(executor, free, command, environment, grace)
                waiting = [index for index in waiting if index not in jobs]
                for index in free:
                    print(
                        f"job {jobs[index].job_id}: {members[index]}", file=sys.stderr, flush=True
                    )
            for index, job in list(jobs.items()):
                if job.done():
                    del jobs[index]
                    if problem := _problem(job):
                        failed.append(f"{members[index]} {problem}")
                        print(failed[-1], file=sys.stderr, flush=True)
            time.sleep(_POLL_SECONDS)
    if failed:
        raise RunError(f"{len(failed)} of {total} jobs failed: {'; '.join(failed)}")


def _submit(
    executor: Any,
    indices: Sequence[int],
    command: Sequence[str],
    environment: tuple[tuple[str, str | None], ...],
    grace_seconds: float,
) -> dict[int, Any]:
    """Submits members, as one array where there are arrays; {index: job}."""
    from submitit.core.utils import FailedSubmissionError

    jobs = {}
    try:
        with executor.batch():
            for index in indices:
                line = (*command, f"--sweep_index={index}")
                jobs[index] = executor.submit(Member(line, os.getcwd(), environment, grace_seconds))
    except FailedSubmissionError as error:
        raise RunError(f"the jobs were refused: {' '.join(str(error).split())[-300:]}") from None
    return jobs


def _executor(launcher: str, options: str, folder: Path) -> tuple[Any, int]:
    """(submitit's executor, the most jobs at a time)."""
    try:
        import submitit
    except ImportError:
        raise UserError(
            "--launcher",
            f"{launcher}, but no submitit",
            "submitit",
            "pip install 'dst-jax[launch]'",
        ) from None
    parameters: dict[str, Any] = {"timeout_min": _TIMEOUT_MIN, **_parsed(options)}
    limit = parameters.pop("jobs", 1 if launcher == "local" else sys.maxsize)
    if not isinstance(limit, int) or limit < 1:
        raise UserError("--launcher_options", f"jobs={limit}", "a whole number, at least 1")
    try:
        executor = submitit.AutoExecutor(folder / "%j", cluster=launcher)
        executor.update_parameters(**parameters)
    except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
        text = " ".join(str(error).split())
        if "srun" in text:
            raise UserError(
                "--launcher", f"{launcher}, but no Slurm on this machine", "a Slurm login node"
            ) from None
        raise UserError(
            "--launcher_options", f"{options or 'nothing'} ({text})", "what submitit takes"
        ) from None
    return executor, limit


def _parsed(options: str) -> dict[str, Any]:
    """`a=1,b=x` as {"a": 1, "b": "x"}."""
    parameters: dict[str, Any] = {}
    for part in filter(None, options.split(",")):
        name, equals, text = part.partition("=")
        if not equals:
            raise UserError("--launcher_options", part, "name=value with commas between")
        try:
            parameters[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            parameters[name] = text
    return parameters


def _grace_seconds(launcher: str, options: str) -> float:
    """How long a job waits for its command's checkpoint, within what it has before it is killed.

    That is the time from submitit's signal to the end of the job, `slurm_signal_delay_s`, or 30 s
    of a local one, less 10 s for queueing the job again.
    """
    name = f"{launcher}_signal_delay_s"
    delay = _parsed(options).get(name, _SIGNAL_DELAY_SECONDS[launcher])
    if not isinstance(delay, int) or delay <= _REQUEUE_SECONDS:
        raise UserError(
            "--launcher_options",
            f"{name}={delay}",
            f"whole seconds, more than {_REQUEUE_SECONDS}: a checkpoint is saved in them",
        )
    return delay - _REQUEUE_SECONDS


def _visible_devices(launcher: str) -> tuple[tuple[str, str | None], ...]:
    """Local jobs see the devices that the sweep sees; submitit hides all that are not asked for."""
    if launcher != "local":
        return ()
    return (("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES")),)


def _problem(job: Any) -> str:
    """What went wrong in a job that is done, or ""."""
    from submitit.core.utils import UncompletedJobError

    try:
        code = job.result()
    except UncompletedJobError:
        code = f"no result, {job.state}"
    if code == 0:
        return ""
    path = job.paths.stderr
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    ours = tuple(f"{program}: " for program in PROGRAMS)
    said = next((line for line in reversed(lines) if line.startswith(ours)), f"see {path}")
    return f"ended with {code} ({said})"
