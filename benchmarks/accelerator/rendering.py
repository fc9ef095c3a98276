"""Stage c, rendering: every common corruption, and an evaluation against its forward passes alone.

At 32 pixels with ResNet-18 on the test images of the dataset (on synthetic ones where it has
another size), at 224 with ResNet-50 on synthetic images; networks with random weights, on which
speed does not depend. It runs the programs of `dst_jax.robustness`. Called by `command`.
"""

import dataclasses
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.accelerator.speed_training import shrunk
from benchmarks.accelerator.stages import Context, Outcome, Part

STAGE = "c"
ROUNDS = 2  # evaluations, each in turns with its forward passes
EVALUATION_S = 12.0  # what they may take in all; fewer images otherwise
DISTINCT = 16  # synthetic images of one size; they repeat
NO_FROST = (
    "frost is drawn with random noise of the same sizes in place of its photographs, which are not "
    "here"
)


@dataclasses.dataclass(frozen=True)
class Setup:
    """What is rendered and who looks at it.

    Attributes:
      side: of the images, in pixels.
      data: a dataset of such images: their normalisation and classes.
      network: in `dst_jax.models`.
      title: of the network.
      options: of the network, other than as published.
      batch: images per batch and device.
      images: of an evaluation, at most; 0: all that there are.
      only: some corruptions; empty: all 19.
      dtype: of the network.
    """

    side: int
    data: str
    network: str
    title: str
    batch: int
    images: int
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    only: tuple[str, ...] = ()
    dtype: str = "bfloat16"


SETUPS = {
    32: Setup(32, "cifar10", "resnet18", "ResNet-18", 2000, 0),
    224: Setup(224, "imagenet2012", "resnet50", "ResNet-50", 256, 1024),
}
_NARROW = {"width": 4, "depth": 1}
# In float32: XLA:CPU of jaxlib 0.11 and 0.12 gives NaN for means of residual sums in bfloat16.
TOYS = {
    32: Setup(
        *(32, "cifar10", "resnet18", shrunk("ResNet-18", 4, 1), 8, 16, _NARROW),
        only=("gaussian_noise", "frost", "contrast", "pixelate"),
        dtype="float32",
    ),
    # A toy's large images are of 64 pixels.
    224: Setup(
        *(64, "tiny_imagenet", "resnet50", shrunk("ResNet-50", 4, 1), 4, 4, _NARROW),
        only=("gaussian_noise", "brightness"),
        dtype="float32",
    ),
}


def _setup(size: int, context: Context) -> Setup:
    return (TOYS if context.options.tiny else SETUPS)[size]


def _estimate(size: int, context: Context) -> float:
    if context.options.tiny:
        return context.toy_s(f"rendering_{size}")
    if size == 224 and (known := context.figure("rendering_32", "seconds", 0.0)):
        return 1.3 * known
    return 35.0 if size == 32 else 45.0


def _images(setup: Setup, context: Context) -> tuple[Any, Any, str]:
    """(uint8 [N, side, side, 3], int32 [N], where they are from)."""
    import numpy as np

    from benchmarks import corruptions

    if context.dataset.image_shape == (setup.side, setup.side, 3):
        images, labels = context.test_images
        count = setup.images or len(labels)
        return images[:count], labels[:count], f"test images of {context.options.data}"
    count = setup.images or 10_000
    images = corruptions.photographs(setup.side, min(count, DISTINCT))
    images = np.tile(images, (-(-count // len(images)), 1, 1, 1))[:count]
    return images, np.zeros(count, np.int32), "synthetic images"


def _run(size: int, context: Context) -> Outcome:
    from benchmarks import corruptions as rivals
    from benchmarks import evaluation, timing
    from dst_jax import data
    from dst_jax.robustness import images as images_lib
    from dst_jax.robustness import suites
    from dst_jax.robustness.engine import Engine
    from dst_jax.runtime.devices import Devices

    began = time.monotonic()
    setup, devices = _setup(size, context), Devices()
    images, labels, origin = _images(setup, context)
    dataset = data.get(setup.data)
    with tempfile.TemporaryDirectory() as directory:  # the photographs are read while tracing
        given = context.options.frost_dir
        frost_dir = rivals.fill_frost(Path(directory), given or None)
        plan = suites.plan(
            *("common", None, dataset.preset),
            source="rendered",
            only=setup.only,
            frost_dir=frost_dir,
        )
        source = images_lib.open_source((images, labels), "", 0, None, None)
        wanted = min(setup.batch, -(-len(labels) // devices.count))
        batches = list(images_lib.CleanImages(source, devices, wanted)())
        predict = evaluation.network(dataset, setup.network, setup.dtype, **setup.options)
        engine = Engine(plan, devices)
        network = engine.network(predict)
        names = list(dict.fromkeys(c.corruption for c in plan.conditions[1:]))
        compile_s, compiled_in_s = _compile(engine, network, names, batches[0])
        lines = [evaluation.measure(engine, network, batches[:1], name) for name in names]
        per_batch = 5 * sum(line["render"] + 2 * line["predict"] for line in lines)
        affordable = max(1, int(EVALUATION_S / (ROUNDS * per_batch)))
        batches = batches[:affordable]
        seconds = _evaluations(engine, network, plan.conditions, batches)
    count = sum(int(batch.real.sum()) for batch in batches)
    in_batch = int(batches[0].real.sum())
    rates = {line["corruption"]: in_batch / line["render"] for line in lines}
    ratio = timing.ratios(seconds["evaluation"], seconds["forward"])
    total = statistics.median(seconds["evaluation"])
    rendered = 5 * sum(line["render"] for line in lines)
    predicted = 5 * sum(line["predict"] for line in lines)
    figures = {
        "timings": ROUNDS,
        "side": setup.side,
        "batch": len(batches[0].id),
        "images": count,
        "conditions": len(plan.conditions),
        "images_per_s": rates,
        "of_forward_pass": {li["corruption"]: li["render"] / li["predict"] for li in lines},
        "forward_images_per_s": in_batch / statistics.median(li["predict"] for li in lines),
        "first_call_s": compile_s,
        "first_calls_in_all_s": compiled_in_s,
        "longest_first_call_s": max(compile_s.values()),
        "render_over_forward": rendered / predicted,
        "evaluation_s": seconds["evaluation"],
        "forward_s": seconds["forward"],
        "evaluation_over_forward": ratio,
        "seconds": time.monotonic() - began,
    }
    slowest, quickest = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
    harmonic = len(rates) / sum(1 / rate for rate in rates.values())
    instead = "" if setup.side == size else f" in place of {size}"  # in a toy
    where = f"{setup.side} px{instead}, batch {figures['batch']:,}"
    rows = [
        [
            f"rendering {len(names)} corruptions, {where}",
            f"{timing.figure(harmonic)} images/s over all",
            f"forward pass of {setup.title}: {timing.figure(figures['forward_images_per_s'])} "
            "images/s",
            f"{slowest} {timing.figure(rates[slowest])}, {quickest} "
            f"{timing.figure(rates[quickest])} images/s; "
            f"{figures['render_over_forward']:.3g} of the forward passes' time",
        ],
        [
            f"evaluation of {setup.title}, {count:,} {origin}, {len(plan.conditions)} conditions "
            f"with clean, {where}, {setup.dtype}",
            f"{timing.figure(count * len(plan.conditions) / total)} images/s at "
            f"{timing.median(seconds['evaluation'])} s",
            f"as many forward passes without rendering: {timing.median(seconds['forward'])} s",
            f"{timing.spread(ratio)} of the time",
        ],
        [
            f"first calls of these programs, {where}",
            f"{compiled_in_s:.3g} s",
            "the longest: " + max(compile_s, key=compile_s.__getitem__),
            f"{max(compile_s.values()):.3g} s, {_workers()} side by side",
        ],
    ]
    notes = [] if given or "frost" not in names else [NO_FROST]
    if plan.source.startswith("rendered+jpeg85"):
        notes.append("rendering includes saving as JPEG of quality 85, as for ImageNet-C")
    # The table of all parts shows one text a stage, that of its last part: it tells the others too.
    before = [] if size == 32 else [context.results.get("rendering_32")]
    text = _table(*filter(None, before), figures)
    return {"figures": figures, "rows": rows, "notes": notes, "text": text}


def _workers() -> int:
    import jax

    # For a CPU one at a time (`Context.workers` says why).
    return 1 if jax.default_backend() == "cpu" else max(1, min(16, os.cpu_count() or 1))


def _compile(
    engine: Any, network: Any, names: Sequence[str], batch: Any
) -> tuple[dict[str, float], float]:
    """First calls, side by side: (name -> seconds, seconds in all); the network's is "network"."""
    import jax

    from dst_jax.robustness.records import Condition

    def first(name: str) -> float:
        began = time.perf_counter()
        if name == "network":
            jax.block_until_ready(network.predict(batch.rows["image"]))
        else:
            jax.block_until_ready(engine.render(Condition(name, 1), batch))
        return time.perf_counter() - began

    began = time.perf_counter()
    with ThreadPoolExecutor(_workers()) as pool:
        every = ("network", *names)
        found = dict(zip(every, pool.map(first, every), strict=True))
    return found, time.perf_counter() - began


def _evaluations(
    engine: Any, network: Any, conditions: Sequence[Any], batches: Sequence[Any]
) -> dict[str, list[float]]:
    """Seconds of whole evaluations, and of as many forward passes, in turns."""
    from benchmarks import timing
    from dst_jax.robustness.records import CLEAN

    def seconds(scored: Sequence[Any]) -> Callable[[], float]:
        def run() -> None:
            for condition in scored:  # one by one, as `evaluate` does where the images stay
                engine.score([network], batches, [condition])

        return lambda: timing.seconds(run)

    measures = {
        "evaluation": seconds(conditions),
        "forward": seconds([CLEAN] * len(conditions)),
    }
    return timing.in_turns(measures, ROUNDS, discard_first=False)


def _table(*sizes: Mapping[str, Any]) -> str:
    """Every corruption by itself, from the figures of one size or more: Markdown."""
    from benchmarks import timing

    found: list[str] = []
    for figures in sizes:
        found += [
            f"At {figures['side']} px, batch {figures['batch']:,}:",
            "",
            "| corruption | images/s | of the forward pass's time | first call, s |",
            "|---|---|---|---|",
        ]
        found += [
            f"| {name} | {timing.figure(rate)} | {figures['of_forward_pass'][name]:.3g} | "
            f"{figures['first_call_s'][name]:.3g} |"
            for name, rate in figures["images_per_s"].items()
        ]
        found.append("")
    return "\n".join(found)


PARTS = tuple(
    Part(
        f"rendering_{size}",
        STAGE,
        f"corruptions rendered and scored at {size} px",
        functools.partial(_estimate, size),
        functools.partial(_run, size),
        settings=lambda context: {"frost": context.frost_digest},
    )
    for size in SETUPS
)
