"""The files of results: `robustness.csv`, `.npz` and `.json` in one directory, which may hold many.

The CSV has a row a condition (`records.Score`), the NPZ which images were right, the JSON whose
scores they are, the names and the means that follow. Each is replaced whole; the CSV comes last and
says what is done. Nothing is unpickled, no JAX. Called by `evaluation` after each condition, and by
the report.
"""

import csv
import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dst_jax.errors import UserError
from dst_jax.robustness.records import Condition, Fingerprint, Hits, Score, Setting
from dst_jax.robustness.result import Result
from dst_jax.workdir import write_bytes, write_json, write_text

CSV, NPZ, JSON = "robustness.csv", "robustness.npz", "robustness.json"
# Without these there is no score; the columns of an older version may lack the others.
_NEEDED = ("suite", "corruption", "severity", "n", "accuracy")
_DEFAULTS = {"source": "", "ece": "nan", "preset": "", "seed": "0", "images": ""}
_INDEX = "index"  # in the NPZ: the setting and condition of each record, as JSON

# What reading a damaged file raises.
_UNREADABLE = (
    *(OSError, AttributeError, KeyError, TypeError, ValueError),
    *(OverflowError, RecursionError, IndexError),
)

Key = tuple[Setting, Condition]


class Stored(NamedTuple):
    """What a directory holds.

    Attributes:
      results: one a setting, in the order of the table.
      model: whose scores they are; None where an older version, or nobody, wrote it down.
      problems: what could not be read, in sentences; empty unless it was asked to go on.
    """

    results: list[Result]
    model: Fingerprint | None
    problems: list[str]


def read(path: str | Path, *, salvage: bool = False) -> Stored:
    """Everything in a directory of results; nothing where there is none.

    Args:
      path: the directory.
      salvage: leave out what is damaged and say so in `problems`, instead of raising.

    Raises:
      UserError: a file is damaged; the text says what to do.
    """
    path = Path(path)
    problems: list[str] = []
    parts: list[Any] = []
    for function, name, nothing in (
        (_read_rows, CSV, []),
        (_read_hits, NPZ, {}),
        (_read_facts, JSON, ({}, None)),
    ):
        try:
            parts.append(function(path / name, problems))
            if problems and not salvage:
                raise _damaged_table(path / CSV, problems[0].partition(" has ")[2])
        except UserError as error:
            if not salvage:
                raise
            reason = str(error).partition(": found ")[2].partition("; expected")[0]
            problems.append(f"{name} is unreadable: {reason}")
            parts.append(nothing)
    rows, hits, (facts, model) = parts
    results, contradicted = _results(rows, hits, facts)
    if contradicted:
        problems.append(
            f"{CSV} and {NPZ} contradict each other in {contradicted} "
            f"row{'' if contradicted == 1 else 's'}, left out"
        )
    return Stored(results, model, problems)


def of_another_run(model: Fingerprint | None, facts: Any) -> str:
    """Says that scores are not those of the weights that a run's `model.json` describes; or "".

    Args:
      model: whose scores they are, as `read` tells.
      facts: the content of `model.json`; older versions did not write the weights there.
    """
    own = facts.get("weights") if isinstance(facts, dict) else None
    if model is None or not model.weights or not own or model.weights == own:
        return ""
    return "scores of other weights than this run's"


def load_all(path: str | Path) -> list[Result]:
    """The results in a directory; an empty list where there is none.

    Raises:
      UserError: a file is damaged.
    """
    return read(path).results


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
    """Writes results into a directory, beside those that it holds.

    Raises:
      UserError: it holds other scores of the same setting, which are kept.
    """
    path = Path(path)
    stored = read(path)
    old = {result.setting: result for result in stored.results}
    for result in results:
        if result.setting in old and old[result.setting].scores != result.scores:
            found = f"other scores of {result.setting.text}, {result.n:,} images"
            raise UserError(str(path), found, "an empty directory, or one without them")
    new = {result.setting for result in results}
    kept = [result for result in stored.results if result.setting not in new]
    write(path, [*kept, *results], stored.model)


def write(path: Path, results: Iterable[Result], model: Fingerprint | None = None) -> None:
    """Writes the files of a directory anew, with these results.

    Args:
      path: the directory, made if it is not there.
      results: all that it shall hold, each of another setting.
      model: whose they are, where that is known.
    """
    results = list(results)
    try:
        path.mkdir(parents=True, exist_ok=True)
        index: list[list[Any]] = []
        arrays: dict[str, np.ndarray] = {}
        for result in results:
            for condition, hits in result.hits.items():
                arrays[f"bits/{len(index)}"] = hits.bits
                index.append([*result.setting, *condition, hits.images])
        arrays[_INDEX] = np.array(json.dumps(index))
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        write_bytes(path / NPZ, content.getvalue())
        facts: dict[str, Any] = {"results": [result.summary() for result in results]}
        if model is not None:
            facts["model"] = {
                "weights": model.weights,
                "classes": model.classes.tolist(),
                "confidence": [round(float(value), 6) for value in model.confidence],
            }
        write_json(path / JSON, facts)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(Score._fields)
        writer.writerows(row for result in results for row in result.scores)
        write_text(path / CSV, text.getvalue())
    except OSError as error:
        raise UserError(
            str(path), error.strerror or str(error), "a directory that can be written"
        ) from None


def _results(
    rows: Iterable[Score], hits: Mapping[Key, Hits], facts: Mapping[Setting, Mapping[str, Any]]
) -> tuple[list[Result], int]:
    """The results, and the number of rows that their records contradict: those are left out.

    No crash leaves such a row, as a score never changes; it is scored again.
    """
    members: dict[Setting, list[tuple[Score, Hits | None]]] = {}
    known: dict[Setting, str] = {}  # of rows of an older version the records know the images
    # A table without the column of images may lie beside records that have it.
    loose = {(setting._replace(images=""), c): record for (setting, c), record in hits.items()}
    found = []
    contradicted = 0
    for row in rows:
        record = hits.get((row.setting, row.condition))
        if record is None and not row.images:
            record = loose.get((row.setting, row.condition))
        if record is not None and not _agrees(row, record):
            contradicted += 1
            continue
        if record and not row.images:
            known.setdefault(row.setting, f"{record.images:08x}")
        found.append((row, record))
    for row, record in found:
        row = row._replace(images=row.images or known.get(row.setting, ""))
        members.setdefault(row.setting, []).append((row, record))
    results = []
    for setting, pairs in members.items():
        old = setting._replace(images="")
        fact = facts.get(setting) or facts.get(old) or {}
        results.append(
            Result(
                dataset=fact.get("dataset", ""),
                scores=tuple(row for row, _ in pairs),
                hits={row.condition: record for row, record in pairs if record},
                notes=tuple(fact.get("notes", ())),
            )
        )
    return results, contradicted


def _agrees(row: Score, hits: Hits) -> bool:
    """Whether a record is that of a row."""
    if hits.bits.dtype != np.uint8 or hits.bits.shape != (-(-row.n // 8),):
        return False
    return abs(hits.unpack(row.n).mean() - row.accuracy) < 1e-9


def _read_rows(path: Path, problems: list[str]) -> list[Score]:
    """The rows of `robustness.csv`; those that cannot be read are counted in `problems`."""
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
    except OSError as error:
        raise _damaged_table(path, str(error)) from None
    reader = csv.DictReader(io.StringIO(text))
    try:
        cells_of_rows = list(reader)
    except csv.Error as error:
        raise _damaged_table(path, str(error)) from None
    lacking = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
    if lacking:
        raise _damaged_table(path, f"no column {', '.join(lacking)}")
    found: dict[Key, Score] = {}
    bad = 0
    for cells in cells_of_rows:
        cut = None in cells.values()  # fewer cells than columns: the last may be half a number
        row = None if cut else _row({**_DEFAULTS, **{k: c for k, c in cells.items() if c}})
        if row is None or (row.setting, row.condition) in found:
            bad += 1
        else:
            found[row.setting, row.condition] = row
    if bad:
        problems.append(f"{CSV} has {bad} unreadable row{'' if bad == 1 else 's'}, left out")
    return list(found.values())


def _row(cells: Mapping[str, str]) -> Score | None:
    try:
        row = Score(
            suite=cells["suite"],
            source=cells["source"],
            corruption=cells["corruption"],
            severity=int(cells["severity"]),
            n=int(cells["n"]),
            accuracy=float(cells["accuracy"]),
            ece=float(cells["ece"]),
            preset=cells["preset"],
            seed=int(cells["seed"]),
            images=cells["images"],
        )
    except (KeyError, TypeError, ValueError):
        return None
    return row if 0 <= row.accuracy <= 1 and row.n > 0 and not math.isinf(row.ece) else None


def _damaged_table(path: Path, reason: str) -> UserError:
    return UserError(
        str(path), f"a damaged table ({reason})", ",".join(Score._fields), f"Delete {path}"
    )


def _read_hits(path: Path, problems: list[str]) -> dict[Key, Hits]:
    del problems
    if not path.exists():
        return {}
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if _INDEX not in arrays:
            return _hits_of_version_0_1(arrays)
        found = {}
        for number, entry in enumerate(json.loads(str(arrays[_INDEX]))):
            *setting, corruption, severity, images = entry
            if not isinstance(images, int):
                raise ValueError(f"a checksum that is {images!r}")
            key = Setting(*setting), Condition(corruption, severity)
            found[key] = Hits(arrays[f"bits/{number}"], images)
        return found
    except (*_UNREADABLE, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            str(path),
            f"a damaged archive ({error})",
            "which images were right",
            f"Delete {path}: what it held is scored again",
        ) from None


def _hits_of_version_0_1(arrays: Mapping[str, np.ndarray]) -> dict[Key, Hits]:
    """Records as dst_jax 0.1 named them: suite/source/preset/seed/corruption/severity/bits.

    Rows of that version do not tell their images, and the number of bits only the number of images
    rounded up, so that a record is put under each number that it may be of.
    """
    found = {}
    for name, bits in arrays.items():
        key, _, kind = name.rpartition("/")
        if kind == "bits":
            head, preset, seed, corruption, severity = key.rsplit("/", 4)
            suite, _, source = head.partition("/")
            hits = Hits(bits, int(arrays[f"{key}/images"]))
            condition = Condition(corruption, int(severity))
            for n in range(max(1, 8 * bits.size - 7), 8 * bits.size + 1):
                found[Setting(suite, source, preset, int(seed), n, ""), condition] = hits
    return found


def _read_facts(
    path: Path, problems: list[str]
) -> tuple[dict[Setting, dict[str, Any]], Fingerprint | None]:
    del problems
    if not path.exists():
        return {}, None
    try:
        content = json.loads(path.read_text())
        listed = content["results"] if isinstance(content, dict) else content  # 0.1: a list
        facts = {
            Setting(*(fact.get(name, "") for name in Setting._fields)): fact for fact in listed
        }
        for fact in listed:
            texts = fact.get("notes", [])
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise ValueError("notes that are no sentences")
            if not isinstance(fact.get("dataset", ""), str):
                raise ValueError("a dataset without a name")
        model = content.get("model") if isinstance(content, dict) else None
        if model is None:
            return facts, None
        return facts, Fingerprint(
            str(model["weights"]),
            np.asarray(model["classes"], np.int32),
            np.asarray(model["confidence"], np.float32),
        )
    except _UNREADABLE as error:
        raise UserError(
            str(path),
            f"an unreadable file ({error})",
            "what the table beside it is of",
            f"Delete {path}: it is written again",
        ) from None
