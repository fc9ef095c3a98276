"""The table of `benchmarks.versions --compare`: what differs between records, and by how much.

Arrays are gathered into groups by the first part of their names (of trainings also the network, the
algorithm and the step). Called by `versions`.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ABOUT = ("python", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "pillow", "scikit-learn")


def ulps(one: np.ndarray, other: np.ndarray) -> int:
    """Greatest distance of two float arrays, in numbers of that type that lie between."""
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
    """How two arrays of one name differ: share of the values, and the greatest difference.

    Floats also have the greatest difference in units in the last place, and against the root mean
    square of the first.
    """
    if one.shape != other.shape or one.dtype != other.dtype:
        return {"count": one.size, "size": one.size, "other": f"{other.dtype}{other.shape}"}
    found: dict[str, Any] = {"count": int((one != other).sum()), "size": one.size}
    if one.dtype.kind in "fc":
        found["greatest"] = float(np.abs(one - other).max())
        scale = float(np.sqrt(np.mean(np.abs(one) ** 2))) or 1.0
        found["relative"] = found["greatest"] / scale
        if one.dtype.kind == "f":
            found["ulp"] = ulps(one, other)
    elif one.dtype.kind in "iub":
        found["greatest"] = int(np.abs(one.astype(np.int64) - other.astype(np.int64)).max())
    return found


def group_of(name: str, network: bool = True) -> str:
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
    """One file and the arrays beside it."""

    def __init__(self, path: Path):
        self.about = json.loads(path.read_text())
        self.digests: dict[str, str] = self.about["digests"]
        self._file = np.load(path.with_suffix(".npz"), allow_pickle=False)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._file[name]


def differences(first: Record, other: Record) -> dict[str, dict[str, dict[str, Any]]]:
    """Group -> name of an array that differs -> how; arrays of one record alone are left out."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, digest in first.digests.items():
        if name not in other.digests:
            continue
        group = found.setdefault(group_of(name), {})
        if digest != other.digests[name]:
            group[name] = difference(first[name], other[name])
    return found


def _cell(names: list[str], found: dict[str, dict[str, Any]]) -> str:
    if not found:
        return "equal"
    items = {item_of(name) for name in names}
    differing = {item_of(name) for name in found}
    size = sum(value["size"] for value in found.values())
    count = sum(value["count"] for value in found.values())
    text = f"{len(differing)} of {len(items)} differ: {100 * count / size:.2g} % of their values"
    kind = [value["greatest"] for value in found.values() if "greatest" in value]
    if any("ulp" in value for value in found.values()):
        relative = max(value.get("relative", 0) for value in found.values())
        return f"{text}, at most {relative:.1e} of their r.m.s."
    return f"{text}, by at most {max(kind)}" if kind else text


def table(paths: Sequence[Path], list_names: bool, summary: Path | None = None) -> str:
    """The comparison in Markdown: a row a group, a column a record after the first.

    Args:
      paths: JSON files of records.
      list_names: whether to add a table of the arrays that differ, but for those of trainings.
      summary: a JSON file for the cells of the table.
    """
    records = [Record(path) for path in paths]
    lines = ["| |" + "".join(f" {path.stem} |" for path in paths), "|---|" + "---|" * len(paths)]
    for key in (*ABOUT, "XLA_FLAGS", "processor"):
        lines.append(f"| {key} |" + "".join(f" {r.about.get(key, '')} |" for r in records))
    first, others = records[0], records[1:]
    all_found = [differences(first, other) for other in others]
    lines += ["", "| | arrays |" + "".join(f" {path.stem} |" for path in paths[1:])]
    lines.append("|---|---|" + "---|" * len(others))
    groups: dict[str, list[str]] = {}
    for name in first.digests:
        groups.setdefault(group_of(name), []).append(name)
    for group, names in sorted(groups.items()):
        cells = [
            _cell(names, found[group]) if group in found else "not recorded" for found in all_found
        ]
        lines.append(f"| {group} | {len(names)} |" + "".join(f" {cell} |" for cell in cells))
    if summary:
        about = [{key: r.about.get(key, "") for key in (*ABOUT, "XLA_FLAGS")} for r in records]
        rows = [line.strip("| ").split(" | ") for line in lines[-len(groups) :]]
        found_of = {group: row for group, *row in rows}
        summary.write_text(json.dumps({"records": about, "groups": found_of}, indent=1) + "\n")
    if list_names:
        lines += _listed(paths[1:], all_found)
    return "\n".join(lines)


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
                share = f"{value['count']} of {value['size']}"
                greatest = f"{value['greatest']:.3g}" if "greatest" in value else value["other"]
                lines.append(f"| {name} | {share} | {greatest} | {value.get('ulp', '')} |")
    return lines
