"""The budget: seconds since the process began, imports and all, and how many are left.

Called by `command`; parts ask `context.clock`.
"""

import dataclasses
import os
import time

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
