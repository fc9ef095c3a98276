"""Where the numbers of report.html come from: run by run, with command, commit and hardware.

Every run has a place of its own on the page that its numbers link to. Called by `page`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from dst_jax.report.groups import Comparison
from dst_jax.report.html_tables import Datum, Line, table
from dst_jax.report.runs import Run
from dst_jax.report.wording import MANY_IMAGES, MISSING, accuracy_text, percent
from dst_jax.statistics import Estimate

_OPEN_DETAILS = 3  # up to so many runs their provenance lies open
_HEADS = (
    "Run", "Method", "Commit", "Hardware", "Sparsity (requested), %", "Seed", "Step",
    "Clean accuracy, %", "Robust accuracy, %", "Sparsity (realised), %",
)  # fmt: skip

RunPaths = Mapping[Path, str]


def run_paths(runs: Sequence[Run]) -> dict[Path, str]:
    """Run directory -> id of its place on the page."""
    return {run.directory: f"run-{index}" for index, run in enumerate(runs)}


def single_runs(comparison: Comparison, where: RunPaths) -> str:
    """The runs behind a result table, one per line, folded away."""
    digits = 2 if comparison.images >= MANY_IMAGES else 1
    lines = []
    for group in comparison.groups:
        for run in group.runs:
            alone = replace(group, runs=(run,))
            sparsity, realised = group.sparsity, run.fact("sparsity")
            data = [
                Datum("", links=((run.directory.name, where[run.directory]),)),
                Datum(group.name),
                Datum(
                    " then ".join(
                        dict.fromkeys(_short(_words(s.get("commit"))) for s in run.starts)
                    )
                ),
                Datum(" then ".join(dict.fromkeys(_words(s.get("hardware")) for s in run.starts))),
                Datum(MISSING, None) if sparsity is None else Datum(percent(sparsity), sparsity),
                Datum(MISSING, None) if run.seed is None else Datum(str(run.seed), run.seed),
                Datum(f"{run.step:,}", run.step),
                _accuracy(comparison.clean(alone), digits),
                _accuracy(comparison.robust(alone), digits, comparison.lacking(alone)),
                Datum(MISSING, None)
                if realised is None
                else Datum(f"{100 * realised:.1f}", realised),
            ]
            lines.append(Line(data))
    if not lines:
        return ""
    body = table("Run by run", _HEADS, lines, texts=4)
    return (
        f"<details><summary>Run by run <span>what the means are made of</span>"
        f"</summary>\n{body}</details>"
    )


def _short(commit: str) -> str:
    """The first 12 characters of a commit, and whether files differed from it."""
    name, plus, rest = commit.partition("+")
    return name[:12] + plus + rest


def _accuracy(value: Estimate | None, digits: int, lacking: str = "") -> Datum:
    if value is None:
        return Datum(MISSING, None)
    return Datum(accuracy_text(value, digits, lacking), value.mean)


def section(runs: Sequence[Run], where: RunPaths) -> str:
    """All runs with what they depend on."""
    return "\n".join(_run(run, where[run.directory], len(runs) <= _OPEN_DETAILS) for run in runs)


def _run(run: Run, place: str, is_open: bool) -> str:
    parts = [run.algorithm or "unknown method"]
    if run.sparsity is not None and not run.is_dense:
        parts[0] += f" {percent(run.sparsity)} %"
    if run.seed is not None:
        parts.append(f"seed {run.seed}")
    if run.status:
        parts.append(run.status)
    facts = {
        "Directory": _directory(run),
        "Command": _of_starts(run, "command"),
        "Commit": _of_starts(run, "commit"),
        "Versions": _of_starts(run, "versions"),
        "Hardware": _of_starts(run, "hardware"),
        "Started": _of_starts(run, "started"),
        "Training": _training(run),
        "Checkpoint": _checkpoint(run),
        "Parameters": _parameters(run),
        "Problems": "; ".join(run.problems),
    }
    rows = "".join(
        f"<dt>{name}</dt><dd>{_value(name, value)}</dd>" for name, value in facts.items() if value
    )
    return (
        f'<details id="{place}"{" open" if is_open else ""}><summary>{escape(run.directory.name)} '
        f"<span>{escape(', '.join(parts))}</span></summary><dl>{rows}</dl></details>"
    )


def _directory(run: Run) -> str:
    if not run.exists:
        return ""
    return f"{run.directory.name} in {run.archive}" if run.archive else str(run.directory)


def _value(name: str, value: object) -> str:
    text = escape(str(value))
    return f"<code>{text}</code>" if name in ("Directory", "Command", "Commit") else text


def _of_starts(run: Run, key: str) -> str:
    """What every start says, once where all say the same; else each with the step it began at."""
    said = [(start.get("step", 0), _words(start.get(key))) for start in run.starts]
    if len({text for _, text in said}) <= 1:
        return said[0][1] if said else ""
    return "; ".join(f"from step {step}: {text}" for step, text in said)


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return str(value or "")


def _training(run: Run) -> str:
    if not run.finished:
        return run.status if run.exists else ""
    seconds = "" if run.seconds is None else f" in {run.seconds:,.1f} s"
    return f"{run.step:,} steps{seconds}"


def _checkpoint(run: Run) -> str:
    if not run.exists:
        return ""
    return (
        "none: it cannot be evaluated or analysed again"
        if run.checkpoint is None
        else f"step {run.checkpoint:,}" + (f", not in {run.archive}" if run.archive else "")
    )


def _parameters(run: Run) -> str:
    names = (("parameters", ""), ("maskable", " maskable"), ("active", " of these active"))
    known = [(run.fact(name), suffix) for name, suffix in names]
    return ", ".join(f"{value:,.0f}{suffix}" for value, suffix in known if value is not None)
