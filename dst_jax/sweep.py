"""Sweeps: the named lists of runs of a card, how far each run is, and what is left to pay.

A member is a run directory of its own inside the sweep's; what is done there is never done again.
Running the members one after another is in `experiment`, on a cluster in `launcher`. Called by
`cli` and `experiment`; nothing here imports JAX.
"""

import dataclasses
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dst_jax import config as config_lib
from dst_jax.config import cards
from dst_jax.config.options import OPTIONS
from dst_jax.errors import UserError
from dst_jax.runtime import run_dir

Config = Mapping[str, Any]
# Options whose value says by itself what it is of, in the name of a run.
_BARE = ("sparsity.algorithm", "sparsity.sparsity", "seed")


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What the command line says of a sweep; without a name there is none.

    Attributes:
      lists: the card's sweeps: a name -> the runs, each {option's dotted name: value}.
      name: the chosen one, or "".
      index: the one run of it to do, counted from 0; None: all.
      launcher: "", or one of `launcher.LAUNCHERS`: who runs the members.
      launcher_options: what the launcher is told, `name=value` with commas between.
      command: the command line that does one member, without its `--sweep_index`.
    """

    lists: Mapping[str, Sequence[cards.Member]] = dataclasses.field(default_factory=dict)
    name: str = ""
    index: int | None = None
    launcher: str = ""
    launcher_options: str = ""
    command: tuple[str, ...] = ()


def lists_of(card: str, argument: str) -> dict[str, list[cards.Member]]:
    """The `SWEEPS` of a card: a name -> the runs, each {option's dotted name: value}.

    Args:
      card: path of the card.
      argument: its argument string; with `tiny` in it the lists are those of the toy form.
    """
    lists = getattr(cards.load(card), "SWEEPS", {})
    if cards.TINY in argument.split(","):
        return {name: cards.tiny_members(members) for name, members in lists.items()}
    return {name: list(members) for name, members in lists.items()}


def plan(config: ConfigDict, sweep: Sweep) -> list[tuple[str, ConfigDict]]:
    """The runs of a call as (name, config); one without a name if there is no sweep.

    A name is the member's values: bare for the algorithm, the sparsity and the seed, `option=value`
    for the rest, such as `rigl-0.5-drop_fraction=0.3-0`. Members that differ in their seeds alone
    may share a name where each has several (`num_seeds`): the seed is in the directory then.

    Args:
      config: the card's config with the command line's changes.
      sweep: what the command line says of a sweep.

    Raises:
      UserError: the card has no such sweep, a sweep names no option or gives it a value of the
        wrong kind, or two members would be one run or share a directory.
    """
    if not sweep.name:
        return [("", config)]
    if sweep.name not in sweep.lists:
        known = ", ".join(sweep.lists) or "none: this card has no sweeps"
        raise UserError("--sweep", sweep.name, f"a sweep of the card ({known})")
    where = f"--sweep={sweep.name}"
    runs = []
    members: dict[tuple[Any, ...], int] = {}  # what only one may have -> the first that has it
    for index, changes in enumerate(sweep.lists[sweep.name]):
        member = config.copy_and_resolve_references()
        for name, value in changes.items():
            try:
                config_lib.set_option(member, name, value)
            except TypeError:
                raise UserError(f"{where}: {name}", value, OPTIONS[name].expected()) from None
        if member.num_seeds < 1:
            raise UserError(f"{where}: num_seeds", member.num_seeds, "at least 1")
        run_name = _name(changes, several_seeds=member.num_seeds > 1)
        runs.append((run_name, member))
        options = dict(config_lib.flatten(member))
        seeds = range(options.pop("seed"), member.seed + options.pop("num_seeds"))
        for seed in seeds:
            directory = (run_name, seed if len(seeds) > 1 else None)
            for key, what in (
                (directory, f"of the same name, {run_name}"),
                ((repr(options), seed), "with the same options"),
            ):
                other = members.setdefault(key, index)
                if other != index:
                    first = sweep.lists[sweep.name][other]
                    raise UserError(
                        where,
                        f"runs {other} {first} and {index} {changes}, {what}",
                        "members of their own",
                        "Change one of them in the SWEEPS of the card, or leave it out",
                    )
    return runs


def _name(changes: cards.Member, *, several_seeds: bool) -> str:
    """The name of a member, a directory's: its values, with the options that they are of."""
    parts = []
    for name, value in changes.items():
        if name == "num_seeds" or (name == "seed" and several_seeds):
            continue  # a directory for each of the seeds is named after it in `experiment`
        items = value if isinstance(value, tuple | list) else (value,)
        text = re.sub(r"[^\w.,%+-]+", "_", ",".join(map(str, items)))
        parts.append(text if name in _BARE else f"{_short(name)}={text}")
    return "-".join(parts).lstrip(".") or "card"


def _short(name: str) -> str:
    """The last part of an option's dotted name; all of it where another option ends like it."""
    last = name.rpartition(".")[2]
    alike = [other for other in OPTIONS if other.rpartition(".")[2] == last]
    return last if len(alike) == 1 else name


def chosen(count: int, sweep: Sweep) -> range:
    """Which of `count` members this call is to do: all of them, or the one of `sweep.index`.

    Raises:
      UserError: there is none of that index.
    """
    if sweep.index is None:
        return range(count)
    if not 0 <= sweep.index < count:
        raise UserError(
            "--sweep_index", sweep.index, f"0 to {count - 1}, a run of --sweep={sweep.name}"
        )
    return range(sweep.index, sweep.index + 1)


@dataclasses.dataclass(frozen=True)
class RunStatus:
    """How far a run is.

    Attributes:
      steps: steps of its training.
      done: steps that are done.
      seconds: how long the training took, of trained runs; None: it is not trained to its end.
      evaluated: whether all conditions that its config asks for are scored.
      running: whether a living program works on it.
      note: what is different now from what it was trained with, in words; "" nothing.
    """

    steps: int
    done: int
    seconds: float | None
    evaluated: bool
    running: bool
    note: str = ""

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.seconds is not None and self.evaluated

    @property
    def state(self) -> str:
        """How far it is, in words."""
        if self.finished:
            assert self.seconds is not None
            text = f"finished, {self.steps:,} steps in {duration(self.seconds)}"
            return ", ".join(filter(None, (text, self.note)))
        now = "running" if self.running else ""
        if self.seconds is not None:
            text = "trained, not evaluated to the end"
        elif self.done:
            text = f"step {self.done:,} of {self.steps:,}"
        else:
            text = "" if now else "not begun"
        return ", ".join(filter(None, (now, text, self.note)))


def progress(path: Path, config: Config, evaluated: Callable[[Config, Path], bool]) -> RunStatus:
    """How far the run in a directory is.

    Args:
      path: the run directory; it need not exist.
      config: its resolved config.
      evaluated: whether all conditions of (config, run directory) are scored.
    """
    seconds, done = None, 0
    if (path / "summary.json").exists():
        summary = run_dir.read_json(path / "summary.json")
        seconds, done = summary["seconds"], summary["step"]
    else:
        done = max(run_dir.checkpoint_steps(path), default=0)
    complete = seconds is not None and evaluated(config, path)
    return RunStatus(config["train"]["steps"], done, seconds, complete, is_running(path))


def is_running(path: Path) -> bool:
    """Whether a living program works on a run directory."""
    return run_dir.is_locked(path)


def describe(name: str, groups: Sequence[Mapping[str, RunStatus]]) -> str:
    """The plan as text: how many runs, how far each is, and what the rest will take.

    Args:
      name: of the sweep.
      groups: name of a run -> how far it is, for each member; the seeds of a member that are
        trained together are one group. The place of a group is its `--sweep_index`.
    """
    runs = [run for group in groups for run in group.values()]
    counts = [f"{len(runs)} runs", f"{sum(run.finished for run in runs)} finished"]
    if running := sum(run.running for run in runs):
        counts.append(f"{running} running")
    width = max(len(member) for group in groups for member in group)
    lines = [
        f"{index:5}  {member:{width}}  {run.state}"
        for index, group in enumerate(groups)
        for member, run in group.items()
    ]
    return "\n".join([f"sweep {name}: {', '.join(counts)}", *lines, _cost(runs)])


def _cost(runs: Sequence[RunStatus]) -> str:
    """What is left to train, from the speed of the runs of the same sweep that are trained."""
    left = sum(run.steps - run.done for run in runs)
    if not left:
        return "cost: nothing left to train"
    speeds = [run.done / run.seconds for run in runs if run.seconds]
    if not speeds:
        return f"cost: {left:,} steps to train; the time is not known until one run is done"
    speed = statistics.fmean(speeds)
    plural = "" if len(speeds) == 1 else "s"
    return (
        f"cost: {left:,} steps to train, about {duration(left / speed)} one run after another at "
        f"the {speed:.3g} steps/s of the {len(speeds)} trained run{plural}; evaluation comes on top"
    )


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
