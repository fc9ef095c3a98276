"""The resident pipeline and the augmentation, against NumPy and against themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dst_jax import data, random_keys
from dst_jax.data import augmentation
from dst_jax.errors import UserError

N, B = 50, 8
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(N, dtype=np.int32)  # the label tells which example it is


def make(augment="none", **options):
    arguments = {"batch_size": B, "seed": 3, **options}
    return data.ResidentPipeline(data.get("cifar10"), IMAGES, LABELS, augment=augment, **arguments)


def batch(pipeline, step, shard=(0, 1)):
    return jax.jit(pipeline.batch, static_argnums=2)(pipeline.host_inputs(step), step, shard)


def test_epoch_visits_every_example_once():
    pipeline = make(batch_size=10)
    assert (pipeline.num_examples, pipeline.steps_per_epoch) == (50, 5)
    epochs = [
        np.concatenate([batch(pipeline, step)["label"] for step in range(start, start + 5)])
        for start in (0, 5)
    ]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), LABELS)
    assert (epochs[0] != epochs[1]).any()


def test_images_are_normalised_examples():
    got = batch(make(), 4)
    dataset = data.get("cifar10")
    want = (IMAGES[np.asarray(got["label"])] / 255 - dataset.mean) / dataset.std
    np.testing.assert_allclose(got["image"], want, atol=1e-5)
    assert got["image"].dtype == jnp.float32
    assert batch(make(dtype=jnp.bfloat16), 4)["image"].dtype == jnp.bfloat16


@pytest.mark.parametrize("augment", ["crop", "crop_flip", "reflect_crop_flip"])
def test_augmentation_equals_numpy(augment):
    keys = random_keys.for_examples(0, 7, jnp.arange(N))
    offsets, flips = (np.asarray(value) for value in augmentation.crop_parameters(keys))
    got = np.asarray(data.augment(jnp.asarray(IMAGES), keys, augment))
    mode = "reflect" if augment == "reflect_crop_flip" else "constant"
    padded = np.pad(IMAGES, ((0, 0), (4, 4), (4, 4), (0, 0)), mode=mode)
    for i, (row, column) in enumerate(offsets):
        want = padded[i, row : row + 32, column : column + 32]
        if flips[i] and augment != "crop":
            want = want[:, ::-1]
        np.testing.assert_array_equal(got[i], want)


def test_augmentation_draws_all_offsets_and_half_the_flips():
    keys = random_keys.for_examples(0, 0, jnp.arange(20_000))
    offsets, flips = (np.asarray(value) for value in augmentation.crop_parameters(keys))
    for column in offsets.T:
        counts = np.bincount(column, minlength=9)
        assert len(counts) == 9
        assert abs(counts - 20_000 / 9).max() < 5 * np.sqrt(20_000 / 9)
    assert abs(flips.mean() - 0.5) < 5 * 0.5 / np.sqrt(20_000)


def test_step_is_the_whole_state():
    walked = make("crop_flip")
    for step in range(20):
        batch_walked = batch(walked, step)
    fresh = batch(make("crop_flip"), 19)
    jax.tree.map(np.testing.assert_array_equal, batch_walked, fresh)
    other = batch(make("crop_flip", seed=4), 19)
    assert (np.asarray(fresh["label"]) != np.asarray(other["label"])).any()


def test_shards_concatenate_to_the_global_batch():
    pipeline = make("crop_flip")
    whole = batch(pipeline, 9)
    draw = jax.jit(lambda feed, index: pipeline.batch(feed, 9, (index, 4)))
    shards = [draw(pipeline.host_inputs(9), jnp.int32(i)) for i in range(4)]
    for name, value in whole.items():
        np.testing.assert_array_equal(np.concatenate([s[name] for s in shards]), value)


def test_four_devices_give_the_batch_of_one():
    want = batch(make("crop_flip"), 9)
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    replicated = NamedSharding(mesh, PartitionSpec())
    pipeline = make("crop_flip", put=lambda tree: jax.device_put(tree, replicated))
    draw = jax.jit(pipeline.batch, out_shardings=NamedSharding(mesh, PartitionSpec("data")))
    got = draw(pipeline.host_inputs(9), jnp.int32(9))
    assert len(got["image"].sharding.device_set) == 4
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_pmap_gives_the_batch_of_one():
    count = 4
    pipeline = make("crop_flip")
    want = batch(pipeline, 9)
    got = jax.pmap(
        lambda feed, step: pipeline.batch(feed, step, (jax.lax.axis_index("data"), count)),
        axis_name="data",
        in_axes=(None, 0),
    )(pipeline.host_inputs(9), jnp.full((count,), 9))
    for name, value in want.items():
        np.testing.assert_array_equal(np.reshape(got[name], value.shape), value)


def test_draw_runs_inside_a_loop_with_a_traced_step():
    pipeline = make("crop_flip")
    assert [pipeline.steps_per_feed(step) for step in (0, 1, 5, 6)] == [6, 5, 1, 6]

    @jax.jit
    def total(feed, start):
        def body(carry):
            step, value = carry
            return step + 1, value + pipeline.batch(feed, step)["label"].sum()

        return jax.lax.while_loop(lambda carry: carry[0] < start + 3, body, (start, 0))[1]

    want = sum(int(batch(pipeline, step)["label"].sum()) for step in (6, 7, 8))
    assert total(pipeline.host_inputs(6), 6) == want


def test_mistakes_are_told():
    with pytest.raises(UserError, match=r"train.batch_size: found 51; expected 1 to 50"):
        make(batch_size=51)
    with pytest.raises(UserError, match=r"data.augment: found resized_crop_flip"):
        make("resized_crop_flip")
    with pytest.raises(UserError, match="a multiple of the 3 devices"):
        make().batch(make().host_inputs(0), 0, (0, 3))
