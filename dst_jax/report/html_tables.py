"""A table of report.html: heads that sort by a click or a key, and scrolling inside its own box.

Only markup; everything is escaped here. Called by `page` and `provenance`.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple


class Datum(NamedTuple):
    """A cell.

    Attributes:
      text: what is shown.
      value: what is sorted by: a number, None in a column of numbers where there is none, or
        "" for the text itself.
      links: (text, id of an element of the page) for links that follow the text.
    """

    text: str
    value: float | str | None = ""
    links: tuple[tuple[str, str], ...] = ()


class Line(NamedTuple):
    """A row; `remark` runs on over the columns that `data` leaves, and sorts to the end."""

    data: Sequence[Datum]
    remark: str = ""


def table(label: str, heads: Sequence[str], lines: Sequence[Line], texts: int = 1) -> str:
    """A sortable table in a box that scrolls.

    Args:
      label: what the table is, for a screen reader.
      heads: titles of the columns.
      lines: the rows.
      texts: so many of the first columns hold words and are set to the left.
    """
    titles = "".join(
        f'<th scope="col"{_side(i < texts)}><button type="button">{escape(head)}</button></th>'
        for i, head in enumerate(heads)
    )
    rows = "\n".join(_row(line, len(heads), texts) for line in lines)
    return f"""<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">
<table class="sortable"><thead><tr>{titles}</tr></thead>
<tbody>
{rows}
</tbody></table>
</div>"""


def _side(left: bool) -> str:
    return ' class="text"' if left else ""


def _row(line: Line, columns: int, texts: int) -> str:
    cells = "".join(_cell(datum, i < texts) for i, datum in enumerate(line.data))
    if not line.remark:
        return f"<tr>{cells}</tr>"
    span = columns - len(line.data)
    remark = f'<td class="remark" colspan="{span}">{escape(line.remark)}</td>'
    return f'<tr data-remark="1">{cells}{remark}</tr>'


def _cell(datum: Datum, left: bool) -> str:
    value = "" if datum.value is None else datum.value
    sort = "" if datum.value == "" else f' data-value="{value!s}"'
    links = " ".join(
        f'<a href="#{escape(target)}">{escape(text)}</a>' for text, target in datum.links
    )
    content = " ".join(filter(None, (escape(datum.text), links)))
    return f"<td{_side(left)}{sort}>{content}</td>"
