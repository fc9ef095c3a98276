"""The tests that the protocol of a study names, from its runs or from what is kept of them.

    python -m benchmarks.study_tests cifar10_mlp results/cifar10_mlp

Prints the outcomes of every arm, then, for each family of comparisons, a table in Markdown: the
difference of each pair of arms, paired by seed, with its 95 % t interval, p value, and that after
Holm's correction within the family. What a family holds was written into the protocol
(`results/*.md`) before the first run; here it is code. The numbers are those of `robustness`,
`analysis` and `statistics`.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from dst_jax.errors import UserError
from dst_jax.report import archive, archive_reading
from dst_jax.report.comparisons import compare
from dst_jax.report.groups import Group
from dst_jax.report.runs import Run, read
from dst_jax.runtime import run_dir
from dst_jax.statistics import estimate, holm, paired_difference

DYNAMIC = ("set", "rigl", "mest_r", "mest_g", "granet_r", "granet_g")


class Arm(NamedTuple):
    """Runs that differ in their seed alone: `width` 0 is the card's own network."""

    algorithm: str
    sparsity: float = 0.0
    width: int = 0

    @property
    def text(self) -> str:
        """As the tables name it."""
        if self.width:
            return f"small dense, width {self.width}"
        return f"{self.algorithm} {self.sparsity:g}" if self.sparsity else self.algorithm


class Comparison(NamedTuple):
    """One test: an arm minus another, in an outcome of `OUTCOMES`."""

    ours: Arm
    theirs: Arm
    outcome: str = "robust"


DENSE = Arm("dense")


def _against(theirs: Arm, methods: Sequence[str], *sparsities: float) -> list[Comparison]:
    return [Comparison(Arm(m, s), theirs) for s in sparsities for m in methods]


def _explanation(methods: Sequence[str]) -> list[Comparison]:
    outcomes = ("without high frequencies", "without low frequencies")
    return [Comparison(Arm(m, 0.5), DENSE, name) for name in outcomes for m in methods]


def _controls(methods: Sequence[str], width: int) -> list[Comparison]:
    static = Arm("static", 0.5)
    small = Comparison(Arm("dense", 0.0, width), DENSE)
    return [Comparison(static, DENSE), small, *_against(static, methods, 0.5)]


_SHORT = ("set", "rigl", "mest_g", "granet_g")
_DIGITS = ("set", "rigl", "granet_g")


class Study(NamedTuple):
    """What was trained, "MODEL on DATASET", and family -> its tests, as in the protocol."""

    of: str
    families: dict[str, list[Comparison]]


STUDIES = {
    "digits": Study(
        "resnet20 on digits",
        {
            "Primary outcome": _against(DENSE, _DIGITS, 0.5),
            "Static": [
                *_against(Arm("static", 0.5), _DIGITS, 0.5),
                Comparison(Arm("static", 0.5), DENSE),
            ],
        },
    ),
    "cifar10_mlp": Study(
        "mlp on cifar10",
        {
            "Primary outcome": _against(DENSE, DYNAMIC, 0.5),
            "Controls at 0.5": _controls(DYNAMIC, 148),
            "Other sparsities": _against(DENSE, DYNAMIC, 0.1, 0.3, 0.7),
            "Explanation, at 0.5": _explanation(DYNAMIC),
        },
    ),
    "cifar10_resnet20": Study(
        "resnet20 on cifar10",
        {
            "Primary outcome": _against(DENSE, _SHORT, 0.5),
            "Controls at 0.5": _controls(_SHORT, 6),
            "Sparsity 0.1": _against(DENSE, ("rigl", "granet_g"), 0.1),
            "Explanation, at 0.5": _explanation(_SHORT),
        },
    ),
}


def _clean(run: Run) -> float | None:
    found = [result.clean_accuracy for result in run.results if result.clean_accuracy is not None]
    return found[0] if found else None


def _robust(run: Run) -> float | None:
    """Robust accuracy of a benchmark that was scored whole."""
    whole = [result for result in run.results if not result.lacking and result.counted]
    return whole[0].robust_accuracy if len(whole) == 1 else None


def _without(band: str) -> Callable[[Run], float | None]:
    """Accuracy on clean images without a band of frequencies, mean over the radii above 0."""

    def outcome(run: Run) -> float | None:
        found = run_dir.read_arrays(run.directory / "analysis" / "attenuation.npz")
        return float(found[band][found["radii"] > 0].mean()) if found else None

    return outcome


def _last(name: str) -> Callable[[Run], float | None]:
    """A number of the last line of the training's record that has it."""
    return lambda run: next((m[name] for m in reversed(run.metrics) if name in m), None)


OUTCOMES: dict[str, Callable[[Run], float | None]] = {
    "clean": _clean,
    "robust": _robust,
    "without high frequencies": _without("high"),
    "without low frequencies": _without("low"),
    "explored": _last("explored"),
    "validation": _last("validation/accuracy"),
}


def arms_of(study: Study, runs: Sequence[Run]) -> tuple[dict[Arm, Group], list[str]]:
    """The arms of a study among its runs, by the report's rules of what is alike.

    Returns:
      Each arm's runs, one per seed, all on the same conditions of the same images; and a sentence
      for each run that does not count.

    Raises:
      UserError: the runs are not the study's, an arm was trained in two ways, or an arm differs
        from dense in more than its sparse training or its size.
    """
    if others := sorted({f"{r.model} on {r.dataset}" for r in runs if r.config} - {study.of}):
        raise UserError("runs", ", ".join(others), study.of, "name the study that they are of")
    comparison = next(iter(compare(runs)))
    arms: dict[Arm, Group] = {}
    width = {str(run.config.get("model.width")) for run in runs if not run.is_dense}
    left = []
    for group in comparison.groups:
        run = group.runs[0]
        if group.unfinished or not run.config:
            why = group.unfinished or "its config is not known"
            left += [f"{run.directory.name}: {why}" for run in group.runs]
            continue
        if obstacle := comparison.obstacle(group):
            raise UserError("runs", obstacle, "arms that differ from dense in the method alone")
        small = run.is_dense and str(run.config.get("model.width")) not in width
        arm = Arm(
            str(run.algorithm),
            0.0 if run.is_dense else run.sparsity or 0.0,
            run.config["model.width"] if small else 0,
        )
        if arm in arms:
            raise UserError("runs", f"{arms[arm].name}; {group.name}", f"one recipe of {arm.text}")
        arms[arm] = group
    left += [
        f"{run.directory.name}: {comparison.remarks[run.directory].removeprefix('not counted: ')}"
        for group in comparison.not_counted
        for run in group.runs
    ]
    return arms, left + [note for note in comparison.notes if "is not counted" in note]


def values(group: Group | None, outcome: str) -> dict[int, float]:
    """Seed -> outcome, of the runs of an arm that have it."""
    found = {run.seed: OUTCOMES[outcome](run) for run in group.runs} if group else {}
    return {k: v for k, v in found.items() if k is not None and v is not None and isfinite(v)}


def run_table(runs: Sequence[Run]) -> str:
    """The outcomes of each run by itself, in percent: of a sweep that chooses a recipe."""
    table = {run.directory.name: [outcome(run) for outcome in OUTCOMES.values()] for run in runs}
    have = [any(row[k] is not None for row in table.values()) for k in range(len(OUTCOMES))]
    names = [name for name, there in zip(OUTCOMES, have, strict=True) if there]
    lines = ["| run | " + " | ".join(f"{name}, %" for name in names) + " |"]
    lines.append("|---" * (1 + len(names)) + "|")
    for run in runs:
        row = [v for v, there in zip(table[run.directory.name], have, strict=True) if there]
        cells = ["–" if value is None else f"{100 * value:.2f}" for value in row]
        unfinished = "" if run.finished else ", not finished"
        lines.append(f"| {run.directory.name}{unfinished} | {' | '.join(cells)} |")
    return "\n".join(lines)


def outcome_table(arms: Mapping[Arm, Group]) -> str:
    """Mean and sample standard deviation over seeds of every outcome of every arm, in percent.

    A cell of fewer runs than the arm has says of how many it is.
    """
    found = {name: {arm: values(group, name) for arm, group in arms.items()} for name in OUTCOMES}
    names = [name for name in OUTCOMES if any(found[name].values())]
    lines = ["| arm | n | " + " | ".join(f"{name}, %" for name in names) + " |"]
    lines.append("|---|---" + "|---" * len(names) + "|")
    for arm in sorted(arms, key=lambda a: (a.sparsity, a.algorithm != "dense", a.width, a)):
        count = len(arms[arm].runs)
        cells = []
        for name in names:
            e = estimate([100 * v for v in found[name][arm].values()])
            text = f"{e.mean:.2f}" + (f" ± {e.std:.2f}" if e.std else "") if e else "–"
            cells.append(text + (f" (n = {e.n})" if e and e.n != count else ""))
        lines.append(f"| {arm.text} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def family_table(arms: Mapping[Arm, Group], family: Sequence[Comparison]) -> str:
    """The tests of a family; a pair that lacks runs is named, not tested, and counts for Holm.

    The protocol says how many tests there are: what is missing has p = 1, or the correction of a
    study that is half done would be too weak.
    """
    rows = []
    for test in family:
        ours, theirs = (values(arms.get(arm), test.outcome) for arm in (test.ours, test.theirs))
        seeds = sorted(ours.keys() & theirs.keys())
        mine, others = ([side[seed] for seed in seeds] for side in (ours, theirs))
        difference = paired_difference(mine, others) if len(seeds) > 1 else None
        rows.append((test, len(seeds), difference))
    corrected = holm([1.0 if d is None else d.p for _, _, d in rows])
    lines = [
        "| arm | minus | outcome | n | difference, pp | 95 % interval | p | p, Holm |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (test, count, difference), adjusted in zip(rows, corrected, strict=True):
        names = f"| {test.ours.text} | {test.theirs.text} | {test.outcome} | {count} |"
        if difference is None:
            lines.append(f"{names} not tested | – | – | – |")
            continue
        mean, low, high = (100 * difference[index] for index in range(3))
        p = f"{_p(difference.p)} | {_p(adjusted)}"
        lines.append(f"{names} {mean:+.2f} | {low:+.2f} to {high:+.2f} | {p} |")
    return "\n".join(lines)


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-4 else "< 0.0001"


@contextlib.contextmanager
def _runs_in(folder: Path) -> Iterator[list[Run]]:
    """The runs of a folder: what `--mode=archive` kept, or run directories."""
    if (folder / archive.NAME).exists():
        with archive_reading.unpacked(folder / archive.NAME) as (kept, _):
            yield list(map(read, kept))
        return
    yield [read(path.parent) for path in sorted(folder.glob("*/config.json"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", choices=[*STUDIES, "runs"], help="whose tests; runs: each run")
    parser.add_argument("folder", type=Path, help="of runs.zip, or of run directories")
    options = parser.parse_args()
    try:
        with _runs_in(options.folder) as runs:
            if not runs:
                raise UserError(str(options.folder), "no run", "runs.zip, or run directories")
            if options.study == "runs":
                print(run_table(runs))
                return
            study = STUDIES[options.study]
            arms, left = arms_of(study, runs)
            print(outcome_table(arms))
            print("".join(f"\nNot counted: {text}" for text in left))
            for name, family in study.families.items():
                print(f"\n**{name}** ({len(family)} tests)\n\n{family_table(arms, family)}")
    except UserError as error:
        print(f"study_tests: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever read has enough
        sys.stdout = None


if __name__ == "__main__":
    main()
