"""The scores of a study as one tidy table: a row for each run and condition.

What a reader needs who draws something of their own, in any program that reads CSV. Rows whose
column `counted` is 1 are those behind the run's robust accuracy on the page: their plain mean over
a run is that number. Called by `archive`.
"""

import csv
import gzip
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from dst_jax.report.comparisons import compare, image_source_of
from dst_jax.report.groups import Comparison
from dst_jax.report.runs import Run
from dst_jax.robustness import Result

COLUMNS = (
    *("run", "dataset", "model", "algorithm", "sparsity", "seed", "steps", "status"),
    *("suite", "source", "preset", "corruption_seed", "images", "benchmark"),
    *("corruption", "severity", "n", "accuracy", "ece", "counted"),
)
# Options that have a column above.
_OPTIONS = (
    *("data.name", "model.name", "sparsity.algorithm", "sparsity.sparsity"),
    *("seed", "train.steps"),
)


def to_csv(runs: Sequence[Run]) -> str:
    """The table as CSV: `COLUMNS`, then each option that differs between the runs, by its name.

    Shares are in [0, 1]; a cell is empty where nothing is known. `status` says how far a run came
    if it did not reach the end of its training; runs without scores have no row.
    """
    differing = _differing([run.config for run in runs if run.config])
    comparisons = compare(runs)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*COLUMNS, *differing])
    for run in runs:
        own = [
            *(run.directory.name, run.dataset, run.model, run.algorithm, run.sparsity),
            *(run.seed, run.steps, run.status),
        ]
        options = [_cell(run.config.get(name)) for name in differing]
        for result in run.results:
            setting = result.setting
            counted = _counted(run, result, comparisons)
            for row in result.scores:
                writer.writerow(
                    [
                        *own,
                        *(setting.suite, setting.source, setting.preset, setting.seed),
                        *(setting.images, result.benchmark.name, row.corruption, row.severity),
                        *(row.n, row.accuracy, "" if math.isnan(row.ece) else row.ece),
                        int(row.condition in counted),
                        *options,
                    ]
                )
    return buffer.getvalue()


def compressed(text: str) -> bytes:
    """A text through gzip, without a time or a name, so that the same text has the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
        file.write(text.encode("utf-8", errors="backslashreplace"))
    return buffer.getvalue()


def _counted(run: Run, result: Result, comparisons: Sequence[Comparison]) -> set[Any]:
    """The conditions of a result that are behind its run's robust accuracy on the page."""
    for comparison in comparisons:
        shown = comparison.results.get(run.directory)
        here = comparison.image_source == image_source_of(result)
        if here and shown is not None and shown.setting == result.setting:
            return set(shown.counted)
    return set()


def _differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    names = sorted({name for config in configs for name in config if name not in _OPTIONS})
    return [name for name in names if len({repr(c.get(name)) for c in configs}) > 1]


def _cell(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
