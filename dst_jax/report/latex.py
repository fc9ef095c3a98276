"""The result tables as LaTeX, for `booktabs`. Called by `report.write`."""

from collections.abc import Sequence

from dst_jax.report import published
from dst_jax.report.tables import COLUMNS, Table
from dst_jax.report.wording import MISSING

_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    "−": "$-$",
}


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)


def _tabular(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """A booktabs table whose first `left` columns are set to the left."""
    columns = "l" * left + "r" * (len(heads) - left)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(map(_escaped, heads)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(_escaped, row)) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def render(tables: Sequence[Table], beside: Sequence[published.PaperComparison]) -> str:
    """All result tables, and the paper's numbers beside ours; notes become comments."""
    parts = ["% Needs \\usepackage{booktabs}."]
    for table in tables:
        texts = [[cell.text for cell in row.cells] for row in table.rows]
        rows = [
            [*cells[:-1], row.remark or cells[-1]]
            for cells, row in zip(texts, table.rows, strict=True)
        ]
        notes = [f"% {note}" for note in (table.title, *table.notes)]
        parts.append("\n".join([*notes, _tabular([c.title for c in COLUMNS], rows, 1)]))
    shown = [published.cells(row) for row in beside]
    note = (
        f"% Robust accuracy, percent: Wu et al. 2025 as published, and these runs. {MISSING}: none."
    )
    parts.append(f"{note}\n{_tabular(published.HEADS, shown, 4)}")
    return "\n\n".join(parts) + "\n"
