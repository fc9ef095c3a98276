"""What is remarked on the runs of a comparison: lost records, toy runs, other versions, damages.

Called by `comparisons`.
"""

from collections.abc import Sequence

from dst_jax.report.groups import Comparison, Group, parameters
from dst_jax.report.recipes import SEVERAL, files_of
from dst_jax.report.wording import these_runs


def of(comparison: Comparison) -> list[str]:
    """The sentences, in order."""
    return [
        *_records(comparison),
        *_sizes(comparison),
        *_of_data(comparison.groups),
        *_versions(comparison),
        *_damages(comparison.groups),
    ]


def _records(comparison: Comparison) -> list[str]:
    """Says of how many runs it is not known which images were right."""
    scored = [result for result in comparison.results.values() if result.counted]
    lost = sum(not set(result.counted) <= set(result.hits) for result in scored)
    if not lost:
        return []
    of = "" if lost == len(scored) else f" for {lost} of {len(scored)} runs"
    return [
        f"Which images were right is not on record{of}, so gains lack the interval over images."
    ]


def _sizes(comparison: Comparison) -> list[str]:
    """Says what small dense networks are, where there are any."""
    small = [g for g in comparison.groups if g.is_dense and comparison.baseline(g)]
    if not small:
        return []
    bases = {base.name: base.runs[0] for g in small if (base := comparison.baseline(g))}
    sizes = ", ".join(f"{name} ({parameters(run):,.0f} parameters)" for name, run in bases.items())
    return [
        f"A small dense network has nothing removed and is no sparse method: its gain is over "
        f"{sizes}, which differs from it in the size of the network alone; its ratios of "
        "parameters and FLOPs are to itself."
    ]


def _of_data(groups: Sequence[Group]) -> list[str]:
    """Toy runs, and runs on a part of a published dataset: runs alike share a sentence."""
    found: dict[str, list[str]] = {}
    for group in groups:
        for run in group.runs:
            for text in filter(None, (run.toy and f"Toy run: {run.toy}", run.part_of_data)):
                found.setdefault(text, []).append(run.directory.name)
    return [f"{text[:1].upper()}{text[1:]} ({', '.join(names)})." for text, names in found.items()]


def _versions(comparison: Comparison) -> list[str]:
    """Says where a group and its baseline were not trained by the same code and packages."""
    notes = [
        f"{group.name} was trained with more than one version of the "
        f"{key.removeprefix('sparsity.')} ({versions})."
        for group in comparison.groups
        for key, versions in files_of(group.runs[0]).items()
        if SEVERAL in versions
    ]
    for group in comparison.groups:
        if (base := comparison.baseline(group)) is None:
            continue
        for key, what in (
            ("commit", "commits"),
            ("versions", "packages"),
            ("hardware", "hardware"),
        ):
            sides = [
                {str(start.get(key)) for run in g.runs for start in run.starts}
                for g in (group, base)
            ]
            if sides[0] != sides[1]:
                notes.append(f"{group.name} and {base.name} were trained with other {what}.")
    return notes


def _damages(groups: Sequence[Group]) -> list[str]:
    """What scored runs lack; runs that lack the same share a sentence."""
    names: dict[str, list[str]] = {}
    for group in groups:
        for run in group.runs:
            for problem in run.problems:
                names.setdefault(problem, []).append(run.directory.name)
    count = sum(len(group.runs) for group in groups)
    return [f"{problem} ({these_runs(where, count)})." for problem, where in names.items()]
