"""report.html: one self-contained page, readable on a phone, in light and in dark.

Only the frame and its order: the numbers come from `tables`, the sentences from `verdicts` and
`explanation`, the SVG from the files of figures, the markup of tables from `html_tables`.
Everything that a run directory says is escaped. Called by `report.write`.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape

from dst_jax import __version__
from dst_jax.report import corruption_table, html_tables, provenance, published
from dst_jax.report.assets import CSS, SCRIPT
from dst_jax.report.figures.drawing import Drawing
from dst_jax.report.groups import Comparison
from dst_jax.report.html_tables import Datum, Line
from dst_jax.report.runs import Run
from dst_jax.report.tables import COLUMNS, Row, Table

_TERMS = (
    (
        "Robust accuracy",
        "Plain mean of top-1 accuracy over all corruptions and severities of the named benchmark; "
        "clean images are not part of it. Where a benchmark was not scored whole, the cell says "
        "what is missing, and the number is another one than the benchmark's. It is not the mean "
        "corruption error (mCE), which is defined for ImageNet-C alone.",
    ),
    (
        "Gain over dense",
        "Robust accuracy minus that of the dense runs that differ in the sparse training and the "
        "seed alone and were scored on the same conditions of the same images: in percentage "
        "points (pp), and relative to the dense value. Where there are none, no gain is given.",
    ),
    (
        "Verdict",
        "Whether a gain is more than chance in training: a t test over seeds with p < 0.05 after "
        "Holm's correction for all comparisons of this page, so that the chance of any false "
        "verdict on it is at most 5 %. Where both sides have the same seeds it is paired: the "
        "samples are the differences of the runs of the same seed. Elsewhere it is not (Welch's "
        "statistic, degrees of freedom of the side with fewer seeds). One seed, and toy runs, get "
        "none.",
    ),
    (
        "Sparsity",
        "Share of removed weights among the maskable weights, that is without biases and "
        "normalisation. Requested is what the config asks for; realised is counted in the masks "
        "at the end of training.",
    ),
    (
        "FLOPs ratio",
        "Multiply-adds with active weights, relative to the dense model: for one forward pass, and "
        "for the whole training, in which dense gradients count at the steps that compute them. "
        "Masks only simulate sparsity: the ratio is what hardware for sparse weights could save, "
        "not time saved in these runs.",
    ),
    (
        "±, error bars",
        "Sample standard deviation (n − 1) over runs that differ only in their seed. It contains "
        "the chance in training, not that in the choice of test images.",
    ),
)


def render(
    tables: Sequence[Table],
    summaries: Sequence[Mapping[str, str]],
    drawings: Sequence[Drawing],
    runs: Sequence[Run],
    remarks: Sequence[str],
    beside: Sequence[published.PaperComparison],
    short: Sequence[str],
) -> str:
    """Renders the page.

    Args:
      tables: one a comparison.
      summaries: the paragraphs of a table, by what they are about.
      drawings: the figures, in order.
      runs: all runs, for their provenance.
      remarks: what the figures lack, in sentences.
      beside: the paper's numbers with ours.
      short: runs of the paper's networks that answer to none of its numbers, and why.

    Returns:
      A whole HTML document without references to anything outside it.
    """
    heading = _heading(tables)
    body = [f"<h1>{escape(heading)}</h1>"]
    where = provenance.run_paths(runs)
    for paragraphs in summaries:
        body += [
            f'<p class="lead"><b>{escape(label)}.</b> {_prose(text)}</p>'
            for label, text in paragraphs.items()
        ]
    body.append("<h2>Results</h2>")
    body += [_table(table, where) for table in tables]
    body += [f'<p class="note warn">{_prose(remark)}</p>' for remark in remarks]
    body += [_figure(drawing) for drawing in drawings]
    body += ["<h2>The paper's numbers beside ours</h2>", _published(beside, short)]
    body += ["<h2>Runs</h2>", provenance.section(runs, where)]
    terms = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in _TERMS)
    body += ["<h2>Definitions</h2>", f'<dl class="terms">{terms}</dl>']
    body.append(f"<footer>Written by dst_jax {escape(__version__)}.</footer>")
    content = "\n".join(body)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(heading)}</title>
<style>{CSS}</style>
</head>
<body>
<main>
{content}
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _prose(text: str) -> str:
    """A sentence whose numbers stay with their units at the end of a line."""
    return escape(re.sub(r"(?<=\d) (?=%|pp\b)", "\u00a0", text))


def _heading(tables: Sequence[Table]) -> str:
    run_paths = dict.fromkeys(
        " on ".join(filter(None, (t.comparison.model, t.comparison.dataset))) for t in tables
    )
    named = [path for path in run_paths if path]
    return "Robustness report" + (f": {', '.join(named)}" if named else "")


def _table(table: Table, where: provenance.RunPaths) -> str:
    special = set(table.comparison.notes)
    # The last notes are definitions; those of the comparison restrict what the numbers mean.
    notes = "\n".join(
        f'<p class="note{" warn" if note in special else ""}">{_prose(note)}</p>'
        for note in table.notes
    )
    lines = [_line(row, where) for row in table.rows]
    shown = html_tables.table(table.title, [column.title for column in COLUMNS], lines)
    return "\n".join(
        [
            f"<h3>{escape(table.title)}</h3>",
            shown,
            notes,
            _corruptions(table.comparison),
            provenance.single_runs(table.comparison, where),
        ]
    )


def _line(row: Row, where: provenance.RunPaths) -> Line:
    data = [Datum(row.cells[0].text)]
    data += [Datum(cell.text, cell.value) for cell in row.cells[1:]]
    links = tuple((_seed(run), where[run.directory]) for run in row.runs if run.directory in where)
    data[2] = Datum("", row.cells[2].value, links)
    return Line(data[:3] if row.remark else data, row.remark)


def _seed(run: Run) -> str:
    return f"seed {run.seed}" if run.seed is not None else run.directory.name


def _corruptions(comparison: Comparison) -> str:
    """The table corruption by corruption, folded away."""
    if not comparison.conditions:
        return ""
    heads, rows = corruption_table.build(comparison)
    shown = html_tables.table("Corruption by corruption", heads, [Line(row) for row in rows])
    return (
        "<details><summary>Corruption by corruption <span>accuracy, mean over severities, and gain "
        "over dense; high frequencies: share of the energy of corrupted minus clean image</span>"
        f"</summary>\n{shown}</details>"
    )


def _published(beside: Sequence[published.PaperComparison], short: Sequence[str]) -> str:
    """The paper's numbers, open where a run answers to one of them; then what falls short."""
    answered = sum(row.ours != published.NOT_RUN for row in beside)
    lines = [Line([Datum(text) for text in published.cells(row)]) for row in beside]
    shown = html_tables.table("The paper's numbers beside ours", published.HEADS, lines, texts=2)
    items = "".join(f"<li>{_prose(text)}</li>" for text in short)
    rest = f'<p class="note">Not beside them, as they fall short:</p><ul>{items}</ul>'
    return f"""<details{" open" if answered else ""}><summary>{len(beside)} robust accuracies of
Wu et al. 2025 <span>theirs; {answered} of them answered by these runs</span></summary>
{shown}</details>{rest if items else ""}"""


def _figure(drawing: Drawing) -> str:
    alt = escape(drawing.alt, quote=True)
    svg = drawing.svg.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)
    return f"""<h2>{escape(drawing.heading)}</h2>
<figure>
<div class="scroll" tabindex="0" role="region" aria-label="{escape(drawing.heading)}">
{svg}</div>
<figcaption>{_prose(drawing.caption)}</figcaption>
</figure>"""
