"""Timing on machines that others use too: rivals take turns, and only ratios within a turn count.

Also what a figure depends on besides the code: date, hardware and versions. Called by the
benchmarks; what they measure is theirs.
"""

import datetime
import importlib.metadata
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax

from dst_jax.runtime.devices import hardware

T = TypeVar("T")


def seconds(run: Callable[[], Any]) -> float:
    """Wall time of `run()`, until the arrays that it returns are computed."""
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def in_turns(
    measures: Mapping[str, Callable[[], T]], rounds: int, *, discard_first: bool = True
) -> dict[str, list[T]]:
    """Takes every measure once per round, so that noise meets all alike.

    The order turns round every time (A B C, C B A, ...): what one leaves behind, such as busy
    threads, must not always meet the same other.

    Args:
      measures: name -> what gives one figure, of any type.
      rounds: figures a measure.
      discard_first: take one round more and leave out the first, which compiles and fills caches.

    Returns:
      name -> its figures; those at the same index are of the same round.
    """
    figures: dict[str, list[T]] = {name: [] for name in measures}
    for index in range(not discard_first, rounds + 1):
        order = sorted(measures, key=list(measures).index, reverse=index % 2 == 0)
        for name in order:
            figure = measures[name]()
            if index:
                figures[name].append(figure)
    return figures


def ratios(ours: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest of ours / other over the rounds."""
    paired = [a / b for a, b in zip(ours, other, strict=True)]
    return {"median": statistics.median(paired), "min": min(paired), "max": max(paired)}


def spread(ratio: Mapping[str, float], digits: int = 3) -> str:
    """What `ratios` returned as text: `1.02 (0.99 to 1.05)`."""
    median, least, greatest = (figure(ratio[key], digits) for key in ("median", "min", "max"))
    return f"{median} ({least} to {greatest})"


def median(figures: Sequence[float], digits: int = 3) -> str:
    """The median of some figures, and the smallest and the largest, as `spread` writes them."""
    found = {"median": statistics.median(figures), "min": min(figures), "max": max(figures)}
    return spread(found, digits)


def figure(value: float, digits: int = 3) -> str:
    """A number with so many significant digits; `12,300` is written out, `1.2e-07` is not."""
    text = f"{value:.{digits}g}"
    return f"{float(text):,.0f}" if "e+" in text else text


def circumstances() -> dict[str, Any]:
    """Date, hardware and versions."""
    versions = {"python": platform.python_version()}
    for name in ("jax", "jaxlib", "flax", "numpy", "tensorflow-cpu", "tensorflow", "torch"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.date.today().isoformat(),
        "hardware": hardware(),
        "processor": _processor(),
        "versions": versions,
    }


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line[:10] == "model name"]
    except OSError:
        names = []
    return names[0] if names else platform.machine()
