"""The records of parts on disk: one JSON file each, all of them in `results.json`, the table.

A record is {"name", "stage", "title", "status": "done" or "failed", "reason", "settings", "date",
"seconds", "estimated_s", "figures", "rows", "notes", "text"}. It is found by its name and settings:
records of other settings stand beside it, on disk and in `results.json`, and none is dropped but
for one of the same name and settings; a failure never replaces what is done. Called by `loop`.
"""

import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dst_jax.errors import UserError
from dst_jax.runtime.run_dir import write_json

Record = dict[str, Any]
RESULTS = "results.json"
DAMAGED = "results.damaged"  # .json, then .2.json and so on: each is somebody's only copy
_FIELDS = {"status": str, "stage": str, "title": str, "reason": str, "date": str, "settings": dict}
_FIELDS |= {"figures": dict, "rows": list}


def key(settings: Mapping[str, Any]) -> str:
    """Six hexadecimal digits that tell the settings of one record from others."""
    return hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode()).hexdigest()[:6]


class Records:
    """The records of one directory of work.

    Args:
      work: the directory; records go to `work/parts`.
      out: where `results.json` goes; records that lie there only, brought from another machine,
        count as well.

    Attributes:
      damaged: what is to be told of `results.json`.

    Raises:
      UserError: a file cannot be read or written where it must be.
    """

    def __init__(self, work: Path, out: Path):
        self._directory, self._results = work / "parts", out / RESULTS
        self.damaged: list[str] = []
        if self._results.is_dir():
            raise UserError(str(self._results), "a directory", "a file")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(str(self._directory), error.strerror or "", "a directory") from None
        self._listed = self._read_results()

    def _read_results(self) -> dict[tuple[str, str], Record]:
        """The records in `results.json` by name and settings."""
        try:
            parts = json.loads(self._results.read_text())["parts"]
            if not isinstance(parts, list):
                raise ValueError("no list of parts")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, LookupError, TypeError) as error:
            kept = _free(self._results.with_name(DAMAGED))
            self.damaged.append(
                f"{self._results} is damaged ({one_line(error)}): kept as {kept.name}, "
                "written again"
            )
            os.replace(self._results, kept)
            return {}
        found = {}
        for record in parts:
            if problem := _problem(record):
                name = record.get("name") if isinstance(record, dict) else None
                self.damaged.append(f"{self._results}: record {name} is damaged ({problem})")
            else:
                found[record["name"], key(record["settings"])] = record
        return found

    def read(self, name: str, settings: Mapping[str, Any]) -> tuple[Record | None, str]:
        """A finished record of a part that was made with the same settings.

        Returns:
          (the record, "") or (None, why a record that is there is not kept; "" where there is none
          or it is of a part that failed).
        """
        path = self._path(name, settings)
        found: Any = self._listed.get((name, key(settings)))
        if path.exists():
            try:
                found = json.loads(path.read_text())
                problem = _problem(found)
            except (OSError, ValueError) as error:
                problem = one_line(error)
            if not problem and found["name"] != name:
                problem = f"of {found['name']}"
            if not problem and found["settings"] != _plain(settings):
                problem = "of other settings"
            if problem:
                return None, f"{path} is damaged ({problem}): {name} is run again"
        if found is None:
            return None, self._others(name, settings)
        return (found, "") if found["status"] == "done" else (None, "")

    def _others(self, name: str, settings: Mapping[str, Any]) -> str:
        """In what the latest finished record of other settings differs; "" where there is none."""
        found = [record for (of, _), record in self._listed.items() if of == name]
        for path in self._directory.glob(f"{name}-*.json"):
            try:
                record = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            if not _problem(record) and record["name"] == name:
                found.append(record)
        found = [record for record in found if record["status"] == "done"]
        if not found:
            return ""
        before, now = max(found, key=lambda record: record["date"])["settings"], _plain(settings)
        differing = sorted(k for k in before.keys() | now if before.get(k) != now.get(k))
        return f"{name} was done with other settings ({', '.join(differing)}): it is run again"

    def write(self, record: Record) -> None:
        """Writes the record of one part, whole or not at all."""
        if not self._keeps_better(record):
            write_json(self._path(record["name"], record["settings"]), record)

    def write_results(self, circumstances: Mapping[str, Any], records: Iterable[Record]) -> None:
        """Writes `results.json`: the circumstances, all records of this call and all before."""
        for record in records:
            if not self._keeps_better(record):
                self._listed[record["name"], key(record["settings"])] = record
        write_json(self._results, {**circumstances, "parts": list(self._listed.values())})

    def beside(self, records: Iterable[Record]) -> int:
        """How many records in `results.json` are none of these."""
        return len(self._listed.keys() - {(r["name"], key(r["settings"])) for r in records})

    def _keeps_better(self, record: Record) -> bool:
        """Whether a failure would replace what is done."""
        listed = self._listed.get((record["name"], key(record["settings"])))
        if record["status"] == "done" or listed is None:
            return False
        return bool(listed["status"] == "done")

    def _path(self, name: str, settings: Mapping[str, Any]) -> Path:
        return self._directory / f"{name}-{key(settings)}.json"


def _free(stem: Path) -> Path:
    """`stem` with .json, or with the first number that is not taken."""
    for number in itertools.count(1):
        path = stem.with_name(f"{stem.name}.{number}.json" if number > 1 else f"{stem.name}.json")
        if not os.path.lexists(path):
            return path
    raise AssertionError


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives them back."""
    found: dict[str, Any] = json.loads(json.dumps(dict(settings)))
    return found


def _problem(record: Any) -> str:
    """What is wrong with a record; "" if nothing is."""
    if not isinstance(record, dict):
        return "no object"
    for field, kind in {"name": str, **_FIELDS}.items():
        if not isinstance(record.get(field), kind):
            return f"field {field!r}"
    for field in ("seconds", "estimated_s"):
        value = record.get(field)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"field {field!r}"
        if not math.isfinite(value):
            return f"field {field!r}"
    if not isinstance(record.get("text", ""), str):
        return "field 'text'"
    if not _texts(record.get("notes", [])):
        return "field 'notes'"
    done = record["status"] == "done"
    if not all(map(_texts, record["rows"])) or (done and not record["rows"]):
        return "field 'rows'"
    return "" if done or record["status"] == "failed" else "field 'status'"


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def one_line(error: BaseException, limit: int = 300) -> str:
    """The kind of an exception and the first line of its text."""
    text = " ".join(str(error).split("\n", 1)[0].split())
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:limit]
