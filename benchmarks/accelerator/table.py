"""`table.md`: what was measured, what was left out and why. Called by `loop`."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accelerator.records import Record
from benchmarks.accelerator.stages import COLUMNS

FILES = 8  # at the top of --out, at most; a machine may give no more back
FILE_BYTES = 16 << 20
_BRACKET = re.compile(r"\d \(\S+ to \S+\)")  # as `timing.spread` and `timing.median` write it
TOY = (
    "**A toy** (`--tiny`): everything is shrunk until a CPU does it in minutes. It shows that the "
    "parts work and says nothing about speed, methods or accelerators."
)


def markdown(
    circumstances: Mapping[str, Any],
    records: Sequence[Record],
    left_out: Sequence[tuple[str, str, str]],
    remarks: Sequence[str] = (),
    kept: Collection[str] = (),
) -> str:
    """The whole file.

    Args:
      circumstances: hardware, versions, date, data, budget and so on, told line by line.
      records: of the parts that were run or kept, in the order of the list.
      left_out: (stage, title, reason) of the parts that were not.
      remarks: sentences on the call, such as damaged records.
      kept: names of the records that are of an earlier call.
    """
    from benchmarks import timing  # imports JAX, which `--list` can do without

    lines = [f"# One command {_where(circumstances.get('hardware'))}", ""]
    if circumstances.get("tiny"):
        lines += [TOY, ""]
    lines += [f"- {name}: {_text(value)}" for name, value in circumstances.items()]
    lines += [f"- {remark}" for remark in remarks]
    done = [record for record in records if record["status"] == "done"]
    failed = [record for record in records if record["status"] != "done"]
    lines += ["", _row(["stage", *COLUMNS]), _row(["---"] * (len(COLUMNS) + 1))]
    for record in done:
        of = f"kept, of {record['date']}" if record["name"] in kept else ""
        for row in map(_padded, record["rows"]):
            last = "; ".join(filter(None, (row[-1], of)))
            lines.append(_row([record["stage"], *row[:-1], last]))
    for record in failed:
        lines.append(_row([record["stage"], record["title"], "failed", "", record["reason"]]))
    for stage, title, reason in left_out:
        lines.append(_row([stage, title, "left out", "", reason]))
    lines.append("")
    for record in done:
        lines += [f"- {record['name']}: {note}" for note in record.get("notes", ())]
    lines += _brackets(done)
    texts = {record["stage"]: record for record in done if record.get("text")}
    for record in texts.values():
        lines += ["", f"## {record['title']}", "", record["text"].strip()]
    lines += ["", "## Time", "", _row(["part", "seconds", "estimated"]), _row(["---"] * 3)]
    lines += [
        _row(
            [
                r["name"] + " (kept)" * (r["name"] in kept),
                timing.figure(r["seconds"]),
                timing.figure(r["estimated_s"]),
            ]
        )
        for r in records
        if "seconds" in r
    ]
    return "\n".join(lines) + "\n"


def _brackets(records: Sequence[Record]) -> list[str]:
    """What a bracket is and of how many timings, if there is one in the table."""
    parts: dict[int, list[str]] = {}
    for record in records:
        if any(_BRACKET.search(cell) for row in record["rows"] for cell in row):
            parts.setdefault(int(record["figures"]["timings"]), []).append(record["name"])
    if not parts:
        return []
    counts = "; ".join(f"{count} for {', '.join(names)}" for count, names in parts.items())
    return [
        "- 2.5 (2.1 to 3.2) is the median of the timings of a figure, and in brackets the smallest "
        "and the largest of them; a ratio is taken in each round, which times both sides. Timings "
        f"or rounds of each figure: {counts}"
    ]


def _where(hardware: str | None) -> str:
    if not hardware:
        return "for an accelerator"
    return "on a CPU, without an accelerator" if " x cpu" in hardware else "on an accelerator"


def _padded(row: Sequence[str]) -> list[str]:
    return [*row, *[""] * (len(COLUMNS) - len(row))][: len(COLUMNS)]


def _row(cells: Sequence[str]) -> str:
    texts = (" ".join(cell.replace("|", "\\|").split()) for cell in cells)
    return "| " + " | ".join(texts) + " |"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return str(value)


def too_much(out: Path) -> list[str]:
    """What of `--out` a machine with narrow limits would not give back."""
    files = [path for path in out.rglob("*") if path.is_file()]
    told = [f"{path.name} is larger than 16 MiB" for path in files
            if path.stat().st_size >= FILE_BYTES]  # fmt: skip
    if len(files) > FILES:
        told.append(f"--out holds {len(files)} files, more than {FILES}")
    return told
