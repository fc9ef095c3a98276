"""SIGTERM and Ctrl-C as a flag that long work looks at between its steps.

A scheduler that takes a machine back sends SIGTERM; the training loop then saves a checkpoint and
leaves with the signal's usual exit code (143, for Ctrl-C 130), and the same command resumes from
there. Called by `training` and `robustness`.
"""

import signal
from types import FrameType
from typing import Self


class InterruptedRunError(Exception):
    """The run was asked to stop and has saved what it had.

    Attributes:
      exit_code: 128 plus the number of the signal, as shells have it.
    """

    def __init__(self, signal_number: int, text: str):
        name = signal.Signals(signal_number).name
        super().__init__(f"stopped by {name}: {text}. The same command resumes from there.")
        self.exit_code = 128 + signal_number


class Interrupt:
    """Catches SIGTERM and SIGINT while it is entered; a second one of the same kind kills.

    Attributes:
      requested: the number of the signal that came, or 0.
    """

    def __init__(self) -> None:
        self.requested = 0
        self._previous: dict[int, object] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.requested = number
        signal.signal(number, signal.SIG_DFL)

    def __enter__(self) -> Self:
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        except ValueError:  # not in the main thread, e.g. of a notebook server: leave signals alone
            pass
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
