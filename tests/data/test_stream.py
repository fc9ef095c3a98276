"""The streamed pipeline: order, restart at any step, processes, augmentation."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from dst_jax import data
from dst_jax.data import prepared, tf_images
from dst_jax.errors import UserError


@pytest.fixture
def stream(shared_dir, cache_dir):
    def make(name="imagenet2012", augment="none", seed=5, batch_size=100, **options):
        data_dir = cache_dir / "tfds" if name == "digits" else shared_dir / "tfds"
        return data.StreamPipeline(
            data.get(name),
            data_dir,
            batch_size=batch_size,
            seed=seed,
            augment=augment,
            **options,
        )

    return make


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.slow
def test_cifar10_epoch_has_every_image_once(stream, shared_dir, cache_dir):
    images, labels = data.load_arrays(data.get("cifar10"), "train", shared_dir / "tfds", cache_dir)
    pipeline = stream("cifar10", batch_size=5_000, put=lambda tree: tree)
    assert (pipeline.num_examples, pipeline.steps_per_epoch, pipeline.steps_per_feed(3)) == (
        50_000,
        10,
        1,
    )
    batches = [pipeline.host_inputs(step) for step in range(10)]

    def fingerprints(batch_images, batch_labels):
        return [
            (image.tobytes(), int(label))
            for image, label in zip(batch_images, batch_labels, strict=True)
        ]

    seen = [pair for batch in batches for pair in fingerprints(batch["image"], batch["label"])]
    want = fingerprints(images, labels)
    assert seen != want
    assert sorted(seen) == sorted(want)
    assert (pipeline.host_inputs(10)["label"] != batches[0]["label"]).any()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "augment"), [("cifar10", "crop_flip"), ("imagenet2012", None)])
def test_fresh_pipeline_goes_on_at_any_step(stream, name, augment):
    augment = augment or data.get(name).augment
    size = 128 if name == "cifar10" else 16
    walked = stream(name, augment, batch_size=size)
    epoch = walked.steps_per_epoch
    steps = (epoch + 1, epoch + 2, epoch + 3)
    batches = [walked.batch(walked.host_inputs(step), step) for step in steps]
    fresh = stream(name, augment, batch_size=size)
    same(fresh.batch(fresh.host_inputs(steps[2]), steps[2]), batches[2])
    same(fresh.batch(fresh.host_inputs(steps[0]), steps[0]), batches[0])  # backwards
    same(fresh.batch(fresh.host_inputs(steps[0]), steps[0]), batches[0])  # again
    same(fresh.batch(fresh.host_inputs(steps[1]), steps[1]), batches[1])
    other = stream(name, augment, seed=6, batch_size=size)
    assert (other.host_inputs(steps[0])["label"] != batches[0]["label"]).any()
    fresh.close()
    same(fresh.batch(fresh.host_inputs(steps[1]), steps[1]), batches[1])


def test_epoch_ends_and_the_next_begins(stream):
    walked = stream(batch_size=500, put=lambda tree: tree)  # two steps per epoch
    feeds = [walked.host_inputs(step) for step in range(3)]
    assert (feeds[2]["label"] != feeds[0]["label"]).any()
    labels = np.concatenate([feed["label"] for feed in feeds[:2]])
    np.testing.assert_array_equal(np.bincount(labels, minlength=1000), np.ones(1000))


@pytest.mark.slow
@pytest.mark.parametrize("augment", ["resized_crop_flip", "crop_flip"])
def test_two_processes_see_the_batches_of_one(stream, augment):
    one = stream(augment=augment, batch_size=24)
    two = [stream(augment=augment, batch_size=24, process=(i, 2)) for i in range(2)]
    for step in (0, 1, 7):
        want = one.batch(one.host_inputs(step), step)
        parts = [
            pipeline.batch(pipeline.host_inputs(step), step, (i, 2))
            for i, pipeline in enumerate(two)
        ]
        for name, value in want.items():
            np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), value)


@pytest.mark.slow
def test_resized_crops_differ_between_epochs_and_keep_the_colours(stream):
    pipeline = stream(augment="resized_crop_flip", batch_size=125, put=lambda tree: tree)
    means = np.zeros((2, 1000))  # one training image a label
    for step in range(16):
        feed = pipeline.host_inputs(step)
        assert feed["image"].shape == (125, 224, 224, 3)
        assert feed["image"].dtype == np.uint8
        means[step // 8, feed["label"]] = feed["image"].mean((1, 2, 3))
    assert (means[0] != means[1]).mean() > 0.9
    assert np.corrcoef(means)[0, 1] > 0.6  # parts of the same image


@pytest.mark.parametrize("coding", ["JPEG", "PNG"])
def test_resized_crop_has_the_published_distribution(coding):
    tf = prepared.tensorflow("test")
    height, width = 240, 320
    ramps = np.zeros((height, width, 3), np.uint8)  # the colour tells the place
    ramps[..., 0] = np.linspace(0, 255, height)[:, None]
    ramps[..., 1] = np.linspace(0, 255, width)
    file = io.BytesIO()
    Image.fromarray(ramps).save(file, coding, **({"quality": 100} if coding == "JPEG" else {}))

    def make(seed):
        return tf_images.resized_crop_flip(tf, file.getvalue(), 32, [seed, 0])

    seeds = tf.data.Dataset.range(800).map(lambda seed: tf.cast(seed, tf.int32))
    crops = np.stack(list(seeds.map(make).as_numpy_iterator())).astype(float)
    assert crops.shape == (800, 32, 32, 3)
    # The centres of the first and last pixel are 31/32 of the part apart.
    extents = crops.max((1, 2)) - crops.min((1, 2))
    heights, widths = extents[:, 0] / 255 * 32 / 31, extents[:, 1] / 255 * 32 / 31
    area, aspect = heights * widths, widths * width / (heights * height)
    want = []  # torchvision's algorithm, stated with a loop
    random = np.random.default_rng(0)
    while len(want) < 20_000:
        target = random.uniform(0.08, 1) * height * width
        ratio = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        h, w = round(np.sqrt(target / ratio)), round(np.sqrt(target * ratio))
        if h <= height and w <= width:
            want.append((h * w / height / width, w / h))
    for got, reference in zip((area, aspect), np.transpose(want), strict=True):
        np.testing.assert_allclose(
            np.quantile(got, (0.02, 0.25, 0.5, 0.75, 0.98)),
            np.quantile(reference, (0.02, 0.25, 0.5, 0.75, 0.98)),
            atol=0.06,
        )
    flipped = (crops[:, :, -1, 1] < crops[:, :, 0, 1]).all(1)
    assert abs(flipped.mean() - 0.5) < 5 * 0.5 / np.sqrt(800)


def test_a_part_that_never_fits_is_the_largest_central_one():
    tf = prepared.tensorflow("test")
    all_of_it = np.ones((10, 2), np.float32)  # 100 % of the area at 4:3 never fits
    sizes = [tf_images._part_size(tf, *shape, all_of_it) for shape in ((90, 300), (300, 90))]
    assert [tuple(map(int, size)) for size in sizes] == [(90, 120), (120, 90)]


def test_damaged_files_are_told(shared_dir, tmp_path):
    source, target = shared_dir / "tfds/cifar10/3.0.2", tmp_path / "cifar10/3.0.2"
    target.mkdir(parents=True)
    for path in source.iterdir():
        content = path.read_bytes()
        (target / path.name).write_bytes(content[:400_000] if "record" in path.name else content)
    pipeline = data.StreamPipeline(
        data.get("cifar10"), tmp_path, batch_size=8, seed=0, augment="none"
    )
    with pytest.raises(UserError, match=r"cannot be read.*prepare the dataset again"):
        pipeline.host_inputs(0)


def test_mistakes_are_told(stream, cache_dir):
    with pytest.raises(UserError, match=r"train\.batch_size: found 1001; expected 1 to 1000"):
        stream(batch_size=1001)
    with pytest.raises(UserError, match="a multiple of the 3 devices"):
        stream(batch_size=100, process=(0, 3))
    data.load_arrays(data.get("digits"), "test", cache_dir=cache_dir)  # prepares it
    with pytest.raises(UserError, match=r"data\.input=resident"):
        stream("digits").host_inputs(0)


def test_what_follows_the_crop_is_the_chain_of_resident_data_too(stream):
    train_augmentation = data.TrainAugmentation(erasing=0.5, cutmix=1.0)
    pipeline = stream(
        "imagenet2012", "none", seed=5, batch_size=4, train_augmentation=train_augmentation
    )
    pixels = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    feed = {"image": pixels, "label": np.arange(4, dtype=np.int32)}
    want = train_augmentation.apply(
        *(pixels, feed["label"], 7, np.arange(4)),
        augment="none",
        dataset=data.get("imagenet2012"),
        dtype=np.float32,
        seed=5,
    )
    same(pipeline.batch(feed, 7), want)
    assert set(want) == {"image", "label", "other", "share"}
