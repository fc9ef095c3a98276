"""Whether a new training may begin with the options of its algorithm: refused before it starts.

What an algorithm can do is said by its class (`sparsity.BaseUpdater`), so one that a user registers
is treated like ours. Whether a pattern fits the network is in `patterns`, what is wrong without any
algorithm in `config.checks`. Called by `run_configs` and `loop`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from dst_jax import models, sparsity
from dst_jax.errors import UserError
from dst_jax.models.leaf_paths import by_path
from dst_jax.sparsity import traits
from dst_jax.training import build, patterns

Config = Mapping[str, Any]


def check(config: Config) -> None:
    """Checks that a training can do with its algorithm what the config asks for.

    It only looks at shapes: no weight is drawn and nothing is compiled.

    Args:
      config: as `dst_jax.config.resolve` returns it.

    Raises:
      UserError: an option does not fit the algorithm, its masks would never change, or a pattern
        does not fit the network.
    """
    algorithm, options = build.algorithm_of(config), config["sparsity"]
    if algorithm.is_dense:
        if options["sparsity"]:
            raise UserError(
                "config.sparsity.sparsity",
                f"{options['sparsity']:g}",
                f"0 with {options['algorithm']}, which has no masks",
            )
        return
    _check_library(algorithm, options)
    _check_first_masks(algorithm, options)
    if algorithm.needs_moments == "nu" and config["train"]["optimizer"] != "adamw":
        raise UserError(
            "config.train.optimizer",
            config["train"]["optimizer"],
            f"adamw with {options['algorithm']}, which reads its second moments",
            "Set --config.train.optimizer=adamw and a learning rate that suits it, such as 0.001",
        )
    _check_updates(algorithm, config)
    updater = build.updater(config)
    _check_drop_fraction(updater, options)
    shapes = build.shapes(config)["params"]
    rule = models.maskable(config["model"]["name"], options["exclude"])
    layers = {
        path: leaf.shape
        for path, leaf in by_path(shapes).items()
        if rule(tuple(path.split("/")), leaf)
    }
    if not layers:
        raise UserError(
            "config.sparsity.exclude",
            options["exclude"],
            f"a pattern that leaves a layer to mask with {options['algorithm']}",
        )
    patterns.check(algorithm, options, layers, updater)
    try:
        jax.eval_shape(updater.init_state, shapes)
    except ValueError as error:
        raise build.refused(error) from None


def active_of_own(config: Config, updater: sparsity.BaseUpdater, state: Any, when: str) -> int:
    """Checks the masks of an algorithm that a user registered, once, around its first update.

    Args:
      config: as for `check`.
      updater: its updater.
      state: the state of the training, with `params` and `sparse`, without a device axis.
      when: when the masks are those of the state, in words.

    Returns:
      The active weights of all layers.

    Raises:
      UserError: a mask has not the shape of its layer, is not uint8, or holds other values than 0
        and 1.
    """
    masks, where = state.sparse.masks, f"algorithm {config['sparsity']['algorithm']}"
    if updater.use_packed_masks:
        masks = updater.forward_masks(state.params, state.sparse)
    params, active = by_path(state.params), 0
    for path, mask in by_path(masks).items():
        expected = f"uint8 {list(params[path].shape)} of 0 and 1"
        if (mask.dtype, mask.shape) != (np.uint8, params[path].shape):
            raise UserError(
                where, f"a mask {mask.dtype} {list(mask.shape)} of {path} {when}", expected
            )
        values = np.asarray(mask)
        if values.max(initial=0) > 1:
            raise UserError(where, f"a mask of {path} with {values.max()} in it {when}", expected)
        active += int(values.sum(dtype=np.int64))
    return active


def check_own_update(
    config: Config, updater: sparsity.BaseUpdater, before: int, state: Any, step: int
) -> None:
    """Checks the masks after the first update of an algorithm that a user registered.

    Args:
      config: as for `check`.
      updater: its updater.
      before: active weights before the update.
      state: as for `active_of_own`, after it.
      step: the step that updated the masks.

    Raises:
      UserError: see `active_of_own`; or the number of active weights changed, and the class does
        not say that it does.
    """
    after = active_of_own(config, updater, state, f"after the mask update of step {step}")
    if after != before and not updater.changes_density:
        raise UserError(
            f"algorithm {config['sparsity']['algorithm']}",
            f"{after:,} active weights after the mask update of step {step}",
            f"the {before:,} before it, or changes_density = True in the class",
        )


def _check_library(algorithm: Any, options: Config) -> None:
    if options["library"] == "dst_jax":
        return
    if algorithm.keeps_dense_weights:
        raise UserError(
            "config.sparsity.library",
            options["library"],
            f"dst_jax with {options['algorithm']}: of JaxPruner's updaters only the masks are used",
        )
    if options.get("sparsity_type", "") not in ("", "unstructured"):
        raise UserError(
            "config.sparsity.library",
            options["library"],
            f"dst_jax with sparsity_type {options['sparsity_type']}",
        )


def _check_first_masks(algorithm: Any, options: Config) -> None:
    name, kind = options["algorithm"], options["initial_mask"]
    if kind != "random" and not algorithm.is_sparse_at_start:
        able = [
            name
            for name, other in sparsity.ALGORITHM_REGISTRY.items()
            if traits.of(other, "is_sparse_at_start")
        ]
        raise UserError(
            "config.sparsity.initial_mask",
            kind,
            f"random with {name}; {kind} with one of {', '.join(able)}",
        )
    if kind != "random" and options.get("sparsity_type", "") not in ("", "unstructured"):
        raise UserError(
            "config.sparsity.initial_mask",
            kind,
            f"random with sparsity_type {options['sparsity_type']}: {kind} ranks single weights",
        )
    # GraNet and gradual pruning come down to the target from `initial_density`.
    if "initial_density" in sparsity.fields_of(name):
        initial, target = options["initial_density"], 1 - options["sparsity"]
        if initial and not target < initial:
            raise UserError(
                "config.sparsity.initial_density",
                f"{initial:g}",
                f"more than the target density {target:g} (sparsity "
                f"{options['sparsity']:g}), at most 1",
            )


def _check_updates(algorithm: Any, config: Config) -> None:
    """Refuses a schedule by which the masks would never change."""
    if not (algorithm.changes_masks or algorithm.keeps_dense_weights):
        return
    options, total = config["sparsity"], config["train"]["steps"]
    algorithm_name, start, freq = (
        options[name] for name in ("algorithm", "update_start_step", "update_freq")
    )
    if start >= total:
        raise UserError(
            "config.sparsity.update_start_step",
            f"step {start}",
            f"at most step {total - 1}, the last of the training, with {algorithm_name}",
        )
    end, name = min(options["update_end_step"], total - 1), "update_end_step"
    if "prune_end_step" in sparsity.fields_of(algorithm_name) and options["prune_end_step"] < end:
        end, name = options["prune_end_step"], "prune_end_step"
    if build.first_update(algorithm, {**options, "update_end_step": end}) is None:
        raise UserError(
            f"config.sparsity.{name}",
            f"step {end}",
            f"a step with a mask update before it: {algorithm_name} changes its masks at multiples "
            f"of update_freq, {freq} steps, from step {start} on, and before step {total}",
            "Lower --config.sparsity.update_freq",
        )


def _check_drop_fraction(updater: sparsity.BaseUpdater, options: Config) -> None:
    """Refuses updates that would drop nothing: the cosine is at its floor at the last of them."""
    if not updater.drops_a_fraction:
        return
    schedule: Any = updater.scheduler
    first = getattr(schedule, "target_step", None)
    if first is None:
        first = sparsity.api.first_update(
            schedule.update_start_step, schedule.update_end_step, schedule.update_freq
        )
    if float(updater.drop_fraction_fn(first)) > 0:  # type: ignore[attr-defined]
        return
    if not options["drop_fraction"]:
        raise UserError(
            "config.sparsity.drop_fraction",
            "0",
            f"more than 0 with {options['algorithm']}; static has masks that never change",
        )
    raise UserError(
        "config.sparsity.update_freq",
        f"{options['update_freq']} steps, whose only update is at update_end_step, step {first}",
        "an update before it: along the cosine the last one drops nothing",
    )
