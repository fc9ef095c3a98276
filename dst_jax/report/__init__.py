"""Run directories in, tables, figures and one self-contained HTML page out.

`write` is the whole interface; it reads what training and evaluation left on disk and needs no
accelerator and no JAX. Called for `--mode=report` and after a sweep, and by `archive`, which keeps
what it reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dst_jax.errors import UserError
from dst_jax.report import (
    comparisons as sorting,
)
from dst_jax.report import (
    explanation,
    groups,
    latex,
    page,
    published,
    tables,
)
from dst_jax.report import runs as run_directories
from dst_jax.report import (
    verdicts as judged,
)
from dst_jax.report.figures import analysis as analysis_figures
from dst_jax.report.figures import gains as gain_figures
from dst_jax.report.figures import scores as score_figures
from dst_jax.runtime.run_dir import write_bytes

__all__ = ["Report", "write"]


@dataclass(frozen=True)
class Report:
    """What was written, and the same as text for the terminal."""

    text: str
    html_path: Path
    csv_path: Path
    markdown_path: Path
    figure_paths: tuple[Path, ...]


def write(
    runs: Sequence[Path],
    out_dir: Path,
    expected: Sequence[Mapping[str, Any]] = (),
    archive: str = "",
) -> Report:
    """Writes report.html, .csv, .md, .tex, published.csv and figures/*.svg into `out_dir`.

    Runs that differ only in their seed are averaged. A run that is missing, unfinished or damaged
    is told in words and does not keep the others from being drawn. Files are replaced whole.

    Args:
      runs: run directories.
      out_dir: where to write; made if it does not exist.
      expected: runs that were planned, as {"name", "algorithm", "sparsity", "seed"}; those
        without a run directory are listed as "not run".
      archive: the name of the archive that the runs were unpacked from, if they were.

    Returns:
      The text for a terminal and the paths.

    Raises:
      UserError: there is neither a run nor an expected one, or `out_dir` is a file.
    """
    if not runs and not expected:
        raise UserError("report", "no run", "at least one run directory")
    out_dir = Path(out_dir)
    if out_dir.exists() and not out_dir.is_dir():
        raise UserError(str(out_dir), "a file", "a directory, or a path that is free")

    directories = dict.fromkeys(Path(directory) for directory in runs)
    found = [replace(run, archive=archive) for run in map(run_directories.read, directories)]
    members = run_directories.with_planned(found, expected)
    comparisons = sorting.compare(members)
    verdicts = judged.judge(comparisons)
    result_tables = [tables.build(c, index, verdicts) for index, c in enumerate(comparisons)]
    summaries = _summaries(comparisons, verdicts)
    drawings = [*gain_figures.draw(comparisons), *score_figures.draw(comparisons)]
    explained, remarks = analysis_figures.draw(comparisons)
    drawings += explained

    report = Report(
        text="\n".join(
            [
                "\n".join([tables.to_text(table), *map(tables.wrapped, summary.values()), ""])
                for table, summary in zip(result_tables, summaries, strict=True)
            ]
            + [f"{tables.wrapped(remark)}\n" for remark in remarks]
        ),
        html_path=out_dir / "report.html",
        csv_path=out_dir / "report.csv",
        markdown_path=out_dir / "report.md",
        figure_paths=tuple(out_dir / "figures" / f"{d.name}.svg" for d in drawings),
    )
    beside = published.compare_with_paper(comparisons)
    short = published.short_of(comparisons)
    html = page.render(result_tables, summaries, drawings, members, remarks, beside, short)
    _write(report.html_path, html)
    _write(report.csv_path, tables.to_csv(result_tables))
    _write(out_dir / "report.tex", latex.render(result_tables, beside))
    _write(out_dir / "published.csv", published.to_csv(beside))
    markdown = [
        "\n".join([tables.to_markdown(table), *(f"{text}\n" for text in summary.values())])
        for table, summary in zip(result_tables, summaries, strict=True)
    ]
    markdown += [f"{remark}\n" for remark in remarks]
    _write(report.markdown_path, "\n".join(markdown))
    for path, drawing in zip(report.figure_paths, drawings, strict=True):
        _write(path, drawing.svg)
    return report


def _summaries(
    comparisons: Sequence[groups.Comparison], verdicts: judged.Verdicts
) -> list[dict[str, str]]:
    """The paragraphs of each comparison; analyses are told once for a dataset and model.

    Each a mapping from what a paragraph is about to its text.
    """
    told: set[tuple[str | None, str | None]] = set()
    summaries = []
    for number, comparison in enumerate(comparisons):
        key = (comparison.dataset, comparison.model)
        explained = "" if key in told else explanation.paragraph(comparison)
        told.add(key)
        texts = {
            "In short": judged.paragraph(comparison, number, verdicts),
            "The explanation": explained,
        }
        summaries.append({label: text for label, text in texts.items() if text})
    return summaries


def _write(path: Path, text: str) -> None:
    """Writes a file whole or not at all.

    Raises:
      UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A directory's name may be no Unicode; it is shown with its bytes escaped.
        write_bytes(path, text.encode(errors="backslashreplace"))
    except OSError as error:
        raise UserError(
            str(path), error.strerror or str(error), "a file that can be written"
        ) from None
