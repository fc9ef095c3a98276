"""From a resolved config to its model, updater, pipeline and recipe, which are made nowhere else.

A config of an earlier version is built as that version did. Whether a new training may begin with
an algorithm's options is in `algorithm_checks`. Called by `loop`, `saved_run`, `analysis` and
benchmarks.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dst_jax import data, models, sparsity
from dst_jax.errors import TRACEBACK, UserError, failed, place_of, shown
from dst_jax.runtime.devices import Devices
from dst_jax.training import optimizer
from dst_jax.training.step import Recipe

Config = Mapping[str, Any]


def model(config: Config) -> Any:
    """The Flax module of a resolved config.

    Raises:
      UserError: the model lacks an option that the config sets.
    """
    options = {name: config["model"][name] for name in ("width", "depth") if config["model"][name]}
    if config["model"]["stem"] != "published":
        options["stem"] = config["model"]["stem"]
    for name in ("dropout", "drop_path"):
        if config["model"][name] >= 0:
            options[name] = config["model"][name]
    if config["model"]["zero_init_residual"] != "published":
        options["zero_init_residual"] = config["model"]["zero_init_residual"] == "yes"
    return models.create(
        config["model"]["name"],
        data.get(config["data"]["name"]).num_classes,
        dtype=jnp.dtype(config["model"]["dtype"]),
        **options,
    )


def check_own_model(config: Config) -> None:
    """Traces a model that a user registered, so that what is wrong with it is told before a start.

    Raises:
      UserError: it fails, or does not give a logit for each class of the dataset.
    """
    name = config["model"]["name"]
    if name not in models.REGISTERED_IN:
        return
    dataset, module = data.get(config["data"]["name"]), model(config)
    images = jax.ShapeDtypeStruct((2, *dataset.image_shape), jnp.dtype(config["model"]["dtype"]))
    try:
        variables = jax.eval_shape(module.init, jax.random.key(0), images)
        found = jax.eval_shape(lambda v, x: module.apply(v, x, train=False), variables, images)
    except Exception as error:  # whatever a user's module raises
        text = failed(error, [models.REGISTERED_IN[name]])
        expected = "a module of images [B, H, W, 3] and train=False"
        raise UserError(f"model {name}", text, expected, TRACEBACK) from error
    shape = list(found.shape) if hasattr(found, "shape") else type(found).__name__
    if shape != [2, dataset.num_classes]:
        raise UserError(
            f"model {name}",
            f"{shape}, which it gives for 2 images",
            f"logits [2, {dataset.num_classes}]: {dataset.name} has {dataset.num_classes} classes",
        )


def logits_function(
    config: Config, only_images: bool = False
) -> Callable[[Any, jax.Array], jax.Array]:
    """The function (variables, images uint8 [B, H, W, 3]) -> logits of a config's network.

    Floats of 0 to 255 do too, as of filtered images, unless `only_images`: then images of another
    type or size than the dataset's are a UserError. Clips are uint8 [B, T, H, W, 3]; of frames
    larger than the network takes it sees the middle. Of configs with the same network and dataset
    it is one function, so that runs share a compiled program.
    """
    name, options = config["data"]["name"], config["model"]
    # Where first weights came from is no part of the network.
    options = {key: value for key, value in options.items() if not key.startswith("init_")}
    dataset = data.get(name)
    key = json.dumps([name, options, only_images], sort_keys=True)
    # Under the same names something else may have been registered since.
    registered = (dataset, models.MODELS.get(options["name"]))
    if key not in _FUNCTIONS or _FUNCTIONS[key][0] != registered:
        dtype = jnp.dtype(options["dtype"])
        function = _new_logits_function(model(config), dataset, dtype, only_images)
        _FUNCTIONS[key] = (registered, function)
    return _FUNCTIONS[key][1]


_FUNCTIONS: dict[str, tuple[Any, Callable[[Any, jax.Array], jax.Array]]] = {}


def _new_logits_function(
    module: Any, dataset: data.Dataset, dtype: Any, only_images: bool
) -> Callable[[Any, jax.Array], jax.Array]:
    def logits(variables: Any, images: jax.Array) -> jax.Array:
        if only_images:
            _check_images(images, dataset)
        if dataset.clip:
            images = _middle(images, dataset.image_shape[-2])
        normal = data.normalise(images, dataset, dtype)
        return module.apply(variables, normal, train=False)

    return logits


def _check_images(images: jax.Array, dataset: data.Dataset) -> None:
    """Refuses what most networks would take and be wrong about: other scales, other sizes."""
    shape = ("T", "H", "W", 3) if dataset.clip else dataset.image_shape
    fits = images.ndim == 5 if dataset.clip else images.shape[1:] == shape
    if images.dtype != jnp.uint8 or not fits:
        raise UserError(
            "predict: images",
            f"{images.dtype} {list(images.shape)}",
            f"uint8 [B, {', '.join(map(str, shape))}], as of {dataset.name}, not normalised",
        )


def _middle(frames: jax.Array, size: int) -> jax.Array:
    """The central square of clips [B, T, H, W, 3], where they are larger than it."""
    height, width = frames.shape[-3:-1]
    top, left = max(height - size, 0) // 2, max(width - size, 0) // 2
    return frames[..., top : top + size, left : left + size, :]


def recipe(config: Config) -> Recipe:
    """What the steps of a training need, besides their data.

    Raises:
      UserError: the model or the algorithm does not take the config's options.
    """
    train = config["train"]
    return Recipe(
        model=model(config),
        optimizer=optimizer.create(train),
        updater=updater(config),
        learning_rate=optimizer.learning_rate(train),
        label_smoothing=train["label_smoothing"],
        seed=config["seed"],
        grad_accum_steps=train["grad_accum_steps"],
        ema=train["ema"],
    )


def shapes(config: Config) -> Any:
    """The variables of a config's network, {"params", "batch_stats"}, as shapes: none is drawn."""
    image = jax.ShapeDtypeStruct((1, *data.get(config["data"]["name"]).image_shape), jnp.float32)
    return jax.eval_shape(model(config).init, jax.random.key(0), image)


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


def updater(config: Config) -> sparsity.BaseUpdater:
    """The sparsity updater of a resolved config.

    Maskable is what `models.maskable` says of the model, minus what `sparsity.exclude` matches. A
    window without a mask update gives masks that never change: a new training is refused
    (`algorithm_checks.check`), runs of versions that took it can still be read.

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
    if not algorithm.is_dense and first_update(algorithm, options) is None:
        options["update_start_step"] = None
    if options["library"] == "jaxpruner":
        return _of_jaxpruner(options)
    try:
        found = sparsity.create_updater_from_config(ConfigDict(options))
    except ValueError as error:
        raise refused(error) from error
    return _reaching_its_target(found)


def _reaching_its_target(found: sparsity.BaseUpdater) -> sparsity.BaseUpdater:
    """Ends the rise of a pruner's sparsity with its last update.

    The schedule's rise ends at `update_end_step`, the masks change at multiples of `update_freq`
    only: an update at 20 of a rise to 39 would leave the network with 89 % of the sparsity that was
    asked for.
    """
    schedule = found.scheduler
    pruners = (sparsity.BaseUpdater, sparsity.GlobalPruningMixin)  # they keep the highest scores
    is_pruner = type(found)._choose_masks in [kind._choose_masks for kind in pruners]
    if not is_pruner or type(schedule) is not sparsity.PolynomialSchedule:
        return found
    freq, end = schedule.update_freq, schedule.update_end_step
    if end is not None:
        # The rise is complete one step before its end (the +1 of `PolynomialSchedule`).
        found.scheduler = dataclasses.replace(
            schedule, update_end_step=min(end, end // freq * freq + 1)
        )
    return found


def _of_jaxpruner(options: dict[str, Any]) -> sparsity.BaseUpdater:
    name = options.pop("algorithm")
    try:
        options["library"] = "dst_jax"
        options = sparsity.config_keys.of_updater(options, sparsity.fields_of(name))
        return sparsity.jaxpruner_bridge.create_updater_from_config({**options, "algorithm": name})
    except ModuleNotFoundError:
        raise UserError(
            "config.sparsity.library",
            "jaxpruner, which is not installed",
            "dst_jax, or the package from its repository",
            sparsity.jaxpruner_bridge.INSTALL,
        ) from None
    except ValueError as error:
        raise UserError("config.sparsity", str(error), "what JaxPruner takes") from None


def pipeline(
    config: Config, devices: Devices, data_dir: str | None, cache_dir: Path
) -> data.Pipeline:
    """The input pipeline of a resolved config: resident on the devices or streamed to them."""
    dataset = data.get(config["data"]["name"])
    options = {
        "batch_size": config["train"]["batch_size"],
        "seed": config["seed"],
        "augment": config["data"]["augment"],
        "train_augmentation": data.TrainAugmentation.from_config(config),
        "dtype": jnp.dtype(config["model"]["dtype"]),
    }
    share = config["data"]["validation"]
    if data.is_resident(dataset, config["data"]["input"]):
        images, labels = data.load_arrays(dataset, dataset.train_split, data_dir, cache_dir)
        kept = len(labels) - data.num_held_out(len(labels), share)
        return data.ResidentPipeline(
            dataset, images[:kept], labels[:kept], put=devices.replicate, **options
        )
    return data.StreamPipeline(dataset, data_dir, put=devices.shard, validation=share, **options)


def refused(error: Exception) -> UserError:
    """What an updater says of its config, as one line that names the option where it does."""
    text = str(error)
    if at := shown(place_of(error, sparsity.api.REGISTERED_IN.values())):
        return UserError("config.sparsity.algorithm", f"{text} at {at}", "no error", TRACEBACK)
    field, _, rest = text.partition(": found ")
    found, _, expected = rest.partition("; expected ")
    if expected and field.replace("_", "").isalnum():
        return UserError(f"config.sparsity.{field}", found, expected)
    return UserError("config.sparsity", text or type(error).__name__, "what the algorithm takes")


def first_update(algorithm: Any, options: Config) -> int | None:
    """The first step whose update an algorithm's masks wait for; None: it never comes."""
    start, end, freq = (
        options[name] for name in ("update_start_step", "update_end_step", "update_freq")
    )
    if not (algorithm.changes_masks and algorithm.updates_at_multiples):
        freq = 1
    return sparsity.api.first_update(start, end, freq)
