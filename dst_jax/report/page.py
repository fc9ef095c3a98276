"""report.html: one self-contained page, readable on a phone, in light and in dark.

Only markup: the numbers come from `tables`, the sentences from `findings`, the SVG from `figures`.
Everything that a run directory says is escaped. Called by `report.write`.
"""

from collections.abc import Mapping, Sequence
from html import escape

from dst_jax import __version__
from dst_jax.report import published
from dst_jax.report.assets import CSS, SCRIPT
from dst_jax.report.figures import Drawing
from dst_jax.report.groups import percent
from dst_jax.report.runs import Run
from dst_jax.report.tables import COLUMNS, Cell, Row, Table

_OPEN_DETAILS = 3  # up to so many runs their provenance lies open
_TERMS = (
    (
        "Robust accuracy",
        "Plain mean of top-1 accuracy over all corruptions and severities of the suite; clean "
        "images are not part of it. It is not the mean corruption error (mCE) of ImageNet-C.",
    ),
    (
        "Gain over dense",
        "Robust accuracy minus that of the dense run with the same dataset, model, number of steps "
        "and test images: in percentage points (pp), and relative to the dense value.",
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
    summaries: Sequence[str],
    drawings: Sequence[Drawing],
    runs: Sequence[Run],
    remarks: Sequence[str],
    beside: Sequence[published.Beside],
) -> str:
    """Renders the page.

    Args:
      tables: one a comparison.
      summaries: one paragraph a table.
      drawings: the figures, in order.
      runs: all runs, for their provenance.
      remarks: what the figures lack, in sentences.
      beside: the paper's numbers with ours.

    Returns:
      A whole HTML document without references to anything outside it.
    """
    heading = _heading(tables)
    body = [f"<h1>{escape(heading)}</h1>"]
    body += [f'<p class="lead">{escape(summary)}</p>' for summary in summaries]
    body.append("<h2>Results</h2>")
    body += [_table(table) for table in tables]
    body += [f'<p class="note warn">{escape(remark)}</p>' for remark in remarks]
    body += [_figure(drawing) for drawing in drawings]
    body += ["<h2>The paper's numbers beside ours</h2>", _published(beside)]
    body += ["<h2>Runs</h2>", *[_run(run, len(runs) <= _OPEN_DETAILS) for run in runs]]
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


def _heading(tables: Sequence[Table]) -> str:
    places = dict.fromkeys(
        " on ".join(filter(None, (t.comparison.model, t.comparison.dataset))) for t in tables
    )
    named = [place for place in places if place]
    return "Robustness report" + (f": {', '.join(named)}" if named else "")


def _table(table: Table) -> str:
    heads = "".join(
        f'<th scope="col"><button type="button">{escape(column.title)}</button></th>'
        for column in COLUMNS
    )
    rows = "\n".join(_row(row) for row in table.rows)
    # The last notes are definitions; those of the comparison restrict what the numbers mean.
    special = set(table.comparison.notes)
    notes = "\n".join(
        f'<p class="note{" warn" if note in special else ""}">{escape(note)}</p>'
        for note in table.notes
    )
    label = escape(table.title)
    return f"""<h3>{label}</h3>
<div class="scroll" tabindex="0" role="region" aria-label="{label}">
<table class="sortable"><thead><tr>{heads}</tr></thead>
<tbody>
{rows}
</tbody></table>
</div>
{notes}"""


def _row(row: Row) -> str:
    if not row.remark:
        return f"<tr>{''.join(map(_cell, row.cells))}</tr>"
    remark = f'<td class="remark" colspan="{len(COLUMNS) - 3}">{escape(row.remark)}</td>'
    return f'<tr data-remark="1">{"".join(map(_cell, row.cells[:3]))}{remark}</tr>'


def _cell(cell: Cell) -> str:
    value = "" if cell.value is None else f"{cell.value!r}"
    return f'<td data-value="{value}">{escape(cell.text)}</td>'


def _published(beside: Sequence[published.Beside]) -> str:
    """The paper's numbers, open where a run answers to one of them."""
    answered = sum(row.ours != published.NOT_RUN for row in beside)
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in published.HEADS)
    rows = "\n".join(
        f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in published.cells(row))}</tr>"
        for row in beside
    )
    return f"""<details{" open" if answered else ""}><summary>{len(beside)} robust accuracies of
Wu et al. 2025 <span>theirs; {answered} of them answered by these runs</span></summary>
<div class="scroll" tabindex="0" role="region" aria-label="The paper's numbers beside ours">
<table><thead><tr>{heads}</tr></thead><tbody>
{rows}
</tbody></table></div></details>"""


def _figure(drawing: Drawing) -> str:
    alt = escape(drawing.alt, quote=True)
    svg = drawing.svg.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)
    return f"""<h2>{escape(drawing.heading)}</h2>
<figure>
<div class="scroll" tabindex="0" role="region" aria-label="{escape(drawing.heading)}">
{svg}</div>
<figcaption>{escape(drawing.caption)}</figcaption>
</figure>"""


def _run(run: Run, is_open: bool) -> str:
    parts = [run.algorithm or "unknown method"]
    if run.sparsity is not None and not run.is_dense:
        parts[0] += f" {percent(run.sparsity)} %"
    if run.seed is not None:
        parts.append(f"seed {run.seed}")
    if run.status:
        parts.append(run.status)
    facts = {
        "Directory": str(run.directory) if run.exists else None,
        "Command": run.environment.get("command"),
        "Commit": run.environment.get("commit"),
        "Versions": _versions(run.environment.get("versions")),
        "Hardware": run.environment.get("hardware"),
        "Started": run.environment.get("started"),
        "Training": _training(run),
        "Parameters": _parameters(run),
        "Missing or damaged": "; ".join(run.problems),
    }
    rows = "".join(
        f"<dt>{name}</dt><dd>{_value(name, value)}</dd>" for name, value in facts.items() if value
    )
    return (
        f"<details{' open' if is_open else ''}><summary>{escape(run.directory.name)} "
        f"<span>{escape(', '.join(parts))}</span></summary><dl>{rows}</dl></details>"
    )


def _value(name: str, value: object) -> str:
    if isinstance(value, (list, tuple)):
        value = " ".join(map(str, value))
    text = escape(str(value))
    return f"<code>{text}</code>" if name in ("Directory", "Command", "Commit") else text


def _versions(versions: object) -> str:
    if not isinstance(versions, Mapping):
        return str(versions or "")
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _training(run: Run) -> str:
    if not run.finished:
        return run.status if run.exists else ""
    seconds = "" if run.seconds is None else f" in {run.seconds:,.1f} s"
    return f"{run.step:,} steps{seconds}"


def _parameters(run: Run) -> str:
    names = (("parameters", ""), ("maskable", " maskable"), ("active", " of these active"))
    known = [(run.fact(name), suffix) for name, suffix in names]
    return ", ".join(f"{value:,.0f}{suffix}" for value, suffix in known if value is not None)
