"""The budget: seconds since the process began, imports and all, how many are left, and its end.

Called by `loop`; parts ask `context.clock`.
"""

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

RESERVE = 8.0  # seconds at the end that no part gets: for the table and the report's archive


def process_start() -> float:
    """When this process began, on the clock of `time.monotonic`; now, where that is not told."""
    now = time.monotonic()
    try:
        with open("/proc/self/stat") as file:
            started = int(file.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return now
    return now - age if 0 <= age < 3600 else now


@dataclasses.dataclass(frozen=True)
class Clock:
    """A budget that runs out.

    Attributes:
      budget: seconds, from the start of the process.
      start: of the process, on the clock of `time.monotonic`.
    """

    budget: float
    start: float

    def used(self) -> float:
        """Seconds since the process began."""
        return time.monotonic() - self.start

    def left(self) -> float:
        """Seconds that parts may still use; below 0 when they are over."""
        return self.budget - RESERVE - self.used()


class Stopped(BaseException):
    """SIGTERM, Ctrl-C or the budget's end came; nothing on the way may take it for a failure."""


class Signals:
    """Which signal came, and whether it was the clock's own.

    `Stopped` is raised once, by the first signal, and only between `listen` and `finish`: what is
    written at the end is written whole.
    """

    number = 0
    over = False
    _listening = False

    def listen(self) -> None:
        """From now on a signal is raised; one that came before is raised here."""
        self._listening = True
        if self.number:
            self.finish()
            raise Stopped

    def finish(self) -> None:
        """From now on signals are noted only."""
        self._listening = False

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """The handler of both signals."""
        del frame
        self.number = self.number or number
        if self._listening:
            self._listening = False
            raise Stopped


@contextlib.contextmanager
def ends_with(clock: Clock) -> Iterator[Signals]:
    """SIGTERM and Ctrl-C as `Stopped`; the clock sends SIGTERM when the budget is used.

    So a training in progress saves a checkpoint, as it does on any SIGTERM. Whatever does not
    listen then is ended with the budget; the table on disk says what was done.
    """
    signals = Signals()

    def over() -> None:
        signals.over = not signals.number
        os.kill(os.getpid(), signal.SIGTERM)

    def end() -> None:
        print("a part did not stop; ended with the budget", file=sys.stderr, flush=True)
        os._exit(1)

    if threading.current_thread() is not threading.main_thread():
        yield signals  # a test's thread: no signals
        return
    timers = [
        threading.Timer(max(0.1, clock.left()), over),
        threading.Timer(max(RESERVE, clock.left() + RESERVE), end),
    ]
    previous = {
        number: signal.signal(number, signals.note) for number in (signal.SIGTERM, signal.SIGINT)
    }
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield signals
    finally:
        signals.finish()
        for timer in timers:
            timer.cancel()
        for number, handler in previous.items():
            signal.signal(number, handler)
