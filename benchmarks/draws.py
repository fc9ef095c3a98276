"""What our own random arrays and first weights save against JAX's, on one device.

    python -m benchmarks.draws [--rounds 5] [--images 128] [--only PART ...] [--out FILE]

Prints a table in Markdown: a rendering of 18 corruptions (all but frost) at 32 pixels with the
numbers of `corruptions.random_arrays` and with those of `jax.random`, everything compiled before;
and the first variables of a network by `models.init` and by Flax's own `init` under `jax.jit`,
nothing compiled before. Both take turns. Wall time and the processor's time, which a busy machine
changes less.
"""

import argparse
import contextlib
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from dst_jax import corruptions, models
from dst_jax.corruptions import random_arrays

SEVERITY = 3
NETWORKS = {"resnet50": (1000, (224, 224, 3)), "deit_base": (1000, (224, 224, 3))}
PARTS = ("rendering", *NETWORKS)
Seconds = tuple[float, float]  # wall, processor


def seconds(run: Callable[[], Any]) -> Seconds:
    """Wall and processor time of `run()`."""
    wall, busy = time.perf_counter(), time.process_time()
    jax.block_until_ready(run())
    return time.perf_counter() - wall, time.process_time() - busy


def by_jax() -> contextlib.AbstractContextManager:
    """The corruptions draw with `jax.random` inside."""
    return mock.patch.multiple(
        random_arrays,
        uniform=lambda key, shape, low=0.0, high=1.0: jax.random.uniform(
            key, shape, minval=low, maxval=high
        ),
        normal=lambda key, shape: jax.random.normal(key, shape),
    )


def renderer(number: int) -> Callable[[], Any]:
    """A function that renders all corruptions that need no photographs; compiled here."""
    jax.clear_caches()  # what was traced with other draws
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (number, 32, 32, 3), np.uint8))
    ids = jnp.arange(number)
    programs = []
    for name in corruptions.SUITES["c"] + corruptions.SUITES["c_extra"]:
        if name == "frost":
            continue
        keys = corruptions.example_keys(0, name, SEVERITY, ids)
        render = jax.jit(
            lambda images, keys, name=name: corruptions.corrupt(
                name, images, keys, SEVERITY, "cifar32"
            )
        )
        programs.append((render.lower(images, keys).compile(), keys))
    return lambda: [program(images, keys) for program, keys in programs]


def first_weights(name: str, ours: bool) -> Callable[[], Any]:
    """A function that makes the network's first variables, compiling what it needs each time."""
    classes, shape = NETWORKS[name]

    def make() -> Any:
        module = models.create(name, classes)
        if ours:
            return models.init(module, 0, shape)
        jax.clear_caches()
        return jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, *shape)))

    return make


def row(what: str, ours: Callable[[], Any], jaxs: Callable[[], Any], rounds: int) -> str:
    """One line of the table."""
    figures = timing.in_turns({"ours": lambda: seconds(ours), "jax": lambda: seconds(jaxs)}, rounds)
    cells = [what]
    for index in (0, 1):
        mine, theirs = ([figure[index] for figure in figures[name]] for name in ("ours", "jax"))
        cells += [f"{statistics.median(side):.3g}" for side in (mine, theirs)]
        cells.append(timing.spread(timing.ratios(theirs, mine)))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="figures a measure")
    parser.add_argument("--images", type=int, default=128, help="images of a rendering")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to time")
    parser.add_argument("--out", type=Path, help="write the table to this file as well")
    options = parser.parse_args()

    load = os.getloadavg()[0]
    rows = [
        "| what | ours, s | JAX's, s | JAX's / ours | ours, CPU s | JAX's, CPU s | JAX's / ours |",
        "|---" * 7 + "|",
    ]
    if "rendering" in options.only:
        ours = renderer(options.images)
        with by_jax():
            jaxs = renderer(options.images)
        what = f"rendering of {options.images} images, 18 corruptions, severity {SEVERITY}"
        rows.append(row(what, ours, jaxs, options.rounds))
    for name in filter(options.only.__contains__, NETWORKS):
        of_network = first_weights(name, True), first_weights(name, False)
        rows.append(row(f"first variables of {name}", *of_network, min(options.rounds, 3)))
    found = timing.circumstances()
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    rows += [
        "",
        f"{found['hardware']}, {found['processor']}; {found['date']}; {versions}; load before"
        f" {load:.2f}, after {os.getloadavg()[0]:.2f};"
        f" `{' '.join(['python -m benchmarks.draws', *sys.argv[1:]])}`",
        "",
    ]
    table = "\n".join(rows)
    print(table)
    if options.out:
        options.out.write_text(table)


if __name__ == "__main__":
    main()
