"""The files of kept predictions: `predictions/SETTING/CORRUPTION-SEVERITY.npz` beside the scores.

A file per condition, so that none is written twice and none need be in memory; SETTING is a digest
of the setting, which each file also spells out. A file that cannot be read, or whose answers are
not those on record, counts as not there: it can be made again. Nothing is unpickled. Called by
`storage` and `result_writer`.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from dst_jax.errors import UserError
from dst_jax.robustness.kept import KEEP, NAMES, Kept
from dst_jax.robustness.records import Condition, CorrectBits, Setting
from dst_jax.runtime.run_dir import write_bytes

DIRECTORY = "predictions"
_WHAT = "what"  # the setting, condition, classes and what is kept, as JSON
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


class _Members(Mapping[str, np.ndarray]):
    """The arrays of a file, each read when it is asked for."""

    def __init__(self, path: Path, names: list[str]):
        self._path, self._names = path, names

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        try:
            with open(self._path, "rb") as content, np.load(content, allow_pickle=False) as file:
                return file[name]
        except _UNREADABLE as error:
            found = f"an unreadable file ({error})"
            hint = "Delete it and evaluate again with the same path"
            raise UserError(str(self._path), found, "kept predictions", hint) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def path_of(path: Path, setting: Setting, condition: Condition) -> Path:
    """Where the predictions of a condition are."""
    digest = hashlib.sha256(json.dumps(setting).encode()).hexdigest()[:12]
    name = f"{condition.corruption}-{condition.severity}.npz"
    return path / DIRECTORY / digest / name


def write(path: Path, setting: Setting, condition: Condition, kept: Kept) -> Kept:
    """Writes the predictions of a condition; what is returned reads them from there."""
    file = path_of(path, setting, condition)
    file.parent.mkdir(parents=True, exist_ok=True)
    what = json.dumps([*setting, *condition, kept.keep, kept.classes])
    content = io.BytesIO()
    np.savez(content, **{_WHAT: np.array(what), **kept.arrays})  # type: ignore[arg-type]
    write_bytes(file, content.getvalue())
    return Kept(kept.keep, kept.classes, _Members(file, list(kept.arrays)))


def read(
    path: Path, setting: Setting, records: Mapping[Condition, CorrectBits]
) -> dict[Condition, Kept]:
    """The predictions of a result that lie in a directory and agree with its records.

    Args:
      path: the directory of the scores.
      setting: of the result.
      records: which images were right.
    """
    if not (path / DIRECTORY).is_dir():
        return {}
    found = {}
    for condition, record in records.items():
        file = path_of(path, setting, condition)
        try:
            with open(file, "rb") as content, np.load(content, allow_pickle=False) as arrays:
                *what, keep, classes = json.loads(str(arrays[_WHAT]))
                names = [name for name in NAMES if name in arrays.files]
                kept = Kept(keep, int(classes), {"top": arrays["top"], "label": arrays["label"]})
        except (*_UNREADABLE, RecursionError):
            continue
        same = what == [*setting, *condition] and keep in KEEP[1:]
        if same and agrees(kept, record) and ("logits" in names) >= (keep == "logits"):
            found[condition] = Kept(keep, kept.classes, _Members(file, names))
    return found


def agrees(kept: Kept, record: CorrectBits) -> bool:
    """Whether predictions are right for exactly the images that a record names."""
    return np.array_equal(np.packbits(kept.correct), record.bits)
