"""Stage a, restart: a training killed at work and started again, against one left alone.

Three processes of their own, with deterministic kernels: one trains to its end; one kills itself
(SIGKILL) as it is about to save its third checkpoint; one goes on from the second. The last
checkpoints of both run directories and their records are then compared bit by bit. Called by
`command`; as a program it is one of the processes.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.accelerator.speed_training import shrunk
from benchmarks.accelerator.stages import Context, Outcome, Part

FLAG = "--xla_gpu_deterministic_ops=true"  # XLA's kernels for CPU and TPU are so without it
KILLED_AT = 3  # the checkpoint, counted from 1, that the second process does not live to save


def _options(context: Context) -> dict[str, Any]:
    tiny = context.options.tiny
    return {
        "data.name": context.options.data,
        "data.augment": context.dataset.augment,
        "model.name": "mlp" if tiny else "resnet20",
        "model.depth": 1,
        "model.width": 16,
        "train.batch_size": 64 if tiny else 128,
        "train.steps": "20" if tiny else "200",
        "train.learning_rate": 0.05,
        "sparsity.algorithm": "rigl",
        "sparsity.update_freq": "3" if tiny else "30",
        "checkpoint.every": "20%",
        "log.every": "20%",
        "seed": context.options.seed,
    }


def _estimate(context: Context) -> float:
    if context.options.tiny:
        return context.toy_s("restart")
    return 60 + 2 * context.longest_compile(30.0)


def _run(context: Context) -> Outcome:
    import shutil

    from dst_jax.runtime import run_dir

    root = context.options.work / "restart"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    (root / "options.json").write_text(json.dumps(_options(context)))
    whole, broken = root / "whole", root / "broken"
    limit = max(60.0, min(context.clock.left(), 3 * _estimate(context)))
    # The first two share the device and the compilation; they are not timed.
    processes = [_start(context, whole, 0), _start(context, broken, KILLED_AT)]
    try:
        codes = [process.wait(limit) for process in processes]
        if codes != [0, -signal.SIGKILL]:
            raise RuntimeError(_why(processes, codes))
        saved = run_dir.checkpoint_steps(broken)
        if (broken / "summary.json").exists() or not saved:
            raise RuntimeError(f"the killed run was not cut short: checkpoints {saved}")
        processes.append(_start(context, broken, 0))
        if (code := processes[-1].wait(limit)) != 0:
            raise RuntimeError(_why(processes[-1:], [code]))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    differing, leaves = _differences(whole, broken)
    started = json.loads((broken / "environment.json").read_text())["starts"]
    tiny = context.options.tiny
    title = shrunk("an MLP" if tiny else "ResNet-20", 16, 1)
    figures = {
        "killed_after_step": saved[-1],
        "went_on_from_step": started[-1]["step"],
        "leaves": leaves,
        "differing": differing,
        "hardware": started[-1]["hardware"],
        "deterministic_kernels": started[-1]["deterministic_kernels"],
    }
    return {
        "figures": figures,
        "rows": [
            [
                f"{title}: killed with SIGKILL after step {saved[-1]}, went on from it, to the end",
                f"{leaves} arrays of the last checkpoint and the record of the training",
                f"an uninterrupted run on {figures['hardware']}, deterministic kernels",
                "all bits are equal" if not differing else "differ: " + ", ".join(differing[:8]),
            ]
        ],
        "notes": ["what deterministic kernels cost in time was not measured"],
    }


def _start(context: Context, workdir: Path, kill_at: int) -> subprocess.Popen:
    flags = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}".strip()
    given = [context.options.data_dir or "", context.cache_dir, workdir.parent / "options.json"]
    with open(workdir.with_name(f"{workdir.name}.log"), "a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", __spec__.name, str(workdir), *map(str, given), str(kill_at)],
            env={**os.environ, "XLA_FLAGS": flags, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
            cwd=Path(__file__).resolve().parents[2],
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _why(processes: list[subprocess.Popen], codes: list[int]) -> str:
    """What the processes ended with and the last line that they wrote."""
    texts = []
    for process, code in zip(processes, codes, strict=True):
        workdir = Path(str(process.args[3]))  # type: ignore[index]
        lines = workdir.with_name(f"{workdir.name}.log").read_text().strip().splitlines()
        texts.append(f"{workdir.name} ended with {code}: {lines[-1] if lines else 'no word'}")
    return "; ".join(texts)


def _differences(one: Path, two: Path) -> tuple[list[str], int]:
    """(what of two runs is not the same to the bit, number of arrays compared)."""
    import jax
    import numpy as np

    from dst_jax.runtime import checkpoint

    states = [checkpoint.read(path / "checkpoints") for path in (one, two)]
    leaves = [
        {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in found}
        for found in map(jax.tree.leaves_with_path, states)
    ]
    differing = list(leaves[0].keys() ^ leaves[1].keys())
    for name in leaves[0].keys() & leaves[1].keys():
        a, b = leaves[0][name], leaves[1][name]
        if a.dtype != b.dtype or a.shape != b.shape or a.tobytes() != b.tobytes():
            differing.append(name)
    records = []
    for path in (one, two):
        lines = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
        records.append([{k: v for k, v in line.items() if k != "speed"} for line in lines])
    if records[0] != records[1]:
        differing.append("metrics.jsonl")
    return sorted(differing), len(leaves[0])


def _child(workdir: str, data_dir: str, cache_dir: str, options: str, kill_at: str) -> None:
    """One process: trains, and kills itself as it is about to save checkpoint `kill_at`."""
    from benchmarks.accelerator import trainer
    from dst_jax import experiment
    from dst_jax.paths import RunPaths
    from dst_jax.training import loop

    calls = 0
    original = loop.Checkpoints.save

    def save(self: Any, step: int, state: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == int(kill_at):
            self.wait()  # the one before is whole; what came after it is lost
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, step, state)

    loop.Checkpoints.save = save  # type: ignore[method-assign]
    run_paths = RunPaths(Path(workdir), data_dir or None, Path(cache_dir))
    config = trainer.card(json.loads(Path(options).read_text()))
    experiment.run(config, run_paths, mode="train")


PARTS = (
    Part(
        "restart",
        "a",
        "a run killed and started again, to the bit",
        _estimate,
        _run,
        own_processes=True,
    ),
)

if __name__ == "__main__":
    _child(*sys.argv[1:])
