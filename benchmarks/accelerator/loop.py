"""The loop over the parts: kept, left out, done or failed, with the table written after each.

Called by `command`.
"""

import argparse
import contextlib
import datetime
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dst_jax
from benchmarks.accelerator import identity, lock, pack, sources, stages, study_runs, table, unpack
from benchmarks.accelerator.clock import Clock, Stopped, ends_with, process_start
from benchmarks.accelerator.records import Record, Records, key, one_line
from benchmarks.accelerator.stages import Context, Options, Part
from dst_jax.errors import UserError
from dst_jax.runtime.interrupt import InterruptedRunError
from dst_jax.runtime.run_dir import write_text

PROGRAM = "benchmarks.accelerator"
TABLE = "table.md"


class Loop:
    """One call: its parts, what became of them, and the files that say so.

    Args:
      flags: of the command line.
      parts: to be done, in this order.
      known: all parts, in the order of the table; what earlier calls did of them is in it too.
      locks: keeps `--out` and `--work` from other calls until it is closed.
    """

    def __init__(
        self,
        flags: argparse.Namespace,
        parts: Sequence[Part],
        known: Sequence[Part],
        locks: contextlib.ExitStack,
    ):
        flags.out, flags.work = flags.out.absolute(), flags.work.absolute()
        self._packed = unpack.packed_dir()
        self._source = sources.choose(flags.data, flags.data_dir, flags.work, self._packed)
        if flags.frost_dir:
            sources.check_frost(Path(flags.frost_dir).expanduser())
        locks.enter_context(lock.held({"--out": flags.out, "--work": flags.work}))
        if (flags.out / TABLE).is_dir():
            raise UserError(str(flags.out / TABLE), "a directory", "a file")
        self._records = Records(flags.work, flags.out)
        self.clock = Clock(flags.budget_s, process_start())
        self._options = Options(
            out=flags.out,
            work=flags.work,
            tiny=flags.tiny,
            jobs=flags.jobs,
            data=self._source.name,
            data_dir=self._source.data_dir,
            frost_dir=flags.frost_dir or unpack.frost_dir(self._packed),
            seed=flags.seed,
            epochs=flags.epochs,
            rounds=flags.rounds,
        )
        shares = {} if flags.only else stages.SHARES
        self._context = Context(self._options, self.clock, say=self.say, shares=shares)
        self._remarks = [*self._records.damaged, *filter(None, [self._source.remark])]
        for remark in self._remarks:
            self.say(remark)
        self._parts = sorted(parts, key=lambda part: not part.comes_first)
        self._table = [*known, *(part for part in parts if part not in known)]
        self._done: dict[str, Record] = {}
        self._kept: set[str] = set()  # of those done, by earlier calls
        self._left_out: dict[str, str] = {}
        self._hardware = ""
        self._arguments = " ".join(sys.argv[1:])

    def say(self, text: str) -> None:
        """One line of progress, with the time left in front."""
        print(f"[{self.clock.left():5.0f} s left] {text}", flush=True)

    def run(self) -> int:
        """Goes through the parts; returns the exit code."""
        stop: BaseException | None = None
        with ends_with(self.clock) as signals:
            try:
                try:
                    signals.listen()
                    self._all()
                except InterruptedRunError as error:
                    stop = error
                signals.finish()  # the last files are written whole
            except Stopped as error:  # is raised once
                stop = error
            if stop is not None:
                number = signals.number or getattr(stop, "exit_code", 143) - 128
                why = "the budget's end" if signals.over else signal.Signals(number).name
                self._stopped(f"stopped by {why}")
            self.write()
        if stop is not None:
            return 0 if signals.over else 128 + number
        self.say(f"done: {self._options.out / TABLE}")
        return int(any(record["status"] == "failed" for record in self._done.values()))

    def _all(self) -> None:
        self._prepare()
        alone = [part for part in self._parts if part.comes_first]
        for part in alone:
            self._one(part)
        self._take_earlier()
        for part in self._parts:
            if part not in alone:
                self._one(part)
        self._use_the_rest([part for part in self._parts if part not in alone])
        self._bring_files()

    def _use_the_rest(self, parts: Sequence[Part]) -> None:
        """Does what was left out and fits now, the first in the list first, whatever its stage.

        Parts may have taken less than was expected, and stages less than their share.
        """
        self._context.shares = {}
        while self.clock.left() > 0:
            waiting = [part for part in parts if part.name in self._left_out]
            if not any(self._one(part, again=True) for part in waiting):
                return

    def _prepare(self) -> None:
        """Images where the library finds them, the compilation cache, and what hardware it is."""
        for part in self._parts:
            if part.missing(self._context) != stages.NOT_ASKED:
                self._left_out[part.name] = "not reached"
        if self.clock.left() <= 0:
            for name in self._left_out:
                self._left_out[name] = f"the budget, {self.clock.budget:g} s, is over"
            return
        if note := self._source.prepare():
            self.say(note)
            self._remarks.append(note)
        _use_compilation_cache(self._context.cache_dir)

    def _take_earlier(self) -> None:
        """Takes the records that earlier calls left of parts that this call does not ask for."""
        if self.clock.left() <= 0:
            return
        for part in self._table:
            if part in self._parts or part.missing(self._context):
                continue
            # What cannot be read, or was made with other settings, is of no concern to this call.
            with contextlib.suppress(Exception):
                settings = {**self.common_settings(part), **part.settings(self._context)}
                found, _ = self._records.read(part.name, settings)
                if found:
                    self._keep(found, kept=True)

    def _one(self, part: Part, *, again: bool = False) -> bool:
        """One part: kept, left out, done or failed; whether it was begun.

        `again`: it was left out before.
        """
        self._left_out.pop(part.name, None)
        began = time.monotonic()
        settings: dict[str, Any] = {}
        estimate = 0.0
        try:
            if self.clock.left() <= 0:
                self._leave_out(part, f"the budget, {self.clock.budget:g} s, is over", again)
                return False
            if reason := part.missing(self._context):
                if reason != stages.NOT_ASKED:
                    self._leave_out(part, reason, again)
                return False
            settings = {**self.common_settings(part), **part.settings(self._context)}
            found, why = self._records.read(part.name, settings)
            if why and why not in self._remarks:
                self.say(why)
                self._remarks.append(why)
            if found:
                self.say(f"{part.name}: kept from an earlier call")
                self._keep(found, kept=True)
                return False
            estimate = part.estimate(self._context)
            if estimate > (left := self._context.left(part.stage)):
                of = f" for stage {part.stage}" if left < self.clock.left() else ""
                reason = f"takes about {estimate:.0f} s, {max(left, 0):.0f} s are left{of}"
                self._leave_out(part, reason, again)
                return False
            self.say(f"{part.name}: {part.title} (about {estimate:.0f} s)")
            self._left_out[part.name] = "begun, not finished"
            self.write()
            began = time.monotonic()
            outcome = part.run(self._context)
            record = {"status": "done", "reason": "", **outcome}
            self._context.learn(part.name, time.monotonic() - began)
        except InterruptedRunError:
            raise
        except Exception as error:  # the next part does not wait for it
            reason = one_line(error)
            self.say(f"{part.name} failed: {reason}")
            record = {"status": "failed", "reason": reason, "figures": {}, "rows": []}
        self._left_out.pop(part.name, None)
        spent = self._context.spent
        spent[part.stage] = spent.get(part.stage, 0.0) + time.monotonic() - began
        self._keep(
            {
                "name": part.name,
                "stage": part.stage,
                "title": part.title,
                "settings": settings,
                "date": _now(),
                "seconds": round(time.monotonic() - began, 3),
                "estimated_s": round(estimate, 1),
                **record,
            }
        )
        self._records.write(self._done[part.name])
        self.write()
        return True

    def _bring_files(self) -> None:
        """Writes again what belongs to a kept part and is not in `--out`, if it can be."""
        for part in self._table:
            record = self._done.get(part.name)
            if not record or record["status"] != "done" or self.clock.left() <= 0:
                continue
            later = any(
                other.stage == part.stage and self._done.get(other.name, {}).get("text")
                for other in self._table[self._table.index(part) + 1 :]
            )
            if later or part.name not in self._kept:
                continue
            try:
                figures = part.bring(self._context, record["figures"])
            except InterruptedRunError:
                raise
            except Exception as error:
                self._remarks.append(f"{part.name}: its files are not here: {one_line(error)}")
                continue
            if figures != record["figures"]:
                record["figures"] = figures
                self._records.write(record)

    def _keep(self, record: Record, *, kept: bool = False) -> None:
        self._done[record["name"]] = record
        if kept:
            self._kept.add(record["name"])
        if record["status"] == "done":
            self._context.results[record["name"]] = record["figures"]

    def _leave_out(self, part: Part, reason: str, again: bool) -> None:
        if not again:
            self.say(f"{part.name}: left out, {reason}")
        self._left_out[part.name] = reason

    def _stopped(self, why: str) -> None:
        for name, reason in self._left_out.items():
            if reason in ("not reached", "begun, not finished"):
                self._left_out[name] = f"{reason}: {why}"
        self.say(why)

    def common_settings(self, part: Part) -> dict[str, Any]:
        """What every record must have been made with to be kept."""
        hardware = "not looked at: another process needs it"
        if not part.comes_first:
            from dst_jax.runtime import devices

            hardware = self._hardware = devices.hardware()
        options = self._options
        found = {
            "tiny": options.tiny,
            "data": options.data,
            "images": self._context.images_digest,
            "hardware": hardware,
            "versions": identity.versions(),
            "xla_flags": identity.xla_flags(),
            "code": identity.code(),
            "dst_jax": dst_jax.__version__,
        }
        if hardware == self._hardware:
            self._context.identity = key({**found, "frost": self._context.frost_digest})
        return {**found, "seed": options.seed}

    def write(self) -> None:
        """Writes `results.json` and the table; refuses none: too many files are told."""
        circumstances = self._circumstances()
        done = [self._done[part.name] for part in self._table if part.name in self._done]
        left_out = [
            (part.stage, part.title, self._left_out[part.name])
            for part in self._table
            if part.name in self._left_out
        ]
        listed = [{"stage": s, "title": t, "reason": r} for s, t, r in left_out]
        self._records.write_results({**circumstances, "left_out": listed}, done)
        remarks = [*self._remarks, *self._of_other_calls(done), *table.too_much(self._options.out)]
        text = table.markdown(circumstances, done, left_out, remarks, self._kept)
        write_text(self._options.out / TABLE, text)

    def _of_other_calls(self, done: Sequence[Record]) -> list[str]:
        """What lies in `--out` and is not of this table."""
        found = []
        if count := self._records.beside(done):
            found.append(f"results.json holds {count} more records, of other settings or parts")
        if remark := study_runs.archive_remark(self._options.out, done, self._no_round()):
            found.append(remark)
        return found

    def _no_round(self) -> str:
        """Why no round of the study is done; "" where one is, or where there is no study."""
        first = next((part for part in self._table if part.name == "study_0"), None)
        if first is None or self._done.get(first.name, {}).get("status") == "done":
            return ""
        if first.name in self._done:
            return f"its first part failed: {self._done[first.name]['reason']}"
        if first not in self._parts:
            return "--only does not name it"
        return self._left_out.get(first.name, "--rounds=0")

    def _circumstances(self) -> dict[str, Any]:
        from benchmarks import timing

        facts: Mapping[str, Any] = timing.circumstances() if self._hardware else {}
        return {
            "command": f"python -m {PROGRAM} {self._arguments}".strip(),
            "tiny": self._options.tiny,
            "data": self._options.data,
            "commit": pack.commit(self._packed),
            "date": _now(),
            "budget_s": self.clock.budget,
            "used_s": round(self.clock.used(), 1),
            "cores": os.cpu_count(),
            **{name: facts[name] for name in ("hardware", "processor", "versions") if facts},
        }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _use_compilation_cache(cache_dir: Path) -> None:
    """JAX's cache of compiled programs, as the library's commands set it."""
    from dst_jax.paths import RunPaths, prepare_jax

    prepare_jax(RunPaths(Path(), None, cache_dir.absolute()))
