"""The result table: one model, rendered as terminal text, Markdown and CSV.

The HTML form is in `page`; where the numbers come from is in `groups`. CSV holds plain fractions in
[0, 1] at full precision, the other forms hold percentages. Called by `report.write`.
"""

import csv
import io
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dst_jax.report import verdicts as judged
from dst_jax.report.groups import Comparison, Group
from dst_jax.report.runs import Run, counted
from dst_jax.report.verdicts import Verdict, Verdicts
from dst_jax.report.wording import MANY_IMAGES, MISSING, accuracy_text, percent
from dst_jax.statistics import Difference, Estimate, Interval


class Column(NamedTuple):
    """A column: key in CSV, title where there is room, short title for the terminal or none."""

    key: str
    title: str
    short: str


COLUMNS = (
    Column("method", "Method", "method"),
    Column("sparsity", "Sparsity (requested), %", "sparsity %"),
    Column("seeds", "Seeds", "seeds"),
    Column("clean_accuracy", "Clean accuracy, %", "clean %"),
    Column("robust_accuracy", "Robust accuracy, %", "robust %"),
    Column("gain", "Gain over dense, pp", "gain pp"),
    Column("gain_low", "Gain, 95 % interval over seeds, pp", "95 % over seeds"),
    Column("verdict", "Verdict", "verdict"),
    Column("gain_test", "Gain, t test over seeds", ""),
    Column("relative_gain", "Gain over dense, relative %", ""),
    Column("gain_images_low", "Gain, 95 % interval over images, pp", ""),
    Column("mce", "mCE, %", ""),
    Column("mean_ece", "Calibration error under corruption, %", ""),
    Column("realised_sparsity", "Sparsity (realised), %", "realised %"),
    Column("parameter_ratio", "Active parameters ratio", ""),
    Column("inference_flops_ratio", "Inference FLOPs ratio", ""),
    Column("training_flops_ratio", "Training FLOPs ratio", ""),
)
_TERMINAL = 100  # characters per line
# Columns whose cells hold two numbers, and the second's key in CSV.
_SECOND = {
    "clean_accuracy": "clean_accuracy_std",
    "robust_accuracy": "robust_accuracy_std",
    "gain_low": "gain_high",
    "gain_images_low": "gain_images_high",
}
SPARSITY_NOTE = (
    "Sparsity, requested and realised, is the share of removed weights among the maskable "
    "weights (not biases, not normalisation). FLOPs ratios are relative to the dense model."
)


class Cell(NamedTuple):
    """What is printed, and the numbers behind it (fractions, not percentages).

    The second number is the standard deviation of an accuracy, or the upper end of an interval.
    """

    text: str = MISSING
    value: float | None = None
    std: float | None = None


@dataclass(frozen=True)
class Row:
    """One line: a cell a column, and the runs behind it; a `remark` where there are no numbers.

    `lacking` is what the benchmark has and the row's scores have not, "" where they are complete;
    `scored` the numbers of its conditions and of its images.
    """

    cells: tuple[Cell, ...]
    is_dense: bool
    remark: str = ""
    runs: tuple[Run, ...] = ()
    lacking: str = ""
    scored: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Table:
    """The table of one comparison, with the sentences that belong under it."""

    title: str
    comparison: Comparison
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def build(comparison: Comparison, index: int = 0, verdicts: Verdicts | None = None) -> Table:
    """Builds the table of a comparison.

    Args:
      comparison: of which.
      index: its number among those of the page, from 0, by which its verdicts are found.
      verdicts: those of the page; None: of this comparison alone.
    """
    found = judged.judge([comparison]) if verdicts is None else verdicts
    digits = 2 if comparison.images >= MANY_IMAGES else 1
    rows = [
        _result_row(comparison, group, digits, judged.of(found, index, group))
        for group in comparison.groups
    ]
    rows += _idle_rows(comparison)
    rows.sort(key=_row_order)
    gains = [gain for group in comparison.groups if (gain := comparison.gain(group))]
    notes = [*comparison.notes]
    images_note = _images_note([gain.over_images for gain in gains])
    notes += filter(None, [judged.note(comparison, index, found), images_note])
    notes.append(SPARSITY_NOTE)
    if any(len(group.runs) > 1 for group in comparison.groups):
        notes.append("± is the sample standard deviation over seeds.")
    return Table(title(comparison), comparison, tuple(rows), tuple(notes))


def _images_note(intervals: Sequence[Interval | None]) -> str:
    """What the intervals over images are, for under the table; empty without any."""
    known = next(filter(None, intervals), None)
    if known is None:
        return ""
    return (
        f"Intervals over images are {100 * known.level:.0f} % percentile intervals of the gain, "
        f"from {known.resamples:,} paired bootstrap samples of the test images: they hold the "
        "chance in the images, not that in the training."
    )


def title(comparison: Comparison) -> str:
    """Model, dataset, suite and the number of conditions, as far as they are known."""
    head = " on ".join(filter(None, (comparison.model, comparison.dataset))) or "unknown model"
    if not comparison.suite:
        return f"{head}: no evaluation"
    lacking = sorted(set(map(comparison.lacking, comparison.groups)) - {""})
    incomplete = f", INCOMPLETE ({lacking[0]})" if lacking else ""
    return f"{head}, scored on {comparison.suite}: {extent(comparison)}{incomplete}"


def extent(comparison: Comparison) -> str:
    """How much a comparison was scored on: "2 corruptions, 10 conditions, 500 images each"."""
    sizes = sorted({comparison.of(group)[0].n for group in comparison.groups}) or [0]
    images = " to ".join(f"{n:,}" for n in dict.fromkeys((sizes[0], sizes[-1])))
    return (
        f"{counted(len(comparison.corruptions), 'corruption')}, "
        f"{counted(len(comparison.conditions), 'condition')}, {images} images each"
    )


def to_text(table: Table) -> str:
    """The table for a terminal, titles and notes included."""
    shown = [i for i, column in enumerate(COLUMNS) if column.short]
    # A remark runs on over the empty cells, so it does not widen a column.
    widths = [
        max(
            [len(COLUMNS[i].short)]
            + [len(r.cells[i].text) for r in table.rows if i < 3 or not r.remark]
        )
        for i in shown
    ]
    lines = [table.title, ""]
    header = _aligned([COLUMNS[i].short for i in shown], widths)
    lines += [header, "-" * len(header)]
    for row in table.rows:
        texts = [row.cells[i].text for i in shown]
        line = (
            _aligned(texts[:3], widths) + "  " + row.remark
            if row.remark
            else _aligned(texts, widths)
        )
        lines.append(line)
    lines += ["", *map(wrapped, table.notes)]
    return "\n".join(lines) + "\n"


def wrapped(sentence: str) -> str:
    """A sentence in lines that fit a terminal."""
    return textwrap.fill(sentence, _TERMINAL, break_long_words=False)


def to_markdown(table: Table) -> str:
    """The table as GitHub Markdown, titles and notes included."""
    remarks = any(row.remark for row in table.rows)
    heads = [column.title for column in COLUMNS] + (["Remark"] if remarks else [])
    marks = [":--", *["--:"] * (len(COLUMNS) - 1)] + ([":--"] if remarks else [])
    lines = [f"### {table.title}", "", _piped(heads), _piped(marks)]
    for row in table.rows:
        lines.append(_piped([c.text for c in row.cells] + ([row.remark] if remarks else [])))
    lines += [line for note in table.notes for line in ("", note)]
    return "\n".join(lines) + "\n"


def to_csv(tables: Sequence[Table]) -> str:
    """All tables as one CSV: fractions at full precision, empty where there is no number."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = [
        name for column in COLUMNS for name in filter(None, (column.key, _SECOND.get(column.key)))
    ]
    place_names = ("dataset", "model", "suite", "conditions", "images")
    writer.writerow([*place_names, *names, "incomplete", "remark"])
    for table in tables:
        c = table.comparison
        compared = [c.dataset or "", c.model or "", c.suite]
        for row in table.rows:
            values: list[object] = []
            for column, cell in zip(COLUMNS, row.cells, strict=True):
                text = column.key in ("method", "verdict", "gain_test")
                values.append(cell.text.replace(MISSING, "") if text else _plain(cell.value))
                if column.key in _SECOND:
                    values.append(_plain(cell.std))
            writer.writerow([*compared, *row.scored, *values, row.lacking, row.remark])
    return buffer.getvalue()


def seeds_text(seeds: Iterable[int | None]) -> str:
    """Names seeds: "seed 0", "seeds 0, 1, 2"."""
    known = [str(seed) for seed in seeds if seed is not None]
    if not known:
        return MISSING
    return ("seed " if len(known) == 1 else "seeds ") + ", ".join(known)


def _result_row(comparison: Comparison, group: Group, digits: int, verdict: Verdict | None) -> Row:
    clean, robust = comparison.clean(group), comparison.robust(group)
    shown = robust or clean
    count = shown.n if shown else len(group.runs)
    gain = comparison.gain(group)
    relative = gain.relative if gain else None
    mce = comparison.number(group, "mce")
    cells = (
        Cell(f"{group.method} ({group.unfinished})" if group.unfinished else group.method),
        _sparsity_cell(group.sparsity),
        Cell(str(count), count),
        _accuracy_cell(clean, digits),
        _accuracy_cell(robust, digits, comparison.lacking(group)),
        Cell(f"{100 * gain.absolute:+.{digits}f}", gain.absolute) if gain else Cell(),
        _interval_cell(gain.over_seeds if gain else None, digits),
        Cell(verdict.text, verdict.p) if verdict else Cell(),
        _test_cell(gain.over_seeds if gain else None),
        Cell(f"{100 * relative:+.{digits}f}", relative) if relative is not None else Cell(),
        _interval_cell(gain.over_images if gain else None, digits),
        Cell(f"{mce.mean:.1f}", mce.mean / 100) if mce else Cell(),
        _fact_cell(comparison.number(group, "mean_ece"), 100.0, 1),
        _fact_cell(group.fact("sparsity"), 100.0, 1),
        _parameter_cell(group),
        _fact_cell(group.fact("flops_ratio"), 1.0, 2),
        _fact_cell(group.fact("training_flops_ratio"), 1.0, 2),
    )
    first = comparison.of(group)[0]
    scored = (len(first.counted), first.n)
    lacking = comparison.lacking(group)
    return Row(cells, group.is_dense, runs=group.runs, lacking=lacking, scored=scored)


def _idle_rows(comparison: Comparison) -> list[Row]:
    """Runs without scores here: those alike in method, sparsity and status share a row."""
    alike: dict[tuple[str, float | None, str], list[Run]] = {}
    for group in comparison.not_counted:
        for run in group.runs:
            status = comparison.remarks[run.directory]
            told = ("unreadable", "not counted", "left out")
            damaged = [p for p in run.problems if any(t in p for t in told) and p not in status]
            status = "; ".join([status, *damaged])
            alike.setdefault((group.method, group.sparsity, status), []).append(run)
    return [
        Row(
            cells=(
                Cell(method),
                _sparsity_cell(sparsity),
                Cell(seeds_text(run.seed for run in runs), 0),
                *[Cell()] * (len(COLUMNS) - 3),
            ),
            is_dense=runs[0].is_dense,
            remark=status,
            runs=tuple(runs),
        )
        for (method, sparsity, status), runs in alike.items()
    ]


def _row_order(row: Row) -> tuple[bool, float, str, bool]:
    method, sparsity = row.cells[0].text, row.cells[1].value
    return (not row.is_dense, 2.0 if sparsity is None else sparsity, method, bool(row.remark))


def _sparsity_cell(sparsity: float | None) -> Cell:
    return Cell() if sparsity is None else Cell(percent(sparsity), sparsity)


def _accuracy_cell(value: Estimate | None, digits: int, lacking: str = "") -> Cell:
    if value is None:
        return Cell()
    return Cell(accuracy_text(value, digits, lacking), value.mean, value.std)


def _fact_cell(value: Estimate | None, scale: float, digits: int) -> Cell:
    return Cell(f"{scale * value.mean:.{digits}f}", value.mean) if value else Cell()


def _interval_cell(interval: Interval | Difference | None, digits: int) -> Cell:
    if interval is None:
        return Cell()
    text = f"{100 * interval.low:+.{digits}f} to {100 * interval.high:+.{digits}f}"
    return Cell(text, interval.low, interval.high)


def _test_cell(found: Difference | None) -> Cell:
    """Which test the interval over seeds and the verdict are of; the number is to sort by."""
    if found is None:
        return Cell()
    return Cell("paired" if found.paired else "not paired", float(found.paired))


def _parameter_cell(group: Group) -> Cell:
    """Parameters that are left, those that are never masked included, over all of them."""
    total, maskable, active = map(group.fact, ("parameters", "maskable", "active"))
    if not (total and maskable and active and total.mean):
        return Cell()
    ratio = (total.mean - maskable.mean + active.mean) / total.mean
    return Cell(f"{ratio:.2f}", ratio)


def _aligned(texts: Sequence[str], widths: Sequence[int]) -> str:
    cells = [texts[0].ljust(widths[0])]
    cells += [text.rjust(width) for text, width in zip(texts[1:], widths[1:], strict=False)]
    return "  ".join(cells)


def _piped(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def _plain(value: float | None) -> str:
    return "" if value is None else repr(value)
