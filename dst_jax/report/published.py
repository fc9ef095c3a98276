"""The paper's own numbers, and ours beside them where a run answers to them.

Robust accuracies in percent from Wu et al. 2025 (ICLR): captions of figures 3 and 4 and table 1;
table 2 was read from a damaged copy and is marked so. Nothing here is computed into anything.
Called by `report.write`.
"""

import csv
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

from dst_jax.report.groups import Comparison, percent
from dst_jax.report.tables import accuracy_text

NOT_RUN = "not run"
METHODS = ("dense", "rigl", "mest_g", "granet_g")
_DAMAGED = "table 2, damaged copy"


class Published(NamedTuple):
    """A row of the paper: robust accuracies in percent, None where the number could not be read.

    Attributes:
      benchmark: the suite, in the paper's words.
      dataset: of the training, as in `dst_jax.data`.
      model: as in `dst_jax.models`.
      sparsity: of the sparse methods.
      marks: a corruption that only this suite has.
      numbers: dense, RigL, MEST_g, GraNet_g.
      source: where in the paper.
    """

    benchmark: str
    dataset: str
    model: str
    sparsity: float
    marks: str
    numbers: tuple[float | None, ...]
    source: str


_C, _BAR, _3D = "gaussian_noise", "caustic_refraction", "near_focus"
PUBLISHED = (
    Published(
        "ImageNet-C", "imagenet2012", "resnet50", 0.1, _C, (38.38, 38.70, 38.64, 38.72), "figure 3"
    ),
    Published(
        "ImageNet-C-bar", "imagenet2012", "resnet50", 0.1, _BAR, (40.38, 41.44, 40.50, 41.07),
        "figure 3",
    ),
    Published(
        "ImageNet-3DCC", "imagenet2012", "resnet50", 0.1, _3D, (43.62, 44.08, 43.87, 44.46),
        "table 1",
    ),
    Published(
        "ImageNet-C", "imagenet2012", "deit_base", 0.1, _C, (54.68, 54.73, 55.15, 54.94), "figure 4"
    ),
    Published(
        "UCF101, corrupted", "ucf101", "resnet50_3d", 0.1, "", (51.14, 52.71, 53.00, 53.57),
        "table 1",
    ),
    Published(
        "UCF101, corrupted", "ucf101", "i3d", 0.1, "", (53.58, 55.00, 56.30, 55.21), "table 1"
    ),
    Published("CIFAR10-C", "cifar10", "vgg16", 0.4, _C, (73.2, 73.6, 73.6, None), _DAMAGED),
    Published("CIFAR100-C", "cifar100", "resnet34", 0.4, _C, (51.6, 55.6, 55.6, None), _DAMAGED),
    Published(
        "TinyImageNet-C", "tiny_imagenet", "efficientnet_b0", 0.4, _C, (15.42, 16.46, 16.46, None),
        _DAMAGED,
    ),
)  # fmt: skip


class Beside(NamedTuple):
    """One method of a row: theirs and ours, as text, and how many corruptions ours is over."""

    published: Published
    method: str
    theirs: str
    ours: str
    clean: str
    corruptions: int


def beside(comparisons: Sequence[Comparison]) -> list[Beside]:
    """All numbers of the paper, in order, with ours beside them or "not run"."""
    rows = []
    for published in PUBLISHED:
        digits = max(len(f"{n:g}".partition(".")[2]) for n in published.numbers if n is not None)
        for method, number in zip(METHODS, published.numbers, strict=True):
            theirs = "lost" if number is None else f"{number:.{digits}f}"
            ours = _ours(published, method, comparisons)
            rows.append(Beside(published, method, theirs, *ours))
    return rows


def _ours(
    published: Published, method: str, comparisons: Sequence[Comparison]
) -> tuple[str, str, int]:
    for c in comparisons:
        if (c.dataset, c.model) != (published.dataset, published.model):
            continue
        if published.marks not in c.corruptions:
            continue
        for group in c.groups:
            same = group.is_dense if method == "dense" else group.algorithm == method
            near = method == "dense" or math.isclose(group.sparsity or 0.0, published.sparsity)
            robust, clean = c.robust(group), c.clean(group)
            if same and near and robust is not None and not group.unfinished:
                seeds = f" (n = {robust.n})"
                text = accuracy_text(robust, 2) + seeds
                return text, accuracy_text(clean, 2) if clean else NOT_RUN, len(c.corruptions)
    return NOT_RUN, NOT_RUN, 0


HEADS = (
    "Benchmark", "Model", "Sparsity, %", "Method", "Paper: robust, %", "Paper: where",
    "Ours: robust, %", "Ours: clean, %", "Ours: corruptions",
)  # fmt: skip


def cells(row: Beside) -> tuple[str, ...]:
    """A row as texts under `HEADS`."""
    p = row.published
    sparsity = "0" if row.method == "dense" else percent(p.sparsity)
    count = str(row.corruptions) if row.corruptions else "–"
    return (
        *(p.benchmark, p.model, sparsity, row.method, row.theirs, p.source),
        *(row.ours, row.clean, count),
    )


def to_csv(rows: Sequence[Beside]) -> str:
    """The rows as CSV, in percent."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADS)
    writer.writerows(map(cells, rows))
    return buffer.getvalue()
