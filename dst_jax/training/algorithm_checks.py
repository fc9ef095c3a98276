"""Whether a new training may begin with the options of its algorithm: refused before it starts.

What an algorithm can do is said by its class (`sparsity.BaseUpdater`), so one that a user registers
is treated like ours. Whether a pattern fits the network is in `patterns`, what is wrong without any
algorithm in `config.checks`. Called by `run_configs` and `loop`.
"""

from collections.abc import Mapping
from typing import Any

import jax

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
