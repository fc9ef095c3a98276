"""Renders and predicts: one compiled program per corruption, one for the network, per image shape.

Rendering and prediction are two programs, so that the network is compiled once and not once a
corruption, what is rendered does not depend on who looks at it, and several networks look at the
same rendered images. Severity and seed are arguments of the program. Randomness is keyed by (seed,
corruption, severity, image id); each device runs the program that a single device would, so batch
order and number of devices change nothing. Called by `evaluation`.
"""

import collections
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dst_jax import corruptions
from dst_jax.corruptions import registry, video
from dst_jax.data import VIDEO
from dst_jax.errors import UserError, place_of, shown
from dst_jax.robustness import grey
from dst_jax.robustness.images import Batch
from dst_jax.robustness.networks import (
    DeviceNetwork,
    HostNetwork,
    Network,
    outcome_of_logits,
    outcome_of_probabilities,
    row_kinds,
)
from dst_jax.robustness.predict_functions import (
    Checked,
    HostFunction,
    Predict,
    digest,
    digest_of_module,
)
from dst_jax.robustness.records import CLEAN, Condition
from dst_jax.robustness.suites import Plan
from dst_jax.runtime.devices import Devices

# Batches that the devices are given ahead of the one whose outcome the host waits for, or works on.
_AHEAD = 2


class Predictions(NamedTuple):
    """What became of each image under one condition, in the order of the image ids.

    Attributes:
      predicted: int32 [N], the class of the largest logit.
      confidence: float32 [N], the largest softmax probability.
      id: int32 [N].
      label: int32 [N].
      logits: float32 [N, classes] where they are kept, else None.
    """

    predicted: np.ndarray
    confidence: np.ndarray
    id: np.ndarray
    label: np.ndarray
    logits: np.ndarray | None = None

    @property
    def correct(self) -> np.ndarray:
        """Bool [N], whether the class is the label."""
        return self.predicted == self.label

    @property
    def problem(self) -> str:
        """What of it cannot be scored, as "NaN for 3 of 8 images"; "" where nothing is."""
        for lost, what in (
            (np.isnan(self.confidence), "NaN"),
            (self.confidence < 0, "what is negative or does not sum to 1, no probabilities,"),
        ):
            if lost.any():
                return f"{what} for {lost.sum()} of {len(self.id)} images"
        return ""


class Engine:
    """The compiled programs of one evaluation.

    Args:
      plan: how images are rendered.
      devices: on which.
      keep: whether the logits are part of what networks answer.

    Attributes:
      outcome: the program `(network, {"image"}) -> (class, confidence)`, of all networks.
    """

    def __init__(self, plan: Plan, devices: Devices, keep: bool = False):
        self._plan, self._devices, self._keep = plan, devices, keep
        programs = (outcome_of_logits, outcome_of_probabilities)
        self.outcome, self._of_probabilities = (
            devices.map_rows(functools.partial(program, keep=keep), everywhere=True)
            for program in programs
        )
        self._kinds = devices.map_rows(row_kinds, everywhere=True)
        self._everywhere = devices.map_rows(lambda _, rows: rows, everywhere=True)
        self._renderers: dict[str, Callable] = {}

    def network(self, predict: Predict | Checked, outputs: str = "logits") -> Network:
        """Makes a network of a predict function, and puts it on the devices where it is JAX's.

        Args:
          predict: maps images uint8 [B, H, W, 3] to logits [B, classes], and is JAX's, or what
            `check_predict` gives. If it is a pytree (for example
            `jax.tree_util.Partial(function, variables)`), its weights are arguments of the program
            and not constants in it, and networks of one and the same function share the program;
            functions that only compare equal do not.
          outputs: "logits" or "probabilities", what it gives.
        """
        function = predict.predict if isinstance(predict, Checked) else predict
        if isinstance(predict, Checked) and isinstance(function, HostFunction):
            return HostNetwork(predict, outputs, self._devices, self._keep)
        if isinstance(function, jax.tree_util.Partial):
            partial = jax.tree_util.Partial(
                _Same(function.func), *function.args, **function.keywords
            )
            weights = digest(partial)
        else:
            partial = jax.tree_util.Partial(_Same(function))
            weights = digest_of_module(function)
        placed = self._devices.replicate_global(partial)
        program = self.outcome if outputs == "logits" else self._of_probabilities
        return DeviceNetwork(
            weights,
            self._devices,
            functools.partial(program, placed),
            functools.partial(self._kinds, placed),
        )

    def render(self, condition: Condition, batch: Batch) -> jax.Array:
        """The images of a batch under a condition: uint8 [B, H, W, 3]."""
        if condition == CLEAN:
            return batch.rows["image"]
        name = condition.corruption
        numbers = (np.int32(condition.severity), np.int32(self._plan.seed))
        rows = {"image": batch.rows["image"], "id": batch.rows["id"]}
        try:
            images, finite = self.renderer(name)(numbers, rows)
            if finite is not None and not isinstance(finite, jax.core.Tracer):
                (finite,) = self._everywhere((), (finite,))
                lost = ~np.asarray(finite)[batch.real]
                registry.check_finite(name, condition.severity, lost)
            return images
        except ValueError as error:  # `corruptions` stands alone and raises these
            if shown(place_of(error, registry.REGISTERED_IN.values())):
                raise  # of the user's own code: `cli` says where
            found, _, expected = str(error).removeprefix(f"{name}: found ").partition("; expected ")
            if str(error).startswith(f"{name}: found ") and expected:
                raise UserError(f"corruption {name}", found, expected) from None
            raise UserError(
                name,
                f"images it cannot be rendered from ({error})",
                "images of a size that it can have",
            ) from None

    def renderer(self, name: str) -> Callable[[Any, Any], tuple[jax.Array, jax.Array | None]]:
        """The program `((severity, seed), {"image", "id"}) -> (images, finite)` of a corruption.

        `finite` is that of `corruptions.registry.corrupt_and_tell`.
        """
        if name not in self._renderers:
            self._renderers[name] = self._devices.map_rows(_renderer(name, self._plan))
        return self._renderers[name]

    def score(
        self, networks: Sequence[Network], batches: Iterable[Batch], wanted: Sequence[Condition]
    ) -> dict[Condition, list[Predictions]]:
        """Scores conditions in one pass over clean images, or over images as they are for `CLEAN`.

        The devices render the next batches while a network on the host works on the last.

        Args:
          networks: all look at the same rendered images.
          batches: the images.
          wanted: the conditions.

        Returns:
          Of each condition an outcome per network, in their order.
        """
        found: dict[Condition, list[list[tuple]]] = {c: [[] for _ in networks] for c in wanted}
        waiting: collections.deque = collections.deque()

        def collect() -> None:
            condition, batch, outcomes = waiting.popleft()
            numbers = (batch.id[batch.real], batch.label[batch.real])
            for parts, outcome in zip(found[condition], outcomes, strict=True):
                arrays = [np.asarray(array)[batch.real] for array in outcome()]
                parts.append((*arrays[:2], *numbers, *arrays[2:]))

        for batch in batches:
            for condition in wanted:
                images = self.render(condition, batch)
                outcomes = [network.start(images) for network in networks]
                waiting.append((condition, batch, outcomes))
                while len(waiting) > _AHEAD:
                    collect()
        while waiting:
            collect()
        return {c: [_in_order(parts) for parts in each] for c, each in found.items()}


class _Same:
    """A function that is equal to itself alone, whatever it says of itself.

    Two that compare equal, as Flax modules may, must not get each other's program; and one that
    cannot be hashed is a function all the same.
    """

    def __init__(self, function: Callable):
        self._function = function

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._function(*arguments, **options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._function is other._function

    def __hash__(self) -> int:
        return id(self._function)


def _renderer(name: str, plan: Plan) -> Callable[[Any, Any], tuple[jax.Array, jax.Array | None]]:
    def program(numbers: Any, rows: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array | None]:
        severity, seed = numbers
        if plan.preset == VIDEO:
            return video.perturb_batch(name, rows["image"], rows["id"], severity, seed), None
        keys = corruptions.example_keys(seed, name, severity, rows["id"])
        images, finite = registry.corrupt_and_tell(
            name, rows["image"], keys, severity, plan.preset, frost_dir=plan.frost_dir
        )
        if plan.grey:
            images = grey.as_grey(name, images)
        quality = plan.jpeg_quality(name)
        return corruptions.saved_as_jpeg(images, quality) if quality else images, finite

    return program


def _in_order(parts: list[tuple]) -> Predictions:
    outcome = Predictions(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    if len(np.unique(outcome.id)) != len(outcome.id):
        raise UserError("dataset", "images with the same id", "a number of its own for each")
    order = np.argsort(outcome.id)
    return Predictions(*(part[order] for part in outcome if part is not None))
