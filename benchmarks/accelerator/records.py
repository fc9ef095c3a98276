"""The records of parts on disk: one JSON file each, all of them in `results.json`, the table.

A record is {"name", "stage", "title", "status": "done" or "failed", "reason", "settings",
"seconds", "estimated_s", "figures", "rows", "notes", "text"}. Only what is done, with the same
settings, is kept by a later call. Called by `loop`.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dst_jax.workdir import write_json

Record = dict[str, Any]
RESULTS = "results.json"
_FIELDS = {"name": str, "status": str, "settings": dict, "figures": dict, "rows": list}


class Records:
    """The records of one directory of work.

    Args:
      work: the directory; records go to `work/parts`.
      out: where `results.json` goes; records that lie there only, brought from another machine,
        count as well.
    """

    def __init__(self, work: Path, out: Path):
        self._directory, self._results = work / "parts", out / RESULTS
        self._directory.mkdir(parents=True, exist_ok=True)
        self._brought, self.damaged = self._read_results()

    def _read_results(self) -> tuple[dict[str, Any], list[str]]:
        """The parts in `results.json`, and what is to be told of it."""
        try:
            found = json.loads(self._results.read_text())["parts"]
            return {record["name"]: record for record in found}, []
        except FileNotFoundError:
            return {}, []
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            return {}, [f"{self._results} is damaged ({one_line(error)}) and is written again"]

    def read(self, name: str, settings: Mapping[str, Any]) -> tuple[Record | None, str]:
        """A finished record of a part that was made with the same settings.

        Returns:
          (the record, "") or (None, why a record that is there is not kept; "" where there is none
          or it is of a part that failed).
        """
        path = self._directory / f"{name}.json"
        try:
            found = json.loads(path.read_text()) if path.exists() else self._brought.get(name)
        except (OSError, ValueError) as error:
            return None, f"{path} is damaged ({one_line(error)}): {name} is run again"
        if found is None:
            return None, ""
        if problem := _problem(found, name):
            return None, f"{path} is damaged ({problem}): {name} is run again"
        if found["status"] != "done":
            return None, ""
        before, now = found["settings"], json.loads(json.dumps(dict(settings)))
        if before == now:
            return found, ""
        differing = sorted(k for k in before.keys() | now if before.get(k) != now.get(k))
        why = f"{name} was done with other settings ({', '.join(differing)})"
        return None, f"{why}: it is run again"

    def write(self, record: Record) -> None:
        """Writes the record of one part, whole or not at all."""
        write_json(self._directory / f"{record['name']}.json", record)

    def write_results(self, circumstances: Mapping[str, Any], records: Iterable[Record]) -> None:
        """Writes `results.json`: the circumstances and all records of this call."""
        write_json(self._results, {**circumstances, "parts": list(records)})


def _problem(record: Any, name: str) -> str:
    """What is wrong with a record; "" if nothing is."""
    if not isinstance(record, dict):
        return "no object"
    for field, kind in _FIELDS.items():
        if not isinstance(record.get(field), kind):
            return f"field {field!r}"
    rows = record["rows"]
    if not all(isinstance(row, list) and all(isinstance(c, str) for c in row) for row in rows):
        return "field 'rows'"
    return "" if record["name"] == name else f"of {record['name']}"


def one_line(error: BaseException, limit: int = 300) -> str:
    """The kind of an exception and the first line of its text."""
    text = " ".join(str(error).split("\n", 1)[0].split())
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:limit]
