"""Sorts runs into comparisons: which seeds are one group, which score of a run is shown.

What a comparison says of its groups is in `groups`, what it remarks on them in `comparison_notes`.
Called by `report.write`.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dst_jax.data.datasets import benchmark_of
from dst_jax.report import comparison_notes
from dst_jax.report.groups import (
    SIZE,
    Comparison,
    Group,
    ImageSource,
    Scope,
    is_smaller,
    parameters,
    scope,
)
from dst_jax.report.recipes import key_of, settings
from dst_jax.report.runs import Run
from dst_jax.robustness import Result


def compare(runs: Sequence[Run]) -> list[Comparison]:
    """Sorts runs into comparisons, one for each dataset, model and benchmark."""
    known = list(dict.fromkeys((r.dataset, r.model) for r in runs if r.dataset or r.model))
    # A run that does not say what it trained belongs to the only candidate, where there is one.
    home = known[0] if len(known) == 1 else (None, None)
    members: dict[tuple[str | None, str | None], list[Run]] = {key: [] for key in known}
    for run in runs:
        key = (run.dataset, run.model) if run.dataset or run.model else home
        members.setdefault(key, []).append(run)
    comparisons = []
    for (dataset, model), alike in members.items():
        sources = dict.fromkeys(image_source_of(result) for run in alike for result in run.results)
        own = {benchmark_of(str(r.config.get("eval.suite")), r.dataset or "") for r in alike}
        ordered: list[ImageSource | None] = [*sorted(sources, key=lambda p: p.benchmark not in own)]
        for where in ordered or [None]:
            comparisons.append(_comparison(dataset, model, where, alike))
    return comparisons


def image_source_of(result: Result) -> ImageSource:
    """Where a result is shown."""
    setting = result.setting
    return ImageSource(result.benchmark, setting.source, setting.preset, setting.seed)


def _comparison(
    dataset: str | None, model: str | None, image_source: ImageSource | None, runs: Sequence[Run]
) -> Comparison:
    notes: list[str] = []
    results: dict[Path, Result] = {}
    all_groups, repeats = _group_seeds(runs, image_source)
    notes += repeats
    groups: list[Group] = []
    not_counted: list[Group] = []
    remarks: dict[Path, str] = {}
    copies: set[Path] = set()
    for group in all_groups:
        chosen = _chosen(group, image_source, runs)
        counted: list[Run] = []
        for run in group.runs:
            if chosen is None or run.contradiction:
                continue
            result = _within(run, image_source, chosen)
            if result is not None and not (twin := _twin(run, result, counted, results)):
                counted.append(run)
                results[run.directory] = result
                notes += _others(run, result, _at(run, image_source))
            elif result is not None:
                copies.add(run.directory)
                remarks[run.directory] = f"not counted: the same training as {twin}"
        if counted:
            groups.append(_with(group, counted))
        others = [run for run in group.runs if run not in counted]
        if others:
            not_counted.append(_with(group, others))
        for run in others:
            best = max(_at(run, image_source), key=_fullness, default=None)
            remarks.setdefault(run.directory, _remark(run, best, image_source))
    shown = [run for group in groups for run in group.runs]
    comparison = Comparison(
        dataset,
        model,
        image_source,
        all_groups,
        tuple(groups),
        tuple(not_counted),
        {run.directory: results[run.directory] for run in shown},
        remarks,
        (),
        frozenset(copies),
    )
    notes += [
        f"{run.directory.name} was evaluated on clean images only."
        for run in shown
        if not results[run.directory].counted
    ]
    notes += list(dict.fromkeys(n for run in shown for n in results[run.directory].notes))
    notes += filter(None, (comparison.obstacle(group) for group in groups))
    if any(not results[run.directory].setting.images for run in shown):
        notes.append("Which images were scored is not on record for all runs: an older version.")
    notes += comparison_notes.of(comparison)
    return Comparison(**{**vars(comparison), "notes": tuple(notes)})


def _at(run: Run, image_source: ImageSource | None) -> list[Result]:
    """What a run was scored on with images of one source."""
    return [
        r for r in run.results if image_source is not None and image_source_of(r) == image_source
    ]


def _within(run: Run, image_source: ImageSource | None, wanted: Scope) -> Result | None:
    """A run's score on these images, restricted to these conditions, if it has all of them."""
    for result in _at(run, image_source):
        own = scope(result)
        if own[:2] == wanted[:2] and set(wanted.conditions) <= set(own.conditions):
            return result.only(wanted.conditions)
    return None


def _chosen(group: Group, image_source: ImageSource | None, runs: Sequence[Run]) -> Scope | None:
    """Which scores of a group are shown: complete ones, else those that most runs have.

    A quick look at some seeds, at more conditions or more images, must not displace what all of
    them were scored on.
    """
    found = {scope(r): r for run in group.runs for r in _at(run, image_source)}

    def rank(wanted: Scope) -> tuple[Any, ...]:
        own, everywhere = (
            sum(_within(run, image_source, wanted) is not None for run in some)
            for some in (group.runs, runs)
        )
        conditions = len(wanted.conditions)
        return not found[wanted].lacking, conditions > 0, own, everywhere, wanted.n * conditions

    # What the others have counts too: seeds scored on more than they can be shown on less.
    for run in runs:
        for result in _at(run, image_source):
            if any(_within(own, image_source, scope(result)) for own in group.runs):
                found.setdefault(scope(result), result)
    return max(found, key=rank, default=None)


def _twin(run: Run, result: Result, counted: Sequence[Run], results: Mapping[Path, Result]) -> str:
    """The run among those counted that is this training once more, whatever its seed says."""
    for other in counted:
        same = bool(run.weights) and run.weights == other.weights
        if same or result.same_answers(results[other.directory]):
            return other.directory.name
    return ""


def _fullness(result: Result) -> tuple[bool, int]:
    """Complete scores first, then by the number of answers behind them."""
    return not result.lacking, result.n * max(1, len(result.counted))


def _others(run: Run, best: Result, found: Sequence[Result]) -> list[str]:
    """Says that a run has more scores of the same kind than the one that is shown."""
    quick = [r for r in found if scope(r) != scope(best)]
    if not quick:
        return []
    sizes = ", ".join(f"{r.n:,} images and {len(r.counted)} conditions" for r in quick)
    return [
        f"{run.directory.name} was also scored on {sizes}: the score on {best.n:,} images and "
        f"{len(best.counted)} conditions is shown."
    ]


def _remark(run: Run, result: Result | None, image_source: ImageSource | None) -> str:
    """Why a run is not counted."""
    if run.status:
        return run.status
    if run.contradiction:
        return f"not counted: {run.contradiction}"
    if result is None:
        return f"not evaluated on {image_source.text if image_source else 'anything'}"
    return f"not counted: scored on {result.n:,} images, {len(result.counted)} conditions" + (
        f" ({result.lacking})" if result.lacking else ""
    )


def _with(group: Group, runs: Iterable[Run]) -> Group:
    return Group(group.method, group.algorithm, group.sparsity, tuple(runs))


def _group_seeds(
    runs: Sequence[Run], image_source: ImageSource | None
) -> tuple[tuple[Group, ...], list[str]]:
    """Groups runs that differ only in seed; dense first, then by sparsity and name.

    A second run with the same settings and the same seed is left out: it is no further sample.

    Returns:
      The groups and a note for each run left out.
    """
    by_key: dict[str, dict[int | None, Run]] = {}
    notes = []
    # Of two alike, the one with the fuller score counts.
    order = sorted(
        runs,
        key=lambda run: max(map(_fullness, _at(run, image_source)), default=(False, 0)),
        reverse=True,
    )
    for run in order:
        seeds = by_key.setdefault(key_of(run), {})
        if run.seed in seeds:
            notes.append(
                f"{run.directory.name} repeats seed {run.seed} of "
                f"{seeds[run.seed].directory.name} and is not counted."
            )
        else:
            seeds[run.seed] = run
    members = [tuple(sorted(f.values(), key=_run_order)) for f in by_key.values()]
    members.sort(key=lambda m: (_run_order(m[0]), key_of(m[0])))
    return tuple(_named(m, members) for m in members), notes


def _named(runs: tuple[Run, ...], members: Sequence[tuple[Run, ...]]) -> Group:
    """A group whose method tells it from other groups of the same algorithm and sparsity.

    A dense network that is the smaller form of another is called so, with its size.
    """
    run = runs[0]
    firsts = [other for other, *_ in members]
    larger = [other for other in firsts if is_smaller(run, other)]
    namesakes = [
        settings(other)
        for other in firsts
        if run.config
        and other.config
        and _label(other) == _label(run)
        and any(is_smaller(other, third) for third in firsts) == bool(larger)
    ]
    own = settings(run)
    differing = [
        key
        for key in sorted({key for found in namesakes for key in found})
        if len({repr(found.get(key)) for found in namesakes}) > 1
    ]
    # As few as tell it from all of its namesakes; of a small network its size in any case.
    needed = [key for key in SIZE if any(own.get(key) != settings(o).get(key) for o in larger)]
    left = [found for found in namesakes if found != own]
    for key in [*needed, *differing]:
        if any(repr(found.get(key)) != repr(own.get(key)) for found in left):
            needed += [key] if key not in needed else []
            left = [found for found in left if repr(found.get(key)) == repr(own.get(key))]
    algorithm = run.algorithm or run.directory.name
    texts = [algorithm]
    texts += [f"{key.removeprefix('sparsity.')}={own.get(key)}" for key in needed]
    if larger:
        texts[0] = f"small {algorithm}"
        texts = [text.removeprefix("model.") for text in texts]
        texts.append(f"{parameters(run):,.0f} parameters")
    return Group(", ".join(texts), algorithm, run.sparsity, runs)


def _label(run: Run) -> tuple[str | None, float | None]:
    return run.algorithm, run.sparsity


def _run_order(run: Run) -> tuple[bool, float, str, str, int]:
    return (
        not run.is_dense,
        run.sparsity if run.sparsity is not None else 2.0,
        run.algorithm or "~",  # the nameless last
        run.directory.name if run.algorithm is None else "",
        run.seed if run.seed is not None else -1,
    )
