"""The user's own files: importing them, and what a run remembers of those that it needs.

A run writes down which file registered its model, dataset, algorithm, suite or corruptions, and its
digest (`environment.json`). Nothing that a run directory names is executed: the user imports the
file, with `--import` or in Python, and errors say which one. Called by `cli`, `run_configs`,
`stages`, `saved_run` and `robustness`.
"""

import hashlib
import importlib
import inspect
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any

from dst_jax import corruptions, data, models, sparsity
from dst_jax.config import cards
from dst_jax.corruptions import registry
from dst_jax.data import benchmarks, datasets
from dst_jax.errors import (
    PROGRAMS,
    TRACEBACK,
    RunError,
    UserError,
    failed,
    place_of,
)
from dst_jax.registration import beside, digest
from dst_jax.runtime import environment
from dst_jax.runtime.interrupt import InterruptedRunError

Config = Mapping[str, Any]
_TRAINED_WITH = ("model", "dataset", "algorithm")  # the rest is what a run is scored with
_EXPECTED = "a module of yours, or its file, named *.py"
# Kind -> the option that names it.
_OPTIONS = {
    "model": "model.name",
    "dataset": "data.name",
    "algorithm": "sparsity.algorithm",
    "corruption": "eval.suite",
    "suite": "eval.suite",
}


def load(name: str, field: str, expected: str = _EXPECTED) -> ModuleType:
    """Imports a module, or the file of one, which the user named.

    Args:
      name: a module, looked for in the current directory first, or the path of a file `*.py`.
      field: the flag that names it, for the text of an error.
      expected: what the flag may be, likewise.

    Raises:
      UserError: it is not there, or fails.
    """
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        if not Path(name).is_file():
            raise UserError(field, f"no file {name}", expected)
        return cards.module_of(Path(name), field)
    except (UserError, RunError, InterruptedRunError):
        raise
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(field, f"no module {name}", expected) from None
        raise _failed(name, field, error) from error
    except SystemExit as error:  # else the command would end as if it were done
        raise UserError(field, f"{name}, which calls sys.exit({error.code})", "a module") from None
    except Exception as error:  # whatever a user's module raises
        raise _failed(name, field, error) from error


def _failed(name: str, field: str, error: Exception) -> UserError:
    file = os.path.abspath(name if name.endswith(".py") else name.replace(".", os.sep) + ".py")
    return UserError(field, f"{name} fails: {failed(error, [file])}", "a module", TRACEBACK)


def failure(error: Exception) -> UserError | None:
    """What a user's registered or imported code raised, as one line; None: it was not theirs."""
    names: dict[str, list[str]] = {}
    for kind, (_, registered) in _kinds().items():
        for name, file in registered.items():
            names.setdefault(file, []).append(f"{kind} {name}")
    files = [*names, *cards.loaded_files()]
    if not (file := place_of(error, files)[0]):
        return None
    frames = [os.path.abspath(frame.filename) for frame in extract_tb(error.__traceback__)]
    objects = [names[frame] for frame in frames if frame in names]
    what = ", ".join(objects[-1]) if objects else os.path.basename(file)
    return UserError(what, failed(error, files), "code that runs", TRACEBACK)


def _kinds() -> dict[str, tuple[Mapping[str, Any], Mapping[str, str]]]:
    """Kind -> its registry, and the files of what users registered."""
    return {
        "model": (models.MODELS, models.REGISTERED_IN),
        "dataset": (data.DATASETS, datasets.REGISTERED_IN),
        "algorithm": (sparsity.ALGORITHM_REGISTRY, sparsity.api.REGISTERED_IN),
        "corruption": (corruptions.CORRUPTIONS, registry.REGISTERED_IN),
        "suite": (benchmarks.SUITES, benchmarks.REGISTERED_IN),
    }


def _used(config: Config) -> Iterator[tuple[str, str]]:
    """(kind, name) of what a resolved config names."""
    yield "model", config["model"]["name"]
    yield "dataset", config["data"]["name"]
    yield "algorithm", config["sparsity"]["algorithm"]
    options = config.get("eval", {"suite": "", "corruptions": ()})
    suite = options["suite"]
    yield "suite", suite
    listed = benchmarks.SUITES.get(suite, suite.split(","))
    for name in dict.fromkeys((*listed, *options["corruptions"])):
        yield "corruption", name


def training_of(config: Config) -> dict[str, Any]:
    """A resolved config without its section `eval`, for `check`."""
    return {section: value for section, value in config.items() if section != "eval"}


def record(config: Config) -> list[dict[str, Any]]:
    """What a run needs of the user's files.

    Args:
      config: the resolved config.

    Returns:
      One entry per name: {"kind", "name", "file" that registered it, "sha256" of the file and of
      "modules", what it imports from beside it (see `registration.digest`), if it does}; of a
      dataset whose classes have names, "classes" too.
    """
    found = []
    for kind, name in _used(config):
        file = _kinds()[kind][1].get(name)
        if file is None:
            continue
        entry: dict[str, Any] = {"kind": kind, "name": name, "file": file, "sha256": digest(file)}
        if modules := beside(file):
            folder = os.path.dirname(file)
            entry["modules"] = [os.path.relpath(module, folder) for module in modules]
        if kind == "dataset" and (classes := data.get(name).class_names):
            entry["classes"] = list(classes)
        found.append(entry)
    return found


def mark_of_corruption(name: str) -> str:
    """Eight digits of the file that registered a corruption, so that its scores are told apart.

    Where there is no file, as of a notebook's cell, those of its functions' source and constants.
    """
    if of_file := digest(registry.REGISTERED_IN.get(name, "")):
        return of_file[:8]
    corruption = corruptions.CORRUPTIONS[name]
    text = repr(registry.ROWS[name])
    for function in (corruption.apply, corruption.draw):
        try:
            text += inspect.getsource(function)
        except (OSError, TypeError):  # no source to be had: no two of them are taken for one
            text += repr(function)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def check(workdir: Any, config: Config, *, python: bool = False) -> None:
    """Checks that all that a run names is registered in this process.

    Args:
      workdir: the run directory, with a `/` and `exists` as those of a path.
      config: its resolved config, with the section `eval` that is to be used, or without one where
        nothing is evaluated.
      python: whether the hint is for a Python program, not for the command line.

    Raises:
      UserError: something is not; the text says which file registered it, and how to import it.
    """
    recorded = {(entry["kind"], entry["name"]): entry["file"] for entry in _recorded(workdir)}
    for kind, name in _used(config):
        known = _kinds()[kind][0]
        file = recorded.get((kind, name))
        if name in known or (kind in ("corruption", "suite") and file is None):
            continue  # what else names of corruptions may be is known to `robustness.suites`
        listed = ", ".join(known)
        raise UserError(
            f"{workdir}/config.json: {_OPTIONS[kind]}",
            f"{name}, which is not registered",
            f"one of {listed}" if file is None else f"one of {listed}, or the import of {file}",
            _hint(file, python),
        )


def _hint(file: str | None, python: bool) -> str:
    if python:
        if file is None:
            return "Import the module that registers it first"
        if not os.path.exists(file):
            return f"{file} is not on this machine: import it from where it is now"
        folder, module = os.path.split(os.path.splitext(file)[0])
        path = "" if folder in (os.getcwd(), *sys.path) else f"sys.path.insert(0, {folder!r}); "
        return f"Before: {'import sys; ' if path else ''}{path}import {module}"
    if file is None:
        return "If a file of yours registers it, add --import=FILE.py"
    if not os.path.exists(file):  # the run came from another machine, or the file was moved
        return f"{file} is not here: add --import={os.path.basename(file)}, with its path of today"
    relative = os.path.relpath(file)
    shown = file if relative.startswith("..") else relative
    program = sys.argv[0]
    if Path(program).name == PROGRAMS[0]:
        program = PROGRAMS[0]
    start = [program] if program == PROGRAMS[0] else ["python", program]
    return f"Use: {shlex.join([*start, *sys.argv[1:], f'--import={shown}'])}"


def _recorded(workdir: Any) -> list[dict[str, Any]]:
    """What the starts of a run wrote down, the first one first; damaged entries are left out."""
    try:
        starts = environment.starts(workdir)
    except UserError:  # whoever writes the file next says so
        return []
    keys = ("kind", "name", "file", "sha256")
    return [
        entry
        for start in starts
        for entry in (start.get("registered") or ())
        if isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in keys)
    ]


def _edited(entry: Mapping[str, Any]) -> tuple[str, str]:
    """(file, its digest) of what a start recorded, where it is another one now; else ("", "")."""
    file = _kinds().get(entry["kind"], ({}, {}))[1].get(entry["name"], "")
    now = digest(file)
    return (file, now) if entry["sha256"] and now not in ("", entry["sha256"]) else ("", "")


def _named(file: str, entry: Mapping[str, Any]) -> str:
    modules = entry.get("modules") or [os.path.basename(module) for module in beside(file)]
    return file + (f" (with {', '.join(map(str, modules))})" if modules else "")


def check_model(workdir: Any) -> None:
    """Refuses to score or analyse a network of which the code has changed since its training.

    Args:
      workdir: the run directory.

    Raises:
      UserError: the file that registers its model, or a module that this imports from beside it, is
        not the one of the last start.
    """
    entries = [entry for entry in _recorded(workdir) if entry["kind"] == "model"]
    if not entries:
        return
    entry = entries[-1]
    file, now = _edited(entry)
    if file:
        raise UserError(
            f"{workdir}: model {entry['name']}",
            f"{_named(file, entry)} with SHA-256 {now[:8]}",
            f"the file that it was trained with, {entry['sha256'][:8]}",
            "Restore the file, or train the new network in another directory",
        )


def check_classes(workdir: Any) -> None:
    """Refuses a dataset whose classes are no longer those of a run's training.

    Args:
      workdir: the run directory.

    Raises:
      UserError: they have other names, are more or fewer, or have another order.
    """
    entries = [entry for entry in _recorded(workdir) if entry["kind"] == "dataset"]
    if not entries or not isinstance(entries[-1].get("classes"), list):
        return
    name, before = entries[-1]["name"], entries[-1]["classes"]
    now = list(data.DATASETS[name].class_names) if name in data.DATASETS else before
    if now == before:
        return
    changes = [
        f"{what} {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
        for what, names in (
            ("with", [one for one in now if one not in before]),
            ("without", [one for one in before if one not in now]),
        )
        if names
    ]
    raise UserError(
        f"{workdir}: classes of dataset {name}",
        f"{len(now)} " + (" and ".join(changes) or "in another order"),
        f"the {len(before)} of its training, in their order",
        "Restore them, or train in another directory",
    )


def note_of_changes(workdir: Any) -> str:
    """What of a user's files is another now than at a run's starts, for a list of runs; "" nothing.

    Args:
      workdir: the run directory; it need not exist.
    """
    files = [_edited(entry)[0] for entry in _recorded(workdir) if entry["kind"] in _TRAINED_WITH]
    notes = [f"with an earlier {os.path.basename(file)}" for file in filter(None, files)]
    try:
        check_classes(workdir)
    except UserError:
        notes.append("with other classes")
    return " and ".join(dict.fromkeys(notes))


_printed: set[str] = set()


def warn_if_changed(workdir: Any) -> None:
    """Prints a line, once, for each file of the user's that is not what it was at a run's start.

    Args:
      workdir: the run directory.
    """
    for entry in _recorded(workdir):
        file, now = _edited(entry)
        if not file:
            continue
        digests = f"(SHA-256 {entry['sha256'][:8]}, now {now[:8]})"
        what = (
            f"{workdir}: {entry['kind']} {entry['name']} is registered by {_named(file, entry)}, "
        )
        if entry["kind"] in _TRAINED_WITH:
            text = f"{what}which is not the file it was trained with {digests}"
        else:
            text = f"{what}edited since a start of this run {digests}: what is scored now is new"
        if text not in _printed:
            _printed.add(text)
            print(text, file=sys.stderr, flush=True)
