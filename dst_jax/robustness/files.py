"""How each file of results is read: rows, records, facts; or one line that says why it cannot be.

What they make together is in `storage`, which also writes them. Nothing is unpickled, no JAX.
"""

import csv
import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dst_jax.errors import UserError
from dst_jax.robustness.records import Condition, CorrectBits, Fingerprint, Score, Setting

CSV, NPZ, JSON = "robustness.csv", "robustness.npz", "robustness.json"
# Without these there is no score; the columns of an older version may lack the others.
_NEEDED = ("suite", "corruption", "severity", "n", "accuracy")
_DEFAULTS = {"source": "", "ece": "nan", "preset": "", "seed": "0", "images": ""}
INDEX = "index"  # in the NPZ: the setting and condition of each record, as JSON

# What reading a damaged file raises.
_UNREADABLE = (
    *(OSError, AttributeError, KeyError, TypeError, ValueError),
    *(OverflowError, RecursionError, IndexError),
)

Key = tuple[Setting, Condition]


def read_rows(path: Path, problems: list[str]) -> list[Score]:
    """The rows of `robustness.csv`; those that cannot be read are counted in `problems`."""
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
    except OSError as error:
        raise damaged_table(path, str(error)) from None
    reader = csv.DictReader(io.StringIO(text))
    try:
        cells_of_rows = list(reader)
    except csv.Error as error:
        raise damaged_table(path, str(error)) from None
    lacking = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
    if lacking:
        raise damaged_table(path, f"no column {', '.join(lacking)}")
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


def damaged_table(path: Path, reason: str) -> UserError:
    """What to tell of a table that cannot be read."""
    return UserError(
        str(path),
        f"a damaged table ({reason})",
        ",".join(Score._fields),
        f"Delete the damaged rows, which are scored again, or {path}: then all of it is",
    )


def read_hits(path: Path, problems: list[str]) -> dict[Key, CorrectBits]:
    """Which images were right, by setting and condition; {} where there is no file."""
    del problems
    if not path.exists():
        return {}
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if INDEX not in arrays:
            return _hits_of_version_0_1(arrays)
        found = {}
        for number, entry in enumerate(json.loads(str(arrays[INDEX]))):
            *setting, corruption, severity, images = entry
            if not isinstance(images, int):
                raise ValueError(f"a checksum that is {images!r}")
            key = Setting(*setting), Condition(corruption, severity)
            found[key] = CorrectBits(arrays[f"bits/{number}"], images)
        return found
    except (*_UNREADABLE, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            str(path),
            f"a damaged archive ({error})",
            "which images were right",
            f"Delete {path}: what it held is scored again",
        ) from None


def _hits_of_version_0_1(arrays: Mapping[str, np.ndarray]) -> dict[Key, CorrectBits]:
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
            hits = CorrectBits(bits, int(arrays[f"{key}/images"]))
            condition = Condition(corruption, int(severity))
            for n in range(max(1, 8 * bits.size - 7), 8 * bits.size + 1):
                found[Setting(suite, source, preset, int(seed), n, ""), condition] = hits
    return found


def read_facts(
    path: Path, problems: list[str]
) -> tuple[dict[Setting, dict[str, Any]], Fingerprint | None]:
    """What `robustness.json` says of each setting, and whose scores they are."""
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
