"""Small runs for the tests: one command line, one config, and how to compare two finished runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from dst_jax import config
from dst_jax.runtime import checkpoint

ROOT = Path(__file__).resolve().parents[1]
CARD = "configs/digits_rigl.py"
SMALL = {
    "model.width": 4,
    "model.depth": 1,
    "train.batch_size": 32,
    "train.epochs": 1.0,
    "train.warmup": "5",
    "sparsity.update_freq": "7",
    "checkpoint.every": "11",
    "log.every": "8",
    "analysis.parts": (),
    "eval.corruptions": ("gaussian_noise",),
    "eval.severities": (1, 5),
}


def command(workdir: Path, cache_dir: Path, *arguments: str, **changes: object) -> list[str]:
    """The command of a small digits run: 44 steps, 5 mask updates, 4 checkpoints."""
    options = {**SMALL, **{name.replace("__", "."): value for name, value in changes.items()}}
    return [
        sys.executable,
        "run.py",
        f"--config={CARD}",
        f"--workdir={workdir}",
        f"--cache_dir={cache_dir}",
        *(f"--config.{name}={value}" for name, value in options.items()),
        *arguments,
    ]


def environment(devices: int = 1) -> dict[str, str]:
    """The environment of a subprocess with this many CPU devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}


def run(arguments: list[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Runs a command to its end and gives back what it printed."""
    return subprocess.run(
        arguments, cwd=ROOT, env=env or environment(), capture_output=True, text=True
    )


def small_config(**changes: object) -> dict:
    """The resolved config of the same run, for tests inside this process."""
    card = config.default()
    for name, value in {
        "data.augment": "crop",
        "sparsity.algorithm": "rigl",
        **SMALL,
        **{name.replace("__", "."): value for name, value in changes.items()},
    }.items():
        config.set_option(card, name, value)
    return config.resolve(card, 1437)


def assert_same_state(first: Path, second: Path) -> None:
    """Asserts that the last checkpoints of two runs are the same, bit by bit."""
    one, two = (checkpoint.read(path / "checkpoints") for path in (first, second))
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for (path, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


def record(workdir: Path) -> list[dict]:
    """The lines of metrics.jsonl without what the clock says."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name != "speed"}
        for line in lines
    ]
