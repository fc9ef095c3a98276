"""Several seeds in one program: side by side, vmapped, and one run after another.

    python -m benchmarks.seeds [--seeds 4] [--rounds 5] [--json FILE]

Prints a table in Markdown. First a step of all seeds of the digits card, for two networks, in three
ways: the seeds one after another, each in its own program (the alternative); side by side in one
program, as `config.num_seeds` trains them; and, for the MLP, as one vmapped program (vmapped
convolutions are grouped ones: XLA took so long over them on a CPU that they were left out). Then
whole trainings, from the start of the process, with nothing compiled before: `num_seeds` against
one command per seed, whose seeds after the first find the compiled programs. Ratios are of one
round, in turns.
"""

import argparse
import dataclasses
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from dst_jax import config as config_lib
from dst_jax import data, models
from dst_jax.runtime.devices import Devices
from dst_jax.training import build, compiled_steps, step

ROOT = Path(__file__).resolve().parents[1]
CARD = "configs/digits_rigl.py"
CHUNK = 8  # steps in one program


@dataclasses.dataclass
class Line:
    """One comparison: figures of both sides, a round each."""

    what: str
    alternative: str
    ours: list[float]
    other: list[float]

    def markdown(self) -> str:
        """The line of the table."""
        ratio = timing.ratios(self.ours, self.other)
        ours, other = (f"{sorted(side)[len(side) // 2]:.3g}" for side in (self.ours, self.other))
        spread = f"{ratio['median']:.3g} ({ratio['min']:.3g}..{ratio['max']:.3g})"
        return f"| {self.what} | {self.alternative} | {ours} | {other} | {spread} |"


def step_lines(name: str, width: int, options: argparse.Namespace) -> list[Line]:
    """Steps of all seeds of one network."""
    devices = Devices()
    card = config_lib.default()
    card.data.augment, card.model.name, card.model.width = "crop", name, width
    card.sparsity.algorithm = "rigl"
    config = config_lib.resolve(card, 1437)
    cache = data.default_cache_dir()
    first = build.pipeline(config, devices, None, cache)
    assert isinstance(first, data.ResidentPipeline)
    recipe = build.recipe(config)
    seeds = tuple(np.uint32(seed) for seed in range(options.seeds))
    feeds = tuple(first.with_seed(int(seed)).host_inputs(0) for seed in seeds)
    shape = data.get("digits").image_shape
    make = jax.jit(lambda variables, seed: step.init_state(recipe.with_seed(seed), variables))
    states = tuple(
        devices.replicate(make(models.init(recipe.model, int(seed), shape), seed)) for seed in seeds
    )
    ordinary = devices.compile(compiled_steps.whole_steps(recipe, first.batch)[0])

    def vmapped(states: Any, feeds: Any, seeds: Any, count: Any, axis: Any) -> Any:
        def one(state: Any, order: Any, seed: Any) -> Any:
            batch = first.batch({**feeds, "order": order}, state.step, axis.shard, seed)
            return step.train_step(state, batch, recipe.with_seed(seed), axis, update=False)

        every = jax.vmap(one)
        return jax.lax.fori_loop(0, count, lambda _, s: every(s, feeds["orders"], seeds), states)

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    orders = jnp.stack([feed["order"] for feed in feeds])
    vector = devices.compile(vmapped)

    def singly() -> Any:
        return [
            ordinary((state,), (feed,), (seed,), CHUNK)
            for state, feed, seed in zip(states, feeds, seeds, strict=True)
        ]

    ways: dict[str, Callable[[], Any]] = {
        "singly": singly,
        "together": lambda: ordinary(states, feeds, seeds, CHUNK),
    }
    if name == "mlp":
        ways["vmapped"] = lambda: vector(
            stacked, {**feeds[0], "orders": orders}, np.stack(seeds), CHUNK
        )

    def milliseconds(run: Callable[[], Any]) -> float:
        return 1e3 * timing.seconds(run) / CHUNK

    times = timing.in_turns(
        {way: functools.partial(milliseconds, run) for way, run in ways.items()},
        options.rounds,
    )
    first.close()
    what = f"step of {options.seeds} seeds, {name}, width {width}, batch 128, ms"
    words = {"together": "side by side", "vmapped": "vmapped"}
    return [
        Line(f"{what}, {words[way]}", "one after another", times[way], times["singly"])
        for way in ways
        if way != "singly"
    ]


def training_line(options: argparse.Namespace) -> Line:
    """Whole trainings of the digits card, from nothing compiled."""

    def seconds(commands: list[list[str]]) -> float:
        with tempfile.TemporaryDirectory() as directory:
            common = [sys.executable, "run.py", f"--config={CARD}", "--mode=train"]
            common.append(f"--cache_dir={directory}/cache")
            began = time.perf_counter()
            for number, command in enumerate(commands):
                workdir = f"--workdir={directory}/{number}"
                subprocess.run(
                    [*common, workdir, *command], check=True, capture_output=True, cwd=ROOT
                )
            return time.perf_counter() - began

    ways = {
        "together": [[f"--config.num_seeds={options.seeds}"]],
        "singly": [[f"--config.seed={seed}"] for seed in range(options.seeds)],
    }
    times = timing.in_turns(
        {way: functools.partial(seconds, commands) for way, commands in ways.items()},
        options.trainings,
        discard_first=False,
    )
    what = f"training {options.seeds} seeds of the digits card, s"
    return Line(what, "one command a seed", times["together"], times["singly"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4, help="runs trained together")
    parser.add_argument("--rounds", type=int, default=5, help="figures a measure of steps")
    parser.add_argument("--trainings", type=int, default=1, help="figures a measure of trainings")
    parser.add_argument("--json", type=Path, help="where to write the figures; a .md beside it")
    options = parser.parse_args()

    load = round(os.getloadavg()[0], 2)
    head = [
        "| what | alternative | ours | alternative | ratio (min..max) |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(head), flush=True)
    lines: list[Line] = []
    measures: list[Callable[[], list[Line]]] = [
        functools.partial(step_lines, name, width, options)
        for name, width in (("mlp", 64), ("mlp", 512), ("resnet20", 8), ("resnet20", 16))
    ]
    for measure in (*measures, lambda: [training_line(options)]):
        found = measure()
        print("\n".join(line.markdown() for line in found), flush=True)
        lines += found
    circumstances = timing.circumstances()
    versions = ", ".join(f"{name} {version}" for name, version in circumstances["versions"].items())
    command = " ".join(["python -m benchmarks.seeds", *sys.argv[1:]])
    foot = (
        f"{circumstances['hardware']}, {circumstances['processor']}; {circumstances['date']};"
        f" {versions}; load before {load}; {options.rounds} rounds; `{command}`"
    )
    print(f"\n{foot}")
    if options.json:
        record = {"command": command, **circumstances, "load_before": load}
        record["lines"] = [dataclasses.asdict(line) for line in lines]
        options.json.write_text(json.dumps(record, indent=1) + "\n")
        options.json.with_suffix(".md").write_text(
            "\n".join([*head, *(line.markdown() for line in lines), "", foot, ""])
        )


if __name__ == "__main__":
    main()
