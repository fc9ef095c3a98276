"""The sparsity updater of a config, and whether a new training may begin with it.

`create_updater` makes it, also for runs of earlier versions; `check_algorithm` refuses, before
anything is trained, what an algorithm cannot do; `forward_network` is what of a state is evaluated.
What an algorithm can do is said by its class (`sparsity.BaseUpdater`), so one that a user registers
is treated like ours. Whether a pattern fits the network is in `patterns`. Called by `train`,
`experiment`, `saved_run` and `analysis`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dst_jax import data, models, sparsity
from dst_jax.errors import UserError
from dst_jax.training import patterns

Config = Mapping[str, Any]


def algorithm_of(config: Config) -> Any:
    """The class of a config's algorithm.

    Raises:
      UserError: no algorithm of that name is registered.
    """
    name = config["sparsity"]["algorithm"]
    if name not in sparsity.ALGORITHM_REGISTRY:
        raise UserError(
            "config.sparsity.algorithm",
            name,
            "one of " + ", ".join(sparsity.all_algorithm_names()),
            "Register your own with sparsity.register_algorithm, as in the card given by --config",
        )
    return sparsity.ALGORITHM_REGISTRY[name]


def create_updater(config: Config) -> sparsity.BaseUpdater:
    """The sparsity updater of a resolved config.

    Maskable is what `models.maskable` says of the model, minus what `sparsity.exclude` matches. A
    window without a mask update gives masks that never change: a new training is refused
    (`check_algorithm`), runs of versions that took it can still be read.

    Raises:
      UserError: the algorithm does not take the options, or `sparsity.library` is jaxpruner, which
        is not installed or refuses them.
    """
    algorithm, options = algorithm_of(config), dict(config["sparsity"])
    options["filter_fn"] = models.maskable(config["model"]["name"], options.pop("exclude"))
    options["rng_seed"] = config["seed"]
    del options["initial_mask"]  # `train` replaces the first masks
    # Steps count from 0. An update at the step after the last never comes, and MEST would wait for
    # it with more weights than the target.
    last = config["train"]["steps"] - 1
    options["update_end_step"] = min(options["update_end_step"], last)
    if not algorithm.is_dense and _first_update(algorithm, options) is None:
        options["update_start_step"] = None
    if options["library"] == "jaxpruner":
        return _of_jaxpruner(algorithm, options)
    try:
        updater = sparsity.create_updater_from_config(ConfigDict(options))
    except ValueError as error:
        raise _refused(error) from None
    return _reaching_its_target(updater)


def _reaching_its_target(updater: sparsity.BaseUpdater) -> sparsity.BaseUpdater:
    """Ends the rise of a pruner's sparsity with its last update.

    The schedule's rise ends at `update_end_step`, the masks change at multiples of `update_freq`
    only: an update at 20 of a rise to 39 would leave the network with 89 % of the sparsity that was
    asked for.
    """
    schedule = updater.scheduler
    is_pruner = type(updater)._choose_masks is sparsity.BaseUpdater._choose_masks
    if not is_pruner or type(schedule) is not sparsity.PolynomialSchedule:
        return updater
    freq, end = schedule.update_freq, schedule.update_end_step
    if end is not None:
        # The rise is complete one step before its end (the +1 of `PolynomialSchedule`).
        updater.scheduler = dataclasses.replace(
            schedule, update_end_step=min(end, end // freq * freq + 1)
        )
    return updater


def _of_jaxpruner(algorithm: Any, options: dict[str, Any]) -> sparsity.BaseUpdater:
    fields = {field.name for field in dataclasses.fields(algorithm)}
    name = options.pop("algorithm")
    try:
        options = sparsity.config_keys.of_updater({**options, "library": "dst_jax"}, fields)
        for key in ("drop_fraction_schedule", "drop_fraction_floor", "sparsity_type"):
            options.pop(key, None)
        return sparsity.original.create_updater_from_config({**options, "algorithm": name})
    except ModuleNotFoundError:
        raise UserError(
            "config.sparsity.library",
            "jaxpruner, which is not installed",
            "dst_jax, or the package from its repository",
            sparsity.original.INSTALL,
        ) from None
    except ValueError as error:
        raise UserError("config.sparsity", str(error), "what JaxPruner takes") from None


def _refused(error: Exception) -> UserError:
    """What an updater says of its config, as one line that names the option where it does."""
    text = str(error)
    field, _, rest = text.partition(": found ")
    found, _, expected = rest.partition("; expected ")
    if expected and field.replace("_", "").isalnum():
        return UserError(f"config.sparsity.{field}", found, expected)
    return UserError("config.sparsity", text or type(error).__name__, "what the algorithm takes")


def _first_update(algorithm: Any, options: Config) -> int | None:
    """The first step whose update an algorithm's masks wait for; None: it never comes."""
    start, end, freq = (
        options[name] for name in ("update_start_step", "update_end_step", "update_freq")
    )
    if not algorithm.changes_masks or issubclass(algorithm, sparsity.ACDC):
        freq = 1  # masks follow the step itself, not multiples of a number of steps
    return sparsity.api.first_update(start, end, freq)


def forward_network(
    updater: sparsity.BaseUpdater, params: Any, sparse: sparsity.SparseState, step: Any
) -> tuple[Any, Any]:
    """What is evaluated of a state, and described: the network of the next forward pass.

    Algorithms whose params stay dense mask them for each pass. Those that draw masks anew at every
    step (`random_ste`) are evaluated with the masks of the step that would come next: a function of
    seed and step, so every evaluation of a checkpoint sees the same network.

    Args:
      updater: the run's updater, with the run's seed.
      params: the weights as they are trained, or their running average.
      sparse: the run's state.
      step: completed batches; int32 [] or Python integer.

    Returns:
      (params, masks): the masked weights, and uint8 masks like them, None where there is no mask.
    """
    now = sparse._replace(count=jnp.asarray(step, jnp.int32))
    return updater.pre_forward_update(params, now), updater.forward_masks(params, now)


def check_algorithm(config: Config) -> None:
    """Checks that a training can do with its algorithm what the config asks for.

    It only looks at shapes: no weight is drawn and nothing is compiled.

    Args:
      config: as `dst_jax.config.resolve` returns it.

    Raises:
      UserError: an option does not fit the algorithm, its masks would never change, or a pattern
        does not fit the network.
    """
    algorithm, options = algorithm_of(config), config["sparsity"]
    if algorithm.is_dense:
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
    updater = create_updater(config)
    _check_drop_fraction(updater, options)
    shapes = _shapes(config)
    rule = models.maskable(config["model"]["name"], options["exclude"])
    layers = {
        path: leaf.shape
        for path, leaf in _by_path(shapes).items()
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
        raise _refused(error) from None


def _shapes(config: Config) -> Any:
    """The params of the config's network, as shapes."""
    from dst_jax.saved_run import create_model  # which reads runs with this file

    image = jax.ShapeDtypeStruct((1, *data.get(config["data"]["name"]).image_shape), np.float32)
    return jax.eval_shape(create_model(config).init, jax.random.key(0), image)["params"]


def _by_path(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


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
    name = options["algorithm"]
    if options["initial_mask"] == "snip" and not algorithm.is_sparse_at_start:
        able = [
            name
            for name, other in sparsity.ALGORITHM_REGISTRY.items()
            if getattr(other, "is_sparse_at_start", False)
        ]
        raise UserError(
            "config.sparsity.initial_mask",
            "snip",
            f"random with {name}; snip with one of {', '.join(able)}",
        )
    if options["initial_mask"] == "snip" and options.get("sparsity_type", "") not in (
        "",
        "unstructured",
    ):
        raise UserError(
            "config.sparsity.initial_mask",
            "snip",
            f"random with sparsity_type {options['sparsity_type']}: SNIP ranks single weights",
        )
    # GraNet and gradual pruning come down to the target from `initial_density`.
    if "initial_density" in {field.name for field in dataclasses.fields(algorithm)}:
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
    fields = {field.name for field in dataclasses.fields(algorithm)}
    if "prune_end_step" in fields and options["prune_end_step"] < end:
        end, name = options["prune_end_step"], "prune_end_step"
    if _first_update(algorithm, {**options, "update_end_step": end}) is None:
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
