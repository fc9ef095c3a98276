"""Datasets as NumPy files: found by every reader without TFDS, refused where they do not fit."""

import pathlib
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from dst_jax import data, robustness
from dst_jax.data import array_files
from dst_jax.errors import UserError

CIFAR10 = data.get("cifar10")


def images_of(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 32, 32, 3), np.uint8)
    return images, generator.integers(0, 10, count)


@pytest.fixture
def written(tmp_path):
    """A data directory with CIFAR-10 as NumPy files: 40 training and 20 test images."""
    for split, count in (("train", 40), ("test", 20)):
        array_files.write(CIFAR10, split, *images_of(count, count), tmp_path)
    return tmp_path


def test_files_are_read_back_mapped_and_counted(written, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    images, labels = data.load_arrays(CIFAR10, "train", written, cache)
    wanted = images_of(40, 40)
    np.testing.assert_array_equal(images, wanted[0])
    np.testing.assert_array_equal(labels, wanted[1])
    assert labels.dtype == np.int32
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable
    assert data.num_examples(CIFAR10, "test", written, cache) == 20
    assert len(data.load_arrays(CIFAR10, "test", written, cache, limit=7)[0]) == 7
    assert not list(cache.iterdir())
    assert sorted(path.name for path in (written / "cifar10").iterdir()) == [
        "test.images.npy",
        "test.labels.npy",
        "train.images.npy",
        "train.labels.npy",
    ]


def test_the_validation_split_of_a_data_set_goes_by_its_name(tmp_path):
    tiny = data.get("tiny_imagenet32")
    array_files.write(tiny, "validation", *images_of(5), tmp_path)
    assert data.num_examples(tiny, tiny.test_split, tmp_path) == 5
    assert array_files.directory(CIFAR10, tmp_path) is None


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        (np.zeros((3, 32, 32, 3), np.float32), np.zeros(3, int), r"found float32 .*expected uint8"),
        (np.zeros((3, 28, 28, 3), np.uint8), np.zeros(3, int), r"expected uint8 \[N, 32, 32, 3\]"),
        (np.zeros((3, 32, 32, 3), np.uint8), np.zeros(2, int), r"expected whole numbers \[3\]"),
        (
            np.zeros((3, 32, 32, 3), np.uint8),
            np.full(3, 10),
            r"labels from 10 to 10; expected 0 to",
        ),
        (np.zeros((3, 32, 32, 3), np.uint8), np.zeros(3), r"labels.npy: found float64"),
    ],
)
def test_what_does_not_fit_is_not_written(tmp_path, images, labels, text):
    with pytest.raises(UserError, match=text):
        array_files.write(CIFAR10, "train", images, labels, tmp_path)
    assert not list((tmp_path / "cifar10").iterdir())


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_damaged_and_missing_files_are_told(written, kind):
    path = written / "cifar10" / f"train.{kind}.npy"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=rf"train\.{kind}\.npy: found an unreadable file"):
        data.load_arrays(CIFAR10, "train", written)
    path.unlink()
    with pytest.raises(UserError, match=rf"train\.{kind}\.npy: found no such file"):
        data.load_arrays(CIFAR10, "train", written)


def test_pickled_objects_are_not_unpickled(written):
    path = written / "cifar10" / "test.labels.npy"
    np.save(path, np.array([{}] * 20, object), allow_pickle=True)
    with pytest.raises(UserError, match="unreadable file"):
        data.load_arrays(CIFAR10, "test", written)


def test_streamed_data_sets_are_left_to_tfds(tmp_path):
    (tmp_path / "imagenet2012").mkdir()
    (tmp_path / "imagenet2012" / "train.images.npy").touch()
    assert array_files.directory(data.get("imagenet2012"), tmp_path) is None


ALONE = """
import sys
from dst_jax import data, evaluate
cifar10 = data.get("cifar10")
assert len(data.load_arrays(cifar10, "test", sys.argv[1])[1]) == 20
assert not data.prepared_conditions(cifar10, sys.argv[1])  # what `eval.source=auto` asks
assert "tensorflow_datasets" not in sys.modules
"""


def test_neither_tfds_nor_tensorflow_is_imported(written):
    root = pathlib.Path(__file__).resolve().parents[2]
    command = [sys.executable, "-W", "ignore", "-c", ALONE, str(written)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_other_images_under_the_same_name_are_another_score(tmp_path):
    """Same name, numbers and labels: only the pixels tell these apart."""
    images, labels = images_of(20)
    found = []
    for number, pixels in enumerate((images, 255 - images, images)):
        root = tmp_path / str(number)
        array_files.write(CIFAR10, "test", pixels, labels, root)
        result = robustness.evaluate(
            lambda images: jnp.zeros((len(images), 10)),
            "cifar10",
            "brightness",
            severities=(1,),
            data_dir=root,
            quiet=True,
        )
        found.append(result.setting.images)
    assert found[0] == found[2] != found[1]


def test_an_archive_is_no_array(tmp_path):
    array_files.write(CIFAR10, "test", *images_of(5), tmp_path)
    with (tmp_path / "cifar10" / "test.images.npy").open("wb") as file:
        np.savez(file, images=images_of(5)[0])
    with pytest.raises(UserError, match=r"images\.npy: found an unreadable file"):
        data.load_arrays(CIFAR10, "test", tmp_path)
