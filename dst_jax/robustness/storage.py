"""The files of results: `robustness.csv`, `.npz` and `.json` in one directory, which may hold many.

The CSV has a row a condition (`record.Score`), the NPZ which images were right, the JSON the names
and means that follow. Each is replaced whole; the CSV comes last and says what is done. Nothing is
unpickled. Called by `evaluation` after each condition.
"""

import csv
import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dst_jax.errors import UserError
from dst_jax.robustness.record import Hits, Score, Setting, setting_of
from dst_jax.robustness.result import Result
from dst_jax.robustness.suites import Condition
from dst_jax.workdir import write_bytes, write_json, write_text

CSV, NPZ, JSON = "robustness.csv", "robustness.npz", "robustness.json"


def load_all(path: str | Path) -> list[Result]:
    """The results in a directory; an empty list where there is none.

    Raises:
      UserError: a file is damaged.
    """
    path = Path(path)
    rows = read_scores(path / CSV)
    hits = _read_hits(path / NPZ)
    facts = _read_facts(path / JSON)
    members: dict[Setting, list[Score]] = {}
    for row in rows:
        members.setdefault(setting_of(row), []).append(row)
    results = []
    for setting, scores in members.items():
        records = {row.condition: hits.get((setting, row.condition)) for row in scores}
        fact = facts.get(setting, {})
        results.append(
            Result(
                dataset=fact.get("dataset", ""),
                scores=tuple(scores),
                hits={
                    row.condition: r
                    for row in scores
                    if (r := records[row.condition]) and _agrees(row, r)
                },
                notes=tuple(fact.get("notes", ())),
            )
        )
    return results


def load(path: str | Path, suite: str = "") -> Result:
    """The result of a directory that holds one, or its only one of that suite.

    Raises:
      UserError: there is none, or several, or a file is damaged.
    """
    found = load_all(path)
    if suite:
        found = [result for result in found if result.setting.suite == suite]
    if len(found) != 1:
        text = "; ".join(", ".join(map(str, result.setting)) for result in found) or "no result"
        raise UserError(str(path), text, f"one result{f' of {suite}' if suite else ''}")
    return found[0]


def save(path: str | Path, *results: Result) -> None:
    """Writes results into a directory; others of the same setting are replaced, the rest kept."""
    path = Path(path)
    new = {result.setting for result in results}
    write(path, [*(r for r in load_all(path) if r.setting not in new), *results])


def write(path: Path, results: Iterable[Result]) -> None:
    """Writes the files of a directory anew, with these results."""
    results = list(results)
    try:
        path.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, np.ndarray] = {}
        for result in results:
            for condition, hits in result.hits.items():
                key = _key(result.setting, condition)
                arrays[f"{key}/bits"] = hits.bits
                arrays[f"{key}/images"] = np.asarray(hits.images, np.uint32)
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        write_bytes(path / NPZ, content.getvalue())
        write_json(path / JSON, [result.summary() for result in results])
        write_scores(path / CSV, [row for result in results for row in result.scores])
    except OSError as error:
        raise UserError(
            str(path), error.strerror or str(error), "a directory that can be written"
        ) from None


def read_scores(path: Path) -> list[Score]:
    """Reads `robustness.csv`; an empty list if there is none.

    Raises:
      UserError: it is not such a file.
    """
    if not path.exists():
        return []
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        scores = [
            Score(
                suite=row["suite"],
                source=row["source"],
                corruption=row["corruption"],
                severity=int(row["severity"]),
                n=int(row["n"]),
                accuracy=float(row["accuracy"]),
                ece=float(row["ece"]),
                preset=row["preset"],
                seed=int(row["seed"]),
            )
            for row in rows
        ]
        if len({(setting_of(row), row.condition) for row in scores}) != len(scores):
            raise ValueError("a condition is there twice")
        if len({(setting_of(row), row.n) for row in scores}) != len(set(map(setting_of, scores))):
            raise ValueError("a suite with several numbers of images")
        return scores
    except (KeyError, TypeError, ValueError, OSError) as error:
        reason = f"no column {error}" if isinstance(error, KeyError) else error
        raise UserError(
            str(path), f"a damaged table ({reason})", ",".join(Score._fields), f"Delete {path}"
        ) from None


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Writes `robustness.csv` atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Score._fields)
    writer.writerows(scores)
    write_text(path, text.getvalue())


def _key(setting: Setting, condition: Condition) -> str:
    return "/".join(map(str, (*setting, *condition)))


def _agrees(row: Score, hits: Hits) -> bool:
    """Whether a record is that of a row: a crash may have left the one newer than the other."""
    if hits.bits.dtype != np.uint8 or hits.bits.shape != (-(-row.n // 8),):
        return False
    return abs(hits.unpack(row.n).mean() - row.accuracy) < 1e-9


def _read_hits(path: Path) -> dict[tuple[Setting, Condition], Hits]:
    if not path.exists():
        return {}
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        found = {}
        for name, bits in arrays.items():
            key, _, kind = name.rpartition("/")
            if kind == "bits":
                head, preset, seed, corruption, severity = key.rsplit("/", 4)
                suite, _, source = head.partition("/")
                setting = Setting(suite, source, preset, int(seed))
                images = int(arrays[f"{key}/images"])
                found[setting, Condition(corruption, int(severity))] = Hits(bits, images)
        return found
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            str(path),
            f"a damaged archive ({error})",
            "which images were right",
            f"Delete {path}: what it held is scored again",
        ) from None


def _read_facts(path: Path) -> dict[Setting, dict[str, Any]]:
    if not path.exists():
        return {}
    try:
        facts = json.loads(path.read_text())
        return {Setting(*(fact[name] for name in Setting._fields)): fact for fact in facts}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            str(path),
            f"an unreadable file ({error})",
            "what the table beside it is of",
            f"Delete {path}: it is written again",
        ) from None
