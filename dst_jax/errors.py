"""The exception for usage errors: a wrong option, path, file or name; and where users' code fails.

Raised everywhere in dst_jax except in `sparsity` and `corruptions` (which stand alone and raise
ValueError); `cli` prints its text as one line and exits with code 2.
"""

import os
import traceback
from collections.abc import Iterable

PROGRAMS = (
    "dst-jax",
    "run.py",
)  # the command's names, installed and in a checkout; they open that line
TRACEBACK = "--traceback shows all of it"  # the hint where a user's own code fails


class UserError(Exception):
    """A usage error, in one line.

    Args:
      field: the option, argument or path.
      found: what it is.
      expected: what it may be.
      hint: the command that helps, where there is one.
    """

    def __init__(self, field: str, found: object, expected: str, hint: str = ""):
        found_text = found if isinstance(found, str) else repr(found)
        text = f"{field}: found {found_text}; expected {expected}"
        super().__init__(" ".join((text + (f". {hint}" if hint else "")).split()))


class RunError(Exception):
    """A run that cannot go on for a reason of its own; `cli` prints it and exits with code 1."""


def line_of(error: BaseException) -> str:
    """The type of an exception and the first line of its text."""
    first = (str(error).strip().splitlines() or [""])[0][:300]
    return f"{type(error).__name__}: {first}"


def place_of(error: BaseException, files: Iterable[str]) -> tuple[str, int, str]:
    """Where in a user's code an exception arose: the innermost of its frames in or beside files.

    Args:
      error: the exception, as it was caught.
      files: the user's files, by their absolute paths; code in their folders counts too, as far as
        it is neither ours nor installed.

    Returns:
      (file, line, function); ("", 0, "") where none of its frames is there.
    """
    folders = tuple(os.path.join(os.path.dirname(file), "") for file in files) or ("\0",)
    ours = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
    found = ("", 0, "")
    for frame in traceback.extract_tb(error.__traceback__):
        file = os.path.abspath(frame.filename)
        installed = "site-packages" in file or "dist-packages" in file
        if file.startswith(folders) and not file.startswith(ours) and not installed:
            found = (file, frame.lineno or 0, frame.name)
    return found


def shown(place: tuple[str, int, str]) -> str:
    """`my_model.py:12, in __call__` of what `place_of` gives; "" of none."""
    file, line, function = place
    if not file:
        return ""
    relative = os.path.relpath(file)
    inside = "" if function == "<module>" else f", in {function}"
    return f"{file if relative.startswith('..') else relative}:{line}{inside}"


def failed(error: BaseException, files: Iterable[str]) -> str:
    """An exception of a user's code as one line: its type, its text and, where known, its place."""
    at = shown(place_of(error, files))
    return line_of(error).rstrip(".") + (f" at {at}" if at else "")
