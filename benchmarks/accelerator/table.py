"""`table.md`: what was measured, what was left out and why. Called by `loop`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from benchmarks.accelerator.records import Record
from benchmarks.accelerator.stages import COLUMNS

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
    texts = {record["stage"]: record for record in done if record.get("text")}
    for record in texts.values():
        lines += ["", f"## {record['title']}", "", record["text"].strip()]
    lines += ["", "## Time", "", _row(["part", "seconds", "estimated"]), _row(["---"] * 3)]
    lines += [
        _row(
            [
                r["name"] + " (kept)" * (r["name"] in kept),
                f"{r['seconds']:.1f}",
                f"{r['estimated_s']:.0f}",
            ]
        )
        for r in records
        if "seconds" in r
    ]
    return "\n".join(lines) + "\n"


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
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return str(value)
