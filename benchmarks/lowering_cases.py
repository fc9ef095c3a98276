"""All programs that are lowered: steps, mask updates, predictions and renderings, and what of each.

A case is one program with the shapes of its arguments and what is expected of it; the registries of
models, algorithms and corruptions are gone through. Called by `benchmarks.lowering` and by
`tests/test_lowering.py`.
"""

import atexit
import dataclasses
import functools
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from benchmarks import lowering_checks, stablehlo
from benchmarks.lowering_training import (
    BATCH,
    DTYPES,
    Accelerators,
    Built,
    Training,
    Tree,
    layers,
    over_devices,
)
from dst_jax import corruptions, data, sparsity
from dst_jax.corruptions import video
from dst_jax.corruptions.constants import PRESET_SIZES, ROWS
from dst_jax.corruptions.weather import FROST_FILES
from dst_jax.models import MODELS
from dst_jax.robustness import engine, suites
from dst_jax.robustness.records import CLEAN
from dst_jax.training.build import logits_function

# One model for each form of convolution, attention and pooling: two-dimensional, on 2x2 maps,
# 7x7 with overlapping maxima, depthwise, patches with attention, three-dimensional.
FAMILIES = (
    "mlp",
    "vgg16",
    "resnet20",
    "resnet50",
    "wide_resnet22_2",
    "efficientnet_b0",
    "deit_small",
    "i3d_r50",
)
# What an algorithm needs beside the options that all have.
NEEDS: dict[str, dict[str, Any]] = {
    "adam-fisher": {"train.optimizer": "adamw"},
    "iterative_nm": {
        "sparsity.sparsity_type": "nm_2,4",
        "sparsity.sparsity": 0.5,
        "sparsity.dist_type": "uniform",
        "sparsity.exclude": "^classifier",
    },
}
# Options that change the programs of a training, one after another.
OPTIONS: dict[str, dict[str, Any]] = {
    "mixup, CutMix, erasing": {"train.mixup": 0.2, "train.cutmix": 1.0, "data.erasing": 0.25},
    "RandAugment": {"data.randaugment_layers": 2},
    "AugMix": {"data.augmix": 3.0},
    "EMA, AdamW, clipping": {
        "train.ema": 0.9,
        "train.optimizer": "adamw",
        "train.clip_norm": 1.0,
    },
    "gradient accumulation": {"train.grad_accum_steps": 2},
    "two seeds": {"num_seeds": 2},
}
_EXACT_INPUT = ("RandAugment", "AugMix")  # their products, of grey levels, are float32 and exact


@dataclasses.dataclass(frozen=True)
class Case:
    """One program.

    Attributes:
      name: what it does.
      how: parallelism and number of devices, such as "pmap, 4 devices".
      dtype: of the model, "float32" or "bfloat16"; "": there is no model.
      build: makes (the program, its arguments as shapes, what is expected of it).
    """

    name: str
    how: str
    dtype: str
    build: Callable[[], Built]

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.name, self.dtype, self.how)))

    def lower(self) -> tuple[dict[str, list[str]], list[str]]:
        """(platform -> complaints about the program there, what was checked in words)."""
        program, arguments, expected = self.build()
        found = {}
        for platform in stablehlo.PLATFORMS:
            facts = stablehlo.Facts.of(stablehlo.lower(program, arguments, platform))
            found[platform] = lowering_checks.complaints(facts, expected)
        return found, expected.checked()


def _training(
    what: str,
    kinds: Sequence[str] = ("ordinary", "update"),
    dtypes: Sequence[str] = tuple(DTYPES),
    parallelism: str = "jit",
    count: int = 4,
    exact_input: bool = False,
    **options: Any,
) -> Iterator[Case]:
    """The cases of one training; `options` with "__" for the dots of their names."""
    options = {name.replace("__", "."): value for name, value in options.items()}
    for dtype in dtypes:
        made = functools.cache(functools.partial(Training, dtype, parallelism, count, options))
        for kind in kinds:

            def build(kind: str = kind, made: Callable[[], Training] = made) -> Built:
                program, arguments, expected = made().program(kind)
                return program, arguments, dataclasses.replace(expected, exact_input=exact_input)

            yield Case(f"{kind} step, {what}", f"{parallelism}, {count} devices", dtype, build)


def _evaluation(model: str, dtype: str, count: int = 4) -> Case:
    """Class and confidence of clean images, or of rendered ones: the same program."""

    def build() -> Built:
        training = Training(dtype, "jit", count, {"model.name": model})
        variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, "f4"), training.variables)
        predict = jax.tree_util.Partial(logits_function(training.config), variables)
        scorer = engine.Engine(suites.Plan("", "", "", 0, (CLEAN,)), training.devices)
        shape = training.dataset.image_shape
        images = over_devices(training.devices, {"image": np.zeros((BATCH, *shape), np.uint8)})
        expected = lowering_checks.Expected(
            products=DTYPES[dtype],
            convolutions=layers(training.variables["params"]),
            is_trained=False,
            devices=count,
        )
        network = training.devices.abstract(training.devices.replicate_global(predict))
        return scorer.outcome, (network, images), expected

    return Case(f"prediction, {model}", f"rows over {count} devices", dtype, build)


def _rendering(name: str, preset: str, count: int = 4) -> Case:
    """The images of one corruption, or of one perturbation of clips."""

    def build() -> Built:
        devices = Accelerators("jit", jax.devices()[:count])
        plan = suites.plan([name], None, preset, frost_dir=_frost())
        program = engine.Engine(plan, devices).renderer(name)
        side = PRESET_SIZES.get(preset, 32)
        shape = (BATCH, 8, side, side, 3) if preset == data.VIDEO else (BATCH, side, side, 3)
        rows = {"image": np.zeros(shape, np.uint8), "id": np.zeros(BATCH, np.int32)}
        arguments = ((np.int32(1), np.int32(0)), over_devices(devices, rows))
        return program, arguments, lowering_checks.Expected(exact=True, devices=count)

    return Case(f"rendering, {name}, {preset}", f"rows over {count} devices", "", build)


def _with_map(name: str) -> Case:
    """A corruption that needs a map of each image: `corrupt` alone renders it."""

    def build() -> Built:
        (preset,) = ROWS[name]
        side = PRESET_SIZES[preset]

        def program(images: Tree, ids: Tree, maps: Tree) -> Tree:
            keys = corruptions.example_keys(0, name, 1, ids)
            return corruptions.corrupt(name, images, keys, 1, preset, maps=maps)

        shape = (BATCH, side, side)
        arguments = (np.zeros((*shape, 3), np.uint8), np.zeros(BATCH, np.int32), np.zeros(shape))
        return jax.jit(program), arguments, lowering_checks.Expected(exact=True, devices=1)

    return Case(f"rendering, {name} with maps", "1 device", "", build)


@functools.cache
def _frost() -> Path:
    """Photographs of the wrong subject but of a possible size, until the process ends."""
    directory = tempfile.TemporaryDirectory(prefix="frost")
    atexit.register(directory.cleanup)
    for name in FROST_FILES:
        photograph = np.random.default_rng(0).integers(0, 256, (320, 400, 3), np.uint8)
        Image.fromarray(photograph).save(Path(directory.name) / name)
    return Path(directory.name)


def _of_models() -> Iterator[Case]:
    for model in MODELS:
        yield from _training(f"rigl, {model}", model__name=model, sparsity__algorithm="rigl")


def _of_algorithms() -> Iterator[Case]:
    for algorithm in sparsity.all_algorithm_names():
        options = {"model__name": "mlp", "sparsity__algorithm": algorithm}
        needs = {name.replace(".", "__"): value for name, value in NEEDS.get(algorithm, {}).items()}
        yield from _training(f"{algorithm}, mlp", ("update",), **{**options, **needs})


def _of_options() -> Iterator[Case]:
    for what, options in OPTIONS.items():
        named = {name.replace(".", "__"): value for name, value in options.items()}
        exact = what in _EXACT_INPUT
        yield from _training(
            f"granet_g, {what}", exact_input=exact, sparsity__algorithm="granet_g", **named
        )


def _of_devices() -> Iterator[Case]:
    """Both forms of parallelism, resident and streamed images, 4 and 8 devices."""
    kinds = ("ordinary", "update", "snip")
    for parallelism, count in itertools.product(("jit", "pmap"), (4, 8)):
        for source in ("resident", "stream"):
            yield from _training(
                f"granet_g, resnet20, {source}",
                kinds,
                parallelism=parallelism,
                count=count,
                sparsity__algorithm="granet_g",
                data__input=source,
            )


def cases() -> list[Case]:
    """All programs, in the order of the table."""
    found = [*_of_devices(), *_of_models(), *_of_algorithms(), *_of_options()]
    for model, dtype in itertools.product(MODELS, DTYPES):
        found.append(_evaluation(model, dtype))
    found += [_evaluation("resnet20", "float32", 8), _rendering("fog", "cifar32", 8)]
    for name, corruption in corruptions.CORRUPTIONS.items():
        if corruption.needs_map:
            found.append(_with_map(name))
        else:
            found.append(_rendering(name, "cifar32" if "cifar32" in ROWS[name] else "imagenet224"))
    found += [_rendering(name, data.VIDEO) for name in video.PERTURBATIONS]
    return list({str(case): case for case in found}.values())  # RigL on the MLP comes twice
