"""The flags of `python -m benchmarks.accelerator`; `loop` goes through the parts.

A part is done whole, failed with its reason, or left out with its reason; its record and the table
are written at once. Exit codes: 0 the list was gone through, 1 a part failed, 2 a usage error,
143 and 130 stopped by a signal. Called by `__main__` and the tests.
"""

import argparse
import contextlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accelerator import pack, stages, study
from benchmarks.accelerator.loop import PROGRAM, Loop
from benchmarks.accelerator.stages import Part
from dst_jax.errors import UserError

MOST_BUDGET, MOST_SEED = 86_400, 2**31 - 1000


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        prog=f"python -m {PROGRAM}",
        description="Uses a short time with an accelerator well; docs/accelerator.md has more.",
    )
    flags.add_argument(
        "--budget_s", type=float, default=540.0, help="seconds from the start of the process"
    )
    flags.add_argument(
        "--out", type=Path, default=Path("runs/accelerator/out"), help="files to take home"
    )
    flags.add_argument(
        "--work",
        type=Path,
        default=Path("runs/accelerator/work"),
        help="run directories, caches and records; a later call goes on from there",
    )
    flags.add_argument(
        "--only", default="", help="stages by letter or parts by name, in the order to do them"
    )
    flags.add_argument("--tiny", action="store_true", help="a toy of everything, for a CPU")
    flags.add_argument(
        "--data", default="", help="the dataset; default: the first packed one, else digits"
    )
    flags.add_argument("--data_dir", help="where it is prepared, if it is not packed")
    flags.add_argument("--frost_dir", default="", help="photographs of frost; default: none")
    flags.add_argument("--seed", type=int, default=0, help="first seed")
    flags.add_argument(
        "--epochs",
        type=int,
        default=0,
        help="of the study's runs; 0: as many up to 30 as let three seeds of every method fit",
    )
    flags.add_argument(
        "--rounds",
        type=int,
        default=5,
        help=f"most seeds of the study (%(default)s), 0 to {study.MOST_ROUNDS}; "
        f"of a toy at most {study.WANTED}",
    )
    flags.add_argument(
        "--jobs", type=int, default=4, help="programs compiled at a time on an accelerator"
    )
    flags.add_argument(
        "--pack", type=Path, metavar="DIR", help="make the folder to take along, and end"
    )
    flags.add_argument("--list", action="store_true", help="print the parts, and end")
    return flags


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    flags = parser().parse_args(arguments)
    try:
        if flags.pack is not None:
            names = [name for name in map(str.strip, (flags.data or "cifar10").split(",")) if name]
            print(pack.pack(flags.pack, names, flags.data_dir, flags.frost_dir))
            return 0
        known = stages.parts()
        parts = chosen(known, flags.only)
        if flags.list:
            print("\n".join(f"{part.stage}  {part.name}  {part.title}" for part in parts))
            return 0
        _check(flags)
        with contextlib.ExitStack() as locks:
            return Loop(flags, parts, known, locks).run()
    except UserError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2


def _check(flags: argparse.Namespace) -> None:
    """Refuses numbers that nothing can be done with, before anything is touched."""
    if not (math.isfinite(flags.budget_s) and 0 < flags.budget_s <= MOST_BUDGET):
        raise UserError("--budget_s", flags.budget_s, f"seconds, above 0, at most {MOST_BUDGET}")
    for name, most in (("seed", MOST_SEED), ("epochs", 10_000), ("rounds", study.MOST_ROUNDS)):
        value = getattr(flags, name)
        if not 0 <= value <= most:
            raise UserError(f"--{name}", value, f"a whole number, 0 to {most}")


def chosen(parts: Sequence[Part], only: str) -> list[Part]:
    """The parts that `--only` names, in its order; all where it names none."""
    found: list[Part] = []
    for name in filter(None, (name.strip() for name in only.split(","))):
        matching = [part for part in parts if name in (part.stage, part.name)]
        if not matching:
            known = sorted({part.stage for part in parts}) + [part.name for part in parts]
            raise UserError("--only", name, "among " + ", ".join(known))
        found += [part for part in matching if part not in found]
    return found or list(parts)
