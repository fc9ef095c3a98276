"""A study in one folder: what its runs wrote, without weights, and all that is drawn from it.

    runs.zip         of every run what the report reads     scores.csv.gz   a row per condition
    report.html ...  the report, drawn from runs.zip alone

The same runs give the same bytes. What belongs to the machine stays out (`public_facts`). Called
by `experiment` for `--mode=archive`, and for `--mode=report` over a folder that holds `runs.zip`.
"""

import contextlib
import io
import json
import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dst_jax import __version__, report
from dst_jax.config.options import ANALYSES
from dst_jax.errors import UserError
from dst_jax.report import public_facts, scores_table
from dst_jax.report import runs as run_directories
from dst_jax.report.runs import Run, counted
from dst_jax.robustness.files import CSV, JSON, NPZ
from dst_jax.runtime.run_dir import CHECKPOINTS, make, write_bytes

NAME, SCORES = "runs.zip", "scores.csv.gz"
LARGE = 10_000_000  # bytes: an archive above it leaves out which images were right
# Far above any study, and far below what fills a machine.
LIMIT, ENTRIES = 2 << 30, 100_000

_FACTS = "archive.json"  # in the archive: which runs, in which order, and what was planned
_FORMAT = 1
_TEXTS = ("config.json", "environment.json", "metrics.jsonl", "model.json", "summary.json", JSON)
_FILES = (*_TEXTS, CSV, NPZ, *(f"analysis/{part}.npz" for part in ANALYSES))
_NOTHING = "nothing.txt"  # of a directory in which the report reads no file
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, OverflowError),
    *(NotImplementedError, RuntimeError, KeyError),
)


class Unpacked(NamedTuple):
    """Run directories out of an archive, in the order of the report, and the runs planned."""

    runs: list[Path]
    expected: list[Mapping[str, Any]]


def write(
    runs: Sequence[Path],
    out_dir: Path,
    expected: Sequence[Mapping[str, Any]] = (),
    image_records: bool | None = None,
) -> str:
    """Writes the folder of a study; each file is replaced whole.

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
      UserError: there is no run, two have one name, or something cannot be read or written.
    """
    directories = [Path(directory) for directory in runs]
    members = list(map(run_directories.read, directories))
    if not any(run.exists for run in members):
        raise UserError("archive", "no run", "at least one run directory")
    names = [directory.resolve().name for directory in directories]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise UserError("archive", f"two runs named {name}", "a name for each run")
        if _problem_of(name) or name != name.encode(errors="replace").decode():
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
    make(out_dir)
    try:
        write_bytes(out_dir / NAME, content)
        with unpacked(out_dir / NAME) as (kept, planned):
            table = scores_table.to_csv(list(map(run_directories.read, kept)))
            write_bytes(out_dir / SCORES, scores_table.compressed(table))
            drawn = report.write(kept, out_dir, planned, NAME)
    except OSError as error:
        found = error.strerror or str(error)
        raise UserError(str(out_dir), found, "a directory that can be written") from None
    number = counted(sum(run.exists for run in members), "run")
    return (
        f"{drawn.text}\nreport: {drawn.html_path}\n"
        f"archive: {out_dir / NAME}, {number}, {_size(content)}{note}"
    )


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
        "format": _FORMAT,
        "written_by": f"dst_jax {__version__}",
        "runs": [name for name, _ in runs],
        "planned": [dict(entry) for entry in expected],
    }
    entries = {_FACTS: (json.dumps(facts, indent=1) + "\n").encode()}
    for name, run in runs:
        if not run.exists:
            continue
        files = {
            file: _content(run.directory, file)
            for file in _FILES
            if (run.directory / file).is_file()
            and (file != NPZ or image_records or _needs_record(run))
        }
        entries |= {f"{name}/{file}": content for file, content in files.items()}
        if run.checkpoint is not None:  # its name alone: the report says of which step it is
            entries[f"{name}/{CHECKPOINTS}/{run.checkpoint}/"] = b""
        elif not files:
            entries[f"{name}/{_NOTHING}"] = b""
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


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Unpacked]:
    """The runs of an archive in a temporary directory, which goes with the context.

    An archive may be anybody's: of what it holds only the files that `write` puts there are
    written, none outside the directory, none through a link, and nothing is unpickled.

    Args:
      path: the archive.

    Raises:
      UserError: it is damaged, too large, or holds what no archive of ours does.
    """
    with tempfile.TemporaryDirectory(prefix="dst-jax-") as folder:
        try:
            found = _unpack(path, Path(folder))
        except UserError:
            raise
        except _DAMAGED as error:
            text = f"a damaged archive ({getattr(error, 'strerror', None) or error})"
            raise _refused(path, text) from None
        try:
            yield found
        except (MemoryError, RecursionError) as error:  # arrays or JSON that claim to be huge
            raise _refused(path, f"a damaged archive ({type(error).__name__})") from None


def _unpack(path: Path, folder: Path) -> Unpacked:
    left = LIMIT
    with zipfile.ZipFile(path) as file:
        entries = file.infolist()
        _check(path, entries)
        for entry in entries:
            rest = entry.filename.partition("/")[2]
            target = folder / entry.filename
            if entry.is_dir():
                if re.fullmatch(rf"{CHECKPOINTS}/\d{{1,18}}/", rest):
                    target.mkdir(parents=True, exist_ok=True)
            elif entry.filename == _FACTS or rest in (*_FILES, _NOTHING):
                content = _read(file, entry)
                left -= len(content) + (_inside(content) if rest.endswith(".npz") else 0)
                if left < 0:
                    raise _too_large(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
    if not (folder / _FACTS).is_file():
        raise ValueError(f"it has no {_FACTS}")
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    if not isinstance(facts, dict) or not isinstance(facts.get("format"), int):
        raise ValueError(f"{_FACTS} is not ours")
    if facts["format"] > _FORMAT:
        raise _refused(path, "an archive of a newer version", f"format {_FORMAT}")
    names, expected = facts.get("runs"), facts.get("planned")
    if not (isinstance(names, list) and isinstance(expected, list)):
        raise ValueError(f"{_FACTS} lists no runs")
    if any(not isinstance(name, str) or _problem_of(name) or "/" in name for name in names):
        raise ValueError(f"{_FACTS} has a name that is no run's")
    if not all(isinstance(entry, dict) for entry in expected):
        raise ValueError(f"{_FACTS} has a plan that is none")
    return Unpacked([folder / name for name in names], expected)


def _read(file: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """A file of an archive, at most as many bytes as its list of contents says.

    In parts: read at once, more than that would be unpacked before it is cut off.
    """
    with file.open(entry) as source:
        return b"".join(iter(lambda: source.read(1 << 16), b""))


def _check(path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """Refuses an archive for what its list of contents says, before anything is written."""
    seen: set[str] = set()
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        problem = _problem_of(entry.filename.removesuffix("/"))
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            problem = "is a link or a device"
        elif entry.flag_bits & 1:
            problem = "is encrypted"
        elif entry.filename in seen:
            problem = "is there twice"
        if problem:
            raise _refused(path, f"an archive in which {entry.filename!r} {problem}")
        seen.add(entry.filename)
    if len(entries) > ENTRIES or sum(entry.file_size for entry in entries) > LIMIT:
        raise _too_large(path)


def _problem_of(name: str) -> str:
    """Why a name may not be that of a file in an archive; "" where it may."""
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "is an absolute path"
    if "\\" in name or any(ord(letter) < 32 for letter in name):
        return "has a backslash or a control character"
    return "leads elsewhere" if {"", ".", ".."} & set(name.split("/")) else ""


def _inside(content: bytes) -> int:
    """What the arrays of an .npz file say that they take, in bytes; 0 if it is no such file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            return sum(entry.file_size for entry in file.infolist())
    except _DAMAGED:
        return 0  # the report says that it cannot be read


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
    return public_facts.of_file(name, content) if name in _TEXTS else content


def _size(content: bytes) -> str:
    return f"{len(content) / 1e6:.1f} MB" if len(content) > 1e6 else f"{len(content) / 1e3:.0f} kB"


def _refused(path: Path, found: str, expected: str = "one that --mode=archive wrote") -> UserError:
    return UserError(str(path), found, expected, "Take another copy of it")


def _too_large(path: Path) -> UserError:
    return _refused(path, "an archive too large to unpack", f"at most {LIMIT >> 30} GiB in it")
