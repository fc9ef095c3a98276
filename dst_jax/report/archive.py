"""A study in one folder: what its runs wrote, without weights, and all that is drawn from it.

    runs.zip         of every run what the report reads     scores.csv.gz   a row per condition
    report.html ...  the report, drawn from runs.zip alone

The same runs give the same bytes. What belongs to the machine stays out (`public_facts`). Called
by `experiment` for `--mode=archive`, and for `--mode=report` over a folder that holds `runs.zip`.
"""

import io
import json
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dst_jax import __version__, report
from dst_jax.errors import UserError
from dst_jax.report import public_facts, scores_table
from dst_jax.report import runs as run_directories
from dst_jax.report.archive_reading import (
    FACTS,
    FILES,
    FORMAT,
    NOTHING,
    TEXTS,
    problem_of,
    unpacked,
)
from dst_jax.report.runs import Run, counted
from dst_jax.robustness.files import NPZ
from dst_jax.runtime.run_dir import CHECKPOINTS, locked, make, write_bytes

NAME, SCORES = "runs.zip", "scores.csv.gz"
LARGE = 10_000_000  # bytes: an archive above it leaves out which images were right

_NEW = ".archive-"  # a folder that is being written, before it takes its place
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold


def write(
    runs: Sequence[Path],
    out_dir: Path,
    expected: Sequence[Mapping[str, Any]] = (),
    image_records: bool | None = None,
) -> str:
    """Writes the folder of a study: drawn beside what is there, then moved in its place.

    Args:
      runs: run directories; those that failed or were stopped are kept and named too.
      out_dir: the folder, made if it is not there.
      expected: runs that were planned, see `report.write`.
      image_records: keep which images were right (`robustness.npz`); None: unless the
        archive is then larger than `LARGE`. A run of which the page would count other scores
        without them keeps its own: see `_needs_record`.

    Returns:
      The report's text, and what was written, for a terminal.

    Raises:
      UserError: there is no run, two have one name, the folder holds an archive of other runs or
        what is no archive, or something cannot be read or written.
    """
    directories = [Path(directory) for directory in runs]
    members = list(map(run_directories.read, directories))
    if not any(run.exists for run in members):
        raise UserError("archive", "no run", "at least one run directory")
    names = [directory.resolve().name for directory in directories]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise UserError("archive", f"two runs named {name}", "a name for each run")
        if problem_of(name) or name != name.encode(errors="replace").decode():
            raise UserError("archive", f"a run named {name!r}", "a plain name in Unicode")
    pairs = list(zip(names, members, strict=True))
    whole = content = pack(pairs, expected, image_records is not False)
    large = image_records is None and len(whole) > LARGE
    if large:
        content = pack(pairs, expected, False)
    note = ""
    if large or image_records is False:
        left_out = sum((run.directory / NPZ).exists() and not _needs_record(run) for run in members)
        note = f"; which images were right is left out for {counted(left_out, 'run')}"
        note += f" ({_size(whole)} with it)" if large else ""
    make(out_dir, "--out")
    with locked(out_dir, "", "--out"):
        _refuse_what_would_be_lost(out_dir, names)
        for left in out_dir.glob(f"{_NEW}*"):  # of a call that was killed
            shutil.rmtree(left, ignore_errors=True)
        try:
            with tempfile.TemporaryDirectory(prefix=_NEW, dir=out_dir) as folder:
                new = Path(folder)
                write_bytes(new / NAME, content)
                with unpacked(new / NAME) as (kept, planned):
                    write_bytes(new / SCORES, _scores(kept))
                    drawn = report.write(kept, new, planned, NAME)
                _move(new, out_dir)
        except OSError as error:
            found = error.strerror or str(error)
            raise UserError(f"--out={out_dir}", found, "a folder that can be written") from None
    number = counted(sum(run.exists for run in members), "run")
    return (
        f"{drawn.text}\nreport: {out_dir / drawn.html_path.name}\n"
        f"archive: {out_dir / NAME}, {number}, {_size(content)}{note}"
    )


def redraw(folder: Path) -> str:
    """Draws what lies beside an archive again; returns the report's text for a terminal.

    Raises:
      UserError: the archive is damaged, or the folder cannot be written.
    """
    note = ""
    with unpacked(folder / NAME) as (kept, planned), locked(folder, "", "--workdir"):
        drawn = report.write(kept, folder, planned, NAME)
        path, scores = folder / SCORES, _scores(kept)
        try:
            if path.exists() and path.read_bytes() != scores:
                note = f"\n{path} was not that of {NAME}: it is written again"
            write_bytes(path, scores)
        except OSError as error:
            found = error.strerror or str(error)
            raise UserError(str(path), found, "a file that can be written") from None
    return f"{drawn.text}\nreport: {drawn.html_path}{note}"


def _scores(runs: Sequence[Path]) -> bytes:
    table = scores_table.to_csv(list(map(run_directories.read, runs)))
    return scores_table.compressed(table)


def _refuse_what_would_be_lost(folder: Path, names: Sequence[str]) -> None:
    """Raises UserError where a folder holds runs that the new archive has not, or other files."""
    there = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    found = ""
    if NAME in there:
        with unpacked(folder / NAME) as (runs, _):
            lost = [path.name for path in runs if path.exists() and path.name not in names]
        if lost:
            more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
            found = f"an archive of runs that are not given: {', '.join(lost[:3])}{more}"
    elif there:
        found = f"{', '.join(there[:3])}, of no archive"
    if found:
        expected = "an empty folder, or an archive of these runs"
        raise UserError(f"--out={folder}", found, expected, "Name another, or empty it first")


def _move(new: Path, folder: Path) -> None:
    """Puts what was drawn in place of what is there; without its page a folder is not whole."""
    page = folder / "report.html"
    page.unlink(missing_ok=True)
    (folder / "figures").mkdir(exist_ok=True)
    for old in (folder / "figures").glob("*.svg"):
        old.unlink()
    files = sorted(path for path in new.rglob("*") if path.is_file())
    for path in sorted(files, key=lambda path: path.name == page.name):
        os.replace(path, folder / path.relative_to(new))


def pack(
    runs: Sequence[tuple[str, Run]], expected: Sequence[Mapping[str, Any]], image_records: bool
) -> bytes:
    """The bytes of an archive: names sorted, no times.

    Args:
      runs: names in the archive and the runs, in the order of the report.
      expected: runs that were planned, as `report.write` takes them.
      image_records: whether to keep which images were right of all runs.

    Raises:
      UserError: a file cannot be read.
    """
    facts = {
        "format": FORMAT,
        "written_by": f"dst_jax {__version__}",
        "runs": [name for name, _ in runs],
        "planned": [dict(entry) for entry in expected],
    }
    entries = {FACTS: (json.dumps(facts, indent=1) + "\n").encode()}
    for name, run in runs:
        if not run.exists:
            continue
        files = {
            file: _content(run.directory, file)
            for file in FILES
            if (run.directory / file).is_file()
            and (file != NPZ or image_records or _needs_record(run))
        }
        entries |= {f"{name}/{file}": content for file, content in files.items()}
        if run.checkpoint is not None:  # its name alone: the report says of which step it is
            entries[f"{name}/{CHECKPOINTS}/{run.checkpoint}/"] = b""
        elif not files:
            entries[f"{name}/{NOTHING}"] = b""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in sorted(entries.items()):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system = 3  # Unix, wherever it is written
            mode = stat.S_IFDIR | 0o755 if name.endswith("/") else stat.S_IFREG | 0o644
            entry.external_attr = mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED if content else zipfile.ZIP_STORED
            file.writestr(entry, content, compresslevel=9)
    return buffer.getvalue()


def _needs_record(run: Run) -> bool:
    """Whether the page counts other scores of a run without its record of right images.

    Where rows and record contradict each other, or an older version did not write down whose the
    scores are and on which images.
    """
    return not run.weights or any(NPZ in problem for problem in run.problems)


def _content(directory: Path, name: str) -> bytes:
    try:
        content = (directory / name).read_bytes()
    except OSError as error:
        found = error.strerror or str(error)
        raise UserError(str(directory / name), found, "a file that can be read") from None
    return public_facts.of_file(name, content) if name in TEXTS else content


def _size(content: bytes) -> str:
    return f"{len(content) / 1e6:.1f} MB" if len(content) > 1e6 else f"{len(content) / 1e3:.0f} kB"
