"""The parts of a run's analysis: what is written, kept, resumed and redone."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest
import runs

from dst_jax import corruptions, models, saved_run
from dst_jax.analysis import analyze, measurements
from dst_jax.config.options import ANALYSES
from dst_jax.corruptions import registry
from dst_jax.errors import UserError
from dst_jax.runtime.run_dir import read_arrays
from dst_jax.training import build

SMALL = {"analysis.images": 24, "analysis.heat_map_step": 10, "analysis.radii": (0, 40)}


def run_of(workdir, config):
    """A run that was never trained: fresh weights, random masks of half of them."""
    model = build.model(config)
    variables = models.init(model, 0, (32, 32, 3))
    draw = np.random.default_rng(0)
    masks = jax.tree.map(
        lambda leaf: (draw.random(leaf.shape) < 0.5).astype(np.uint8),
        {name: part for name, part in variables["params"].items() if "kernel" in part},
    )
    masks = {name: {"kernel": part["kernel"]} for name, part in masks.items()}
    return saved_run.Run(
        workdir=workdir,
        config=config,
        step=44,
        model=model,
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        masks=masks,
        union=masks,
        metrics=[],
    )


@pytest.fixture(scope="module")
def config():
    return runs.small_config(model__name="mlp", model__width=0, **SMALL)


def files(workdir):
    return {path.stem: path.stat().st_mtime_ns for path in (workdir / "analysis").glob("*")}


def test_everything_is_written_once(tmp_path, cache_dir, config):
    run = run_of(tmp_path, config)
    analyze.analyze(config, run, None, cache_dir, ANALYSES)
    first = files(tmp_path)
    assert set(first) == set(ANALYSES)
    analyze.analyze(config, run, None, cache_dir, ANALYSES)
    assert files(tmp_path) == first

    curves = read_arrays(tmp_path / "analysis" / "attenuation.npz")
    # Nothing removed: the accuracy of the network; everything removed: one answer for all.
    digits = measurements.data.get("digits")
    both = measurements.data.load_arrays(digits, "test", None, cache_dir)
    images, labels = (part[:24] for part in both)
    said = np.argmax(run.predict(images), -1)
    assert curves["low"][0] == curves["high"][0] == np.mean(said == labels)
    empty = int(np.argmax(run.predict(np.zeros((1, 32, 32, 3), np.uint8)), -1)[0])
    assert curves["low"][1] == curves["high"][1] == np.mean(labels == empty)
    assert curves["n"] == 24
    np.testing.assert_array_equal(curves["example"], images[0])
    assert curves["examples"].shape == (2, 3, *images[0].shape)

    weights = read_arrays(tmp_path / "analysis" / "weights.npz")
    assert weights["size"].sum() == sum(m.size for m in jax.tree.leaves(run.masks))
    assert weights["active"].sum() == sum(int(m.sum()) for m in jax.tree.leaves(run.masks))
    shares = read_arrays(tmp_path / "analysis" / "corruptions.npz")
    assert shares["names"].tolist() == ["gaussian_noise"]
    # White noise: the share of the square of frequencies that lies outside the circle of half the
    # highest one, a little less because clipping follows the image.
    assert abs(shares["high_share"] - (1 - math.pi / 16)).max() < 0.1
    assert "no layer has feature maps" in str(
        read_arrays(tmp_path / "analysis" / "saliency.npz")["reason"]
    )


def test_what_is_missing_damaged_or_of_other_settings_is_redone(tmp_path, cache_dir, config):
    run = run_of(tmp_path, config)
    some = ["weights", "heat_map"]
    analyze.analyze(config, run, None, cache_dir, some)
    path = tmp_path / "analysis" / "heat_map.npz"
    whole, first = read_arrays(path), files(tmp_path)
    assert not np.isnan(whole["errors"]).any()

    path.write_bytes(path.read_bytes()[:100])  # cut short
    analyze.analyze(config, run, None, cache_dir, some)
    again = read_arrays(path)
    np.testing.assert_array_equal(again["errors"], whole["errors"])
    assert files(tmp_path)["weights"] == first["weights"]

    half = {**whole, "errors": whole["errors"].copy()}
    half["errors"][::2] = np.nan  # what an interrupted run leaves
    half["errors"][1] = 0.123  # a mark: what is there is not done again
    analyze.write_arrays(path, half)
    analyze.analyze(config, run, None, cache_dir, some)
    resumed = read_arrays(path)["errors"]
    assert resumed[1] == 0.123
    np.testing.assert_array_equal(np.delete(resumed, 1), np.delete(whole["errors"], 1))

    other = {**config, "analysis": {**config["analysis"], "heat_map_step": 16}}
    analyze.analyze(other, run, None, cache_dir, some)
    assert len(read_arrays(path)["errors"]) == 1 < len(whole["errors"])
    assert json.loads(str(read_arrays(path)["settings"]))["step"] == 16


@pytest.mark.parametrize("part", [name for name in ANALYSES if name != "saliency"])
def test_the_passes_that_progress_counts_on_are_those_that_are_made(
    tmp_path, cache_dir, config, part, monkeypatch
):
    monkeypatch.setattr(measurements.corruption_spectra, "_FOUND", {})
    told = []
    work = measurements.Analysis(
        config, run_of(tmp_path, config), None, cache_dir, lambda: told.append(part)
    )
    arguments = ({}, lambda arrays: None) if part == "heat_map" else ()
    getattr(work, part)(*arguments)
    assert len(told) == work.num_passes(part, {})


def test_an_older_config_gets_the_defaults(config):
    assert measurements.options_of({})["images"] == 256
    assert measurements.options_of(config)["images"] == 24


def test_a_layer_that_is_not_there(tmp_path, cache_dir, config):
    wrong = {**config, "analysis": {**config["analysis"], "layer": "conv9"}}
    with pytest.raises(UserError, match=r"config.analysis.layer: found conv9; expected one of "):
        analyze.analyze(wrong, run_of(tmp_path, config), None, cache_dir, ["weights"])


def test_first_image_of_each_class():
    labels, weights = np.array([3, 3, 1, 7, 0]), np.array([1, 1, 1, 0, 1])
    assert measurements.first_of_each(labels, weights, 9).tolist() == [0, 2, 4]
    assert measurements.first_of_each(labels, weights, 2).tolist() == [0, 2]


def test_a_corruption_whose_file_was_edited_is_measured_anew(
    tmp_path, cache_dir, config, monkeypatch
):
    file = tmp_path / "mine.py"
    contrast = corruptions.CORRUPTIONS["contrast"]
    monkeypatch.setitem(registry.REGISTERED_IN, "mine", str(file))
    monkeypatch.setitem(registry.ROWS, "mine", registry.ROWS["contrast"])
    evaluation = {**config["eval"], "corruptions": ["contrast", "mine"], "severities": [1]}
    config = {**config, "eval": evaluation}
    run = run_of(tmp_path, config)

    def measured(text, strength):
        def apply(image, draws, constants):
            return contrast.apply(image, draws, constants) * strength

        file.write_text(text)
        own = dataclasses.replace(contrast, name="mine", apply=apply)
        monkeypatch.setitem(registry.CORRUPTIONS, "mine", own)
        analyze.analyze(config, run, None, cache_dir, ("corruptions",))
        return read_arrays(analyze.part_path(tmp_path, "corruptions"))["high_share"][:, 0]

    first, edited = measured("one", 1.0), measured("two", 0.5)
    assert first[0] == first[1] == edited[0]
    assert edited[1] != first[1]
    before = files(tmp_path)
    measured("two", 0.5)
    assert files(tmp_path) == before
