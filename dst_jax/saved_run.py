"""A finished or running run, read back from its directory: `dst_jax.load_run(workdir)`.

Gives everything that a notebook, `robustness`, `analysis` and `report` ask of a run, on one device,
whatever it was trained on.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dst_jax import checkpoint, data, models
from dst_jax.workdir import read_json


@dataclasses.dataclass(frozen=True)
class Run:
    """A run as it stands in its latest checkpoint.

    Attributes:
      workdir: where it lies.
      config: the resolved config.
      step: completed batches of the checkpoint.
      model: the Flax module.
      params: float32 weights, masked.
      batch_stats: BatchNorm's running statistics; {} without BatchNorm.
      masks: uint8 arrays, nested like params, only where a leaf is maskable.
      union: like masks, 1 where a weight has been active so far.
      metrics: the lines of metrics.jsonl.
    """

    workdir: Path
    config: Mapping[str, Any]
    step: int
    model: Any
    params: Any
    batch_stats: Any
    masks: Any
    union: Any
    metrics: list[dict[str, Any]]

    @property
    def predict(self) -> Callable[[jax.Array], jax.Array]:
        """Maps images uint8 [B, H, W, 3] to logits float32 [B, classes].

        It is a pytree whose leaves are the weights, so `jax.jit` takes it as an argument.
        """
        variables = {"params": self.params, "batch_stats": self.batch_stats}
        return jax.tree_util.Partial(logits_function(self.config), variables)


def create_model(config: Mapping[str, Any]) -> Any:
    """The Flax module of a resolved config."""
    options = {"width": config["model"]["width"]} if config["model"]["width"] else {}
    return models.create(
        config["model"]["name"],
        data.get(config["data"]["name"]).num_classes,
        dtype=jnp.dtype(config["model"]["dtype"]),
        **options,
    )


def logits_function(config: Mapping[str, Any]) -> Callable[[Any, jax.Array], jax.Array]:
    """The function (variables, images uint8 [B, H, W, 3]) -> logits of a config's network.

    Clips are uint8 [B, T, H, W, 3]; of frames larger than the network takes it sees the middle.
    """
    model, dataset = create_model(config), data.get(config["data"]["name"])

    def logits(variables: Any, images: jax.Array) -> jax.Array:
        if dataset.clip:
            images = _middle(images, dataset.image_shape[-2])
        normal = data.normalise(images, dataset, jnp.dtype(config["model"]["dtype"]))
        return model.apply(variables, normal, train=False)

    return logits


def _middle(frames: jax.Array, size: int) -> jax.Array:
    """The central square of clips [B, T, H, W, 3], where they are larger than it."""
    height, width = frames.shape[-3:-1]
    top, left = max(height - size, 0) // 2, max(width - size, 0) // 2
    return frames[..., top : top + size, left : left + size, :]


def load_run(workdir: str | Path, step: int | None = None) -> Run:
    """Reads a run back from its directory.

    Args:
      workdir: the run directory.
      step: the checkpoint to read; None: the latest.

    Raises:
      UserError: a file is missing or damaged; the text names it.
    """
    workdir = Path(workdir)
    config = read_json(workdir / "config.json")
    state = checkpoint.read(workdir / "checkpoints", step)
    masks = state["sparse"].get("masks", {})
    history = workdir / "metrics.jsonl"
    lines = history.read_text().splitlines() if history.exists() else []
    return Run(
        workdir=workdir,
        config=config,
        step=int(state["step"]),
        model=create_model(config),
        params=_masked(state["params"], masks),
        batch_stats=state.get("batch_stats", {}),
        masks=masks,
        union=state.get("union", {}),
        metrics=[json.loads(line) for line in lines],
    )


def _masked(params: Any, masks: Any) -> Any:
    """Multiplies weights by their masks: most are masked already, Top-KAST's are not."""
    if not isinstance(params, Mapping):
        return params * masks
    return {
        name: _masked(part, masks[name]) if name in masks else part for name, part in params.items()
    }
