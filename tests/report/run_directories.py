"""Writes synthetic run directories for the tests of the report."""

import json
from collections.abc import Mapping
from pathlib import Path

from dst_jax.config import completed

CORRUPTIONS = ("gaussian_noise", "fog")
SEVERITIES = (1, 2)


def conditions(clean: float, accuracies: Mapping[tuple[str, int], float] | float, n: int = 100):
    """Rows of robustness.csv for the suite "digits-c": clean, then each condition."""
    if isinstance(accuracies, float):
        accuracies = {(c, s): accuracies for c in CORRUPTIONS for s in SEVERITIES}
    rows = [("digits-c", "clean", 0, n, clean)]
    return rows + [("digits-c", c, s, n, value) for (c, s), value in accuracies.items()]


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
    **options,
) -> Path:
    """Makes one run directory; `options` are further fields of the section "sparsity"."""
    path = root / (name or f"{algorithm}-{sparsity}-{seed}")
    path.mkdir(parents=True)
    chosen = {
        "seed": seed,
        "model": {"name": "mlp"},
        "data": {"name": "digits"},
        "train": {"steps": steps},
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
    ratio = 1 - sparsity
    structure = {
        "parameters": 1000,
        "maskable": 900,
        "active": round(900 * ratio),
        "sparsity": sparsity,
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
