"""What a run's recipe is, and those that stand for the paper's, whose appendix is not public.

Runs of one recipe are samples of one thing (`settings`, `key_of`). The paper's recipes are what
differs from the defaults in our cards; tests hold both against each other. A run stands beside a
number of the paper only if all of its options are these (`differing`). Called by `groups`,
`comparisons`, `published`.
"""

import json
from collections.abc import Mapping
from typing import Any

from dst_jax import config as config_lib
from dst_jax.config.checks import DENSE
from dst_jax.data.datasets import DATASETS
from dst_jax.errors import UserError
from dst_jax.report.runs import Run

# Options that change what is recorded and when, not what is trained; what was evaluated is told by
# the scores themselves.
RECORDS = (
    *("checkpoint.", "log.", "analysis.", "eval."),
    *("train.steps_per_dispatch", "num_seeds"),
    "model.init_from",  # where weights lay; which they are is `model.init_sha256`
)

Recipe = Mapping[str, Any]

_GRANET: Recipe = {
    "train.epochs": 160.0,
    "train.schedule": "step",
    "sparsity.update_freq": "1000",
    "sparsity.update_end_step": "100%",
    "sparsity.drop_fraction": 0.5,
    "sparsity.drop_fraction_floor": 0.005,
}
CIFAR10: Recipe = {**_GRANET, "data.augment": "reflect_crop_flip"}
CIFAR100: Recipe = {**_GRANET, "data.augment": "crop_flip"}
TINY_IMAGENET: Recipe = {**_GRANET, "data.augment": "crop_flip"}
IMAGENET: Recipe = {
    "data.augment": "resized_crop_flip",
    "model.dtype": "bfloat16",
    "train.batch_size": 256,
    "train.epochs": 100.0,
    "train.schedule": "step",
    "train.warmup": "5%",
    "train.milestones": ("30%", "60%", "90%"),
    "train.weight_decay": 1e-4,
    "train.nesterov": False,
    "train.label_smoothing": 0.1,
    "sparsity.update_freq": "4000",
    "sparsity.drop_fraction": 0.5,
    "sparsity.prune_end_step": "30%",
}
DEIT: Recipe = {
    "data.augment": "resized_crop_flip",
    "data.randaugment_layers": 2,
    "data.erasing": 0.25,
    "model.dtype": "bfloat16",
    "model.drop_path": 0.1,
    "train.batch_size": 1024,
    "train.epochs": 200.0,
    "train.optimizer": "adamw",
    "train.learning_rate": 1e-3,
    "train.warmup": "2.5%",
    "train.weight_decay": 0.05,
    "train.label_smoothing": 0.1,
    "train.mixup": 0.8,
    "train.cutmix": 1.0,
    "sparsity.update_freq": "7000",
    "sparsity.update_end_step": "80%",
    "sparsity.drop_fraction": 0.5,
}
UCF101: Recipe = {
    "data.augment": "clip_crop_flip",
    "model.dtype": "bfloat16",
    "train.batch_size": 16,
    "train.epochs": 100.0,
    "train.weight_decay": 1e-3,
    "train.nesterov": False,
    "sparsity.update_freq": "1000",
    "sparsity.drop_fraction": 0.5,
}
_NAMED = 6  # so many differing options are named, the others counted


def resolved(recipe: Recipe, dataset: str, model: str, algorithm: str, sparsity: float) -> Recipe:
    """A recipe as a run has it, flat, durations in steps, on the whole published dataset."""
    config = config_lib.default()
    given = {
        "data.name": dataset,
        "model.name": model,
        "sparsity.algorithm": algorithm,
        "sparsity.sparsity": sparsity,
    }
    for name, value in {**recipe, **given}.items():
        config_lib.set_option(config, name, value)
    nested = config_lib.resolve(config, DATASETS[dataset].num_train)
    return dict(config_lib.flatten(nested))


def differing(
    run: Recipe, recipe: Recipe, dataset: str, model: str, algorithm: str, sparsity: float
) -> list[str]:
    """The options in which a run's config is not a recipe, in words; [] where it is.

    Args:
      run: the run's resolved config, flat.
      recipe: one of those above.
      dataset: of the paper's experiment.
      model: the same.
      algorithm: the run's.
      sparsity: the run's; of a dense run the sparsity options are not read.
    """
    try:
        wanted = resolved(recipe, dataset, model, algorithm, sparsity)
    except UserError as error:
        return [str(error)]
    found = []
    for name in sorted(wanted.keys() | run.keys()):
        if name == "seed" or name.startswith(RECORDS) or name == "data.stand_in_for":
            continue
        if algorithm in DENSE and name.startswith("sparsity."):
            continue
        have, want = run.get(name), wanted.get(name)
        have = list(have) if isinstance(have, tuple) else have
        want = list(want) if isinstance(want, tuple) else want
        if have != want:
            found.append(f"{name} {have}, not {want}")
    more = [f"{len(found) - _NAMED} more options"] if len(found) > _NAMED else []
    return found[:_NAMED] + more


# What of the user's files a training depends on; those of corruptions mark the scores.
_TRAINED_WITH = ("model", "dataset", "algorithm")
SEVERAL = " then "  # between the digests of files that were edited before a run was resumed


def settings(run: Run) -> dict[str, object]:
    """What decides what is computed, without the seed: of the config, and the user's files.

    Of a model, dataset or algorithm that a file of the user's registered, the file's digest counts
    too: after an edit it is another one of the same name.
    """
    chosen = {
        key: value
        for key, value in run.config.items()
        if key != "seed"
        and not key.startswith(RECORDS)
        # A dense run reads none of the sparsity options, whatever a card left in them.
        and not (run.is_dense and key.startswith("sparsity."))
    }
    return {**chosen, **files_of(run)}


def files_of(run: Run) -> dict[str, str]:
    """What each start of a run recorded of the user's files: "file of model NAME" -> digests."""
    found: dict[str, dict[str, None]] = {}
    for start in run.starts:
        entries = start.get("registered")
        for entry in entries if isinstance(entries, list) else ():
            if not isinstance(entry, dict) or entry.get("kind") not in _TRAINED_WITH:
                continue
            if entry["kind"] == "algorithm" and run.is_dense:
                continue
            section = "sparsity." if entry["kind"] == "algorithm" else ""
            name = f"{section}file of {entry['kind']} {entry.get('name')}"
            found.setdefault(name, {})[str(entry.get("sha256"))[:8]] = None
    return {name: SEVERAL.join(digests) for name, digests in found.items()}


def key_of(run: Run) -> str:
    """Everything that makes runs samples of one thing, as one string."""
    if not run.config:
        return str(run.directory)
    reached = "end" if run.finished else run.step
    algorithm = "dense" if run.is_dense else run.algorithm
    return json.dumps([algorithm, settings(run), reached], sort_keys=True, default=str)
