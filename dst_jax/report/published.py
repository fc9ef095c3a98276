"""The paper's own numbers, and ours beside them where a run answers to them.

Robust accuracies in percent from Wu et al. 2025 (ICLR): captions of figures 3 and 4 and table 1;
table 2 was read from a damaged copy and is marked so. A run answers to a number if its network, its
training set, its recipe and its benchmark are whole; anything less is listed as what it is, not
beside it. Nothing here is computed into anything. Called by `report.write` and `verdicts`.
"""

import csv
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

from dst_jax.data.benchmarks import Benchmark, named
from dst_jax.data.datasets import DATASETS
from dst_jax.report import recipes
from dst_jax.report.groups import Comparison, Group
from dst_jax.report.recipes import CIFAR10, CIFAR100, DEIT, IMAGENET, TINY_IMAGENET, UCF101
from dst_jax.report.wording import accuracy_text, percent

NOT_RUN = "not run"
METHODS = ("dense", "rigl", "mest_g", "granet_g")
_DAMAGED = "table 2, damaged copy"


class Published(NamedTuple):
    """A row of the paper: robust accuracies in percent, None where the number could not be read.

    Attributes:
      benchmark: its name in `data.benchmarks`.
      model: its name in `dst_jax.models`, in its published width and depth.
      sparsity: of the sparse methods.
      numbers: dense, RigL, MEST_g, GraNet_g.
      source: where in the paper.
      recipe: what a run must have been trained with, see `recipes`.
    """

    benchmark: str
    model: str
    sparsity: float
    numbers: tuple[float | None, ...]
    source: str
    recipe: recipes.Recipe

    @property
    def list(self) -> Benchmark:
        """The benchmark itself."""
        found = named(self.benchmark)
        assert found is not None
        return found

    @property
    def dataset(self) -> str:
        """The dataset of the training."""
        return self.list.dataset


PUBLISHED = (
    Published("ImageNet-C", "resnet50", 0.1, (38.38, 38.70, 38.64, 38.72), "figure 3", IMAGENET),
    Published(
        "ImageNet-C-bar",
        "resnet50",
        0.1,
        (40.38, 41.44, 40.50, 41.07),
        "figure 3",
        IMAGENET,
    ),
    Published("ImageNet-3DCC", "resnet50", 0.1, (43.62, 44.08, 43.87, 44.46), "table 1", IMAGENET),
    Published("ImageNet-C", "deit_base", 0.1, (54.68, 54.73, 55.15, 54.94), "figure 4", DEIT),
    Published("UCF101-P", "resnet3d50", 0.1, (51.14, 52.71, 53.00, 53.57), "table 1", UCF101),
    Published("UCF101-P", "i3d_r50", 0.1, (53.58, 55.00, 56.30, 55.21), "table 1", UCF101),
    Published("CIFAR10-C", "vgg16", 0.4, (73.2, 73.6, 73.6, None), _DAMAGED, CIFAR10),
    Published("CIFAR100-C", "resnet34", 0.4, (51.6, 55.6, 55.6, None), _DAMAGED, CIFAR100),
    Published(
        "TinyImageNet-C",
        "efficientnet_b0",
        0.4,
        (15.42, 16.46, 16.46, None),
        _DAMAGED,
        TINY_IMAGENET,
    ),
)


class PaperComparison(NamedTuple):
    """One method of a row: theirs and ours, as text, and where the images of ours come from."""

    published: Published
    method: str
    theirs: str
    ours: str
    clean: str
    images: str


def compare_with_paper(comparisons: Sequence[Comparison]) -> list[PaperComparison]:
    """All numbers of the paper, in order, with ours beside them or "not run"."""
    rows = []
    for published in PUBLISHED:
        digits = max(len(f"{n:g}".partition(".")[2]) for n in published.numbers if n is not None)
        for method, number in zip(METHODS, published.numbers, strict=True):
            theirs = "lost" if number is None else f"{number:.{digits}f}"
            rows.append(
                PaperComparison(published, method, theirs, *_ours(published, method, comparisons))
            )
    return rows


def short_of(comparisons: Sequence[Comparison]) -> list[str]:
    """The runs of the paper's networks and data that answer to no number of it, and why."""
    found: dict[str, None] = {}
    for published in PUBLISHED:
        for comparison, group in _candidates(published, comparisons):
            if lacking := shortfall(published, comparison, group):
                text = f"{group.name} of {comparison.model} on {comparison.dataset}"
                found[f"{text}, {comparison.suite}: {'; '.join(lacking)}"] = None
    return list(found)


def shortfall(published: Published, comparison: Comparison, group: Group) -> list[str]:
    """What keeps a group from answering to a number of the paper, in words; empty: nothing."""
    run = group.runs[0]
    found = list(filter(None, (run.toy, run.part_of_data, group.unfinished, run.contradiction)))
    found += recipes.differing(
        run.config,
        published.recipe,
        published.dataset,
        published.model,
        group.algorithm,
        group.sparsity or 0.0,
    )
    if lacking := comparison.lacking(group):
        found.append(lacking)
    images, wanted = comparison.of(group)[0].n, published.list.test_images
    if images > wanted:
        found.append(f"{images:,} test images, not {wanted:,}")
    source = comparison.image_source.source if comparison.image_source else ""
    files = [f"tfds/{corrupted.tfds_name}" for corrupted in DATASETS[published.dataset].published]
    if not source.startswith("rendered") and source not in files:
        found.append(f"images from {source or 'nobody knows where'}")
    elif "+frost-" in source:
        found.append("other photographs of frost")
    if not group.is_dense and not math.isclose(group.sparsity or 0.0, published.sparsity):
        found.append(f"sparsity {percent(group.sparsity or 0.0)} %")
    if not group.is_dense and group.algorithm not in METHODS:
        found.append(f"{group.algorithm} is not among its methods here")
    return found


def _candidates(
    published: Published, comparisons: Sequence[Comparison]
) -> list[tuple[Comparison, Group]]:
    """The groups of a row's network, dataset and benchmark."""
    return [
        (comparison, group)
        for comparison in comparisons
        if (comparison.dataset, comparison.model) == (published.dataset, published.model)
        and comparison.image_source is not None
        and comparison.image_source.benchmark.name == published.benchmark
        for group in comparison.groups
    ]


def _ours(
    published: Published, method: str, comparisons: Sequence[Comparison]
) -> tuple[str, str, str]:
    # Of several that answer, as of two numbers of seeds, the one with the most seeds.
    order = sorted(_candidates(published, comparisons), key=lambda pair: -len(pair[1].runs))
    for comparison, group in order:
        same = group.is_dense if method == "dense" else group.algorithm == method
        robust, clean = comparison.robust(group), comparison.clean(group)
        if not same or robust is None or shortfall(published, comparison, group):
            continue
        text = f"{accuracy_text(robust, 2)} (n = {robust.n})"
        assert comparison.image_source is not None
        files = comparison.image_source.source.startswith("tfds/")  # `shortfall` knows them
        images = "published files" if files else f"{comparison.image_source.source} here"
        return text, accuracy_text(clean, 2) if clean else NOT_RUN, images
    return NOT_RUN, NOT_RUN, ""


HEADS = (
    "Benchmark", "Model", "Sparsity, %", "Method", "Paper: robust, %", "Paper: where",
    "Ours: robust, %", "Ours: clean, %", "Ours: images",
)  # fmt: skip


def cells(row: PaperComparison) -> tuple[str, ...]:
    """A row as texts under `HEADS`."""
    p = row.published
    sparsity = "0" if row.method == "dense" else percent(p.sparsity)
    return (
        *(p.benchmark, p.model, sparsity, row.method, row.theirs, p.source),
        *(row.ours, row.clean, row.images or "–"),
    )


def to_csv(rows: Sequence[PaperComparison]) -> str:
    """The rows as CSV, in percent."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADS)
    writer.writerows(map(cells, rows))
    return buffer.getvalue()
