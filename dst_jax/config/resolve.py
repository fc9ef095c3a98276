"""Configs: from the options of a card to the numbers of a run, and what makes a value wrong.

A card in `configs/` starts from `default()` and changes what it needs; `options` lists what there
is. `resolve` turns the result into the plain dictionary of numbers that the rest of the library
reads: durations become steps here and nowhere else; `checks` compares options with each
other. Nothing here imports JAX, so `dst-jax --help` stays quick.
"""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from dst_jax.config import checks
from dst_jax.config.options import ANALYSES, DURATION, OPTIONS, Option
from dst_jax.errors import UserError

# What may differ between two starts on one workdir: it does not change the trained network.
NOT_PART_OF_TRAINING = (
    *("eval.", "analysis.", "log.tensorboard", "checkpoint.keep"),
    *("train.steps_per_dispatch", "data.stand_in_for"),
    "model.init_from",  # where the weights lie; which they are is `model.init_sha256`
)
# Options that earlier versions named otherwise: old -> new.
_RENAMED = {"train.accumulate": "train.grad_accum_steps"}
# Read by the algorithms whose names begin so and by no other: versions had other defaults of them.
READ_BY = {
    "sparsity.initial_density": ("granet", "gmp"),
    "sparsity.prune_end_step": ("granet", "gmp"),
    "sparsity.soft_bound": ("mest",),
    "sparsity.memory_bound": ("mest",),
}


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
    for name in ("sparsity.exclude", "model.init_fresh"):
        try:
            re.compile(flat[name])
        except re.error as error:
            expected = f"a regular expression ({error})"
            raise UserError(f"config.{name}", flat[name], expected) from None
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
        if isinstance(option.default, tuple) and isinstance(value, list | tuple):
            value = tuple(value)
        _check(name, value, option, prefix + field)
        options[field] = list(value) if isinstance(value, tuple) else value
    options["corruptions"] = list(_split(options["corruptions"]))
    _check_severities(f"{prefix}severities", options["severities"])
    return options


def evaluation_of_call(
    own: Mapping[str, Any], given: Mapping[str, Any], prefix: str
) -> dict[str, Any]:
    """The options of evaluation that one call uses: those of its flags, then the run's own.

    A call that names a suite means that suite whole: what the run's own options restrict their
    suite to (corruptions, severities, source) does not apply to another, nor to the same one named.

    Args:
      own: the section `eval` of the run's config.
      given: what the call's flags say, by names of options.
      prefix: what stands before a name in the text of an error.

    Raises:
      UserError: a value is wrong by itself.
    """
    if "suite" in given:
        restricting = ("corruptions", "severities", "source")
        own = {name: value for name, value in own.items() if name not in restricting}
    return evaluation_options({**own, **given}, prefix)


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
    per_epoch = checks.steps_per_epoch(flat["train.batch_size"], num_train)
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
    checks.check(flat)

    return _nested(flat)


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`, with lists for tuples, as JSON has them."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        section, _, field = name.rpartition(".")
        target = nested.setdefault(section, {}) if section else nested
        target[field] = list(value) if isinstance(value, tuple) else value
    return nested


def with_new_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config of any version, flat, with the names that its options have today."""
    return {_RENAMED.get(name, name): value for name, value in flatten(config)}


def completed(config: Mapping[str, Any], where: str = "config.json") -> dict[str, Any]:
    """The resolved config of a run of any version, as this version would have resolved it.

    What an older version did not have is the default, which is what it did: durations in steps, by
    the config's own epochs and length. Fields that this version does not know stay.

    Args:
      config: what `config.json` holds.
      where: its path, for the text of an error.

    Raises:
      UserError: it is no resolved config.
    """
    expected = "the resolved config of a run"
    if not isinstance(config, Mapping) or not isinstance(config.get("model"), Mapping):
        raise UserError(where, "no section `model`", expected)
    sections = {name.rpartition(".")[0] for name in OPTIONS} - {""}
    for section in sections & config.keys():
        if not isinstance(config[section], Mapping):
            raise UserError(f"{where}: {section}", repr(config[section]), f"{expected}, a section")
    flat = with_new_names(config)
    for name in ("train.steps_per_epoch", "train.steps"):
        if not isinstance(flat.get(name), int):
            raise UserError(f"{where}: {name}", repr(flat.get(name)), f"{expected}, a number")
    lengths: tuple[int, int] = (flat["train.steps_per_epoch"], flat["train.steps"])
    for name, option in OPTIONS.items():
        if name not in flat:
            flat[name] = option.default
            if option.duration:
                flat[name] = steps_of(name, option.default, *lengths)
            elif name == "train.milestones":
                flat[name] = tuple(steps_of(name, part, *lengths) for part in option.default)
        elif not isinstance(flat[name], _resolved_kind(name, option)):
            raise UserError(f"{where}: {name}", repr(flat[name]), option.expected())
    flat["log.every"] = max(1, min(flat["log.every"], flat["train.steps"]))
    # What follows from other options is filled in. A run that breaks a rule of this version was
    # trained all the same, and can be read.
    with contextlib.suppress(UserError, TypeError):
        checks.check(flat)
    return _nested(flat)


def _resolved_kind(name: str, option: Option) -> type | tuple[type, ...]:
    """The types that an option may have in a resolved config, as JSON gives them back."""
    if option.duration or name == "train.steps":
        return int
    kind = type(option.default)
    return {float: (int, float), tuple: (list, tuple)}.get(kind, kind)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lists the options by which two resolved configs train different networks, in words.

    Args:
      old: of a run of any version.
      new: of this version.

    Raises:
      UserError: `old` is no resolved config.
    """
    before, after = dict(flatten(completed(old))), dict(flatten(new))
    algorithms = [str(flat.get("sparsity.algorithm")) for flat in (before, after)]
    missing = "nothing"
    return [
        f"config.{name} was {before.get(name, missing)!r} and is {after.get(name, missing)!r}"
        for name in sorted(before.keys() | after.keys())
        if not name.startswith(NOT_PART_OF_TRAINING)
        and any(algorithm.startswith(READ_BY.get(name, "")) for algorithm in algorithms)
        and before.get(name, missing) != after.get(name, missing)
    ]
