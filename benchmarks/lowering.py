"""Which programs lower for accelerators that are not there, and what was checked of each.

    python -m benchmarks.lowering [--only WORDS ...] [--out FILE]

Prints the list of programs x platforms in Markdown, and ends with 1 if a check failed. Nothing is
compiled or run: that a program lowers says neither that it fits the memory nor how fast it is.
`lowering_cases` has the programs, `lowering_checks` the checks; `tests/test_lowering.py` goes
through the same list.
"""

import argparse
import sys
from pathlib import Path

import jax

from benchmarks import lowering_cases, stablehlo, timing


def row(case: lowering_cases.Case) -> tuple[str, bool]:
    """The line of the table, and whether all checks hold."""
    complaints, checked = case.lower()
    found = ["; ".join(of_one) or "yes" for of_one in complaints.values()]
    cells = (case.name, case.dtype or "-", case.how, *found, ", ".join(checked))
    return f"| {' | '.join(cells)} |", set(found) == {"yes"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], help="programs whose line holds all these")
    parser.add_argument("--out", help="write the table to this file as well")
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    lines = [
        "| program | dtype | devices | " + " | ".join(stablehlo.PLATFORMS) + " | checked |",
        "|---" * (4 + len(stablehlo.PLATFORMS)) + "|",
    ]
    failed = 0
    print("\n".join(lines))
    for case in lowering_cases.cases():
        if not all(words in str(case) for words in options.only):
            continue
        line, holds = row(case)
        print(line, flush=True)
        lines.append(line)
        failed += not holds
    if len(lines) == 2:
        parser.error(f"--only: found {options.only!r}; expected words of the table")
    versions = timing.circumstances()["versions"]
    note = f"{len(lines) - 2} programs, {failed} with complaints; "
    note += ", ".join(f"{name} {version}" for name, version in versions.items())
    note += f"; `python -m benchmarks.lowering {' '.join(sys.argv[1:])}`"
    print(f"\n{note}")
    if options.out:
        Path(options.out).write_text("\n".join([*lines, "", note, ""]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
