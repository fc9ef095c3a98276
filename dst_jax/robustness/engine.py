"""Renders and predicts: one compiled program per corruption, one for the network, per image shape.

Rendering and prediction are two programs, so that the network is compiled once and not once a
corruption, what is rendered does not depend on who looks at it, and several networks look at the
same rendered images. Severity and seed are arguments of the program. Randomness is keyed by (seed,
corruption, severity, image id); each device runs the program that a single device would, so batch
order and number of devices change nothing. Called by `evaluation`.
"""

import collections
import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax import corruptions
from dst_jax.corruptions import video
from dst_jax.data import VIDEO
from dst_jax.errors import UserError
from dst_jax.robustness.images import Batch, put
from dst_jax.robustness.records import CLEAN, Condition, Fingerprint
from dst_jax.robustness.suites import Plan
from dst_jax.runtime.devices import Devices

Predict = Callable[[jax.Array], jax.Array]
_AHEAD = 2  # batches that the host prepares while the devices are busy


class Predictions(NamedTuple):
    """What became of each image under one condition, in the order of the image ids.

    Attributes:
      predicted: int32 [N], the class of the largest logit.
      confidence: float32 [N], the largest softmax probability.
      id: int32 [N].
      label: int32 [N].
    """

    predicted: np.ndarray
    confidence: np.ndarray
    id: np.ndarray
    label: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """Bool [N], whether the class is the label."""
        return self.predicted == self.label

    @property
    def num_nan(self) -> int:
        """For how many images the network gives NaN."""
        return int(np.isnan(self.confidence).sum())


class Engine:
    """The compiled programs of one evaluation.

    Args:
      plan: how images are rendered.
      devices: on which.

    Attributes:
      outcome: the program `(network, {"image"}) -> (class, confidence)`, of all networks.
    """

    def __init__(self, plan: Plan, devices: Devices):
        self._plan, self._devices = plan, devices
        self.outcome = devices.map_rows(_outcome, everywhere=True)
        self._renderers: dict[str, Callable] = {}

    def network(self, predict: Predict) -> "Network":
        """Puts a network on the devices.

        Args:
          predict: maps images uint8 [B, H, W, 3] to logits [B, classes]. If it is a pytree (for
            example `jax.tree_util.Partial(function, variables)`), its weights are arguments of the
            program and not constants in it, and networks of one and the same function share the
            program; functions that only compare equal do not.
        """
        if isinstance(predict, jax.tree_util.Partial):
            predict = jax.tree_util.Partial(_Same(predict.func), *predict.args, **predict.keywords)
        else:
            predict = jax.tree_util.Partial(_Same(predict))
        placed = self._devices.replicate_global(predict)
        return Network(digest(predict), functools.partial(self.outcome, placed), self._devices)

    def render(self, condition: Condition, batch: Batch) -> jax.Array:
        """The images of a batch under a condition: uint8 [B, H, W, 3]."""
        if condition == CLEAN:
            return batch.rows["image"]
        name = condition.corruption
        numbers = (np.int32(condition.severity), np.int32(self._plan.seed))
        rows = {"image": batch.rows["image"], "id": batch.rows["id"]}
        try:
            return self.renderer(name)(numbers, rows)
        except ValueError as error:  # `corruptions` stands alone and raises these
            raise UserError(
                name,
                f"images it cannot be rendered from ({error})",
                "images of a size that it can have",
            ) from None

    def renderer(self, name: str) -> Callable[[Any, Any], jax.Array]:
        """The program `((severity, seed), {"image", "id"}) -> images` of a corruption."""
        if name not in self._renderers:
            self._renderers[name] = self._devices.map_rows(_renderer(name, self._plan))
        return self._renderers[name]

    def score(
        self, networks: Sequence["Network"], batches: Iterable[Batch], wanted: Sequence[Condition]
    ) -> dict[Condition, list[Predictions]]:
        """Scores conditions in one pass over clean images, or over images as they are for `CLEAN`.

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
                predicted, confidence = (np.asarray(array)[batch.real] for array in outcome)
                parts.append((predicted, confidence, *numbers))

        for batch in batches:
            for condition in wanted:
                images = self.render(condition, batch)
                outcomes = [network.predict(images) for network in networks]
                waiting.append((condition, batch, outcomes))
                while len(waiting) > _AHEAD:
                    collect()
        while waiting:
            collect()
        return {c: [_in_order(parts) for parts in each] for c, each in found.items()}


class Network:
    """A network on the devices; made by `Engine.network`.

    Args:
      weights: digest of what it holds.
      outcome: {"image": uint8 [B, H, W, 3]} -> (class, confidence).
      devices: where it lies.
    """

    def __init__(
        self,
        weights: str,
        outcome: Callable[[dict[str, jax.Array]], tuple[jax.Array, jax.Array]],
        devices: Devices,
    ):
        self._weights, self._outcome, self._devices = weights, outcome, devices

    def predict(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(class int32 [B], confidence float32 [B]) of images uint8 [B, H, W, 3]."""
        return self._outcome({"image": images})

    def fingerprint(self, shape: tuple[int, ...], batch_size: int) -> Fingerprint:
        """What identifies the model: its weights, and what it says of synthetic images.

        Args:
          shape: [H, W, 3] of an image, [T, H, W, 3] of a clip.
          batch_size: images in a batch over all devices, as in the evaluation, so that no further
            program is compiled.
        """
        probes = synthetic_images(shape)
        found: list[list[np.ndarray]] = []
        for start in range(0, len(probes), batch_size):
            images = np.zeros((batch_size, *shape), np.uint8)
            part = probes[start : start + batch_size]
            images[: len(part)] = part
            empty = np.zeros(batch_size, np.int32)
            host = dict.fromkeys(("label", "id", "weight"), empty) | {"image": images}
            placed = put(host, self._devices).rows["image"]
            found.append([np.asarray(array)[: len(part)] for array in self.predict(placed)])
        classes, confidence = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        return Fingerprint(self._weights, classes, np.nan_to_num(confidence))


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


def _renderer(name: str, plan: Plan) -> Callable[[Any, Any], jax.Array]:
    def program(numbers: Any, rows: dict[str, jax.Array]) -> jax.Array:
        severity, seed = numbers
        if plan.preset == VIDEO:
            return video.perturb_batch(name, rows["image"], rows["id"], severity, seed)
        keys = corruptions.example_keys(seed, name, severity, rows["id"])
        images = corruptions.corrupt(
            name, rows["image"], keys, severity, plan.preset, frost_dir=plan.frost_dir
        )
        quality = plan.jpeg_quality(name)
        return corruptions.saved_as_jpeg(images, quality) if quality else images

    return program


def _outcome(predict: Predict, rows: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    logits = predict(rows["image"]).astype(jnp.float32)
    confidence = jnp.max(jax.nn.softmax(logits, axis=-1), -1)
    # Said outright: XLA:CPU's fast maximum may lose a NaN.
    confidence = jnp.where(jnp.isnan(logits).any(-1), jnp.nan, confidence)
    return jnp.argmax(logits, -1).astype(jnp.int32), confidence


def digest(predict: Any) -> str:
    """SHA-256 of the arrays and numbers that a pytree holds, in order; "" where it holds none."""
    kinds = (np.ndarray, np.generic, jax.Array, bool, int, float, complex)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(predict) if isinstance(leaf, kinds)]
    if not leaves:
        return ""
    content = hashlib.sha256()
    for leaf in leaves:
        content.update(f"{leaf.dtype}{leaf.shape}".encode())
        content.update(np.ascontiguousarray(leaf).tobytes())
    return content.hexdigest()


_PROBES = 20


def synthetic_images(shape: tuple[int, ...]) -> np.ndarray:
    """Twenty fixed images on which two models will not agree by accident: uint8 [20, *shape].

    Smooth colour patterns of many scales and contrasts, with noise on half of them: pure noise
    would be one class to most networks.
    """
    generator = np.random.default_rng(0)
    *_, height, width, channels = shape
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    images = []
    for index in range(_PROBES):
        waves = np.zeros((height, width, channels))
        for _ in range(4):
            frequency = generator.uniform(-4, 4, 2)
            phase, amplitude = generator.uniform(0, 2 * np.pi), generator.normal(size=channels)
            wave = np.sin(2 * np.pi * (frequency[0] * y + frequency[1] * x) + phase)
            waves += wave[..., None] * amplitude
        contrast = generator.uniform(20, 90)
        noise = generator.normal(0, 30 if index % 2 else 0, waves.shape)
        images.append(np.clip(128 + contrast * waves / 2 + noise, 0, 255).astype(np.uint8))
    pictures = np.stack(images)
    return np.broadcast_to(
        pictures.reshape(_PROBES, *[1] * (len(shape) - 3), height, width, channels),
        (_PROBES, *shape),
    )


def _in_order(parts: list[tuple]) -> Predictions:
    outcome = Predictions(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    if len(np.unique(outcome.id)) != len(outcome.id):
        raise UserError("dataset", "images with the same id", "a number of its own for each")
    order = np.argsort(outcome.id)
    return Predictions(*(part[order] for part in outcome))


def check_predict(predict: Any, shape: tuple[int, ...], where: str = "predict") -> int:
    """Checks that `predict` is a function of images that gives logits, without running it.

    Args:
      predict: what shall be scored.
      shape: [B, H, W, 3] of images, [B, T, H, W, 3] of clips.
      where: what an error calls it.

    Returns:
      The number of classes.

    Raises:
      UserError: it is no such function.
    """
    expected = "a function of images uint8 [B, H, W, 3] -> logits"
    if not callable(predict):
        raise UserError(where, f"an object of type {type(predict).__name__}", expected)
    try:
        logits = jax.eval_shape(
            lambda images: predict(images), jax.ShapeDtypeStruct(shape, jnp.uint8)
        )
    except UserError:
        raise
    except Exception as error:  # whatever a user-supplied function raises
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        raise UserError(
            where, f"{type(error).__name__} when called with {list(shape)}: {reason}", expected
        ) from error
    found = jax.tree.map(lambda leaf: f"{leaf.dtype} {list(leaf.shape)}", logits)
    if (
        not isinstance(logits, jax.ShapeDtypeStruct)
        or logits.ndim != 2
        or logits.shape[0] != shape[0]
    ):
        raise UserError(where, f"{found} for {shape[0]} images", "logits [B, classes]")
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise UserError(where, f"{found} for {shape[0]} images", "logits, floating-point numbers")
    return logits.shape[1]
