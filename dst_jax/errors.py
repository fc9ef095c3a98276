"""The exception for usage errors: a wrong option, path, file or name.

Raised everywhere in dst_jax except in `sparsity` and `corruptions` (which stand alone and raise
ValueError); `cli` prints its text as one line and exits with code 2.
"""

PROGRAMS = (
    "dst-jax",
    "run.py",
)  # the command's names, installed and in a checkout; they open that line


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
