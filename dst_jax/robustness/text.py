"""A result as text, and as plain values; figures are in `plots`. Called by `result`."""

import math
from typing import TYPE_CHECKING, Any

from dst_jax.data import benchmarks, datasets
from dst_jax.robustness.records import CLEAN, Condition

LISTED = "suite_lists"  # in the summary: the corruptions and severities of a user's own suite

if TYPE_CHECKING:
    from dst_jax.robustness.result import Result


def table(result: "Result") -> str:
    """Accuracies in percent, a row per corruption, then the means and what they are of."""
    setting, levels = result.setting, result.severities
    rows = {row.condition: row for row in result.scores}
    where = [result.dataset or "images without a name", f"{result.n:,} images", setting.source]
    if setting.preset:
        where.append(f"{setting.preset}, seed {setting.seed}")
    width = max(map(len, (*result.corruptions, "corruption")))
    head = "".join(f"{f's{level}':>7}" for level in levels)
    lines = [f"{setting.suite}: " + ", ".join(where), f"{'corruption':{width}}   mean{head}"]
    for name, mean in result.by_corruption.items():
        found = [rows.get(Condition(name, level)) for level in levels]
        cells = "".join(f"{100 * r.accuracy:7.1f}" if r else f"{'–':>7}" for r in found)
        lines.append(f"{name:{width}}{100 * mean:7.1f}{cells}")
    means = "  ".join(f"{name} {100 * mean:.1f}" for name, mean in result.by_category.items())
    name, missing = result.benchmark.name, result.lacking
    common = [
        f"the {count} common corruptions {100 * mean:.1f}"
        + (" (those of mCE)" if count == 15 else " (with the 4 for validation)")
        for count, mean in result.common_means().items()
    ]
    lines += [
        f"clean {_percent(result.clean_accuracy)} %   robust {_percent(result.robust_accuracy)} %"
        + _interval(result),
        f"robust accuracy over {name}"
        + (", a list of its own and no benchmark" if benchmarks.named(name) is None else "")
        + f", {f'INCOMPLETE: {missing}' if missing else 'complete'}",
        f"ECE, %: clean {_percent(result.clean_ece)}  corrupted {_percent(result.mean_ece)}",
        f"categories, %: {means}",
        *([f"means over, %: {'  '.join(common)}"] if common else []),
        *_kept(result),
    ]
    if result.mce is None:
        lines.append(f"mCE is not defined: {result.why_no_mce}")
    else:
        over = result.mce_interval() if _has_record(result) else None
        ends = f" (95 % interval over images: {over.low:.1f} to {over.high:.1f})" if over else ""
        relative = _number(result.relative_mce)
        lines.append(f"mCE {result.mce:.1f} %{ends}   relative mCE {relative} %")
    return "\n".join([*lines, *result.notes])


def summary(result: "Result") -> dict[str, Any]:
    """Everything but the record of each image, as plain values; see `Result.summary`."""
    return {
        "dataset": result.dataset,
        **result.setting._asdict(),
        "benchmark": result.benchmark.name,
        "lacking": result.lacking,
        **_listed(result),
        "severities": list(result.severities),
        "corruptions": list(result.corruptions),
        "clean_accuracy": result.clean_accuracy,
        "robust_accuracy": result.robust_accuracy,
        "common_means": {str(count): mean for count, mean in result.common_means().items()},
        "mce": result.mce,
        "relative_mce": result.relative_mce,
        "why_no_mce": result.why_no_mce,
        "clean_ece": result.clean_ece,
        "mean_ece": result.mean_ece,
        "by_category": result.by_category,
        "by_corruption": result.by_corruption,
        "by_severity": {str(severity): mean for severity, mean in result.by_severity.items()},
        "notes": list(result.notes),
    }


def _listed(result: "Result") -> dict[str, Any]:
    """The list of a suite that a user registered, which the name alone does not tell."""
    suite = result.setting.suite
    if suite not in benchmarks.REGISTERED and result.listed is None:
        return {}
    own = result.benchmark
    return {LISTED: {"corruptions": list(own.corruptions), "severities": list(own.severities)}}


def lacking(result: "Result") -> str:
    """What the benchmark has and a result has not, in words; see `Result.lacking`."""
    parts = []
    wanted = result.benchmark.conditions
    if len(result.counted) < len(wanted):
        parts.append(f"{len(result.counted)} of {len(wanted)} conditions")
        names = result.benchmark.corruptions
        absent = [name for name in names if name not in {c.corruption for c in result.counted}]
        if 0 < len(absent) <= 3 and len(result.counted) > 0:
            parts[0] += f", without {' and '.join(absent)}"
    if 0 < result.n < result.benchmark.test_images:
        parts.append(f"{result.n:,} of {result.benchmark.test_images:,} images")
    known = datasets.DATASETS.get(result.benchmark.dataset)
    if known and result.setting.preset not in ("", known.preset):
        parts.append(f"constants of {result.setting.preset}")
    return "; ".join(parts)


def _has_record(result: "Result") -> bool:
    return bool(result.counted) and all(c in result.hits for c in result.counted)


def _kept(result: "Result") -> list[str]:
    """What the kept predictions add, if they are there for clean images and the benchmark."""
    lines = []
    for name, conditions in (("clean", [CLEAN]), ("corrupted", [*result.counted])):
        if not conditions or not result.keeps("top5", conditions):
            return []
        # Among five classes or fewer every image is right.
        classes = result.kept[conditions[0]].classes
        top = f"top-5 {100 * result.top_k(5, conditions):.1f} %, " if classes > 5 else ""
        lines.append(
            f"{name}: {top}negative log-likelihood {result.nll(conditions):.3f}, "
            f"Brier score {result.brier(conditions):.3f}"
        )
    return lines


def _interval(result: "Result") -> str:
    if not _has_record(result):
        return ""
    found = result.interval()
    ends = f"{100 * found.low:.1f} to {100 * found.high:.1f}"
    return f" (95 % interval over images: {ends})"


def _percent(share: float | None) -> str:
    return "–" if share is None or not math.isfinite(share) else f"{100 * share:.1f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
