"""Writes synthetic run directories for the tests of the report."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dst_jax.config import completed
from dst_jax.config.options import ANALYSES
from dst_jax.data import benchmarks
from dst_jax.runtime.run_dir import write_arrays

RANDOM = np.random.default_rng(0)
CORRUPTIONS = ("gaussian_noise", "fog")
SEVERITIES = (1, 2)
# Of no dataset, and small enough to compute by hand.
benchmarks.BENCHMARKS += (benchmarks.Benchmark("Test-C", CORRUPTIONS, SEVERITIES),)


def conditions(clean: float, accuracies: Mapping[tuple[str, int], float] | float, n: int = 100):
    """Rows of robustness.csv for the suite "Test-C": clean, then each condition."""
    if isinstance(accuracies, float):
        accuracies = {(c, s): accuracies for c in CORRUPTIONS for s in SEVERITIES}
    rows = [("Test-C", "clean", 0, n, clean)]
    return rows + [("Test-C", c, s, n, value) for (c, s), value in accuracies.items()]


def make(
    root: Path,
    algorithm: str,
    sparsity: float,
    seed: int = 0,
    rows=(),
    *,
    steps: int = 400,
    upto: int | None = None,
    finished: bool = True,
    name: str = "",
    train: Mapping[str, object] = {},
    **options,
) -> Path:
    """Makes one run directory; `options` are further fields of the section "sparsity"."""
    path = root / (name or f"{algorithm}-{sparsity}-{seed}")
    path.mkdir(parents=True)
    chosen = {
        "seed": seed,
        "model": {"name": "mlp"},
        "data": {"name": "digits"},
        "train": {"steps": steps, "steps_per_epoch": max(1, steps // 10), **train},
        "sparsity": {"algorithm": algorithm, "sparsity": sparsity, **options},
    }
    config = completed(chosen)
    environment = {
        "command": f"python run.py --config=configs/digits.py:algorithm={algorithm}",
        "commit": "abc123",
        "versions": {"jax": "0.10.2"},
        "hardware": "2 CPU cores",
        "started": "2026-01-01T00:00:00+00:00",
    }
    realised = 0.0 if algorithm == "dense" else sparsity
    ratio = 1 - realised
    structure = {
        "parameters": 1000,
        "maskable": 900,
        "active": round(900 * ratio),
        "sparsity": realised,
        "flops_ratio": ratio,
        "training_flops_ratio": (1 + ratio) / 2,
    }
    logged = range(40, (upto or steps) + 1, 40)
    metrics = [{"step": s, "loss": 2 - s / 400, "accuracy": s / 800} for s in logged]
    (path / "config.json").write_text(json.dumps(config))
    (path / "environment.json").write_text(json.dumps(environment))
    (path / "model.json").write_text(json.dumps(structure))
    (path / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in metrics))
    if finished and upto is None:
        summary = {"step": steps, "finished": True, "seconds": 1.5}
        (path / "summary.json").write_text(json.dumps(summary))
    if rows:
        lines = ["suite,corruption,severity,n,accuracy", *(",".join(map(str, r)) for r in rows)]
        (path / "robustness.csv").write_text("\n".join(lines) + "\n")
    return path


def analysed(directory, level=0.5, parts=ANALYSES):
    """Writes files as `analyze` does, with accuracies about `level`."""
    cells = np.array([(0, 0), (0, 1), (1, -1), (1, 0), (1, 1)])
    pictures = RANDOM.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    of_layers = {
        "layers": np.array(["conv/kernel", "classifier/kernel"]),
        "size": np.array([72, 20]),
        "active": np.array([36, 20]),
        "explored": np.array([50, 20]),
        "outputs": np.array([4, 10]),
        "dead_outputs": np.array([1, 0]),
        "path_dead": np.array([2, 0]),
        "stripes_out": np.array([0.25, np.nan]),
        "stripes_in": np.array([-0.001, np.nan]),
    }
    files = {
        "weights": {
            **of_layers,
            "mapped": np.array("conv/kernel"),
            "taps": np.array(9),
            "nonzero": RANDOM.integers(0, 10, (4, 2)),
            "magnitude": RANDOM.random((4, 2)),
            "fan_in": np.array([9, 9, 9, 9]),
            "fan_out": np.array([18, 18]),
            "first": np.array("conv/kernel"),
            "frequency": np.linspace(0.05, 0.45, 5),
            "power": np.ones(5),
        },
        "attenuation": {"radii": np.array([0, 4, 8]), "low": np.full(3, level / 2)}
        | {"high": np.full(3, level), "n": np.array(50), "example": pictures[0]}
        | {"example_radii": np.array([4.0]), "examples": pictures[:, None]},
        "heat_map": {"axis": np.array([-1, 0, 1]), "cells": cells, "size": np.array(8)}
        | {"errors": np.linspace(0, level, 5), "norm": np.array(1.0), "n": np.array(50)},
        "noise": {"bandwidths": np.array([0, 4, 8]), "low": np.full(3, level)}
        | {"high": np.full(3, level), "norm": np.array(2.0), "n": np.array(50)},
        "corruptions": {"names": np.array(CORRUPTIONS), "severities": np.array(SEVERITIES)}
        | {"high_share": np.array([[0.1, 0.1], [0.8, np.nan]]), "n": np.array(50)},
        "saliency": {"method": np.array("Grad-CAM"), "corruption": np.array("impulse_noise")}
        | {"severity": np.array(3), "ids": np.array([0, 5]), "labels": np.array([3, 1])}
        | {f"{kind}_images": pictures for kind in ("clean", "corrupted")}
        | {f"{kind}_maps": RANDOM.random((2, 3, 3)) for kind in ("clean", "corrupted")}
        | {f"{kind}_predictions": np.array([3, 7]) for kind in ("clean", "corrupted")},
    }
    (directory / "analysis").mkdir()
    for part in parts:
        write_arrays(directory / "analysis" / f"{part}.npz", files[part])
    return directory
