"""`dst-jax compare A B`: two stored results side by side, with a paired bootstrap over the images.

Finds what both directories were scored on; the first field that differs refuses
what was not scored alike. The numbers are `Result.differences`. No JAX. Called by `subcommands`.
"""

from pathlib import Path

from dst_jax.errors import UserError
from dst_jax.robustness import storage
from dst_jax.robustness.result import Result
from dst_jax.statistics import Interval


def text(ours: str, theirs: str, suite: str = "") -> str:
    """The tables of all results that two directories share.

    Args:
      ours: a run directory, or one of an evaluation; a file of it does for it.
      theirs: the same of the other.
      suite: of which suite; "": all.

    Raises:
      UserError: one holds no result, or they share none; the text has the first field that differs.
    """
    sides = [_results(path, suite) for path in (ours, theirs)]
    pairs = [(a, b) for a in sides[0] for b in sides[1] if a.setting == b.setting]
    pairs = [(a, b) for a, b in pairs if a.dataset == b.dataset]
    if not pairs:
        mine, other = _most_alike(*sides)
        try:
            mine.check_same(other)
        except UserError as error:
            raise UserError(f"compare: {theirs}", *_parts(error)) from None
    return "\n\n".join(_table(*_shared(a, b), (ours, theirs), _left_out(a, b)) for a, b in pairs)


def _results(path: str, suite: str) -> list[Result]:
    directory = Path(path)
    if directory.name in (storage.CSV, storage.NPZ, storage.JSON):
        directory = directory.parent
    found = storage.load_all(directory)
    if not found:
        inside = sorted(p.parent.name for p in directory.glob(f"*/{storage.CSV}"))
        some = ", ".join(inside[:3]) + (", ..." if len(inside) > 3 else "")
        shown = f"a directory of results ({some})" if inside else "no result"
        raise UserError(path, shown, f"the directory of one evaluation, with {storage.CSV}")
    if suite and not (kept := [r for r in found if suite in (r.setting.suite, r.benchmark.name)]):
        raise UserError("--suite", suite, ", ".join(dict.fromkeys(r.setting.suite for r in found)))
    return kept if suite else found


def _most_alike(ours: list[Result], theirs: list[Result]) -> tuple[Result, Result]:
    """The two results whose settings have the most in common."""
    return max(
        ((a, b) for a in ours for b in theirs),
        key=lambda p: sum(x == y for x, y in zip(p[0].setting, p[1].setting, strict=True)),
    )


def _parts(error: UserError) -> tuple[str, str, str]:
    """Found, expected and hint of an error of `check_same`, with its field."""
    field, _, rest = str(error).partition(": found ")
    found, _, expected = rest.partition("; expected ")
    hint = "Evaluate both alike; dst-jax compare A B --suite=NAME chooses among several"
    return f"{field.removeprefix('other result: ')} {found}", f"{expected}, as in the first", hint


def _shared(ours: Result, theirs: Result) -> tuple[Result, Result]:
    """Both, with the conditions that both have: one may be further than the other."""
    conditions = [c for c in ours.conditions if c in set(theirs.conditions)]
    if ours.benchmark.conditions != theirs.benchmark.conditions:
        found = f"another list of corruptions under the name {theirs.setting.suite}"
        raise UserError("compare", found, "the same list in both")
    if not conditions:
        raise UserError("compare", "no condition that both were scored on", "one at least")
    return ours.only(conditions), theirs.only(conditions)


def _left_out(ours: Result, theirs: Result) -> list[str]:
    """A line that says which conditions only one of them has; none where there are none."""
    parts = []
    for name, one, other in (("A", ours, theirs), ("B", theirs, ours)):
        alone = [c for c in one.conditions if c not in set(other.conditions)]
        if alone:
            some = ", ".join(f"{c.corruption} {c.severity}" for c in alone[:3])
            parts.append(
                f"only {name} has: {len(alone)} ({some}{', ...' if len(alone) > 3 else ''})"
            )
    return [f"Left out of all rows: the conditions that {' and '.join(parts)}."] if parts else []


def _table(ours: Result, theirs: Result, names: tuple[str, str], notes: list[str]) -> str:
    found = ours.differences(theirs)
    left_out = "" if not ours.lacking else f", INCOMPLETE: {ours.lacking}"
    width = max(map(len, (*found, "corruption", ours.benchmark.name)))
    dataset = ours.dataset or "images without a name"
    lines = [
        f"A: {names[0]}",
        f"B: {names[1]}",
        f"{ours.setting.text}: {dataset}, {ours.n:,} images",
        *notes,
        f"{'corruption':{width}}{'A %':>8}{'B %':>8}{'A - B pp':>11}   95 % over images",
    ]
    means = [
        {"clean": r.clean_accuracy, **r.by_corruption, "robust": r.robust_accuracy}
        for r in (ours, theirs)
    ]
    for name, interval in found.items():
        shown = ours.benchmark.name if name == "robust" else name
        values = "".join(f"{100 * (side[name] or 0):8.1f}" for side in means)
        lines.append(f"{shown:{width}}{values}{_cells(interval)}")
    lines.append(
        f"The last row is robust accuracy over {ours.benchmark.name}{left_out}. Paired bootstrap: "
        "images are drawn, each with both answers; an interval is for its row alone, and says "
        "nothing about trainings with other seeds."
    )
    return "\n".join(lines)


def _cells(interval: Interval) -> str:
    low, high = (f"{100 * end:+.1f}" for end in (interval.low, interval.high))
    return f"{100 * interval.estimate:+11.1f}   {low} to {high}"
