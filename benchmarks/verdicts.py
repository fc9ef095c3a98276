"""How often the report's verdicts are false, and how often they find an effect that is there.

    python -m benchmarks.verdicts [--repetitions 10000] [--processes 2] [--json FILE]

Simulated robust accuracies: normal over seeds, with the same mean for dense and sparse trainings
(no effect), or with an effect of 1, 2 or 3 standard deviations; runs of the same seed correlate by
0, 0.5 or 0.9. A page has one dense baseline and 1 or 30 sparse groups, 3 or 5 seeds each; a page
with any verdict where there is no effect counts as false. The tests are those of the report, on the
same draws: `statistics.paired_difference`, as for sides of the same seeds, and
`statistics.difference`, as for others; then `statistics.holm`.
"""

import argparse
import json
import math
import multiprocessing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dst_jax.report.verdicts import ERROR_RATE
from dst_jax.statistics import difference, holm, paired_difference


class Case(NamedTuple):
    """What is simulated.

    Attributes:
      seeds: trainings on each side.
      groups: sparse groups on a page, all compared with one dense group.
      effect: how much higher the sparse groups' mean is, in standard deviations of dense.
      spread: standard deviation of the sparse groups over that of dense.
      correlation: of a sparse and the dense run of the same seed, in [0, 1].
      paired: which test is done.
    """

    seeds: int
    groups: int
    effect: float
    spread: float = 1.0
    correlation: float = 0.0
    paired: bool = False


def share_of_verdicts(repetitions: int, case: Case, seed: int = 0) -> tuple[float, float]:
    """Simulates pages.

    Args:
      repetitions: pages.
      case: what is on them.
      seed: of the simulation; cases that differ in `paired` alone have the same numbers.

    Returns:
      (share of pages with at least one verdict, share of groups with one).
    """
    generator = np.random.default_rng(seed)
    test = paired_difference if case.paired else difference
    # Of the seed's own share in a sparse run, and of the rest, so that the spread is `spread`.
    common, rest = case.correlation, math.sqrt(1 - case.correlation**2)
    pages = verdicts = 0
    for _ in range(repetitions):
        dense = generator.normal(0, 1, case.seeds)
        p_values = []
        for _ in range(case.groups):
            alike = common * dense + rest * generator.normal(0, 1, case.seeds)
            found = test((case.effect + case.spread * alike).tolist(), dense.tolist())
            assert found is not None
            p_values.append(found.p)
        real = sum(p < ERROR_RATE for p in holm(p_values))
        pages, verdicts = pages + (real > 0), verdicts + real
    return pages / repetitions, verdicts / (repetitions * case.groups)


def cases() -> list[Case]:
    """All that are simulated, unpaired: without an effect, then with one."""
    grid = [(n, g, c) for n in (3, 5) for g in (1, 30) for c in (0.0, 0.5, 0.9)]
    none = [Case(n, g, 0.0, s, c) for n, g, c in grid for s in (1.0, 2.0, 4.0)]
    return none + [Case(n, g, e, 1.0, c) for n, g, c in grid for e in (1.0, 2.0, 3.0)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print(f"stated error rate {ERROR_RATE:.0%}; {options.repetitions:,} repetitions")
    print("                                             pages with a verdict  groups with one")
    print("seeds  groups  spread  correlation  effect, sd     paired   Welch     paired   Welch")
    jobs = [
        (options.repetitions, case._replace(paired=paired))
        for case in cases()
        for paired in (True, False)
    ]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        results = pool.starmap(share_of_verdicts, jobs, chunksize=1)
    for (_, case), paired, welch in zip(jobs[::2], results[::2], results[1::2], strict=True):
        print(
            f"{case.seeds:5}  {case.groups:6}  {case.spread:6g}  {case.correlation:11g}  "
            f"{case.effect:10g}     {paired[0]:.4f}  {welch[0]:.4f}     {paired[1]:.4f}  "
            f"{welch[1]:.4f}"
        )
        row = {name: value for name, value in case._asdict().items() if name != "paired"}
        for name, (pages, each) in (("paired", paired), ("welch", welch)):
            row[name] = {"pages": pages, "each": each}
        rows.append(row)
    if options.json:
        record = {"error_rate": ERROR_RATE, "repetitions": options.repetitions, "rows": rows}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
