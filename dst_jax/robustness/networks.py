"""Networks as an evaluation asks them, on the devices or on the host: a class and a confidence.

Both kinds give the same numbers for the same logits. What a network is made of, a checked predict
function, is in `predict_functions`. Called by `engine`, `scorer`, `arguments` and `loop`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.errors import RunError, UserError, line_of
from dst_jax.robustness.images import put
from dst_jax.robustness.predict_functions import (
    Checked,
    HostFunction,
    Predict,
    check_logits,
    digest,
)
from dst_jax.robustness.records import Fingerprint
from dst_jax.runtime.devices import Devices

# Class int32 [B] and confidence float32 [B]; where they are kept, also logits float32 [B, classes].
Outcome = tuple[Any, ...]
OUTPUTS = ("logits", "probabilities")
# How far from 1 the sum of a row of probabilities may lie: bfloat16 has three digits.
_ROUNDING = 0.01
_NO_PROBABILITIES = -1.0  # the confidence where probabilities are declared, and are none


class Network:
    """A network that can be asked; made by `Engine.network`.

    Args:
      weights: digest of what it holds, "" where that is not known.
      devices: where the images lie.
    """

    def __init__(self, weights: str, devices: Devices):
        self._weights, self._devices = weights, devices

    def predict(self, images: jax.Array) -> Outcome:
        """(class int32 [B], confidence float32 [B]) of images uint8 [B, H, W, 3]."""
        raise NotImplementedError

    def start(self, images: jax.Array) -> Callable[[], Outcome]:
        """Begins what can be done without waiting; what is returned gives the outcome."""
        raise NotImplementedError

    def kinds(self, images: jax.Array) -> np.ndarray:
        """Of each row of logits int8: 0 no probabilities, 1 they may be, 2 they look like it.

        A row may be probabilities if nothing in it is negative and its sum is 1. It looks like them
        if it also makes a difference: votes (one 1, else 0), and rows whose confidence is the same
        either way, as where all classes are equal, do not.
        """
        raise NotImplementedError

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
            found.append([np.asarray(array)[: len(part)] for array in self.predict(placed)[:2]])
        classes, confidence = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        return Fingerprint(self._weights, classes, np.nan_to_num(confidence))


class DeviceNetwork(Network):
    """A network of JAX, on the devices.

    Args:
      weights: see `Network`.
      devices: see `Network`.
      outcome: {"image": uint8 [B, H, W, 3]} -> (class, confidence).
      kinds: the same images -> what `Network.kinds` says.
    """

    def __init__(
        self,
        weights: str,
        devices: Devices,
        outcome: Callable[[dict[str, jax.Array]], Outcome],
        kinds: Callable[[dict[str, jax.Array]], jax.Array],
    ):
        super().__init__(weights, devices)
        self._outcome, self._kinds = outcome, kinds

    def predict(self, images: jax.Array) -> Outcome:
        """See `Network`; the arrays may still be under way."""
        return self._outcome({"image": images})

    def start(self, images: jax.Array) -> Callable[[], Outcome]:
        """See `Network`."""
        outcome = self.predict(images)
        return lambda: outcome

    def kinds(self, images: jax.Array) -> np.ndarray:
        """See `Network`."""
        return np.asarray(self._kinds({"image": images}))


class HostNetwork(Network):
    """A network of any framework, on the host.

    Args:
      checked: the function.
      outputs: one of `OUTPUTS`, what it gives.
      devices: see `Network`.
      keep: whether its logits are part of the outcome.
    """

    def __init__(self, checked: Checked, outputs: str, devices: Devices, keep: bool = False):
        assert isinstance(checked.predict, HostFunction)
        self._function: HostFunction = checked.predict
        self._classes, self._where, self._outputs = checked.classes, checked.where, outputs
        self._keep = keep
        weights = self._function.weights
        super().__init__(digest(weights()) if weights else "", devices)

    def start(self, images: jax.Array) -> Callable[[], Outcome]:
        """See `Network`; the function itself runs when the outcome is asked for."""
        if not self._function.takes_jax:
            images.copy_to_host_async()
        return lambda: self.predict(images)

    def predict(self, images: jax.Array) -> Outcome:
        """See `Network`."""
        logits = self._logits(images)
        outcome = self._read(logits, self._outputs)
        if not self._keep:
            return outcome
        with np.errstate(divide="ignore", invalid="ignore"):
            return (*outcome, np.log(logits) if self._outputs == "probabilities" else logits)

    def kinds(self, images: jax.Array) -> np.ndarray:
        """See `Network`."""
        logits = self._logits(images)
        return np.asarray(_kinds(logits, self._read(logits, "logits")[1]))

    def _logits(self, images: jax.Array) -> np.ndarray:
        try:
            logits = self._function.logits(images)
        except (UserError, RunError):
            raise
        except Exception as error:  # whatever a user-supplied function raises
            raise RunError(f"{self._where} fails on the host: {line_of(error)}") from error
        check_logits(logits, len(images), self._where, self._classes)
        return logits.astype(np.float32)

    @staticmethod
    def _read(logits: np.ndarray, outputs: str) -> Outcome:
        """As `outcome_of_logits` and `outcome_of_probabilities` on the devices."""
        highest = logits.max(-1)
        if outputs == "probabilities":
            confidence = np.where(_may_be_probabilities(logits), highest, _NO_PROBABILITIES)
        else:
            with np.errstate(invalid="ignore"):  # infinity - infinity is NaN
                confidence = 1 / np.exp(logits - highest[:, None]).sum(-1)
        confidence = np.where(np.isnan(logits).any(-1), np.nan, confidence).astype(np.float32)
        return logits.argmax(-1).astype(np.int32), confidence


def outcome_of_logits(
    predict: Predict, rows: dict[str, jax.Array], *, keep: bool = False
) -> Outcome:
    """The outcome, with the logits if `keep`, where `predict` gives logits; pure."""
    logits = predict(rows["image"]).astype(jnp.float32)
    confidence = jnp.max(jax.nn.softmax(logits, axis=-1), -1)
    # Said outright: XLA:CPU's fast maximum may lose a NaN.
    confidence = jnp.where(jnp.isnan(logits).any(-1), jnp.nan, confidence)
    outcome = jnp.argmax(logits, -1).astype(jnp.int32), confidence
    return (*outcome, logits) if keep else outcome


def outcome_of_probabilities(
    predict: Predict, rows: dict[str, jax.Array], *, keep: bool = False
) -> Outcome:
    """The same where `predict` gives probabilities: -1 for rows that are none."""
    shares = predict(rows["image"]).astype(jnp.float32)
    confidence = jnp.where(_may_be_probabilities(shares), shares.max(-1), _NO_PROBABILITIES)
    confidence = jnp.where(jnp.isnan(shares).any(-1), jnp.nan, confidence)
    outcome = jnp.argmax(shares, -1).astype(jnp.int32), confidence
    return (*outcome, jnp.log(shares)) if keep else outcome


def row_kinds(predict: Predict, rows: dict[str, jax.Array]) -> jax.Array:
    """What `Network.kinds` says, int8 [B]; pure."""
    logits = predict(rows["image"]).astype(jnp.float32)
    return _kinds(logits, jnp.max(jax.nn.softmax(logits, axis=-1), -1))


def _may_be_probabilities(rows: Any) -> Any:
    """Bool [B] of NumPy's or JAX's [B, classes]."""
    return (rows >= 0).all(-1) & (abs(rows.sum(-1) - 1) <= _ROUNDING)


def _kinds(rows: Any, as_logits: Any) -> Any:
    possible = _may_be_probabilities(rows)
    votes = ((rows == 0) | (rows == 1)).all(-1)
    differ = abs(rows.max(-1) - as_logits) > 1e-3
    return possible.astype("int8") + (possible & differ & ~votes).astype("int8")


def highest_confidence_of_probabilities(classes: int) -> float:
    """The largest confidence that probabilities can have where they are read as logits.

    Softmax of (1, 0, 0, ...), and what rounding adds. Most trained networks are above it on some
    image, and need not be asked again.
    """
    top = math.exp(1 + 2 * _ROUNDING)
    return top / (top + classes - 1)


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
