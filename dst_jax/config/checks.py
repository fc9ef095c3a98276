"""What makes options wrong together, as far as that needs no algorithm and no network.

What makes one wrong by itself is in `config`, which calls this; what an algorithm cannot do is in
`training.algorithm_checks`, which asks its class. Nothing here imports JAX.
"""

from typing import Any

from dst_jax.errors import UserError

# Dense training by its names; a test holds them to their classes, which need JAX.
DENSE = ("dense", "no_prune")
_BATCH_SIZE = "config.train.batch_size"


def sparsity_of(algorithm: str | None, sparsity: Any) -> Any:
    """The sparsity that a run of an algorithm has where the option holds `sparsity`."""
    return 0.0 if algorithm in DENSE else sparsity


def check(flat: dict[str, Any]) -> None:
    """Checks options against each other, after durations became steps; fills in what follows.

    Args:
      flat: {dotted name: value}; changed in place.

    Raises:
      UserError: two options contradict each other.
    """
    total = flat["train.steps"]
    if flat["train.warmup"] > total:
        raise UserError("config.train.warmup", flat["train.warmup"], f"at most {total} steps")
    _check_recipe(flat)
    for name in ("model.init_fresh", "model.init_sha256"):
        if flat[name] and not flat["model.init_from"]:
            raise UserError(f"config.{name}", flat[name], "nothing without config.model.init_from")
    algorithm = flat["sparsity.algorithm"]
    if algorithm in DENSE:
        flat["sparsity.sparsity"] = 0.0
        return
    if flat["sparsity.sparsity"] >= 1:
        raise UserError("config.sparsity.sparsity", flat["sparsity.sparsity"], "less than 1")
    start, end = flat["sparsity.update_start_step"], flat["sparsity.update_end_step"]
    if flat["sparsity.update_freq"] < 1:
        raise UserError(
            "config.sparsity.update_freq",
            f"{flat['sparsity.update_freq']} steps",
            "at least 1 step",
        )
    if end > total:
        raise UserError(
            "config.sparsity.update_end_step",
            f"step {end}",
            f"at most the end of the training, step {total}",
        )
    if start > end:
        raise UserError(
            "config.sparsity.update_start_step",
            f"step {start}",
            f"at most config.sparsity.update_end_step, step {end}",
        )
    if flat["sparsity.drop_fraction_floor"] > flat["sparsity.drop_fraction"]:
        raise UserError(
            "config.sparsity.drop_fraction_floor",
            flat["sparsity.drop_fraction_floor"],
            f"at most config.sparsity.drop_fraction, {flat['sparsity.drop_fraction']:g}",
        )
    if algorithm == "gmp":
        flat["sparsity.initial_density"] = 1.0
    elif algorithm.startswith("granet") and not flat["sparsity.initial_density"]:
        flat["sparsity.initial_density"] = granet_initial_density(1 - flat["sparsity.sparsity"])


def _check_recipe(flat: dict[str, Any]) -> None:
    """Checks the options of optimisation and augmentation against each other."""
    batch, parts = flat["train.batch_size"], flat["train.grad_accum_steps"]
    if batch % parts:
        raise UserError(
            "config.train.grad_accum_steps", parts, f"a divisor of config.train.batch_size, {batch}"
        )
    if flat["train.mixup"] or flat["train.cutmix"]:
        check_pairs(batch)
    if flat["train.ema"] >= 1:
        raise UserError("config.train.ema", 1, "less than 1, such as 0.9999")
    floor, peak = flat["train.learning_rate_floor"], flat["train.learning_rate"]
    if floor > peak:
        raise UserError(
            "config.train.learning_rate_floor",
            f"{floor:g}",
            f"at most config.train.learning_rate, {peak:g}",
        )
    if floor and flat["train.schedule"] != "cosine":
        raise UserError(
            "config.train.learning_rate_floor",
            f"{floor:g} with schedule {flat['train.schedule']}",
            "0, or schedule cosine",
        )
    if flat["train.decay_every"] < 1:
        raise UserError("config.train.decay_every", "0 steps", "at least 1 step")
    if 0 < flat["data.augmix"] < 0.1:
        raise UserError("config.data.augmix", flat["data.augmix"], "0, or a number from 0.1 to 10")
    if flat["data.augmix"] and flat["data.randaugment_layers"]:
        raise UserError(
            "config.data.augmix",
            f"{flat['data.augmix']:g} with data.randaugment_layers="
            f"{flat['data.randaugment_layers']}",
            "one of the two",
        )


# --- what a batch size must be; the pipelines and the devices ask here too ---


def steps_per_epoch(batch_size: int, num_train: int) -> int:
    """The number of whole batches in an epoch.

    Args:
      batch_size: images per step, over all devices.
      num_train: images that are trained on.

    Raises:
      UserError: there is none.
    """
    if not 1 <= batch_size <= num_train:
        raise UserError(_BATCH_SIZE, batch_size, f"1 to {num_train}, the number of training images")
    return num_train // batch_size


def rows_of_each(batch_size: int, devices: int, parts: int = 1) -> int:
    """The rows that each of `devices` equal shares of a micro-batch has.

    Args:
      batch_size: images per step, over all devices.
      devices: how many share it: devices, or processes.
      parts: micro-batches in a step, `train.grad_accum_steps`.

    Raises:
      UserError: the shares would not be equal.
    """
    if batch_size % (devices * parts):
        text = f"a multiple of the {devices} devices"
        if parts > 1:
            text += f" times {parts}, train.grad_accum_steps"
        raise UserError(_BATCH_SIZE, batch_size, text)
    return batch_size // (devices * parts)


def check_pairs(rows: int, found: Any = None) -> None:
    """Raises UserError unless the rows of a batch make pairs, which mixup and CutMix mix.

    Args:
      rows: their number.
      found: what to tell instead of it.
    """
    if rows % 2:
        expected = "an even number with mixup or cutmix, which mix pairs"
        raise UserError(_BATCH_SIZE, found or rows, expected)


def granet_initial_density(target: float) -> float:
    """The density that GraNet starts from where none is given.

    0.8, which a review of Wu et al. 2025 names as theirs. It cannot hold at the paper's sparsity of
    10 %, as GraNet comes down to its target and 0.9 lies above it; the paper does not say what it
    did there. From a target of 0.8 on it is half way between the target and dense, so 0.95 at 10 %:
    pruning stays gradual, and the first network is neither dense nor the last one.

    Args:
      target: density that the pruning ends at, in (0, 1).
    """
    return 0.8 if target < 0.8 else round((1 + target) / 2, 6)
