"""How often the report's verdicts are false, and how often they find an effect that is there.

    python -m benchmarks.verdicts [--repetitions 10000] [--json FILE]

Simulated robust accuracies: normal over seeds, with the same mean for dense and sparse trainings
(no effect), or with an effect of 1, 2 or 3 standard deviations. A page has one dense baseline and 1
or 30 sparse groups, 3 or 5 seeds each; a page with any verdict where there is no effect counts as
false. The tests are those of the report: `statistics.difference` and `statistics.holm`.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from dst_jax.report.verdicts import ERROR_RATE
from dst_jax.statistics import difference, holm


def share_of_verdicts(
    repetitions: int, seeds: int, groups: int, effect: float, spread: float = 1.0, seed: int = 0
) -> tuple[float, float]:
    """Simulates pages.

    Args:
      repetitions: pages.
      seeds: trainings on each side.
      groups: sparse groups on a page, all compared with one dense group.
      effect: how much higher the sparse groups' mean is, in standard deviations of dense.
      spread: standard deviation of the sparse groups over that of dense.
      seed: of the simulation.

    Returns:
      (share of pages with at least one verdict, share of groups with one).
    """
    generator = np.random.default_rng(seed)
    pages = verdicts = 0
    for _ in range(repetitions):
        dense = generator.normal(0, 1, seeds).tolist()
        p_values = []
        for _ in range(groups):
            found = difference(generator.normal(effect, spread, seeds).tolist(), dense)
            assert found is not None
            p_values.append(found.p)
        real = sum(p < ERROR_RATE for p in holm(p_values))
        pages, verdicts = pages + (real > 0), verdicts + real
    return pages / repetitions, verdicts / (repetitions * groups)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print(f"stated error rate {ERROR_RATE:.0%}; {options.repetitions:,} repetitions")
    print("seeds  groups  spread  effect, sd  pages with a verdict  groups with one")
    cases = [(n, g, s, 0.0) for n in (3, 5) for g in (1, 30) for s in (1.0, 2.0, 4.0)]
    cases += [(n, g, 1.0, e) for n in (3, 5) for g in (1, 30) for e in (1.0, 2.0, 3.0)]
    for seeds, groups, spread, effect in cases:
        pages, each = share_of_verdicts(options.repetitions, seeds, groups, effect, spread)
        print(f"{seeds:5}  {groups:6}  {spread:6g}  {effect:10g}  {pages:20.4f}  {each:15.4f}")
        case = {"seeds": seeds, "groups": groups, "spread": spread, "effect": effect}
        rows.append({**case, "pages": pages, "each": each})
    if options.json:
        record = {"error_rate": ERROR_RATE, "repetitions": options.repetitions, "rows": rows}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
