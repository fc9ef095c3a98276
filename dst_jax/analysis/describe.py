"""Describes a run's network: its layers, realised sparsity and cost, as `model.json`.

Counts come from the masks of the checkpoint, not from the config. Called by `experiment`.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from dst_jax import data, train
from dst_jax.analysis import flops
from dst_jax.analysis.training_cost import training_flops_ratio
from dst_jax.saved_run import Run
from dst_jax.workdir import write_json


def describe(run: Run) -> dict[str, Any]:
    """The facts about a run's network.

    Returns:
      {"parameters", "maskable", "active": numbers of weights; "sparsity": share of the maskable
      weights that is inactive; "flops": operations of one dense forward pass for one image;
      "flops_ratio": sparse over dense forward pass; "training_flops_ratio": over dense training of
      as many steps; "layers": one entry a parameter,
      {"path", "shape", "maskable", "size", "active", "macs"}, macs None where it is no layer's}.
    """
    masks = _by_path(run.masks)
    costs = flops.layer_costs(run.model, data.get(run.config["data"]["name"]).image_shape)
    macs = {cost.path: cost.macs for cost in costs}
    layers: list[dict[str, Any]] = []
    densities: dict[str, float] = {}
    for path, param in _by_path(run.params).items():
        mask = masks.get(path)
        active = param.size if mask is None else int(mask.sum(dtype=np.int64))
        if mask is not None:
            densities[path] = active / param.size
        layers.append(
            {
                "path": path,
                "shape": list(param.shape),
                "maskable": mask is not None,
                "size": param.size,
                "active": active,
                "macs": macs.get(path),
            }
        )
    maskable = sum(layer["size"] for layer in layers if layer["maskable"])
    active = sum(layer["active"] for layer in layers if layer["maskable"])
    dense = flops.inference_flops(costs)
    ratio = flops.inference_flops(costs, densities) / dense
    return {
        "parameters": sum(layer["size"] for layer in layers),
        "maskable": maskable,
        "active": active,
        "sparsity": 1 - active / maskable if maskable else 0.0,
        "flops": dense,
        "flops_ratio": ratio,
        "training_flops_ratio": _training_ratio(run, costs, densities),
        "layers": layers,
    }


def _training_ratio(run: Run, costs: list[flops.LayerCost], densities: dict[str, float]) -> float:
    options = run.config["sparsity"]
    # For JaxPruner's own methods too: ours of the same name cost the same.
    updater = train.create_updater({**run.config, "sparsity": {**options, "library": "dst_jax"}})
    first = {
        path: float(mask.mean(dtype=np.float64))
        for path, mask in _by_path(_first_masks(updater, run.params)).items()
    }
    trained = {
        path: min(1.0, density * getattr(updater, "backward_ratio", 1.0))
        for path, density in densities.items()
    }
    dense = flops.inference_flops(costs)
    ratios = [flops.inference_flops(costs, d) / dense for d in (first, densities, trained)]
    return training_flops_ratio(
        updater,
        run.config["train"]["steps"],
        *ratios[:2],
        backward=ratios[2],
        snip=options["initial_mask"] == "snip",
    )


def _first_masks(updater: Any, params: Any) -> Any:
    """Masks as dense or sparse as those that the training started from."""
    return dataclasses.replace(updater, use_packed_masks=False).init_state(params).masks


def _by_path(tree: Any) -> dict[str, np.ndarray]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def write(run: Run) -> None:
    """Writes `model.json` into the run's directory."""
    write_json(run.workdir / "model.json", describe(run))
