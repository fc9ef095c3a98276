"""Algorithms by name: the registry and the updater that a config describes.

The config is JaxPruner's. Training code calls `create_updater_from_config`; the algorithms
themselves are in `algorithms`.
"""

import dataclasses
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import optax

from dst_jax.sparsity import (
    algorithms,
    base_updater,
    config_keys,
    sparsity_distributions,
    sparsity_schedules,
    sparsity_types,
    told,
    traits,
)

ALGORITHM_REGISTRY: dict[str, type] = {
    "no_prune": algorithms.NoPruning,
    "magnitude": algorithms.MagnitudePruning,
    "random": algorithms.RandomPruning,
    "saliency": algorithms.SaliencyPruning,
    "magnitude_ste": algorithms.SteMagnitudePruning,
    "random_ste": algorithms.SteRandomPruning,
    "global_magnitude": algorithms.GlobalMagnitudePruning,
    "global_saliency": algorithms.GlobalSaliencyPruning,
    "static_sparse": algorithms.StaticRandomSparse,
    "rigl": algorithms.RigL,
    "set": algorithms.SET,
    "dense": algorithms.NoPruning,
    "static": algorithms.StaticRandomSparse,
    "mest_r": algorithms.MESTRandom,
    "mest_g": algorithms.MESTGradient,
    "granet_r": algorithms.GraNetRandom,
    "granet_g": algorithms.GraNetGradient,
    "gmp": algorithms.GradualMagnitudePruning,
    "acdc": algorithms.ACDC,
    "snfs": algorithms.SNFS,
    "topkast": algorithms.TopKAST,
    "adam-fisher": algorithms.AdamBasedFisherPruning,
    "iterative_nm": algorithms.IterativeNMPruning,
}
ALGORITHMS = tuple(ALGORITHM_REGISTRY)

_DISTRIBUTIONS = {"uniform": sparsity_distributions.uniform, "erk": sparsity_distributions.erk}
_SCHEDULE_KEYS = ("update_freq", "update_start_step", "update_end_step")
_DROP_KEYS = ("drop_fraction", "drop_fraction_schedule", "drop_fraction_floor")
_DEFAULT_DROP_FRACTION = 0.1


def all_algorithm_names() -> tuple[str, ...]:
    """Returns the names of all registered algorithms."""
    return tuple(ALGORITHM_REGISTRY)


def fields_of(algorithm_name: str) -> set[str]:
    """Returns the names of the fields that an algorithm's constructor takes.

    Raises:
      ValueError: there is no such algorithm.
    """
    return {field.name for field in dataclasses.fields(_algorithm(algorithm_name))}


def _algorithm(name: str) -> type:
    if name not in ALGORITHM_REGISTRY:
        raise ValueError(
            f"Sparsity algorithm {name} is not supported. Please use a key from "
            "jaxpruner.all_algorithm_names() or register the new algorithm using "
            f"jaxpruner.register_algorithm(). Known here: {', '.join(all_algorithm_names())}"
        )
    return ALGORITHM_REGISTRY[name]


# Names that JaxPruner leaves to its extensions, and their classes there.
_EXTENSIONS = {
    "acdc": "ACDC",
    "adam-fisher": "AdamBasedFisherPruning",
    "iterative_nm": "IterativeNMPruning",
}
REGISTERED_IN: dict[str, str] = {}  # name -> file, of the algorithms that users registered


def register_algorithm(algorithm_name: str, algorithm: type) -> None:
    """Makes an updater class available to configs under a name, as `sparsity.algorithm`.

    A file may register its names again, as a card does that is read twice; so may a notebook.

    Args:
      algorithm_name: the name.
      algorithm: a `BaseUpdater`, usually of `SET` or `RigL`.

    Raises:
      ValueError: it is no name, or is taken by an algorithm of dst_jax or by another file.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", algorithm_name):  # a part of directories
        raise ValueError(
            f"register_algorithm: found {algorithm_name!r}; expected a name of letters, digits, _, "
            ". and - that begins with none of the last two"
        )
    file = os.path.abspath(sys._getframe(1).f_code.co_filename)
    before = REGISTERED_IN.get(algorithm_name, file)
    ours = algorithm_name in ALGORITHMS
    if algorithm_name in _EXTENSIONS and algorithm.__name__ == _EXTENSIONS[algorithm_name]:
        ours = False  # JaxPruner's own file of the extension, which registers itself
    if ours or (before != file and os.path.exists(before)):
        owner = "an algorithm of dst_jax" if ours else f"registered by {before}"
        raise ValueError(
            f"register_algorithm: found {algorithm_name}, {owner}; expected a name that is free"
        )
    ALGORITHM_REGISTRY[algorithm_name] = algorithm
    REGISTERED_IN[algorithm_name] = file


def first_update(start: int | None, end: int | None, freq: int | None) -> int | None:
    """Returns the first step of a schedule's window at which it updates masks; None: there is none.

    Args:
      start: `update_start_step`; None: masks never change.
      end: `update_end_step`; None: updates never stop.
      freq: `update_freq`.
    """
    if start is None:
        return None
    if start == end:
        return start
    first = -(-start // (freq or 1)) * (freq or 1)
    return first if end is None or first <= end else None


def _scheduler(
    name: str, algorithm: type, given: dict[str, Any], total: int | None
) -> sparsity_schedules.NoUpdateSchedule:
    """Returns the schedule of a config's keys, `given`, of which one that is absent is no None."""
    freq, start, end = (given.get(key) for key in _SCHEDULE_KEYS)
    needs_updates = traits.of(algorithm, "changes_masks")
    # AC/DC has keys of its own for its phases, and refuses a config without any.
    has_window = traits.of(algorithm, "updates_at_multiples")
    known = given.keys() & {"update_start_step", "scheduler"}
    if needs_updates and has_window and not known:
        told.once(
            f"update_start_step: found none, so the masks of {name} never change; expected the "
            "first step with an update (None, if that is what is meant)"
        )
    if total is not None and needs_updates and start is not None:
        last = total - 1 if end is None else min(end, total - 1)
        if first_update(start, last, freq if has_window else 1) is None or start > last:
            raise ValueError(
                f"update_freq: found {freq} from step {start} on, and no update before the last of "
                f"{total} steps (total_steps); expected one, or {name} never changes its masks"
            )
    if start is None:
        return sparsity_schedules.NoUpdateSchedule()
    if start == end:
        return sparsity_schedules.OneShotSchedule(target_step=start)
    if freq is None:
        raise ValueError("update_freq: found none; expected the number of steps between updates")
    if end is not None and start > end:
        raise ValueError(
            f"update_start_step: found {start}; expected at most update_end_step, {end}"
        )
    if needs_updates and has_window and freq > 0 and first_update(start, end, freq) is None:
        raise ValueError(
            f"update_freq: found no multiple of {freq} from update_start_step {start} to "
            f"update_end_step {end}; expected an update there"
        )
    return sparsity_schedules.PolynomialSchedule(
        update_freq=freq, update_start_step=start, update_end_step=end
    )


def _drop_fraction_fn(
    end: int | None,
    drop_fraction: float | None = None,
    drop_fraction_schedule: str | None = None,
    drop_fraction_floor: float | None = None,
) -> Callable[[Any], Any]:
    """From `drop_fraction` along a cosine to the floor at the last update; constant without one."""
    first = _DEFAULT_DROP_FRACTION if drop_fraction is None else drop_fraction
    floor = drop_fraction_floor or 0.0
    if drop_fraction_schedule not in (None, "cosine", "constant"):
        raise ValueError(
            f"drop_fraction_schedule: found {drop_fraction_schedule!r}; expected cosine or constant"
        )
    if not 0 <= floor <= first <= 1:
        raise ValueError(
            f"drop_fraction_floor: found {floor} with drop_fraction {first}; expected "
            "0 <= drop_fraction_floor <= drop_fraction <= 1"
        )
    if not end or not first or drop_fraction_schedule == "constant":
        return optax.constant_schedule(first)
    return optax.cosine_decay_schedule(first, end, alpha=floor / first)


def _distribution(config: dict[str, Any]) -> sparsity_distributions.Distribution:
    """Returns the distribution of a config, taking its keys out of it."""
    dist_type = config.pop("dist_type", None)
    if dist_type not in _DISTRIBUTIONS:
        raise ValueError(f"dist_type: {dist_type} is not supported. Use `erk` or `uniform`")
    if config.get("sparsity") is None:
        raise ValueError("sparsity: found none; expected a number in [0, 1]")
    return sparsity_distributions.Distribution(
        _DISTRIBUTIONS[dist_type],
        sparsity=config.pop("sparsity"),
        filter_fn=config.pop("filter_fn", None),
        custom_sparsity_map=config.pop("custom_sparsity_map", None),
    )


def create_updater_from_config(
    sparsity_config: Mapping[str, Any],
) -> base_updater.BaseUpdater:
    """Creates the updater that a config describes; the config is not changed.

    Args:
      sparsity_config: an `ml_collections.ConfigDict` (or any mapping) with the keys

        - `algorithm`: one of `all_algorithm_names()`; 'no_prune' and 'dense' need no other key.
        - `dist_type`: 'uniform' or 'erk'. Global algorithms rank all layers together and ignore it.
        - `sparsity`: share of the maskable weights to remove, in [0, 1].
        - `filter_fn`: optional, (path, param) -> whether the layer is maskable, or the name of a
          rule: 'default' (weights of two or more dimensions, told by name and dtype),
          'embeddings_too', 'kernel' or 'not_dim_one', JaxPruner's default.
        - `exclude`: optional, a regular expression of paths (`layer1/kernel`) to leave dense.
        - `custom_sparsity_map`: optional, path (tuple of names, or their text) -> sparsity.
        - `sparsity_type`: optional, 'nm_N,M', 'block_H,W' or 'channel_AXIS', for algorithms whose
          `patterns` hold it; '' and 'unstructured' are the default.
        - `update_start_step`, `update_end_step`, `update_freq`: in steps. No start: masks never
          change; start equal to end: once; else at multiples of `update_freq` from start to end,
          both included.
        - `total_steps`: optional, the length of the training: a schedule without an update in it is
          refused.
        - `drop_fraction`: for algorithms that drop and grow, the fraction at step 0 (default 0.1).
        - `drop_fraction_schedule`: 'cosine' (default): it falls until `update_end_step`, to
          `drop_fraction_floor` (default 0); or 'constant'.
        - `rng_seed`: an integer or a PRNG key.

        All other keys go to the algorithm's constructor. The section `sparsity` of a config of
        dst_jax is taken too, once `dst_jax.config.resolve` has turned its durations into steps; see
        `config_keys.of_updater` for what becomes of its other keys. It holds no `rng_seed`.

    Returns:
      The updater.

    Raises:
      ValueError: naming the key that is missing or wrong.
    """
    config = config_keys.plain(sparsity_config)
    name = str(config.pop("algorithm", None))
    algorithm, fields = _algorithm(name), fields_of(name)
    if traits.of(algorithm, "is_dense"):
        own = fields - {field.name for field in dataclasses.fields(base_updater.BaseUpdater)}
        return algorithm(**{key: config[key] for key in own & config.keys()})
    config = config_keys.of_updater(config, fields)

    distribution = None
    if traits.of(algorithm, "has_distribution"):
        distribution = _distribution(config)
    else:
        config.pop("dist_type", None)
    config = {
        key: value for key, value in config.items() if value is not None or key in _SCHEDULE_KEYS
    }
    pattern = config_keys.sparsity_type(config.pop("sparsity_type", None))
    config_keys.check_pattern(name, algorithm, pattern)
    if not isinstance(pattern, sparsity_types.Unstructured):
        config["sparsity_type"] = pattern

    schedule = {key: config.pop(key) for key in _SCHEDULE_KEYS if key in config}
    total, end = config.pop("total_steps", None), schedule.get("update_end_step")
    drop = {key: config.pop(key, None) for key in _DROP_KEYS}
    if "drop_fraction_fn" in fields - config.keys():
        config["drop_fraction_fn"] = _drop_fraction_fn(end, **drop)
    if distribution is not None:
        config["sparsity_distribution_fn"] = distribution
    config.setdefault("scheduler", _scheduler(name, algorithm, schedule | config, total))
    return algorithm(**config)
