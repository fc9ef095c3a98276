"""The one exception for mistakes that the user can mend.

Raised everywhere in dst_jax except in `sparsity` and `corruptions` (which stand alone and raise
ValueError); `cli` prints its text as one line and exits with code 2.
"""

PROGRAMS = (
    "dst-jax",
    "run.py",
)  # the command's names, installed and in a checkout; they open that line


class UserError(Exception):
    """A mistake of the user's, told in one line.

    The text names the field or path, what was found, what is expected and, where there is one, the
    command that mends it.
    """

    def __init__(self, where: str, found: object, expected: str, mend: str = ""):
        found_text = found if isinstance(found, str) else repr(found)
        text = f"{where}: found {found_text}; expected {expected}"
        super().__init__(" ".join((text + (f". {mend}" if mend else "")).split()))


class RunError(Exception):
    """A run that cannot go on for a reason of its own; `cli` prints it and exits with code 1."""
