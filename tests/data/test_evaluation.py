"""Evaluation batches: nothing dropped, nothing counted twice, the published resize and crop."""

import io

import numpy as np
import pytest
from PIL import Image

from dst_jax import data
from dst_jax.data import prepared


def unpad(batches):
    batches = list(batches)
    keep = [batch["weight"] == 1 for batch in batches]
    return {
        name: np.concatenate([batch[name][k] for batch, k in zip(batches, keep, strict=True)])
        for name in ("image", "label", "id")
    }


@pytest.mark.parametrize("count", [1, 4, 9, 12])
def test_arrays_in_batches_of_one_size(count):
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) + 5
    batches = list(data.eval_batches(images, labels, 4))
    assert len(batches) == -(-count // 4)
    for batch in batches:
        shapes = {name: (value.shape, value.dtype.name) for name, value in batch.items()}
        assert shapes == {
            "image": ((4, 4, 4, 3), "uint8"),
            "label": ((4,), "int32"),
            "id": ((4,), "int32"),
            "weight": ((4,), "float32"),
        }
    ids = np.concatenate([batch["id"] for batch in batches])
    np.testing.assert_array_equal(ids, np.arange(len(ids)))
    got = unpad(batches)
    np.testing.assert_array_equal(got["image"], images)
    np.testing.assert_array_equal(got["label"], labels)
    np.testing.assert_array_equal(got["id"], np.arange(count))


def test_stream_equals_arrays(shared_dir, cache_dir):
    dataset, data_dir = data.get("cifar10"), shared_dir / "tfds"
    images, labels = data.load_arrays(dataset, "test", data_dir, cache_dir, limit=1000)
    got = unpad(data.stream_eval_batches(dataset, data_dir, 300, limit=1000))
    np.testing.assert_array_equal(got["image"], images)
    np.testing.assert_array_equal(got["label"], labels)


def test_imagenet_images_are_those_of_pillow(shared_dir):
    dataset, data_dir = data.get("imagenet2012"), shared_dir / "tfds"
    got = unpad(data.stream_eval_batches(dataset, data_dir, 16, limit=40))
    tf, records = prepared.open_records(
        prepared.find_config("imagenet2012", None, data_dir), "validation"
    )
    del tf
    for i, record in enumerate(records.take(40).as_numpy_iterator()):
        image = Image.open(io.BytesIO(record["image"])).convert("RGB")
        width, height = image.size
        shorter = min(width, height)
        size = (width * 256 // shorter, height * 256 // shorter)
        image = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        top, left = (round((side - 224) / 2) for side in image.shape[:2])
        want = image[top : top + 224, left : left + 224].astype(int)
        difference = np.abs(got["image"][i] - want)
        assert difference.max() <= 2  # Pillow rounds after each of its two passes
        assert difference.mean() < 0.3
        assert got["label"][i] == record["label"]


def test_imagenet_drops_nothing(shared_dir):
    dataset = data.get("imagenet2012")
    count = data.num_examples(dataset, dataset.test_split, shared_dir / "tfds")
    assert count == 750
    batches = list(data.stream_eval_batches(dataset, shared_dir / "tfds", 200))
    assert sum(batch["weight"].sum() for batch in batches) == count
    assert {batch["image"].shape for batch in batches} == {(200, 224, 224, 3)}
