"""Warnings about misuse, each given once in a process. Called wherever sparsity finds some."""

import warnings

_TOLD: set[str] = set()


def once(message: str) -> None:
    """Warns, unless the same words were said before."""
    if message not in _TOLD:
        _TOLD.add(message)
        warnings.warn(message, UserWarning, stacklevel=3)


def forget() -> None:
    """Lets every warning be given again, as a test needs."""
    _TOLD.clear()
