"""Held-out training images: which they are, that nothing trains on them, what is logged."""

import jax
import numpy as np
import optax
import pytest
import runs

from dst_jax import config as config_lib
from dst_jax import data, load_run
from dst_jax.runtime.devices import Devices
from dst_jax.runtime.run_dir import write_json
from dst_jax.training import build, loop


@pytest.mark.parametrize(("count", "share", "held"), [(1437, 0.1, 144), (10, 0.01, 1), (10, 0, 0)])
def test_how_many_are_held_out(count, share, held):
    assert data.num_held_out(count, share) == held


def held_out_config(**changes):
    options = {"data__validation": 0.1, "train__epochs": 0.25, "model__name": "mlp"}
    card = config_lib.default()
    for name, value in {**runs.SMALL, "data.augment": "none"}.items():
        config_lib.set_option(card, name, value)
    for name, value in {**options, **changes}.items():
        config_lib.set_option(card, name.replace("__", "."), value)
    return config_lib.resolve(card, 1437 - 144)


def test_a_run_logs_the_held_out_images_and_never_trains_on_them(tmp_path, cache_dir):
    config = held_out_config(sparsity__algorithm="rigl", train__warmup="0")
    write_json(tmp_path / "config.json", config)
    loop.train([config], [tmp_path], None, cache_dir)
    run = load_run(tmp_path)
    line = run.metrics[-1]
    assert line["step"] == config["train"]["steps"] == 10

    # The same figures from the saved run, image by image in NumPy.
    images, labels = data.load_arrays(data.get("digits"), "train", None, cache_dir)
    logits = np.asarray(run.predict(np.asarray(images[-144:])))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[-144:])
    assert line["validation/accuracy"] == np.mean(logits.argmax(-1) == labels[-144:])
    assert line["validation/loss"] == pytest.approx(float(np.mean(losses)), rel=1e-5)

    pipeline = build.pipeline(config, Devices("jit", jax.devices()[:1]), None, cache_dir)
    assert pipeline.num_examples == 1437 - 144
    np.testing.assert_array_equal(pipeline.host_inputs(0)["image"], images[:-144])


def test_a_stream_holds_out_the_same_images_in_every_epoch(shared_dir):
    pytest.importorskip("tensorflow")
    dataset, directory = data.get("cifar10"), shared_dir / "tfds"
    count, share = 50_000, 0.02
    stream = data.StreamPipeline(
        dataset, directory, batch_size=256, seed=0, augment="none", validation=share
    )
    assert stream.num_examples == count - 1000
    held = np.concatenate(
        [
            batch["image"][batch["weight"] > 0]
            for batch in data.held_out_batches(dataset, share, 300, directory, resident=False)
        ]
    )
    images, _ = data.load_arrays(dataset, "train", directory)
    np.testing.assert_array_equal(held, images[-1000:])
    known = {image.tobytes() for image in held}
    for step in (0, stream.steps_per_epoch):
        batch = np.asarray(stream.host_inputs(step)["image"])
        assert not any(image.tobytes() in known for image in batch)
    stream.close()
