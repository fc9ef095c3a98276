"""A training of the library's own programs, step by step, on chosen devices.

What `dst_jax.training.loop.train` compiles and runs, without files: for measurements, comparisons
of devices, and to compile programs before a run needs them. Called by stages.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Trainer:
    """One run's state and programs.

    Attributes:
      state: the `TrainState`, on the devices.
      updater: of the masks.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        images: np.ndarray,
        labels: np.ndarray,
        devices: Sequence[Any] | None = None,
    ):
        """Puts data and state on the devices; nothing is compiled for training yet.

        Args:
          config: as `dst_jax.config.resolve` returns it, for so many images.
          images: uint8 [N, H, W, 3].
          labels: int32 [N].
          devices: JAX devices; None: all.
        """
        import jax
        import jax.numpy as jnp

        from dst_jax import data, models
        from dst_jax.runtime.devices import Devices
        from dst_jax.training import build, compiled_steps, step

        self._config, self._devices = config, Devices(config["parallelism"], devices)
        dataset = data.get(config["data"]["name"])
        self._pipeline = data.ResidentPipeline(
            dataset,
            images,
            labels,
            batch_size=config["train"]["batch_size"],
            seed=config["seed"],
            augment=config["data"]["augment"],
            train_augmentation=data.TrainAugmentation.from_config(config),
            dtype=jnp.dtype(config["model"]["dtype"]),
            put=self._devices.replicate,
        )
        recipe = build.recipe(config)
        self.updater = recipe.updater
        ordinary, update = compiled_steps.whole_steps(recipe, self._pipeline.batch)
        self._programs = {
            False: self._devices.compile(ordinary),
            True: self._devices.compile(update),
        }
        self._seeds = (np.uint32(config["seed"]),)
        with jax.default_device(self._devices.devices[0]):
            variables = models.init(recipe.model, config["seed"], dataset.image_shape)
            state = jax.jit(
                lambda variables, seed: step.init_state(recipe.with_seed(seed), variables)
            )(variables, self._seeds[0])
        self.state = self._devices.replicate(state)
        self.step = 0

    def compile(self, *, update: bool) -> float:
        """Compiles the program of ordinary steps, or of an update step; seconds that it took.

        The program lands in JAX's cache on disk; in this process the first call looks it up there.
        """
        began = time.perf_counter()
        feeds = (self._pipeline.host_inputs(0),)
        self._programs[update].lower((self.state,), feeds, self._seeds, 1).compile()  # type: ignore[attr-defined]
        return time.perf_counter() - began

    def advance(self, count: int, *, update: bool = False) -> Any:
        """Takes `count` ordinary steps in one program, or one update step; returns the state."""
        feeds = (self._pipeline.host_inputs(self.step),)
        program = self._programs[update]
        (self.state,) = program((self.state,), feeds, self._seeds, 1 if update else count)
        self.step += 1 if update else count
        return self.state

    def loss(self) -> float:
        """The mean loss of all steps so far."""
        metrics = self.state.metrics
        return float(np.asarray(metrics.loss)) / int(np.asarray(metrics.steps))

    def close(self) -> None:
        """Lets go of the images and the state."""
        self._pipeline.close()
        self.state = None


def resolved(changes: Mapping[str, Any], num_train: int) -> dict[str, Any]:
    """A resolved config: the library's defaults with changes, {dotted name: value}."""
    return resolve(card(changes), num_train)


def resolve(card: Any, num_train: int) -> dict[str, Any]:
    """The resolved config of a card, for so many training images."""
    from dst_jax import config as config_lib

    return config_lib.resolve(card, num_train)


def card(changes: Mapping[str, Any]) -> Any:
    """The defaults with changes, as a card has them."""
    from dst_jax import config as config_lib

    config = config_lib.default()
    for name, value in changes.items():
        config_lib.set_option(config, name, value)
    return config
