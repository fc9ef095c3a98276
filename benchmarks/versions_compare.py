"""The table of `benchmarks.versions --compare`: what differs between records, and by how much.

Arrays are gathered into groups by the first part of their names (of trainings also the network, the
algorithm and the step). Only what both records have is compared, and a cell says what was not. All
arrays are held against the digests of their record first. Called by `versions`.
"""

import io
import json
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.versions import digest, write
from dst_jax.errors import UserError

ABOUT = ("python", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "pillow", "scikit-learn")
# What was asked for: records of unlike options have unlike arrays.
OPTIONS = ("--only", "--algorithms", "--networks", "--frost_dir", "--state")


def ulps(one: np.ndarray, other: np.ndarray) -> int:
    """Greatest distance of two finite float arrays, in numbers of that type that lie between."""
    integer: Any = {2: np.int16, 4: np.int32, 8: np.int64}[one.dtype.itemsize]

    def ordered(array: np.ndarray) -> np.ndarray:
        bits = (
            np.ascontiguousarray(array)
            .view(integer)
            .astype(object if integer is np.int64 else np.int64)
        )
        least = int(np.iinfo(integer).min)
        return np.where(bits < 0, least - bits, bits)

    return int(np.abs(ordered(one) - ordered(other)).max())


def difference(one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """How two arrays of one name differ: number of the values, and the greatest difference.

    Floats also have the greatest difference in units in the last place, and against the root mean
    square of the first; and how many values are NaN or infinite in one of the two and not the same
    in the other. Those have no part in the greatest difference. NaN and NaN are the same.
    """
    if one.shape != other.shape or one.dtype != other.dtype:
        return {"other": f"{other.dtype}{other.shape}"}
    unlike = one != other
    if one.dtype.kind in "fc":
        unlike &= ~(np.isnan(one) & np.isnan(other))
    found: dict[str, Any] = {"count": int(unlike.sum()), "size": one.size}
    if one.dtype.kind in "fc":
        finite = np.isfinite(one) & np.isfinite(other)
        found["not_finite"] = int((unlike & ~finite).sum())
        if finite.any():
            one, other = one[finite], other[finite]
            found["greatest"] = float(np.abs(one - other).max())
            scale = float(np.sqrt(np.mean(np.abs(one) ** 2))) or 1.0
            found["relative"] = found["greatest"] / scale
            if one.dtype.kind == "f":
                found["ulp"] = ulps(one, other)
    elif one.dtype.kind in "iub" and one.size:
        wide = object if one.dtype.itemsize == 8 else np.int64
        found["greatest"] = int(np.abs(one.astype(wide) - other.astype(wide)).max())
    return found


def group_of(name: str) -> str:
    """The group of an array: its first part, of trainings also network and step."""
    parts = name.split("/")
    if parts[0] in ("train_masks", "train_weights"):
        return f"{parts[0]}/{parts[1]} after {int(parts[3])} steps"
    if parts[0] in ("train_loss", "step", "optimizer"):
        return "/".join(parts[:2])
    return parts[0]


def item_of(name: str) -> str:
    """What is counted as one in a group: an algorithm, a network, a corruption, an operation."""
    parts = name.split("/")
    return parts[2] if parts[0].startswith("train_") else "/".join(parts[1:2]) or name


class Record:
    """One file and the arrays beside it.

    Raises:
      UserError: the file or the arrays are not there, not what `versions --json` wrote, or not of
        each other.
    """

    def __init__(self, path: Path):
        expected = "a file that `python -m benchmarks.versions --json` wrote"
        try:
            self.about = json.loads(path.read_text())
            self.digests: dict[str, str] = dict(self.about["digests"])
            for name in self.digests:
                group_of(name), item_of(name)
        except OSError as error:
            raise UserError(str(path), error.strerror or str(error), expected) from None
        except (ValueError, TypeError, LookupError) as error:
            raise UserError(str(path), f"{type(error).__name__}: {error}", expected) from None
        self._path = path.with_suffix(".npz")
        try:
            # From memory: NumPy leaves a file open that is none of its own.
            self._file = np.load(io.BytesIO(self._path.read_bytes()), allow_pickle=False)
            names = set(self._file.files)
        except (OSError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            text = getattr(error, "strerror", None) or str(error)
            raise UserError(str(self._path), text, f"the arrays of {path.name}") from None
        if missing := self.digests.keys() - names:
            raise UserError(
                str(self._path), f"no array {min(missing)}", f"the arrays of {path.name}"
            )
        if more := names - self.digests.keys():
            raise UserError(
                str(self._path), f"an array {min(more)}", f"the arrays of {path.name} alone"
            )
        for name, wanted in self.digests.items():
            if digest(self[name]) != wanted:
                text = f"another array {name} than was recorded"
                raise UserError(str(self._path), text, f"the arrays of {path.name}")

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return self._file[name]
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(str(self._path), str(error), f"an array {name}") from None


def differences(first: Record, other: Record) -> dict[str, dict[str, dict[str, Any]]]:
    """Group -> name of an array that differs -> how; arrays of one record alone are left out."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, wanted in first.digests.items():
        if name not in other.digests:
            continue
        group = found.setdefault(group_of(name), {})
        if wanted != other.digests[name]:
            group[name] = difference(first[name], other[name])
    return found


def _cell(first: Sequence[str], other: Sequence[str], found: dict[str, dict[str, Any]]) -> str:
    """What a group's cell says.

    Args:
      first: names of the group in the first record.
      other: names of the group in the other.
      found: name of an array of both that differs -> how.
    """
    both = [name for name in first if name in set(other)]
    more = len(other) - len(both)
    beside = []
    if len(both) < len(first):
        beside.append(f"{len(both)} of {len(first)} recorded")
    if more:
        beside.append(f"{more} not in the first")
    if not both:
        return f"not compared ({more} not in the first)" if more else "not recorded"
    text = _difference_text(both, found) if found else "equal"
    return f"{text} ({', '.join(beside)})" if beside else text


def _difference_text(names: Sequence[str], found: dict[str, dict[str, Any]]) -> str:
    items = {item_of(name) for name in names}
    differing = {item_of(name) for name in found}
    alike = [value for value in found.values() if "size" in value]
    told = []
    if others := len(found) - len(alike):
        told.append(f"{others} of another shape or type")
    size = sum(value["size"] for value in alike)
    count = sum(value["count"] for value in alike)
    if size:
        share = 100 * count / size
        told.append(f"{f'{share:.0f}' if share >= 10 else f'{share:.2g}'} % of their values")
    if lost := sum(value.get("not_finite", 0) for value in alike):
        told.append(f"{lost} values NaN or infinite in one and not the same in the other")
    if relative := [value["relative"] for value in alike if "relative" in value]:
        told.append(f"at most {max(relative):.1e} of their r.m.s.")
    elif greatest := [value["greatest"] for value in alike if "greatest" in value]:
        told.append(f"by at most {max(greatest)}")
    return f"{len(differing)} of {len(items)} differ: {', '.join(told)}"


def _refuse_other_runs(paths: Sequence[Path], records: Sequence[Record]) -> None:
    """States (`--state`) are compared of one run at one step only."""
    states = [(path, r.about.get("--state")) for path, r in zip(paths, records, strict=True)]
    known = [(path, state) for path, state in states if state]
    for path, state in known[1:]:
        if state != known[0][1]:
            expected = f"that of {known[0][0]}: {known[0][1]}"
            raise UserError(str(path), f"the state of another run or step: {state}", expected)


def table(paths: Sequence[Path], list_names: bool, summary: Path | None = None) -> str:
    """The comparison in Markdown: a row per group, a column per record after the first.

    Args:
      paths: JSON files of records.
      list_names: whether to add a table of the arrays that differ, but for those of trainings.
      summary: a JSON file for the cells of the table.

    Raises:
      UserError: a file is not a record, or two hold states of unlike runs; or the summary cannot
        be written.
    """
    records = [Record(path) for path in paths]
    _refuse_other_runs(paths, records)
    lines = ["| |" + "".join(f" {path.stem} |" for path in paths), "|---|" + "---|" * len(paths)]
    for key in (*ABOUT, "XLA_FLAGS", "processor", *OPTIONS):
        lines.append(f"| {key} |" + "".join(f" {r.about.get(key, '')} |" for r in records))
    first, others = records[0], records[1:]
    all_found = [differences(first, other) for other in others]
    lines += ["", "| | arrays |" + "".join(f" {path.stem} |" for path in paths[1:])]
    lines.append("|---|---|" + "---|" * len(others))
    # Of each record: group -> names.
    groups: list[dict[str, list[str]]] = [{} for _ in records]
    for record, of_one in zip(records, groups, strict=True):
        for name in record.digests:
            of_one.setdefault(group_of(name), []).append(name)
    rows = {}
    for group in sorted(set().union(*groups)):
        names = groups[0].get(group, [])
        rows[group] = [
            _cell(names, of_one.get(group, []), found.get(group, {}))
            for of_one, found in zip(groups[1:], all_found, strict=True)
        ]
        lines.append(f"| {group} | {len(names)} |" + "".join(f" {cell} |" for cell in rows[group]))
    for path, record in zip(paths[1:], others, strict=True):
        # Records without a state need not say so.
        unlike = [key for key in OPTIONS if _option(record, key) != _option(first, key)]
        if unlike:
            lines += ["", f"{path.stem} was recorded with another {', '.join(unlike)}."]
    if summary:
        about = [
            {key: r.about.get(key, "") for key in (*ABOUT, "XLA_FLAGS", *OPTIONS)} for r in records
        ]
        cells = {group: [str(len(groups[0].get(group, []))), *row] for group, row in rows.items()}
        write(summary, {"records": about, "groups": cells})
    if list_names:
        lines += _listed(paths[1:], all_found)
    return "\n".join(lines)


def _option(record: Record, key: str) -> Any:
    return record.about.get(key, "" if key == "--state" else None)


def _listed(paths: Sequence[Path], all_found: Sequence[Any]) -> list[str]:
    lines = []
    for path, found in zip(paths, all_found, strict=True):
        lines += [
            "",
            f"{path.stem}:",
            "",
            "| array | differ | greatest | ulp |",
            "|---|---|---|---|",
        ]
        for group in found.values():
            for name, value in group.items():
                if re.match(r"train_(weights|masks)", name):
                    continue
                share = f"{value['count']} of {value['size']}" if "size" in value else "all"
                if lost := value.get("not_finite"):
                    share += f", {lost} of them NaN or infinite in one"
                greatest = f"{value['greatest']:.3g}" if "greatest" in value else ""
                greatest = value.get("other", greatest)
                lines.append(f"| {name} | {share} | {greatest} | {value.get('ulp', '')} |")
    return lines
