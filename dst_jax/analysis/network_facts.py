"""Describes a network: its layers, sparsity and cost.

Of a run (`model.json`): counts come from the masks of the checkpoint, not from the config. Of a
config (`dst-jax --mode=describe`): counts as the layers will have them, without data or weights.
Called by `experiment` and `stages`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax import data, models
from dst_jax.analysis import flops
from dst_jax.analysis.training_cost import training_flops_ratio
from dst_jax.models.leaf_paths import by_path, natural_order
from dst_jax.robustness.predict_functions import digest
from dst_jax.runtime.run_dir import write_json
from dst_jax.saved_run import Run
from dst_jax.sparsity import sparsity_distributions
from dst_jax.training import build


def facts(run: Run) -> dict[str, Any]:
    """The facts about a run's network.

    Returns:
      {"parameters", "maskable", "active": numbers of weights; "sparsity": share of the maskable
      weights that is inactive; "flops": operations of one dense forward pass for one image;
      "flops_ratio": sparse over dense forward pass; "training_flops_ratio": over dense training of
      as many steps; "layers": one entry a parameter,
      {"path", "shape", "maskable", "size", "active", "macs"}, macs None where it is no layer's}.
    """
    masks = {path: np.asarray(mask) for path, mask in by_path(run.masks).items()}
    costs = flops.layer_costs(run.model, data.get(run.config["data"]["name"]).image_shape)
    macs = {cost.path: cost.macs for cost in costs}
    layers: list[dict[str, Any]] = []
    densities: dict[str, float] = {}
    for path, param in by_path(run.params).items():
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
        "training_flops_ratio": _training_ratio(run.config, run.params, costs, densities),
        "layers": layers,
    }


def _training_ratio(
    config: Mapping[str, Any],
    params: Any,
    costs: list[flops.LayerCost],
    densities: Mapping[str, float],
) -> float:
    """Cost of a config's training over a dense one, with `densities` its last, by path."""
    options = config["sparsity"]
    # For JaxPruner's own methods too: ours of the same name cost the same.
    updater = build.updater({**config, "sparsity": {**options, "library": "dst_jax"}})
    first = {
        path: float(np.asarray(mask).mean(dtype=np.float64))
        for path, mask in by_path(updater.init_state(params).masks).items()
    }
    trained = {
        path: min(1.0, density * updater.backward_ratio) for path, density in densities.items()
    }
    dense = flops.inference_flops(costs)
    ratios = [flops.inference_flops(costs, d) / dense for d in (first, densities, trained)]
    return training_flops_ratio(
        updater,
        config["train"]["steps"],
        *ratios[:2],
        backward=ratios[2],
        snip=options["initial_mask"] == "snip",
    )


def write(run: Run) -> None:
    """Writes `model.json` into the run's directory, with what identifies the evaluated weights."""
    found = {**facts(run), "weights": digest(run.predict)}
    write_json(run.workdir / "model.json", found)


def table(config: Mapping[str, Any], sparsity: float) -> str:
    """What training by a config will train, as text: every parameter, counts and FLOPs.

    Args:
      config: the resolved config.
      sparsity: for the densities; the resolved config of a dense run has lost it.

    Returns:
      Lines without a newline at the end.
    """
    name, options = config["model"]["name"], config["sparsity"]
    dataset, module = data.get(config["data"]["name"]), build.model(config)
    images = jax.ShapeDtypeStruct((1, *dataset.image_shape), jnp.float32)
    params = jax.eval_shape(module.init, jax.random.key(0), images)["params"]
    rule = models.maskable(name, options["exclude"])
    densities = {
        kind: _densities(params, sparsity, function, rule)
        for kind, function in (
            ("erk", sparsity_distributions.erk),
            ("uniform", sparsity_distributions.uniform),
        )
    }
    leaves = by_path(params)
    rows: list[tuple[str, ...]] = [("parameter", "shape", "weights", "maskable", "erk", "uniform")]
    for path in sorted(leaves, key=natural_order):
        leaf = leaves[path]
        shape = " x ".join(map(str, leaf.shape))
        shares = [f"{of[path]:.4f}" if path in of else "" for of in densities.values()]
        answer = "yes" if path in densities["erk"] else "no"
        rows.append((path, shape, f"{leaf.size:,}", answer, *shares))
    maskable = [leaves[path].size for path in densities["erk"]]
    total = sum(maskable)
    costs = flops.layer_costs(module, dataset.image_shape)
    dense = flops.inference_flops(costs)
    ratios = {kind: flops.inference_flops(costs, of) / dense for kind, of in densities.items()}
    shape = " x ".join(map(str, dataset.image_shape))
    lines = [
        f"{name} on {dataset.name}: {shape}, {dataset.num_classes} classes",
        f"Densities at sparsity {sparsity:g} of the maskable weights:",
        "",
        *_aligned(rows),
        "",
        f"parameters: {sum(leaf.size for leaf in leaves.values()):,}",
        f"maskable: {total:,} in {len(maskable)} layers; rule: {models.MODELS[name].rule}",
        f"active: {round((1 - sparsity) * total):,} of the maskable",
        f"FLOPs of a forward pass for one input: {dense:.5g} dense, "
        + ", ".join(f"{ratio:.4f} of it with {kind}" for kind, ratio in ratios.items()),
        _training_line(config, params, costs, densities[options["dist_type"]]),
    ]
    return "\n".join(lines)


def _densities(params: Any, sparsity: float, distribution: Any, rule: Any) -> dict[str, float]:
    """Path -> share of active weights, of the maskable layers, from their exact counts."""
    if not any(rule(path.split("/"), leaf) for path, leaf in by_path(params).items()):
        return {}  # all is excluded
    sparsities = distribution(params, sparsity, rule)
    counts = by_path(sparsity_distributions.active_counts(params, sparsities, sparsity))
    sizes = {path: leaf.size for path, leaf in by_path(params).items()}
    return {path: count / sizes[path] for path, count in counts.items()}


def _training_line(
    config: Mapping[str, Any],
    shapes: Any,
    costs: list[flops.LayerCost],
    densities: Mapping[str, float],
) -> str:
    algorithm, kind = config["sparsity"]["algorithm"], config["sparsity"]["dist_type"]
    updater = build.algorithm_of(config)
    if updater.is_dense:
        return f"FLOPs of training by {algorithm}: as a dense one"
    # Numbers of active weights do not depend on the weights, so zeros do.
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    ratio = _training_ratio(config, zeros, costs, densities)
    text = f"FLOPs of training by {algorithm} with {kind}: {ratio:.4f} times a dense one"
    if updater.ranks_layers_together:
        text += f", if magnitudes share the sparsity as {kind} does"
    return text


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
