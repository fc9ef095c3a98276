"""Progress of long work with its estimated time of arrival, for a terminal and for a log file.

Called by `training` and `robustness`.
"""

import sys
import time


class Progress:
    """One line that says how far the work is.

    A terminal has it rewritten in place; elsewhere it is printed now and then.

    Args:
      total: units of work in all.
      done: units that were done before this start.
      quiet: print nothing (all processes but the first).
    """

    def __init__(self, total: int, done: int = 0, quiet: bool = False):
        self._total, self._first = total, done
        self._started = self._printed = time.monotonic()
        self._quiet, self._terminal = quiet, sys.stderr.isatty()

    def eta(self, done: int) -> str:
        """Time left at the pace so far, as h:mm:ss."""
        if done <= self._first:
            return "?"
        pace = (time.monotonic() - self._started) / (done - self._first)
        seconds = round(pace * (self._total - done))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"

    def show(self, done: int, text: str, now: bool = False) -> None:
        """Shows the state of the work: every time in a terminal, else each 10 s and where `now`."""
        if self._quiet:
            return
        line = f"{done}/{self._total}  {text}  ETA {self.eta(done)}"
        if self._terminal:
            print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)
        elif now or time.monotonic() - self._printed > 10:
            print(line, file=sys.stderr, flush=True)
            self._printed = time.monotonic()

    def end(self) -> None:
        """Leaves the line."""
        if self._terminal and not self._quiet:
            print(file=sys.stderr, flush=True)
