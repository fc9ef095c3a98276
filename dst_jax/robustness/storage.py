"""The files of results: `robustness.csv`, `.npz` and `.json` in one directory, which may hold many.

The CSV has a row per condition (`records.Score`), the NPZ which images were right, the JSON whose
scores they are, the names and the means that follow; predictions are in `kept_files`. Each is
replaced whole; the CSV comes last and says what is done. Nothing is unpickled, no JAX. Called by
`result_writer` every few seconds, and by the report.
"""

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dst_jax.data.benchmarks import Benchmark
from dst_jax.errors import UserError
from dst_jax.robustness import kept_files
from dst_jax.robustness.files import (
    CSV,
    INDEX,
    JSON,
    NPZ,
    Key,
    damaged_table,
    read_facts,
    read_hits,
    read_rows,
)
from dst_jax.robustness.records import CorrectBits, Fingerprint, Score, Setting
from dst_jax.robustness.result import Result
from dst_jax.robustness.text import LISTED
from dst_jax.runtime.run_dir import write_bytes, write_json, write_text


class Stored(NamedTuple):
    """What a directory holds.

    Attributes:
      results: one per setting, in the order of the table.
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
        (read_rows, CSV, []),
        (read_hits, NPZ, {}),
        (read_facts, JSON, ({}, None)),
    ):
        try:
            parts.append(function(path / name, problems))
            if problems and not salvage:
                raise damaged_table(path / CSV, problems[0].partition(" has ")[2].partition(",")[0])
        except UserError as error:
            if not salvage:
                raise
            reason = str(error).partition(": found ")[2].partition("; expected")[0]
            problems.append(f"{name} is unreadable: {reason}")
            parts.append(nothing)
    rows, hits, (facts, model) = parts
    results, contradicted = _results(rows, hits, facts)
    results = [
        dataclasses.replace(result, kept=kept) if kept else result
        for result in results
        for kept in [kept_files.read(path, result.setting, result.hits)]
    ]
    others = [r for r in results if not _same_means(r, facts.get(r.setting, {}))]
    if others:
        results = [r for r in results if r not in others]
        texts = "; ".join(", ".join(map(str, r.setting)) for r in others)
        problems.append(f"{CSV} and {JSON} contradict each other ({texts}), left out")
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
    others = [result for result in stored.results if result.setting not in new]
    write(path, [*others, *results], stored.model)
    for result in results:
        before = old[result.setting].kept if result.setting in old else {}
        for condition, kept in result.kept.items():
            if condition not in before or not before[condition].holds(kept.keep):
                kept_files.write(path, result.setting, condition, kept)


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
        arrays[INDEX] = np.array(json.dumps(index))
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
    rows: Iterable[Score],
    hits: Mapping[Key, CorrectBits],
    facts: Mapping[Setting, Mapping[str, Any]],
) -> tuple[list[Result], int]:
    """The results, and the number of rows that their records contradict: those are left out.

    No crash leaves such a row, as a score never changes; it is scored again.
    """
    members: dict[Setting, list[tuple[Score, CorrectBits | None]]] = {}
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
                listed=_listed(setting.suite, fact),
            )
        )
    return results, contradicted


def _listed(suite: str, fact: Mapping[str, Any]) -> Benchmark | None:
    """The list of a suite that a user registered, as the JSON has it."""
    found = fact.get(LISTED)
    if not isinstance(found, dict):
        return None
    for part, kind in (("corruptions", str), ("severities", int)):
        listed = found.get(part)
        if not isinstance(listed, list) or not all(isinstance(each, kind) for each in listed):
            return None
    names, levels = tuple(found["corruptions"]), tuple(found["severities"])
    return Benchmark(suite, names, levels, fact.get("dataset", "")) if names and levels else None


def _same_means(result: Result, fact: Mapping[str, Any]) -> bool:
    """Whether the means of a complete table are those that were written with it.

    The JSON is written first: beside a table that is not complete it may be ahead.
    """
    if result.lacking or fact.get("lacking"):
        return True
    pairs = (
        (fact.get("robust_accuracy"), result.robust_accuracy),
        (fact.get("clean_accuracy"), result.clean_accuracy),
    )
    return all(
        abs(written - found) < 1e-6
        for written, found in pairs
        if isinstance(written, float) and found is not None
    )


def _agrees(row: Score, hits: CorrectBits) -> bool:
    """Whether a record is that of a row."""
    if hits.bits.dtype != np.uint8 or hits.bits.shape != (-(-row.n // 8),):
        return False
    return abs(hits.unpack(row.n).mean() - row.accuracy) < 1e-9
