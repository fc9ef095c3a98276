"""What a training says of itself: `metrics.jsonl`, TensorBoard events, the progress line.

`metrics.jsonl` is the record; TensorBoard is a view of it. Called by `loop`.
"""

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dst_jax.errors import RunError, UserError
from dst_jax.runtime.devices import Devices, any_process, is_main_process
from dst_jax.runtime.interrupt import Interrupt
from dst_jax.runtime.progress import Progress
from dst_jax.runtime.run_dir import write_text
from dst_jax.sparsity import exploration
from dst_jax.training.step import TrainState
from dst_jax.training.train_metrics import TrainMetrics


class MetricsFile:
    """`metrics.jsonl`: the record of a training, one JSON object a line.

    Args:
      path: the file.
      step: lines after this step are dropped: they belong to work that a kill has undone.
    """

    def __init__(self, path: Path, step: int):
        lines = path.read_text().splitlines() if path.exists() else []
        kept = []
        for line in lines:
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError, TypeError):  # the line that the kill cut short
                continue
        write_text(path, "".join(f"{line}\n" for line in kept))
        self._file = open(path, "a")  # noqa: SIM115 - closed by close()

    def write(self, values: Mapping[str, Any]) -> None:
        """Appends one line and hands it to the system."""
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        os.fsync(self._file.fileno())
        self._file.close()


class Log:
    """What a run says of itself: `metrics.jsonl`, TensorBoard, the progress line.

    The values of a line depend on config and step only; how fast it went is under the key "speed".
    One of several runs that train together shows progress for all; the others are `quiet`.
    `forward_masks` gives the masks of the forward pass where they are not those of the state; the
    density is theirs.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        workdir: Path,
        step: int,
        learning_rate: Callable[[Any], jax.Array],
        devices: Devices,
        quiet: bool = False,
        validate: Callable[[TrainState], dict[str, float]] | None = None,
        forward_masks: Callable[[TrainState], Any] | None = None,
    ):
        self._config, self._rate, self._devices = config, learning_rate, devices
        self._validate, self._forward_masks = validate, forward_masks
        self._total = config["train"]["steps"]
        self._path = workdir / "metrics.jsonl"
        self._file = MetricsFile(self._path, step) if is_main_process() else None
        self._board = None
        if is_main_process() and config["log"]["tensorboard"]:
            self._board = _tensorboard(workdir)
        self._progress = Progress(self._total, step, quiet=quiet or not is_main_process())
        self._since, self._since_step = time.monotonic(), step
        self._calls = 0
        self._text = "compiling"
        self._show(step, now=True)

    def _show(self, step: int, now: bool = False) -> None:
        self._progress.show(step, f"{self._config['sparsity']['algorithm']}  {self._text}", now)

    def stop_requested(self, interrupt: Interrupt, step: int) -> bool:
        """Shows progress and says whether any process was asked to stop."""
        if self._text == "compiling" and step > self._since_step:
            self._text = "training"
        self._show(step)
        self._calls += 1
        if jax.process_count() > 1 and self._calls % 8:  # asking the others costs a round trip
            return False
        return any_process(bool(interrupt.requested))

    def due(self, step: int) -> bool:
        """Whether a line is due after this many steps."""
        return step % self._config["log"]["every"] == 0 or step == self._total

    def write(self, step: int, state: TrainState) -> TrainState:
        """Writes the line of the open window and returns the state with an empty one."""
        check_finite(state)
        metrics = jax.tree.map(_first, state.metrics)
        masks = [local(mask) for mask in jax.tree.leaves(state.sparse.masks)]
        union = jax.tree.leaves(state.union)
        forward = masks
        if self._forward_masks:
            forward = [np.asarray(mask) for mask in jax.tree.leaves(self._forward_masks(state))]
        active = sum(int(mask.sum(dtype=np.int64)) for mask in forward)
        maskable = sum(mask.size for mask in forward)
        values = {
            "step": step,
            "epoch": step / self._config["train"]["steps_per_epoch"],
            "loss": float(metrics.loss / np.float32(metrics.steps)),
            "accuracy": int(metrics.correct) / int(metrics.examples),
            "gradient_norm": float(metrics.gradient_norm / np.float32(metrics.steps)),
            "learning_rate": float(self._rate(step - 1)),
            "density": active / maskable if maskable else 1.0,
        }
        values |= exploration.rates(masks, [local(seen) for seen in union])
        values |= of_updates(metrics, active)
        now = time.monotonic()
        pace = (step - self._since_step) / (now - self._since)
        images = pace * self._config["train"]["batch_size"]
        speed = {
            "steps_per_second": round(pace, 3),
            "images_per_second": round(images, 1),
            "seconds": round(now - self._since, 3),
        }
        if self._validate:
            values |= self._validate(state)
        # What validation took is no time of training.
        self._since, self._since_step = time.monotonic(), step
        if self._file:
            self._file.write({**values, "speed": speed})
        if self._board:
            self._board.write_scalars(step, {k: v for k, v in values.items() if k != "step"})
        parts = [f"{name} {values[name]:.3f}" for name in ("loss", "accuracy", "density")]
        if self._validate:
            parts.append(f"validation {values['validation/accuracy']:.3f}")
        if "mask_churn" in values:
            parts.append(f"churn {values['mask_churn']:.3f}")
        self._text = "  ".join([*parts, f"{pace:.1f} steps/s", f"{images:.0f} images/s"])
        self._show(step, now=step == self._total)
        return dataclasses.replace(state, metrics=self._devices.replicate(TrainMetrics.empty()))

    def seconds_in_all(self) -> float:
        """Seconds of all windows of the record, over all starts of the run."""
        lines = self._path.read_text().splitlines()
        return round(sum(json.loads(line)["speed"]["seconds"] for line in lines), 3)

    def close(self) -> None:
        """Finishes the files and the line."""
        self._progress.end()
        if self._file:
            self._file.close()
        if self._board:
            self._board.close()


def of_updates(metrics: TrainMetrics, active: int) -> dict[str, float]:
    """What the mask updates of a log window did; {} without updates.

    Args:
      metrics: host numbers.
      active: active maskable weights at its end.

    Returns:
      "mask_churn": the share of the active weights that an update replaced, on average;
      "regrown_same": of the weights that updates grew, those that the same update had dropped;
      "grown_survival": of the weights that the update before activated, those still active;
      "gradient_norm_active", "gradient_norm_inactive": norms of the dense gradient of the maskable
      weights at the updates, on average. What an algorithm does not tell, or happened to nothing,
      is left out.
    """
    updates = int(metrics.updates)
    if not updates:
        return {}
    found = {
        "mask_churn": int(metrics.num_activated) / (active * updates) if active else math.nan,
        "gradient_norm_active": float(metrics.gradient_active) / updates,
        "gradient_norm_inactive": float(metrics.gradient_inactive) / updates,
    }
    if metrics.num_grown > 0:  # below: begun by a version that did not count them
        found["regrown_same"] = 1 - int(metrics.num_activated) / int(metrics.num_grown)
    if metrics.num_recent:
        found["grown_survival"] = int(metrics.num_surviving) / int(metrics.num_recent)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def local(leaf: jax.Array) -> np.ndarray:
    """A replicated leaf as it lies on this process's first device, in either parallelism."""
    return np.asarray(leaf.addressable_shards[0].data)


def _first(leaf: jax.Array) -> Any:
    return local(leaf).reshape(-1)[0]


def check_finite(state: TrainState) -> None:
    """Raises RunError, with the step, if a loss or a gradient of the open window was not finite."""
    if (step := bad_step(state)) >= 0:
        raise RunError(f"training diverged: loss or gradient not finite at step {step}")


def bad_step(state: TrainState) -> int:
    """The first step of the open window whose loss or gradient was not finite; -1 if none."""
    return int(_first(state.metrics.bad_step))


def _tensorboard(workdir: Path) -> Any:
    """Clu's TensorBoard writer; imports TensorFlow."""
    try:
        from clu.metric_writers import SummaryWriter
    except ImportError as error:
        raise UserError(
            "config.log.tensorboard",
            f"no module {error.name}",
            "TensorFlow and TensorBoard",
            "pip install 'dst-jax[tf]', or set it to False",
        ) from None
    return SummaryWriter(str(workdir / "tensorboard"))
