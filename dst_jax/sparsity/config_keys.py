"""The keys of an updater's config: which there are, what each may hold, and patterns by name.

JaxPruner's keys, and those that the section `sparsity` of a training has beside them. What the keys
become is in `api`, which calls this.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from dst_jax.sparsity import maskable, sparsity_types, traits

_STEPS = ("update_freq", "update_start_step", "update_end_step", "prune_end_step", "total_steps")
_NUMBERS = ("sparsity", "drop_fraction", "drop_fraction_floor", "initial_density", "soft_bound")
# What `create_updater_from_config` reads itself; the fields of the algorithm come on top.
_OWN = {
    *("dist_type", "sparsity", "filter_fn", "custom_sparsity_map", "sparsity_type"),
    *("update_freq", "update_start_step", "update_end_step", "total_steps"),
    *("drop_fraction", "drop_fraction_schedule", "drop_fraction_floor"),
}
# Options of a training that only some algorithms have; its section always holds all of them.
_SOME_ALGORITHMS_ONLY = {
    *("regrow_same", "adam_fresh", "initial_density", "prune_end_step"),
    *("soft_bound", "memory_bound"),
}
_TIMINGS = ("replace", "after")


def plain(sparsity_config: Any) -> dict[str, Any]:
    """Returns a config (a ConfigDict or any mapping) as a dictionary of its own."""
    return {
        key: dict(value.items()) if isinstance(value, Mapping) else value
        for key, value in sparsity_config.items()
    }


def of_updater(config: dict[str, Any], fields: set[str]) -> dict[str, Any]:
    """Checks a config and translates what only the section `sparsity` of a training holds.

    `exclude` becomes part of `filter_fn` and `update_timing` becomes `skip_gradients`. Where the
    key `library` shows that it is such a section, options of other algorithms are left out.

    Args:
      config: the keys but `algorithm`.
      fields: names of the fields of the algorithm.

    Returns:
      The config with keys of `api.create_updater_from_config` alone.

    Raises:
      ValueError: a key is unknown, holds a value of the wrong kind, or one that an updater cannot
        act on.
    """
    config = dict(config)
    is_section = "library" in config
    if (library := config.pop("library", "dst_jax")) != "dst_jax":
        raise ValueError(
            f"library: found {library}; expected dst_jax, or a call of "
            "sparsity.jaxpruner_bridge.create_updater_from_config, which makes its updaters"
        )
    if (initial := config.pop("initial_mask", "random")) != "random":
        raise ValueError(
            f"initial_mask: found {initial}; expected random: snip takes a batch, so replace the "
            "first masks by those of sparsity.snip_masks"
        )
    if (timing := config.pop("update_timing", None)) is not None:
        if timing not in _TIMINGS:
            raise ValueError(f"update_timing: found {timing!r}; expected replace or after")
        config["skip_gradients"] = timing == "replace"
    for key in _SOME_ALGORITHMS_ONLY - fields if is_section else ():
        config.pop(key, None)
    if is_section and not config.get("initial_density", 1):
        del config["initial_density"]  # 0 stands for the default
    if isinstance(rule := config.get("filter_fn"), str) and rule in maskable.RULES:
        config["filter_fn"] = maskable.RULES[rule]
    _check_kinds(config)
    if exclude := config.pop("exclude", ""):
        config["filter_fn"] = _excluding(exclude, config.get("filter_fn"))
    if unknown := sorted(config.keys() - _OWN - fields):
        known = ", ".join(sorted(_OWN | fields))
        raise ValueError(f"{unknown[0]}: found an unknown key; expected one of {known}")
    return config


def _check_kinds(config: Mapping[str, Any]) -> None:
    for key in _STEPS:
        value = config.get(key)
        if value is not None and not _is_number(value, (int, np.integer)):
            raise ValueError(
                f"{key}: found {value!r}; expected a number of steps, as dst_jax.config.resolve "
                "makes of a duration"
            )
    for key in _NUMBERS:
        value = config.get(key)
        if value is not None and not _is_number(value, (int, float, np.number, np.ndarray)):
            raise ValueError(f"{key}: found {value!r}; expected a number")
    shares = {key: config.get(key) for key in ("sparsity", "initial_density")}
    for path, value in dict(config.get("custom_sparsity_map") or {}).items():
        shares[f"custom_sparsity_map of {path}"] = value
    for key, value in shares.items():
        if isinstance(value, (int, float, np.number)) and not 0 <= value <= 1:
            raise ValueError(f"{key}: found {value}; expected a share in [0, 1]")
    rule = config.get("filter_fn")
    if rule is not None and not callable(rule):
        raise ValueError(
            f"filter_fn: found {rule!r}; expected a function of path and parameter, or one of "
            f"{', '.join(maskable.RULES)} (a regular expression of paths to leave dense goes into "
            "`exclude`)"
        )


def _is_number(value: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, (*kinds, jax.Array)) and not isinstance(value, bool)


def _excluding(pattern: str, filter_fn: Any) -> maskable.FilterFnType:
    """Returns a rule that also leaves dense what a regular expression finds in a path."""
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ValueError(
            f"exclude: found {pattern!r}; expected a regular expression ({error})"
        ) from None
    rule = filter_fn or maskable.MASKABLE_FILTER_FN
    return lambda path, param: rule(path, param) and not compiled.search("/".join(map(str, path)))


def sparsity_type(found: Any) -> sparsity_types.SparsityType:
    """Parses a pattern: 'nm_2,4', 'block_4,4', 'channel_1'; '' and 'unstructured' mean none.

    A third number of 'nm_2,4,0' is its axis, by default the last.

    Raises:
      ValueError: it is no pattern.
    """
    if found is None or found in ("", "unstructured"):
        return sparsity_types.Unstructured()
    if sparsity_types.is_sparsity_type(found):
        return found
    kind, _, numbers = str(found).partition("_")
    try:
        values = [int(number) for number in numbers.split(",")]
        if kind == "nm":
            n, m, *rest = values
            if 1 <= n <= m and len(rest) < 2:
                return sparsity_types.NByM(n, m, *rest)
        if kind == "block":
            height, width = values
            if height >= 1 and width >= 1:
                return sparsity_types.Block(block_shape=(height, width))
        if kind == "channel":
            (axis,) = values
            return sparsity_types.Channel(axis=axis)
    except ValueError:
        pass
    raise ValueError(
        f"Sparsity type {found} is not supported; expected 'nm_N,M' with 1 <= N <= M, "
        "'nm_N,M,AXIS', 'block_H,W' or 'channel_AXIS'"
    )


def check_pattern(name: str, algorithm: Any, pattern: sparsity_types.SparsityType) -> None:
    """Checks that an algorithm can follow a pattern.

    Args:
      name: its name in the config.
      algorithm: its class.
      pattern: the pattern.

    Raises:
      ValueError: it cannot.
    """
    supported = (sparsity_types.Unstructured, *traits.of(algorithm, "patterns"))
    if isinstance(pattern, supported):
        return
    raise ValueError(
        f"sparsity_type: found {type_name(type(pattern))}; expected {name} with "
        + " or ".join(map(type_name, supported))
    )


def type_name(kind: type) -> str:
    """Returns how a config writes the patterns of a class of `sparsity_types`."""
    names: dict[type, str] = {
        sparsity_types.NByM: "nm_N,M",
        sparsity_types.Block: "block_H,W",
        sparsity_types.Channel: "channel_AXIS",
    }
    return names.get(kind, "unstructured")
