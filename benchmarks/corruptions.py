"""Images per second of every corruption: ours, the same in NumPy etc., and imagecorruptions.

    python -m benchmarks.corruptions [--suites c c_extra] [--sizes 32 224] [--json FILE]

Prints a table in Markdown. All sides do severity 3 of the preset of the size (or of the only one
there is), in turns in one process; a ratio is the median (least..greatest) of the rounds' ratios,
above 1 where ours is faster than the fastest of the others. Ours renders batches, draws included,
on the default device and all its cores; the others render image after image as the published
scripts do (`common_numpy`, `bar_numpy` say with which call of SciPy, Pillow or OpenCV), OpenCV on
all cores where it is importable. For C-bar they get their draws for nothing. imagecorruptions is a
side where it is importable (today's form is imagecorruptions-imaug, with numba for glass_blur); it
has the constants of 224 px only, and photographs of frost of its own. Elsewhere frost's photographs
are random noise unless `--frost_dir` names the real ones. At 32 px ResNet-20's forward pass is
timed after them: what scoring costs anyhow.
"""

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from benchmarks import bar_numpy, common_numpy, timing
from dst_jax import corruptions
from dst_jax.corruptions.constants import ROWS
from dst_jax.corruptions.weather import FROST_FILES

try:
    imagecorruptions: Any = importlib.import_module("imagecorruptions")
except ImportError:
    imagecorruptions = None

SEVERITY = 3
BATCH = {32: 128, 64: 64, 224: 8, 299: 8}  # images of one call of ours
SECONDS = 0.2  # how long one figure takes at least


def photographs(size: int, number: int) -> np.ndarray:
    """Smooth images with some texture, [number, size, size, 3] uint8."""
    y, x = np.mgrid[:size, :size] / size
    generator = np.random.default_rng(0)
    images = np.empty((number, size, size, 3), np.uint8)
    for image in images:
        a, b, c = generator.uniform(2, 9, (3, 3))
        waves = np.sin(a * x[..., None] + b * y[..., None]) + np.cos(c * y[..., None])
        image[...] = np.clip(60 * waves + 120 + generator.normal(0, 8, waves.shape), 0, 255)
    return images


def images_per_second(render: Callable[[int], int]) -> float:
    """Renders until `SECONDS` have passed; `render(i)` renders the i-th portion, returns images."""
    number, start = 0, time.perf_counter()
    for i in range(10_000):
        number += render(i)
        elapsed = time.perf_counter() - start
        if elapsed > SECONDS:
            break
    return number / elapsed


def ours(name: str, images: np.ndarray, preset: str, frost_dir: str) -> Callable[[], float]:
    """A measure of ours: images per second, keys and draws included."""
    batch = jnp.asarray(images)
    ids = jnp.arange(len(images))

    @jax.jit
    def render(batch: jax.Array, ids: jax.Array, severity: jax.Array) -> jax.Array:
        keys = corruptions.example_keys(0, name, severity, ids)
        return corruptions.corrupt(name, batch, keys, severity, preset, frost_dir=frost_dir)

    def portion(i: int) -> int:
        render(batch, ids + i * len(images), SEVERITY).block_until_ready()
        return len(images)

    return lambda: images_per_second(portion)


def theirs(name: str, images: np.ndarray, preset: str) -> Callable[[], float]:
    """A measure of the other side: images per second."""
    row: Any = ROWS[name][preset][SEVERITY - 1]
    generator = np.random.default_rng(0)
    if name in common_numpy.FUNCTIONS:
        function = common_numpy.FUNCTIONS[name]

        def render(image: np.ndarray) -> np.ndarray:
            return function(image, row, generator)
    elif name in ("iso_noise", "low_light"):
        render = {"iso_noise": _iso_noise, "low_light": _low_light}[name](row, generator)
    else:
        corruption, shape = corruptions.CORRUPTIONS[name], images.shape[1:3]
        constants = corruption.constants(ROWS[name][preset], shape, SEVERITY)
        draws = corruption.draw(jax.random.key(0), shape, constants)
        given = {key: np.asarray(value) for key, value in draws.items()}

        def render(image: np.ndarray) -> np.ndarray:
            return bar_numpy.FUNCTIONS[name](image, row, given)

    def portion(i: int) -> int:
        with np.errstate(divide="ignore"):
            np.clip(render(images[i % len(images)]), 0, 255).astype(np.uint8)
        return 1

    return lambda: images_per_second(portion)


def package(name: str, images: np.ndarray) -> dict[str, Callable[[], float]]:
    """A measure of imagecorruptions, {"package": ...}; {} where it is absent or has no such one."""
    if imagecorruptions is None or name not in imagecorruptions.get_corruption_names("all"):
        return {}

    def portion(i: int) -> int:
        image = images[i % len(images)]
        imagecorruptions.corrupt(image, severity=SEVERITY, corruption_name=name)
        return 1

    portion(0)  # numba compiles
    return {"package": lambda: images_per_second(portion)}


def _iso_noise(std: float, generator: np.random.Generator) -> Callable:
    # As the published script draws; `bar_numpy` inverts a law on given draws, which is slower.
    def render(image: np.ndarray) -> np.ndarray:
        counts = generator.poisson(image / 255 * 25)
        return 255 * (np.clip(counts / 25, 0, 1) + generator.normal(scale=std, size=image.shape))

    return render


def _low_light(brightest: float, generator: np.random.Generator) -> Callable:
    def render(image: np.ndarray) -> np.ndarray:
        low, high = float(image.min()), float(image.max())
        dark = ((image - low) / (high - low)) ** 2 * brightest
        counts = np.clip(generator.poisson(dark * 120) / 120, 0, 1)
        return 255 * (counts + generator.normal(scale=0.018, size=image.shape))

    return render


def _version_of_package() -> str:
    for name in ("imagecorruptions-imaug", "imagecorruptions"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return f"{name} {importlib.metadata.version(name)}" if imagecorruptions else "absent"
    return "absent"


def preset_of(name: str, size: int) -> str:
    """The preset of the size, or the only one that the corruption has."""
    fitting = [p for p in ROWS[name] if corruptions.PRESET_SIZES[p] == size]
    return (fitting or list(ROWS[name]))[0]


def measure(name: str, size: int, rounds: int, frost_dir: str) -> dict[str, Any]:
    """Both sides in turns: images per second of each and the ratios."""
    images, preset = photographs(size, BATCH[size]), preset_of(name, size)
    sides = {"ours": ours(name, images, preset, frost_dir), "theirs": theirs(name, images, preset)}
    figures = timing.in_turns(sides | package(name, images), rounds)
    others = {side: values for side, values in figures.items() if side != "ours"}
    fastest = max(others, key=lambda side: statistics.median(others[side]))
    return {
        "corruption": name,
        "size": size,
        "preset": preset,
        **{side: statistics.median(values) for side, values in figures.items()},
        "fastest": fastest,
        "ratio": timing.ratios(figures["ours"], figures[fastest]),
    }


def forward(images: np.ndarray) -> float:
    """Images per second of ResNet-20's forward pass, what scoring costs beside rendering."""
    from dst_jax import models

    module = models.create("resnet20", 10)
    variables = models.init(module, 0, images.shape[1:])
    batch = jnp.asarray(images, jnp.float32) / 255
    predict = jax.jit(lambda variables, batch: module.apply(variables, batch, train=False))

    def portion(i: int) -> int:
        predict(variables, batch).block_until_ready()
        return len(images)

    portion(0)  # compiles
    return statistics.median(images_per_second(portion) for _ in range(3))


def fill_frost(directory: Path, given: str | None) -> str:
    """Names a directory with photographs of frost and loads them for the other side."""
    generator = np.random.default_rng(0)
    sizes = ((600, 900), (315, 560), (315, 560), (350, 527), (495, 660))  # the real ones'
    for name, size in zip(FROST_FILES, sizes, strict=True):
        if given is None:
            noise = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(noise).save(directory / name)
        with Image.open(Path(given or directory) / name) as file:
            common_numpy.FROST_BANK.append(np.asarray(file.convert("RGB")))
    return given or str(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--suites", nargs="+", default=list(corruptions.SUITES), choices=list(corruptions.SUITES)
    )
    parser.add_argument("--only", nargs="+", help="names of corruptions, instead of suites")
    parser.add_argument("--sizes", nargs="+", type=int, default=[32, 224], choices=list(BATCH))
    parser.add_argument("--rounds", type=int, default=3, help="figures per side")
    parser.add_argument("--frost_dir", help="directory of the photographs of frost")
    parser.add_argument("--json", type=Path, help="file for the figures and their circumstances")
    options = parser.parse_args()

    suites = [name for suite in options.suites for name in corruptions.SUITES[suite]]
    names = options.only or list(dict.fromkeys(suites))
    circumstances = {**timing.circumstances(), "load": round(os.getloadavg()[0], 2)}
    opencv = "absent" if common_numpy.cv2 is None else common_numpy.cv2.__version__
    print(f"{circumstances['processor']}, {circumstances['hardware']}, jax {jax.__version__},")
    version = _version_of_package()
    print(f"OpenCV {opencv}, imagecorruptions: {version},")
    print(f"load {circumstances['load']}, severity {SEVERITY}\n")
    print(
        "| corruption | px | ours, images/s | NumPy etc. | imagecorruptions | ours / the faster |"
    )
    print("|---|---|---|---|---|---|")
    lines: list[dict[str, Any]] = []
    resnet20 = None  # measured at 32 px only
    with tempfile.TemporaryDirectory() as directory:
        frost_dir = fill_frost(Path(directory), options.frost_dir)
        for size in options.sizes:
            for name in names:
                line = measure(name, size, options.rounds, frost_dir)
                ratio = line["ratio"]
                cells = f"| {name} | {size} | {line['ours']:.0f} | {line['theirs']:.1f} |"
                print(
                    f"{cells} {line['package']:.1f} |" if "package" in line else f"{cells} |",
                    end="",
                )
                spread = f"({ratio['min']:.2f}..{ratio['max']:.2f})"
                print(f" {ratio['median']:.2f} {spread} |", flush=True)
                lines.append(line)
            ahead = sum(line["ratio"]["median"] > 1 for line in lines if line["size"] == size)
            print(f"| ahead at {size} px | | | | | {ahead} of {len(names)} |", flush=True)
            if size == 32:
                resnet20 = forward(photographs(size, BATCH[size]))
                cheaper = sum(line["ours"] > resnet20 for line in lines)
                print(f"| forward pass of ResNet-20 | 32 | {resnet20:.0f} | | | |")
                print(
                    f"| rendering costs less | 32 | {cheaper} of {len(names)} | | | |", flush=True
                )
    if options.json:
        after = {
            "load_after": round(os.getloadavg()[0], 2),
            "opencv": opencv,
            "imagecorruptions": version,
        }
        figures = {**circumstances, **after, "resnet20_forward": resnet20, "lines": lines}
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
