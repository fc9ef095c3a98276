"""Reads the recorded outputs of the published scripts and runs our `apply` on the recorded draws.

Not tests; `test_golden.py` holds them.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.corruptions import CORRUPTIONS
from dst_jax.corruptions.base import to_uint8
from dst_jax.corruptions.constants import ROWS
from tests.corruptions.adapt import adapt

PRESET_OF = {32: "cifar32", 64: "tiny64", 224: "imagenet224"}


@functools.cache
def load(shared_dir: pathlib.Path, size: int) -> dict[str, np.ndarray]:
    with np.load(shared_dir / "golden" / "corruptions" / f"corruptions_{size}.npz") as file:
        return dict(file)


@functools.cache
def program(name: str, size: int, options: tuple = ()):
    """(image, draws, severity) -> uint8, compiled once for all severities."""
    corruption = CORRUPTIONS[name]
    rows = ROWS[name][PRESET_OF[size]]

    @jax.jit
    def run(image, draws, severity):
        constants = corruption.constants(rows, image.shape[:2], severity, **dict(options))
        return to_uint8(corruption.apply(image, draws, constants), "truncate")

    return run


def cases(data: dict[str, np.ndarray], name: str):
    """Yields (severity, image, recorded draws, recorded output)."""
    for key in sorted(data):
        if key.startswith(f"{name}/") and key.endswith("/out"):
            _, severity, image, _ = key.split("/")
            prefix = key.removesuffix("out") + "draw/"
            draws = {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}
            yield int(severity[1:]), data[image], draws, data[key]


def options_of(name: str, shared_dir: pathlib.Path) -> tuple:
    """The recordings used the original photographs of frost, and OpenCV 5."""
    return {
        "frost": (("frost_dir", str(shared_dir / "frost")),),
        "elastic_transform": (("coords", "exact"),),
    }.get(name, ())


def arguments(name: str, image, draws, severity: int, size: int) -> tuple:
    """What a `program` takes, from a recorded case."""
    draws = adapt(name, draws, image, severity, PRESET_OF[size])
    return jnp.asarray(image), {k: jnp.asarray(v) for k, v in draws.items()}, severity


@functools.cache
def compare(shared_dir: pathlib.Path, name: str, size: int) -> tuple[int, float]:
    """The largest difference and the largest share of differing values over the recorded cases."""
    worst, share = 0, 0.0
    run = program(name, size, options_of(name, shared_dir))
    for severity, image, draws, expected in cases(load(shared_dir, size), name):
        found = run(*arguments(name, image, draws, severity, size))
        difference = np.abs(np.asarray(found).astype(int) - expected.astype(int))
        worst, share = max(worst, int(difference.max())), max(share, float((difference > 0).mean()))
    return worst, share
