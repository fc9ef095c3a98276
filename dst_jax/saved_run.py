"""A finished or running run, read back from its directory: `dst_jax.load_run(workdir)`.

Gives everything that a notebook, `robustness`, `analysis` and `report` ask of a run, on one device,
whatever it was trained on.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from dst_jax import config as config_lib
from dst_jax import data, export, user_files
from dst_jax.errors import UserError
from dst_jax.models.leaf_paths import by_path
from dst_jax.robustness import Result, storage
from dst_jax.runtime import checkpoint
from dst_jax.runtime.run_dir import CHECKPOINTS, read_json
from dst_jax.training import build, evaluated


class Section(dict[str, Any]):
    """A config or one of its sections: a dictionary whose entries are attributes too."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Section":
        """A config with all its sections."""
        parts = {k: cls.of(v) if isinstance(v, Mapping) else v for k, v in config.items()}
        return cls(parts)

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"the config has no {name!r}, but {', '.join(self)}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run as it stands in its latest checkpoint.

    Attributes:
      workdir: where it lies.
      config: the resolved config: `run.config.model.name` or `run.config["model"]["name"]`.
      step: completed batches of the checkpoint.
      model: the Flax module.
      params: float32 weights, masked: those to evaluate, so their running average where the config
        has `train.ema`, and what the next forward pass would use where masks are drawn for each
        (`step.forward_network`).
      batch_stats: BatchNorm's running statistics, averaged likewise; {} without BatchNorm.
      masks: those of params; uint8 arrays, nested like them, only where a leaf is maskable.
      union: like masks, 1 where a weight has been active so far.
      metrics: the lines of metrics.jsonl.
    """

    workdir: Path
    config: Section
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

        It is a pytree whose leaves are the weights, so `jax.jit` takes it as an argument. Images of
        another type or size than the dataset's are a UserError.
        """
        return self._predict(only_images=True)

    @property
    def predict_floats(self) -> Callable[[jax.Array], jax.Array]:
        """As `predict`; takes floats of 0 to 255 too, such as the filtered images of `analysis`."""
        return self._predict(only_images=False)

    def _predict(self, only_images: bool) -> Callable[[jax.Array], jax.Array]:
        variables = {"params": self.params, "batch_stats": self.batch_stats}
        return jax.tree_util.Partial(build.logits_function(self.config, only_images), variables)

    @property
    def dataset(self) -> data.Dataset:
        """What the dataset of the config is: shape, classes, normalisation, splits."""
        return data.get(self.config["data"]["name"])

    @property
    def robustness(self) -> Result:
        """The scores in the run's directory.

        Raises:
          UserError: there are none, or those of several suites: `dst_jax.robustness.load` reads one
            of them.
        """
        found = storage.load_all(Path(self.workdir))
        if len(found) == 1:
            return found[0]
        suites = ", ".join(repr(result.setting.suite) for result in found)
        hint = f"dst_jax.robustness.load({str(self.workdir)!r}, suite=...) reads one of several"
        if not found:
            hint = f"Score it: dst-jax --mode=evaluate --workdir={self.workdir}"
        raise UserError(str(self.workdir), f"scores of {suites or 'nothing'}", "of one suite", hint)

    def export(self, path: str | Path, format: str = "safetensors") -> export.Exported:
        """Writes the network to one file, which is replaced whole if it is there.

        Args:
          path: `*.safetensors`; `*.stablehlo` for that format.
          format: safetensors: all leaves by our names, inactive weights zeros. compact: active
            weights, masks of a bit a weight, shapes. torch: the state dict of the PyTorch network,
            for the networks of `models.load_torch`. stablehlo: images to logits through
            `jax.export`, for any number of images, with the weights inside.

        Returns:
          What was written; its text has the size beside that of the dense weights.

        Raises:
          UserError: the format, the name of the file or the network does not fit.
        """
        return export.write(self, path, format)

    def __repr__(self) -> str:
        """Four or five lines: what was trained, how far, how sparse it is and what it scored."""
        config, masks = self.config, by_path(self.masks)
        weights = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        sparsity, total = config["sparsity"], config["train"]["steps"]
        lines = [
            f"Run {self.workdir}, step {self.step:,} of {total:,}, seed {config['seed']}",
            f"{config['model']['name']} on {config['data']['name']}: {weights:,} parameters",
        ]
        text = str(sparsity["algorithm"])
        if masks:
            active = sum(int(np.asarray(mask).sum(dtype=np.int64)) for mask in masks.values())
            maskable = sum(mask.size for mask in masks.values())
            text += f": {active:,} of {maskable:,} maskable weights active, "
            text += f"sparsity {1 - active / maskable:.4f}"
        lines.append(text)
        if config["model"]["init_from"]:
            lines.append(f"started from {config['model']['init_from']}")
        with contextlib.suppress(UserError):
            lines.append(self._scored())
        return "\n  ".join(lines)

    def _scored(self) -> str:
        result = self.robustness
        means = {"clean": result.clean_accuracy, "robust": result.robust_accuracy}
        shown = [f"{name} {mean:.1%}" for name, mean in means.items() if mean is not None]
        return f"scored on {result.benchmark.name}: {', '.join(shown)}"


def load_run(workdir: str | Path, step: int | None = None) -> Run:
    """Reads a run back from its directory.

    Args:
      workdir: the run directory, local or on any storage that Orbax reads, as gs://bucket/run.
      step: the checkpoint to read; None: the latest.

    Raises:
      UserError: a file is missing or damaged, or what a file of yours registered is not registered
        in this process; the text names it.
    """
    directory: Any = epath.Path(workdir)
    _refuse_directory_of_runs(directory)
    config = config_lib.completed(
        read_json(directory / "config.json"), str(directory / "config.json")
    )
    user_files.check(directory, user_files.training_of(config), python=True)
    user_files.check_classes(directory)
    user_files.warn_if_changed(directory)
    state = checkpoint.read(directory / CHECKPOINTS, step)
    model = build.model(config)
    _check_network(directory, model, data.get(config["data"]["name"]).image_shape, state)
    params, batch_stats, masks = evaluated.network(config, state)
    return Run(
        workdir=directory,
        config=Section.of(config),
        step=int(state["step"]),
        model=model,
        params=params,
        batch_stats=batch_stats,
        masks=masks,
        union=state.get("union", {}),
        metrics=_history(directory / "metrics.jsonl"),
    )


def _refuse_directory_of_runs(directory: Any) -> None:
    """Raises UserError, with the runs inside, where there is no run but there are some below."""
    if (directory / "config.json").exists():
        return
    if inside := sorted(path.parent.name for path in directory.glob("*/config.json")):
        more = f" and {len(inside) - 20} more" if len(inside) > 20 else ""
        raise UserError(
            str(directory),
            f"a directory of {len(inside)} runs",
            "one of them: " + ", ".join(inside[:20]) + more,
        )


def _check_network(
    workdir: Path, model: Any, image_shape: tuple[int, ...], state: Mapping[str, Any]
) -> None:
    """Raises UserError unless a checkpoint holds a state of ours, of the config's network."""
    where, hint = f"{workdir}/checkpoints", "Is it the checkpoint of another program or config?"
    if lacking := [name for name in ("step", "params", "sparse") if name not in state]:
        raise UserError(where, f"a checkpoint without {', '.join(lacking)}", "one of dst_jax", hint)
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    wanted = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    expected, found = map(_shapes, (wanted, state["params"]))
    if expected != found:
        name = min(
            path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)
        )
        raise UserError(
            f"{where}: {name}",
            f"shape {found.get(name, 'nothing')}",
            f"{expected.get(name, 'nothing')}, as the network of config.json has it",
            hint,
        )


def _shapes(params: Any) -> dict[str, tuple[int, ...]]:
    return {path: tuple(leaf.shape) for path, leaf in by_path(params).items()}


def _history(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without those that a kill has cut short."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found
