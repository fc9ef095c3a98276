"""What training costs: sparse against dense steps, many steps per dispatch, PyTorch, input, start.

    python -m benchmarks.train_step [--data_dir DIR] [--only PART,PART] [--rounds 8] [--json FILE]

Prints a table in Markdown. Each line compares ours with a named alternative, measured in turns in
one process; a ratio is the median (least..greatest) of the rounds' ratios. The recipe is that of
`configs/cifar10_resnet20.py`. PyTorch takes its steps in both of its memory formats, NCHW and
channels_last. Without `--data_dir`, where CIFAR-10 must be prepared for TFDS, the images are random
and the lines about input are missing; without PyTorch, the lines about it.
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from benchmarks.comparison import Line
from dst_jax import config as config_lib
from dst_jax import data, models
from dst_jax.runtime.devices import Devices
from dst_jax.training import build, compiled_steps, step
from dst_jax.training.metrics_log import check_finite

ROOT = Path(__file__).resolve().parents[1]
CARD = ROOT / "configs" / "cifar10_resnet20.py"
CHUNK = 8  # steps in one program, and steps of one figure
SYNTHETIC = 10_000  # random images that stand for CIFAR-10
RESIDENT_BATCHES, STREAM_BATCHES = 1600, 80  # batches of one figure: each takes about a second
DRAWN = 16  # resident batches drawn in one program; the default of train.steps_per_dispatch


Options = argparse.Namespace


class Network(NamedTuple):
    """A network for 32x32 images and how many of them a step takes."""

    name: str
    batch_size: int

    def __str__(self) -> str:
        return f"{self.name}, batch {self.batch_size}"


NETWORKS = {network.name: network for network in (Network("resnet20", 128), Network("vgg16", 64))}


class Training:
    """A training of the card's recipe on one pipeline, ready to take ordinary steps."""

    def __init__(self, network: Network, algorithm: str, options: Options, devices: Devices):
        dataset = data.get("cifar10")
        arguments = f"algorithm={algorithm},model={network.name}"
        card = runpy.run_path(str(CARD))["get_config"](arguments)
        card.train.batch_size = network.batch_size
        images, labels = _images(options)
        self.config = config_lib.resolve(card, len(labels))
        self.pipeline = data.ResidentPipeline(
            dataset,
            images,
            labels,
            batch_size=network.batch_size,
            seed=0,
            augment=self.config["data"]["augment"],
            put=devices.replicate,
        )
        recipe = build.recipe(self.config)
        ordinary, _ = compiled_steps.whole_steps(recipe, self.pipeline.batch)
        self._program = devices.compile(ordinary)
        variables = models.init(recipe.model, 0, dataset.image_shape)
        self.state = devices.replicate(jax.jit(lambda v: step.init_state(recipe, v))(variables))

    def advance(self, dispatches: int, steps: int) -> Any:
        """Takes `dispatches` times `steps` steps, as the loop of `loop.train` does."""
        for _ in range(dispatches):
            feed = self.pipeline.host_inputs(0)
            jax.block_until_ready(self.state.step)
            (self.state,) = self._program((self.state,), (feed,), (np.uint32(0),), steps)
        return self.state


def _images(options: Options) -> tuple[np.ndarray, np.ndarray]:
    if options.data_dir:
        dataset = data.get("cifar10")
        return data.load_arrays(dataset, dataset.train_split, options.data_dir)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (SYNTHETIC, 32, 32, 3), np.uint8)
    return images, random.integers(0, 10, SYNTHETIC, np.int32)


def _milliseconds(run: Callable[[], Any]) -> Callable[[], float]:
    return lambda: 1e3 * timing.seconds(run) / CHUNK


def step_lines(options: Options) -> list[Line]:
    """Sparse against dense steps, many steps per dispatch against one."""
    devices, network = Devices(), NETWORKS["resnet20"]
    dense, rigl = (Training(network, name, options, devices) for name in ("dense", "rigl"))
    measures = {
        "dense": _milliseconds(functools.partial(dense.advance, 1, CHUNK)),
        "rigl": _milliseconds(functools.partial(rigl.advance, 1, CHUNK)),
        "single": _milliseconds(functools.partial(rigl.advance, CHUNK, 1)),
    }
    times = timing.in_turns(measures, options.rounds)
    check_finite(dense.state)
    check_finite(rigl.state)
    several = f"step, {CHUNK} in one program, RigL, {network}"
    return [
        Line(f"RigL step, {network}", "dense step", "ms", "<= 1.03", times["rigl"], times["dense"]),
        Line(several, "one dispatch a step", "ms", "<= 1.0", times["rigl"], times["single"]),
    ]


def pytorch_lines(options: Options) -> list[Line]:
    """Our dense step against PyTorch's in both of its memory formats, on the same batch."""
    formats = {"PyTorch, NCHW": "<= 1.0", "PyTorch, channels_last": "<= 1.2"}
    lines = []
    for network in NETWORKS.values():
        blank = [Line(f"dense step, {network}", name, "ms", aim) for name, aim in formats.items()]
        if not importlib.util.find_spec("torch"):
            lines += [dataclasses.replace(line, missing="no PyTorch here") for line in blank]
            continue
        from benchmarks import pytorch_networks

        ours = Training(network, "dense", options, Devices())
        count = sum(leaf.size for leaf in jax.tree.leaves(ours.state.params))
        assert count == pytorch_networks.parameter_count(network.name, 10)
        batch = ours.pipeline.batch(ours.pipeline.host_inputs(0), 0)
        measures = {"ours": _milliseconds(functools.partial(ours.advance, 1, CHUNK))}
        for name in formats:
            advance = pytorch_networks.training(
                network.name,
                np.asarray(batch["image"]),
                np.asarray(batch["label"]),
                10,
                learning_rate=ours.config["train"]["learning_rate"],
                weight_decay=ours.config["train"]["weight_decay"],
                channels_last=name.endswith("channels_last"),
            )
            measures[name] = _milliseconds(functools.partial(advance, CHUNK))
        times = timing.in_turns(measures, options.rounds)
        check_finite(ours.state)
        lines += [
            dataclasses.replace(line, ours=times["ours"], other=times[line.alternative])
            for line in blank
        ]
    return lines


def input_lines(options: Options) -> list[Line]:
    """Images per second, cropped, flipped and normalised: resident on the device against tf.data.

    The loop of `loop.train` takes resident batches many in one program, and so does the first
    line; the second takes one per dispatch, as a loop of anybody's might.
    """
    lines = [
        Line(f"resident input, CIFAR-10, {what}", "tf.data", "images/s", aim)
        for what, aim in ((f"{DRAWN} batches in one program", ">= 20"), ("a batch a dispatch", ""))
    ]
    missing = ""
    if not options.data_dir:
        missing = "needs --data_dir"
    elif not importlib.util.find_spec("tensorflow"):
        missing = "TensorFlow is not installed"
    if missing:
        return [dataclasses.replace(line, missing=missing) for line in lines]
    dataset, batch = data.get("cifar10"), NETWORKS["resnet20"].batch_size
    common: dict[str, Any] = {"batch_size": batch, "seed": 0, "augment": "crop_flip"}
    resident = data.ResidentPipeline(dataset, *_images(options), **common)
    stream = data.StreamPipeline(dataset, options.data_dir, **common)

    def rate(pipeline: data.Pipeline, batches: int, at_once: int) -> Callable[[], float]:
        @jax.jit
        def draw(feed: Any, start: Any) -> Any:
            if at_once == 1:
                return pipeline.batch(feed, start)
            empty = jax.tree.map(jnp.zeros_like, pipeline.batch(feed, start))
            return jax.lax.fori_loop(
                0, at_once, lambda i, _: pipeline.batch(feed, start + i), empty
            )

        position = 0

        def run() -> None:
            nonlocal position
            for _ in range(0, batches, at_once):
                if (
                    pipeline.steps_per_feed(position) < at_once
                ):  # the loop would take fewer; skip them
                    position += pipeline.steps_per_feed(position)
                jax.block_until_ready(draw(pipeline.host_inputs(position), position))
                position += at_once

        return lambda: batches * batch / timing.seconds(run)

    rates = timing.in_turns(
        {
            "program": rate(resident, RESIDENT_BATCHES, DRAWN),
            "dispatch": rate(resident, RESIDENT_BATCHES, 1),
            "stream": rate(stream, STREAM_BATCHES, 1),
        },
        options.rounds,
    )
    resident.close()
    stream.close()
    return [
        dataclasses.replace(line, ours=rates[name], other=rates["stream"])
        for line, name in zip(lines, ("program", "dispatch"), strict=True)
    ]


def start_lines(options: Options) -> list[Line]:
    """A fresh process that trains one step on the digits, with compiled programs cached or not."""
    with tempfile.TemporaryDirectory() as directory:
        cache = Path(directory)
        starts = timing.in_turns(
            {"empty": lambda: _start(cache, empty=True), "filled": lambda: _start(cache)},
            options.rounds,
        )
    return [
        Line(
            what,
            "empty one",
            "s",
            aim,
            [start[part] for start in starts["filled"]],
            [start[part] for start in starts["empty"]],
            inverse=True,
        )
        for part, (what, aim) in enumerate(
            (
                ("start of run.py to first step, filled program cache, digits", ">= 2"),
                ("the same, without imports", ""),
            )
        )
    ]


def _start(cache: Path, empty: bool = False) -> tuple[float, float]:
    """Seconds to the end of the first step: (from the start of the process, after imports)."""
    if empty:
        shutil.rmtree(cache / "xla", ignore_errors=True)
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "run.py", "--config=configs/digits_rigl.py", "--mode=train"]
        command += [f"--workdir={directory}", f"--cache_dir={cache}"]
        command += ["--config.train.steps=1", "--config.train.warmup=0"]
        began = time.time()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        # The first is written when everything is imported, the second when the step is done.
        imported, stepped = (
            (Path(directory) / name).stat().st_mtime
            for name in ("environment.json", "metrics.jsonl")
        )
    return stepped - began, stepped - imported


# Fresh processes first: later this one would hold the memory of an accelerator.
PARTS: dict[str, Callable[[Options], list[Line]]] = {
    "start": start_lines,
    "steps": step_lines,
    "pytorch": pytorch_lines,
    "input": input_lines,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", help="where CIFAR-10 is prepared for TFDS")
    parser.add_argument("--only", default="", help=f"some of {','.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=int, default=8, help="figures a measure")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    options = parser.parse_args()

    chosen = options.only.split(",") if options.only else list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"--only: found {', '.join(sorted(unknown))}, expected {', '.join(PARTS)}")
    load = round(os.getloadavg()[0], 2)
    lines = [line for name, part in PARTS.items() if name in chosen for line in part(options)]
    circumstances = timing.circumstances()

    command = " ".join(["python -m benchmarks.train_step", *sys.argv[1:]])
    command = command.replace(options.data_dir or "DIR", "DIR")
    versions = ", ".join(f"{name} {version}" for name, version in circumstances["versions"].items())
    print("| what | alternative | ours | alternative | ratio (min..max) | aim |")
    print("|---|---|---|---|---|---|")
    for line in lines:
        print(line.markdown())
    print(f"\n{circumstances['hardware']}, {circumstances['processor']}; {circumstances['date']};")
    print(f"{versions}; load before {load}; {options.rounds} rounds; `{command}`")
    if options.json:
        record = {
            "command": command,
            **circumstances,
            "load_before": load,
            "rounds": options.rounds,
            "lines": [
                dataclasses.asdict(line) | ({} if line.missing else {"ratio": line.ratio()})
                for line in lines
            ],
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
