"""Configs: from the options of a card to the numbers of a run, and what makes a value wrong.

A card in `configs/` starts from `default()` and changes what it needs; `options` lists what there
is. `resolve` turns the result into the plain dictionary of numbers that the rest of the library
reads: durations become steps here and nowhere else. Nothing here imports JAX, so `run.py --help`
stays quick.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from dst_jax.errors import UserError
from dst_jax.options import ANALYSES, DURATION, OPTIONS, Option

# What may differ between two starts on one workdir: it does not change the trained network.
NOT_PART_OF_TRAINING = (
    *("eval.", "analysis.", "log.tensorboard", "checkpoint.keep"),
    "train.steps_per_dispatch",
)


# Algorithms without masks; `sparsity.sparsity` is 0 for them.
DENSE = ("dense", "no_prune")
# Algorithms whose masks are sparse before the first step, by a rule that can be replaced.
SPARSE_FROM_THE_START = (
    *("static", "static_sparse", "set", "rigl", "snfs"),
    *("mest_r", "mest_g", "granet_r", "granet_g"),
)
# Algorithms whose updates lead from another density to that of `sparsity.sparsity`.
CHANGING_DENSITY = ("mest_r", "mest_g", "granet_r", "granet_g", "gmp")


def default() -> ConfigDict:
    """All options at their defaults, as a locked ConfigDict of one level of sections."""
    config = ConfigDict()
    for name, option in OPTIONS.items():
        section, _, field = name.rpartition(".")
        if section and section not in config:
            config[section] = ConfigDict()
        (config[section] if section else config)[field] = option.default
    return config.lock()


def set_option(config: ConfigDict, name: str, value: Any) -> None:
    """Sets the option with a dotted name.

    Raises:
      UserError: there is no such option.
    """
    if name not in OPTIONS:
        raise UserError("config", repr(name), "an option; `python -m dst_jax.config` lists them")
    section, _, field = name.rpartition(".")
    (config[section] if section else config)[field] = value


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, value) of every field of a nested mapping."""
    for key, value in tree.items():
        if isinstance(value, Mapping | ConfigDict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def steps_of(name: str, duration: str | int, steps_per_epoch: int, total: int) -> int:
    """Converts a duration to steps, to the nearest whole step.

    Raises:
      UserError: the text is not a duration.
    """
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*(%|epochs?|steps?|)\s*", str(duration))
    try:
        number = float(match.group(1)) if match else math.nan
    except ValueError:
        number = math.nan
    if match is None or math.isnan(number):
        raise UserError(f"config.{name}", repr(duration), DURATION)
    unit = match.group(2)
    if unit.startswith("epoch"):
        return round(number * steps_per_epoch)
    if unit == "%":
        return round(number / 100 * total)
    return round(number)


def _check(name: str, value: Any, option: Option, where: str = "") -> None:
    kind = type(option.default)
    accepted = (int, float) if kind is float else (str, int, float) if option.duration else kind
    wrong_type = not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool)
    if (
        wrong_type
        or (option.choices and value not in option.choices)
        or (option.low is not None and not value >= option.low)
        or (option.high is not None and not value <= option.high)
    ):
        raise UserError(where or f"config.{name}", value, option.expected())


def check_values(config: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """Checks each option by itself and returns them as {dotted name: value}.

    Raises:
      UserError: a field is missing, unknown, or holds a value of the wrong kind.
    """
    flat = dict(flatten(config))
    if unknown := sorted(flat.keys() - OPTIONS.keys()):
        raise UserError(
            f"config.{unknown[0]}",
            "an unknown field",
            "a field of the defaults (`python -m dst_jax.config` lists them)",
        )
    if missing := sorted(OPTIONS.keys() - flat.keys()):
        raise UserError(f"config.{missing[0]}", "nothing", OPTIONS[missing[0]].expected())
    for name, option in OPTIONS.items():
        _check(name, flat[name], option)
    for name in ("train.milestones", "eval.corruptions", "analysis.parts"):
        flat[name] = _split(flat[name])
    _check_severities("config.eval.severities", flat["eval.severities"])
    for part in flat["analysis.parts"]:
        if part not in ANALYSES:
            raise UserError("config.analysis.parts", part, "among " + ", ".join(ANALYSES))
    for radius in flat["analysis.radii"]:
        if not isinstance(radius, int | float) or radius < 0:
            raise UserError("config.analysis.radii", radius, "numbers, at least 0")
    try:
        re.compile(flat["sparsity.exclude"])
    except re.error as error:
        raise UserError(
            "config.sparsity.exclude", flat["sparsity.exclude"], f"a regular expression ({error})"
        ) from None
    return flat


def evaluation_options(given: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The section `eval` as `resolve` makes it: what is given, and defaults for the rest.

    Args:
      given: options of the section by their names, such as "suite".
      prefix: what stands before a name in the text of an error.

    Raises:
      UserError: a value is wrong by itself.
    """
    options = {}
    for name, option in OPTIONS.items():
        section, _, field = name.partition(".")
        if section != "eval":
            continue
        value = given.get(field, option.default)
        if isinstance(option.default, tuple):
            value = tuple(value)
        _check(name, value, option, prefix + field)
        options[field] = list(value) if isinstance(value, tuple) else value
    options["corruptions"] = list(_split(options["corruptions"]))
    _check_severities(f"{prefix}severities", options["severities"])
    return options


def _split(texts: Sequence[Any]) -> tuple[str, ...]:
    """Takes apart `a,b`, which the command line gives as one text."""
    return tuple(part for text in texts for part in str(text).split(",") if part)


def _check_severities(where: str, severities: Sequence[Any]) -> None:
    for severity in severities:
        if severity not in (1, 2, 3, 4, 5):
            raise UserError(where, severity, "severities from 1 to 5")


def resolve(config: Mapping[str, Any] | ConfigDict, num_train: int) -> dict[str, Any]:
    """Turns a config into the numbers that everything else reads.

    Args:
      config: all options, as `default()` has them.
      num_train: number of training images of the dataset.

    Returns:
      A nested dictionary with the same fields; every duration is an int of steps, and
      `train.steps` and `train.steps_per_epoch` are filled in. `json.dumps` takes it as it is.

    Raises:
      UserError: a value is wrong by itself or does not fit the others.
    """
    flat = check_values(config)
    batch = flat["train.batch_size"]
    if batch > num_train:
        raise UserError(
            "config.train.batch_size", batch, f"at most {num_train}, the training images"
        )
    per_epoch = num_train // batch
    if flat["train.steps"]:
        total = steps_of("train.steps", flat["train.steps"], per_epoch, 0)
        source, found = "train.steps", flat["train.steps"]
    else:
        total = round(flat["train.epochs"] * per_epoch)
        source, found = "train.epochs", flat["train.epochs"]
    if total < 1:
        raise UserError(f"config.{source}", found, "a training of at least one step")

    for name, option in OPTIONS.items():
        if option.duration:
            flat[name] = steps_of(name, flat[name], per_epoch, total)
    flat["train.steps"], flat["train.steps_per_epoch"] = total, per_epoch
    flat["train.epochs"] = total / per_epoch
    flat["train.milestones"] = tuple(
        steps_of("train.milestones", milestone, per_epoch, total)
        for milestone in flat["train.milestones"]
    )
    flat["checkpoint.every"] = max(1, flat["checkpoint.every"])
    flat["log.every"] = max(1, min(flat["log.every"], total))
    _check_fit(flat)

    nested: dict[str, Any] = {}
    for name, value in flat.items():
        section, _, field = name.rpartition(".")
        target = nested.setdefault(section, {}) if section else nested
        target[field] = list(value) if isinstance(value, tuple) else value
    return nested


def _check_fit(flat: dict[str, Any]) -> None:
    """Checks options against each other, after durations became steps."""
    total = flat["train.steps"]
    if flat["train.warmup"] > total:
        raise UserError("config.train.warmup", flat["train.warmup"], f"at most {total} steps")
    _check_recipe(flat)
    algorithm = flat["sparsity.algorithm"]
    if algorithm in DENSE:
        flat["sparsity.sparsity"] = 0.0
        return
    if flat["sparsity.sparsity"] >= 1:
        raise UserError("config.sparsity.sparsity", flat["sparsity.sparsity"], "less than 1")
    if flat["sparsity.initial_mask"] == "snip" and algorithm not in SPARSE_FROM_THE_START:
        raise UserError(
            "config.sparsity.initial_mask",
            "snip",
            f"random with {algorithm}; snip with one of {', '.join(SPARSE_FROM_THE_START)}",
        )
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
    if algorithm in CHANGING_DENSITY:
        _check_density(flat, algorithm)


def _check_recipe(flat: dict[str, Any]) -> None:
    """Checks the options of optimisation and augmentation against each other."""
    batch, parts = flat["train.batch_size"], flat["train.accumulate"]
    if batch % parts:
        raise UserError(
            "config.train.accumulate", parts, f"a divisor of config.train.batch_size, {batch}"
        )
    if (flat["train.mixup"] or flat["train.cutmix"]) and batch % 2:
        raise UserError(
            "config.train.batch_size", batch, "an even number with mixup or cutmix, which mix pairs"
        )
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
            "one of the two policies",
        )


def _check_density(flat: dict[str, Any], algorithm: str) -> None:
    """Checks what the algorithms need that reach the target density only in the end."""
    target = 1 - flat["sparsity.sparsity"]
    if algorithm == "gmp":
        flat["sparsity.initial_density"] = 1.0
    elif algorithm.startswith("granet") and not flat["sparsity.initial_density"]:
        flat["sparsity.initial_density"] = granet_initial_density(target)
    freq, start = flat["sparsity.update_freq"], flat["sparsity.update_start_step"]
    end, name = flat["sparsity.update_end_step"], "update_end_step"
    if not algorithm.startswith("mest"):
        initial = flat["sparsity.initial_density"]
        if not target < initial:
            raise UserError(
                "config.sparsity.initial_density",
                f"{initial:g}",
                f"more than the target density {target:g} (sparsity "
                f"{flat['sparsity.sparsity']:g}), at most 1",
            )
        if flat["sparsity.prune_end_step"] < end:
            end, name = flat["sparsity.prune_end_step"], "prune_end_step"
    if end // freq * freq < start:
        raise UserError(
            f"config.sparsity.{name}",
            f"step {end}",
            f"a step with a mask update before it: {algorithm} reaches the target density by "
            f"updates at multiples of {freq} steps from step {start} on",
        )


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved config of any version with the defaults of what it lacks, durations as they are.

    Raises:
      UserError: it is no config at all.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("model"), Mapping):
        raise UserError("config.json", "no section `model`", "the resolved config of a run")
    found = {name: value for name, value in config.items() if not isinstance(value, Mapping)}
    for name, option in OPTIONS.items():
        section, _, field = name.rpartition(".")
        own = config.get(section) if section else config
        value = own.get(field, option.default) if isinstance(own, Mapping) else option.default
        (found.setdefault(section, dict(own or {})) if section else found)[field] = value
    return found


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


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lists the options by which two resolved configs train different networks, in words."""
    before, after = dict(flatten(old)), dict(flatten(new))
    missing = "nothing"
    return [
        f"config.{name} was {before.get(name, missing)!r} and is {after.get(name, missing)!r}"
        for name in sorted(before.keys() | after.keys())
        if not name.startswith(NOT_PART_OF_TRAINING)
        and before.get(name, missing) != after.get(name, missing)
    ]


if __name__ == "__main__":
    for _name, _option in OPTIONS.items():
        print(f"{_name} = {_option.default!r}\n    {_option.meaning}; {_option.expected()}")
