"""The paper's own numbers, and ours beside them where a run answers to them.

Robust accuracies in percent from Wu et al. 2025 (ICLR): captions of figures 3 and 4 and table 1;
table 2 was read from a damaged copy and is marked so. A run answers to a number if its network, its
training set, its recipe and its benchmark are whole; anything less is listed as what it is, not
beside it. Nothing here is computed into anything. Called by `report.write` and `verdicts`.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dst_jax.data.benchmarks import Benchmark, named
from dst_jax.report.groups import Comparison, Group
from dst_jax.report.wording import accuracy_text, percent

NOT_RUN = "not run"
METHODS = ("dense", "rigl", "mest_g", "granet_g")
_DAMAGED = "table 2, damaged copy"

# The recipes that stand for the paper's, whose appendix is not public: those of the cards, by what
# decides them. Tests hold them against the cards.
_GRANET = {
    "train.epochs": 160.0,
    "train.batch_size": 128,
    "train.optimizer": "sgd",
    "train.learning_rate": 0.1,
    "train.weight_decay": 5e-4,
    "train.schedule": "step",
}
_IMAGENET = {
    "train.epochs": 100.0,
    "train.batch_size": 256,
    "train.optimizer": "sgd",
    "train.learning_rate": 0.1,
    "train.weight_decay": 1e-4,
    "train.schedule": "step",
    "data.augment": "resized_crop_flip",
}
_DEIT = {
    "train.epochs": 200.0,
    "train.batch_size": 1024,
    "train.optimizer": "adamw",
    "train.learning_rate": 1e-3,
    "train.weight_decay": 0.05,
    "train.schedule": "cosine",
    "data.augment": "resized_crop_flip",
}
_UCF101 = {
    "train.epochs": 100.0,
    "train.batch_size": 16,
    "train.optimizer": "sgd",
    "train.learning_rate": 0.1,
    "train.weight_decay": 1e-3,
    "train.schedule": "cosine",
    "data.augment": "clip_crop_flip",
}


class Published(NamedTuple):
    """A row of the paper: robust accuracies in percent, None where the number could not be read.

    Attributes:
      benchmark: its name in `data.benchmarks`.
      model: its name in `dst_jax.models`, in its published width and depth.
      sparsity: of the sparse methods.
      numbers: dense, RigL, MEST_g, GraNet_g.
      source: where in the paper.
      recipe: what a run must have been trained with, {option: value}.
    """

    benchmark: str
    model: str
    sparsity: float
    numbers: tuple[float | None, ...]
    source: str
    recipe: Mapping[str, object]

    @property
    def list(self) -> Benchmark:
        """The benchmark itself."""
        found = named(self.benchmark)
        assert found is not None
        return found

    @property
    def dataset(self) -> str:
        """The data set of the training."""
        return self.list.dataset


PUBLISHED = (
    Published("ImageNet-C", "resnet50", 0.1, (38.38, 38.70, 38.64, 38.72), "figure 3", _IMAGENET),
    Published(
        "ImageNet-C-bar", "resnet50", 0.1, (40.38, 41.44, 40.50, 41.07), "figure 3", _IMAGENET
    ),
    Published("ImageNet-3DCC", "resnet50", 0.1, (43.62, 44.08, 43.87, 44.46), "table 1", _IMAGENET),
    Published("ImageNet-C", "deit_base", 0.1, (54.68, 54.73, 55.15, 54.94), "figure 4", _DEIT),
    Published("UCF101-P", "resnet3d50", 0.1, (51.14, 52.71, 53.00, 53.57), "table 1", _UCF101),
    Published("UCF101-P", "i3d_r50", 0.1, (53.58, 55.00, 56.30, 55.21), "table 1", _UCF101),
    Published("CIFAR10-C", "vgg16", 0.4, (73.2, 73.6, 73.6, None), _DAMAGED, _GRANET),
    Published("CIFAR100-C", "resnet34", 0.4, (51.6, 55.6, 55.6, None), _DAMAGED, _GRANET),
    Published(
        "TinyImageNet-C", "efficientnet_b0", 0.4, (15.42, 16.46, 16.46, None), _DAMAGED, _GRANET
    ),
)


class Beside(NamedTuple):
    """One method of a row: theirs and ours, as text, and where the images of ours come from."""

    published: Published
    method: str
    theirs: str
    ours: str
    clean: str
    images: str


def beside(comparisons: Sequence[Comparison]) -> list[Beside]:
    """All numbers of the paper, in order, with ours beside them or "not run"."""
    rows = []
    for published in PUBLISHED:
        digits = max(len(f"{n:g}".partition(".")[2]) for n in published.numbers if n is not None)
        for method, number in zip(METHODS, published.numbers, strict=True):
            theirs = "lost" if number is None else f"{number:.{digits}f}"
            rows.append(Beside(published, method, theirs, *_ours(published, method, comparisons)))
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
    run, config = group.runs[0], group.runs[0].config
    sizes = {name: config.get(f"model.{name}") for name in ("width", "depth")}
    found = [f"{name} {value}" for name, value in sizes.items() if value]
    if config.get("model.stem") != "published":
        found.append(f"stem {config.get('model.stem')}")
    found += filter(None, (run.toy, run.part_of_data))
    if group.unfinished:
        found.append(group.unfinished)
    for name, wanted in published.recipe.items():
        have = config.get(name)
        if isinstance(wanted, float) and isinstance(have, (int, float)):
            # 160 epochs may come out as 159.99, as steps are whole.
            same = math.isclose(have, wanted, rel_tol=2e-3)
        else:
            same = have == wanted
        if not same:
            texts = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in (have, wanted)]
            found.append(f"{name.partition('.')[2]} {texts[0]}, not {texts[1]}")
    if lacking := comparison.lacking(group):
        found.append(lacking)
    if not group.is_dense and not math.isclose(group.sparsity or 0.0, published.sparsity):
        found.append(f"sparsity {percent(group.sparsity or 0.0)} %")
    if not group.is_dense and group.algorithm not in METHODS:
        found.append(f"{group.algorithm} is not among its methods here")
    return found


def _candidates(
    published: Published, comparisons: Sequence[Comparison]
) -> list[tuple[Comparison, Group]]:
    """The groups of a row's network, data set and benchmark."""
    return [
        (comparison, group)
        for comparison in comparisons
        if (comparison.dataset, comparison.model) == (published.dataset, published.model)
        and comparison.place is not None
        and comparison.place.benchmark.name == published.benchmark
        for group in comparison.groups
    ]


def _ours(
    published: Published, method: str, comparisons: Sequence[Comparison]
) -> tuple[str, str, str]:
    for comparison, group in _candidates(published, comparisons):
        same = group.is_dense if method == "dense" else group.algorithm == method
        robust, clean = comparison.robust(group), comparison.clean(group)
        if not same or robust is None or shortfall(published, comparison, group):
            continue
        text = f"{accuracy_text(robust, 2)} (n = {robust.n})"
        assert comparison.place is not None
        files = comparison.place.source.startswith("tfds/")
        images = "published files" if files else f"{comparison.place.source} here"
        return text, accuracy_text(clean, 2) if clean else NOT_RUN, images
    return NOT_RUN, NOT_RUN, ""


HEADS = (
    "Benchmark", "Model", "Sparsity, %", "Method", "Paper: robust, %", "Paper: where",
    "Ours: robust, %", "Ours: clean, %", "Ours: images",
)  # fmt: skip


def cells(row: Beside) -> tuple[str, ...]:
    """A row as texts under `HEADS`."""
    p = row.published
    sparsity = "0" if row.method == "dense" else percent(p.sparsity)
    return (
        *(p.benchmark, p.model, sparsity, row.method, row.theirs, p.source),
        *(row.ours, row.clean, row.images or "–"),
    )


def to_csv(rows: Sequence[Beside]) -> str:
    """The rows as CSV, in percent."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADS)
    writer.writerows(map(cells, rows))
    return buffer.getvalue()
