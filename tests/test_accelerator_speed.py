"""The accelerator benchmark's training steps: the arithmetic, one part as a toy, PyTorch's side."""

import dataclasses
import importlib.util
import math
import re
import time
import types

import jax
import numpy as np
import pytest

from benchmarks import timing
from benchmarks.accelerator import speed, speed_counts, speed_pytorch, speed_training, stages
from dst_jax import models

NO_TORCH = "needs PyTorch"
TOY = speed_training.TOY
SHRUNK = "DeiT-S shrunk to width 64 and depth 1"


@dataclasses.dataclass(frozen=True)
class FakeClock:
    """A clock that stands still."""

    budget: float = 100.0
    remaining: float = 60.0

    def used(self):
        return self.budget - self.remaining

    def left(self):
        return self.remaining


def check_figures(rows):
    """No figure of a row but the size of something has more than 3 significant digits."""
    for cell in (cell for row in rows for cell in row[1:]):
        for number in re.findall(r"\d[\d,]*\.?\d*(?:e[+-]\d+)?", cell):
            digits = number.partition("e")[0].replace(",", "").replace(".", "").strip("0")
            assert len(digits) <= 3, (number, cell)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((1234567, "1,230,000"), (999.6, "1,000"), (1000, "1,000"), (123.45, "123")),
        *((1.0046, "1"), (0.16484, "0.165"), (1.234e-7, "1.23e-07"), (0, "0")),
    ],
)
def test_figures_have_three_digits(value, text):
    assert timing.figure(value) == text


def test_a_spread_stands_beside_its_figure():
    assert timing.median([3000.0, 1000.0, 2000.0]) == "2,000 (1,000 to 3,000)"
    assert timing.spread({"median": 1.0, "min": 0.5, "max": 1234.0}) == "1 (0.5 to 1,230)"


@pytest.fixture
def context(tmp_path):
    options = stages.Options(tmp_path / "out", tmp_path / "work", tiny=True)
    yield stages.Context(options, FakeClock(), say=lambda text: None)
    speed_training.let_go()


@pytest.mark.parametrize(
    ("name", "data", "published"),
    # He et al. 2016, table 1 (3.8e9 without the stride in the 3x3 convolution, 4.1e9 with it, as
    # torchvision states it), and DeiT's as timm states them: multiply-adds per image of 224 pixels.
    [
        ("resnet50", "imagenet2012", 4.1e9),
        ("deit_small", "imagenet2012", 4.6e9),
        ("deit_base", "imagenet2012", 17.6e9),
    ],
)
def test_counts_of_arithmetic_are_the_published_ones(name, data, published):
    config = {
        "model": {
            **{"name": name, "dtype": "bfloat16", "width": 0, "depth": 0, "stem": "published"},
            **{"dropout": -1, "drop_path": -1, "zero_init_residual": "published"},
        },
        "data": {"name": data},
    }
    macs = speed_counts.macs(config)
    assert macs == pytest.approx(published, rel=0.01)
    assert speed_counts.training_flops(macs) == 6 * macs


def test_shares_of_the_peaks():
    # 1,000 images per second of 4 GMACs are 24 TFLOP/s of training, 12 on each of two devices.
    assert speed_counts.tflops(1000, 4_000_000_000) == pytest.approx(24)
    assert speed_counts.tflops(1000, 4_000_000_000, devices=2) == pytest.approx(12)
    found = speed_counts.shares(24, 96, 240)
    assert found == {"of_measured_peak": 0.25, "of_published_peak": 0.1}
    assert speed_counts.shares(24, 0, None) == {
        "of_measured_peak": None,
        "of_published_peak": None,
    }


def test_published_peaks_are_found_by_the_name_of_the_device():
    assert speed_counts.published_peak("NVIDIA H200") == 989
    assert speed_counts.published_peak("NVIDIA H100 PCIe") == 756
    assert speed_counts.published_peak("NVIDIA A100-SXM4-40GB") == 312
    assert speed_counts.published_peak("TPU v5 lite") == 197
    assert speed_counts.published_peak("cpu") is None


def test_an_update_is_shared_by_the_steps_around_it():
    assert speed_counts.amortised(3.0, 100) == pytest.approx(1.02)
    assert speed_counts.amortised(1.0, 100) == pytest.approx(1.0)


def test_a_part_is_measured_and_pytorch_that_fails_is_a_reason(context, monkeypatch):
    context.results["ceilings"] = {"matmul_bf16_tflops": 2.0}
    outcome = speed._run(TOY, context)
    figures = outcome["figures"]
    assert all(len(row) == len(stages.COLUMNS) for row in outcome["rows"])
    median = np.median(figures["ms_per_step"]["dense"])
    assert figures["dense_images_per_s"] == pytest.approx(1e3 * figures["batch"] / median)
    assert figures["dense_tflops"] == pytest.approx(
        figures["dense_images_per_s"] * 6 * figures["macs"] / 1e12 / jax.device_count()
    )
    assert figures["of_measured_peak"] == pytest.approx(figures["dense_tflops"] / 2)
    ms = figures["ms_per_step"]
    each = [a / b for a, b in zip(ms["rigl"], ms["dense"], strict=True)]
    assert figures["rigl_over_dense"]["min"] == pytest.approx(min(each))
    assert all(row[0].startswith(SHRUNK) for row in outcome["rows"])
    low, high = timing.figure(min(ms["dense"])), timing.figure(max(ms["dense"]))
    assert f" at {timing.figure(median)} ({low} to {high}) ms" in outcome["rows"][0][1]
    assert figures["timings"] == len(ms["dense"])

    # The update of another network, which a toy has not.
    outcome_of_update = speed._update_run(speed_training.NETWORKS[0], context)
    assert outcome_of_update["rows"][0][0].startswith(f"in place of ResNet-50, {SHRUNK}, 32 px")
    check_figures(outcome_of_update["rows"] + outcome["rows"])

    # PyTorch: one form works, the other has no compiler. Ours goes on with the same programs.
    compiled = speed_training._held[0].compile_s
    weights = sum(
        leaf.size for leaf in jax.tree.leaves(speed_training._held[0].run("dense").state.params)
    )
    taken = []

    def training(name, images, labels, num_classes, *, compiled, **options):
        assert images.shape == (figures["batch"], 32, 32, 3)
        if compiled:
            raise RuntimeError("no working C compiler\nlong traceback")
        return lambda steps: taken.append(steps) or time.sleep(0.001)

    fake = types.SimpleNamespace(training=training, parameter_count=lambda *a, **k: weights)
    monkeypatch.setattr(speed_pytorch, "pytorch", lambda: fake)
    monkeypatch.setattr(speed_pytorch, "COMPILED_ON_CPU", True)
    outcome = speed_pytorch.run(TOY, context)
    assert speed_training._held[0].compile_s is compiled
    assert outcome["figures"]["missing"] == {"compiled": "RuntimeError: no working C compiler"}
    assert [row[-1] for row in outcome["rows"]][1] == "RuntimeError: no working C compiler"
    assert taken == [3, 2, 2]
    check_figures(outcome["rows"])
    assert outcome["figures"]["ours_over"]["eager"]["median"] > 0

    fake.parameter_count = lambda *a, **k: weights + 1
    with pytest.raises(ValueError, match="weights against PyTorch's"):
        speed_pytorch.run(TOY, context)


def test_without_pytorch_the_reason_is_in_the_table(context, monkeypatch):
    monkeypatch.setattr(speed_pytorch, "pytorch", lambda: "no PyTorch here (why)")
    outcome = speed_pytorch.run(TOY, context)
    assert outcome["rows"] == [
        [f"{SHRUNK}: our dense step", "missing", "PyTorch", outcome["rows"][0][3]]
    ]
    assert outcome["rows"][0][3] == "no PyTorch here (why)"


def test_a_stage_takes_no_more_than_its_share(context):
    context.shares = {"b": 0.28}
    context.spent["b"] = 20.0
    assert context.left("b") == pytest.approx(8.0)
    assert context.left("d") == 60.0
    context.spent["b"] = 0.0
    context.clock = FakeClock(remaining=3.0)
    assert context.left("b") == 3.0


def test_estimates_follow_what_was_measured(context):
    context.options = dataclasses.replace(context.options, tiny=False)
    resnet50, resnet18 = speed_training.NETWORKS[:2]
    first = speed._estimate(resnet18, context)
    context.results["speed_resnet50"] = {"seconds": 400.0, "longest_first_call_s": 100.0}
    assert speed._estimate(resnet18, context) > first
    assert speed._update_estimate(resnet50, context) > 100


def test_every_part_has_an_estimate_and_an_own_name(context):
    names = [part.name for part in speed.PARTS]
    assert len(set(names)) == len(names) == 2 * len(speed_training.NETWORKS) + 1
    for tiny in (True, False):
        context.options = dataclasses.replace(context.options, tiny=tiny)
        assert all(part.estimate(context) >= 0 for part in speed.PARTS)
        assert all(part.settings(context) is not None for part in speed.PARTS)


@pytest.mark.parametrize("network", speed_training.NETWORKS, ids=lambda network: network.name)
def test_configs_of_the_real_networks_are_accepted(network, context, monkeypatch):
    context.options = dataclasses.replace(context.options, tiny=False)
    monkeypatch.setattr(speed_training, "_batch", lambda wanted: 2)
    steps = speed_training.Steps(network, context)
    assert steps.batch == 2 * jax.device_count()
    for method in ("dense", "rigl"):
        config = steps._resolved(method)
        assert config["sparsity"]["algorithm"] == method
        assert config["model"]["dtype"] == "bfloat16"
    assert steps.title.startswith(f"{network.title}, {steps.side} px")


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason=NO_TORCH)
@pytest.mark.parametrize("network", speed_training.NETWORKS, ids=lambda network: network.name)
def test_pytorchs_networks_have_the_parameters_of_ours(network):
    from benchmarks import pytorch_networks
    from dst_jax import data

    def ours(side, classes, **options):
        module = models.create(network.name, classes, **options)
        image = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
        params = jax.eval_shape(module.init, jax.random.key(0), image)["params"]
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))

    dataset = data.get(network.data)
    count = ours(dataset.image_shape[0], dataset.num_classes)
    assert pytorch_networks.parameter_count(network.name, dataset.num_classes) == count
    if network.toy:
        changes = {name.removeprefix("model."): value for name, value in network.toy[0].items()}
        count = ours(32, 10, **changes)
        assert pytorch_networks.parameter_count(network.name, 10, **network.toy[1]) == count
