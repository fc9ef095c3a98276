"""What training costs: sparse against dense steps, many steps a dispatch, PyTorch, input, start.

    python -m benchmarks.train_step [--data_dir DIR] [--rounds 8] [--json FILE]

Prints a table in Markdown. Each line compares ours with a named alternative, measured in turns in
one process; a ratio is the median (least..greatest) of the rounds' ratios. The recipe is that of
`configs/cifar10_resnet20.py`. Without `--data_dir`, where CIFAR-10 must be prepared for TFDS, the
images are random and the line about input is missing; without PyTorch, the line about it.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from dst_jax import config as config_lib
from dst_jax import data, models, optimizer, programs, saved_run, step, train
from dst_jax.log import check_finite
from dst_jax.parallel import Devices

ROOT = Path(__file__).resolve().parents[1]
CARD = ROOT / "configs" / "cifar10_resnet20.py"
CHUNK = 8  # steps in one program, and steps of one figure
SYNTHETIC = 10_000  # random images that stand for CIFAR-10
RESIDENT_BATCHES, STREAM_BATCHES = 1600, 80  # batches of one figure: each takes about a second
DRAWN = 16  # resident batches drawn in one program; the default of train.steps_per_dispatch


@dataclasses.dataclass
class Line:
    """One comparison: figures of both sides, a round each, or why there are none."""

    what: str
    alternative: str
    unit: str
    aim: str
    ours: Sequence[float] = ()
    other: Sequence[float] = ()
    inverse: bool = False  # the ratio is other / ours
    missing: str = ""

    def ratio(self) -> dict[str, float]:
        """Median, least and greatest ratio."""
        return timing.ratios(
            *((self.other, self.ours) if self.inverse else (self.ours, self.other))
        )

    def markdown(self) -> str:
        """The line of the table."""
        if self.missing:
            return (
                f"| {self.what} | {self.alternative} | | | missing: {self.missing} | {self.aim} |"
            )
        ours, other = (f"{statistics.median(side):.4g}" for side in (self.ours, self.other))
        ratio = self.ratio()
        spread = f"{ratio['median']:.3g} ({ratio['min']:.3g}..{ratio['max']:.3g})"
        return (
            f"| {self.what}, {self.unit} | {self.alternative} | {ours} | {other} | {spread} |"
            f" {self.aim} |"
        )


class Training:
    """A training of the card's recipe on one pipeline, ready to take ordinary steps."""

    def __init__(self, algorithm: str, options: argparse.Namespace, devices: Devices):
        dataset = data.get("cifar10")
        card = runpy.run_path(str(CARD))["get_config"](
            f"algorithm={algorithm},model={options.model}"
        )
        card.train.batch_size = options.batch_size
        images, labels = _images(options)
        self.config = config_lib.resolve(card, len(labels))
        self.pipeline = data.ResidentPipeline(
            dataset,
            images,
            labels,
            batch_size=options.batch_size,
            seed=0,
            augment=self.config["data"]["augment"],
            put=devices.replicate,
        )
        recipe = step.Recipe(
            model=saved_run.create_model(self.config),
            optimizer=optimizer.create(self.config["train"]),
            updater=train.create_updater(self.config),
            learning_rate=optimizer.learning_rate(self.config["train"]),
            label_smoothing=self.config["train"]["label_smoothing"],
            seed=0,
        )
        ordinary, _ = programs.programs(recipe, self.pipeline.draw)
        self._program = devices.compile(ordinary)
        variables = models.init(recipe.model, 0, dataset.image_shape)
        self.state = devices.replicate(jax.jit(lambda v: step.init_state(recipe, v))(variables))

    def advance(self, dispatches: int, steps: int) -> Any:
        """Takes `dispatches` times `steps` steps, as the loop of `train.train` does."""
        for _ in range(dispatches):
            feed = self.pipeline.feed(0)
            jax.block_until_ready(self.state.step)
            (self.state,) = self._program((self.state,), (feed,), (np.uint32(0),), steps)
        return self.state


def _images(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    if options.data_dir:
        dataset = data.get("cifar10")
        return data.load_arrays(dataset, dataset.train_split, options.data_dir)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (SYNTHETIC, 32, 32, 3), np.uint8)
    return images, random.integers(0, 10, SYNTHETIC, np.int32)


def step_lines(options: argparse.Namespace) -> list[Line]:
    """Sparse against dense steps, many steps a dispatch against one, ours against PyTorch."""
    devices = Devices()
    dense, rigl = (Training(algorithm, options, devices) for algorithm in ("dense", "rigl"))

    def milliseconds(run: Callable[[], Any]) -> Callable[[], float]:
        return lambda: 1e3 * timing.seconds(run) / CHUNK

    measures = {
        "dense": milliseconds(lambda: dense.advance(1, CHUNK)),
        "rigl": milliseconds(lambda: rigl.advance(1, CHUNK)),
        "single": milliseconds(lambda: rigl.advance(CHUNK, 1)),
    }
    times = timing.in_turns(measures, options.rounds)
    # PyTorch apart: its threads go on spinning for a while and would slow whatever comes next.
    against: dict[str, list[float]] = {"dense": [], "pytorch": []}
    missing = _why_no_pytorch(options)
    if not missing:
        from benchmarks import pytorch_resnet20

        count = sum(leaf.size for leaf in jax.tree.leaves(dense.state.params))
        assert count == pytorch_resnet20.parameter_count()
        batch = dense.pipeline.draw(dense.pipeline.feed(0), 0)
        advance = pytorch_resnet20.training(
            np.asarray(batch["image"]),
            np.asarray(batch["label"]),
            learning_rate=dense.config["train"]["learning_rate"],
            weight_decay=dense.config["train"]["weight_decay"],
        )
        pair = {"dense": measures["dense"], "pytorch": milliseconds(lambda: advance(CHUNK))}
        against = timing.in_turns(pair, options.rounds)
    check_finite(dense.state)
    check_finite(rigl.state)
    setting = f"{options.model}, batch {options.batch_size}"
    return [
        Line(f"RigL step, {setting}", "dense step", "ms", "<= 1.03", times["rigl"], times["dense"]),
        Line(
            f"step, {CHUNK} in one program, RigL, {setting}",
            "one dispatch a step",
            "ms",
            "<= 1.0",
            times["rigl"],
            times["single"],
        ),
        Line(
            f"dense step, {setting}",
            "PyTorch",
            "ms",
            "",
            against["dense"],
            against["pytorch"],
            missing=missing,
        ),
    ]


def _why_no_pytorch(options: argparse.Namespace) -> str:
    if options.model != "resnet20":
        return "written for resnet20 only"
    return "" if importlib.util.find_spec("torch") else "PyTorch is not installed"


def input_lines(options: argparse.Namespace) -> list[Line]:
    """Images a second, cropped, flipped and normalised: resident on the device against tf.data.

    The loop of `train.train` takes resident batches many in one program, and so does the first
    line; the second takes one a dispatch, as a loop of anybody's might.
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
    dataset, batch = data.get("cifar10"), options.batch_size
    common: dict[str, Any] = {"batch_size": batch, "seed": 0, "augment": "crop_flip"}
    resident = data.ResidentPipeline(dataset, *_images(options), **common)
    stream = data.StreamPipeline(dataset, options.data_dir, **common)

    def rate(pipeline: data.Pipeline, batches: int, at_once: int) -> Callable[[], float]:
        @jax.jit
        def draw(feed: Any, start: Any) -> Any:
            if at_once == 1:
                return pipeline.draw(feed, start)
            empty = jax.tree.map(jnp.zeros_like, pipeline.draw(feed, start))
            return jax.lax.fori_loop(0, at_once, lambda i, _: pipeline.draw(feed, start + i), empty)

        position = 0

        def run() -> None:
            nonlocal position
            for _ in range(0, batches, at_once):
                if pipeline.chunk(position) < at_once:  # the loop would take fewer; skip them
                    position += pipeline.chunk(position)
                jax.block_until_ready(draw(pipeline.feed(position), position))
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


def start_lines(options: argparse.Namespace) -> list[Line]:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", help="where CIFAR-10 is prepared for TFDS")
    parser.add_argument("--model", default="resnet20", help="a network for 32x32 images")
    parser.add_argument("--batch_size", type=int, default=128, help="images a step")
    parser.add_argument("--rounds", type=int, default=8, help="figures a measure")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    options = parser.parse_args()

    load = round(os.getloadavg()[0], 2)
    # Fresh processes first: later this one would hold the memory of an accelerator.
    lines = start_lines(options)
    circumstances = timing.circumstances()
    lines = [*step_lines(options), *input_lines(options), *lines]

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
