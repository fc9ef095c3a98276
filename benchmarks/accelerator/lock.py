"""Keeps two calls from working in one directory at a time, where each would lose records.

Called by `loop`, for `--work` and `--out`, before anything in them is read.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from dst_jax.errors import UserError

NAME = ".lock"  # lies in a directory while a call works there


@contextlib.contextmanager
def held(directories: Mapping[str, Path]) -> Iterator[None]:
    """Makes the directories and holds the lock of each; one that two flags name is locked once.

    Args:
      directories: flag -> directory.

    Raises:
      UserError: one cannot be made or written, or another living call holds its lock.
    """
    with contextlib.ExitStack() as stack:
        real: dict[str, str] = {}  # resolved path -> the first flag that names it
        for flag, directory in directories.items():
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(flag, f"{directory} ({error.strerror})", "a directory") from None
            real.setdefault(os.path.realpath(directory), flag)
        for path, flag in real.items():
            stack.enter_context(_locked(flag, Path(path)))
        yield


@contextlib.contextmanager
def _locked(flag: str, directory: Path) -> Iterator[None]:
    path = directory / NAME
    while True:
        try:
            file = open(path, "w")  # noqa: SIM115 - closed below, after it was removed
        except OSError as error:
            expected = "a directory that can be written"
            raise UserError(flag, f"{directory} ({error.strerror})", expected) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UserError(
                flag,
                f"{directory}, in use by another call",
                "a free directory",
                f"Wait for that call, or use another {flag}",
            ) from None
        except OSError:  # a file system without locks
            pass
        # The call before removes its file as it ends: a lock of a removed one keeps nobody out.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                break
        file.close()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # `--out` is taken home: nothing else may stay there
        file.close()
