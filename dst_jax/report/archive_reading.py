"""Reads the archive of a study, which may be anybody's, into a temporary directory.

What is in one, and what is written beside it, is in `archive`. Called by it and by
`benchmarks.study_tests`.
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

from dst_jax.config.options import ANALYSES
from dst_jax.errors import UserError
from dst_jax.robustness.files import CSV, JSON, NPZ
from dst_jax.runtime.run_dir import CHECKPOINTS, FAILURE

# Far above any study, and far below what fills a machine.
LIMIT, ENTRIES = 2 << 30, 100_000
FACTS = "archive.json"  # in the archive: which runs, in which order, and what was planned
FORMAT = 1
TEXTS = (
    *("config.json", "environment.json", "metrics.jsonl", "model.json", "summary.json"),
    *(FAILURE, JSON),
)
FILES = (*TEXTS, CSV, NPZ, *(f"analysis/{part}.npz" for part in ANALYSES))
NOTHING = "nothing.txt"  # of a directory in which the report reads no file
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, OverflowError),
    *(NotImplementedError, RuntimeError, KeyError),
)


class Unpacked(NamedTuple):
    """Run directories out of an archive, in the order of the report, and the runs planned."""

    runs: list[Path]
    expected: list[Mapping[str, Any]]


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
            elif entry.filename == FACTS or rest in (*FILES, NOTHING):
                content = _read(file, entry)
                left -= len(content) + (_inside(content) if rest.endswith(".npz") else 0)
                if left < 0:
                    raise _too_large(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
    if not (folder / FACTS).is_file():
        raise ValueError(f"it has no {FACTS}")
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    if not isinstance(facts, dict) or not isinstance(facts.get("format"), int):
        raise ValueError(f"{FACTS} is not ours")
    if facts["format"] > FORMAT:
        raise _refused(path, "an archive of a newer version", f"format {FORMAT}")
    names, expected = facts.get("runs"), facts.get("planned")
    if not (isinstance(names, list) and isinstance(expected, list)):
        raise ValueError(f"{FACTS} lists no runs")
    if any(not isinstance(name, str) or problem_of(name) or "/" in name for name in names):
        raise ValueError(f"{FACTS} has a name that is no run's")
    parts = [entry.filename.partition("/") for entry in entries]
    unlisted = {name for name, _, rest in parts if rest in FILES} - {*names}
    if unlisted:
        raise ValueError(f"{FACTS} does not list {', '.join(sorted(unlisted))}")
    if not all(isinstance(entry, dict) for entry in expected):
        raise ValueError(f"{FACTS} has a plan that is none")
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
        problem = problem_of(entry.filename.removesuffix("/"))
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


def problem_of(name: str) -> str:
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


def _refused(path: Path, found: str, expected: str = "one that --mode=archive wrote") -> UserError:
    return UserError(str(path), found, expected, "Take another copy of it")


def _too_large(path: Path) -> UserError:
    return _refused(path, "an archive too large to unpack", f"at most {LIMIT >> 30} GiB in it")
