"""Which image is which: numbers from the order of TFDS, parts of prepared sets by them."""

import cifar10_c
import numpy as np
import pytest
from cifar10_c import N

from dst_jax import data
from dst_jax.data import array_files, corrupted, image_names, matching
from dst_jax.errors import UserError

CIFAR10 = data.get("cifar10")


@pytest.fixture(scope="module")
def archive():
    return cifar10_c.arrays()


@pytest.fixture(scope="module")
def data_dir(archive, tmp_path_factory):
    """TFDS's own copy of three conditions, in its order, and clean images in the published one."""
    target = tmp_path_factory.mktemp("tfds")
    cifar10_c.prepare(archive, tmp_path_factory.mktemp("source"), target)
    images = archive["fog"][:N] // 2
    array_files.write(CIFAR10, "test", images, archive["labels"][:N].astype(int), target)
    return target


def test_numbers_are_those_by_which_tfds_shuffles(archive, data_dir, tmp_path):
    images, _ = data.load_corrupted(CIFAR10, "fog", 2, data_dir, tmp_path)
    numbers = image_names.shuffled(N, "test")
    assert sorted(numbers) == list(range(N)) != numbers.tolist()
    np.testing.assert_array_equal(images, archive["fog"][N : 2 * N][numbers])


def test_numbers_of_many_images_are_those_of_tfds_hasher():
    from tensorflow_datasets.core import hashing

    hasher = hashing.Hasher("validation")
    expected = sorted(range(300), key=hasher.hash_key)
    assert image_names.shuffled(300, "validation").tolist() == expected


def test_a_part_of_a_prepared_set_is_found_by_number(archive, data_dir, tmp_path):
    rows = np.array([3, 4, 17])
    labels = archive["labels"][:N][rows].astype(int)
    arguments = (CIFAR10, ("fog", 2), ["3", "4", "17"])
    options = {"data_dir": data_dir, "cache_dir": tmp_path}
    batches = list(corrupted.matched_batches(*arguments, labels, rows, 2, **options))
    assert [batch["id"].tolist() for batch in batches] == [[3, 4], [17, 18]]
    found = np.concatenate([batch["image"] for batch in batches])[:3]
    np.testing.assert_array_equal(found, archive["fog"][N : 2 * N][rows])
    with pytest.raises(UserError, match=r"fog 2: found images of which 0 of 3 have the label"):
        corrupted.matched_batches(*arguments, (labels + 1) % 10, rows, 2, **options)
    names = ["3", "4", str(N)]
    with pytest.raises(UserError, match=r"2 of 3 images, not 20; expected the counterpart"):
        corrupted.matched_batches(CIFAR10, ("fog", 2), names, labels, rows, 2, **options)


def test_numpy_files_count_their_rows(data_dir):
    known = image_names.of_dataset(CIFAR10, data_dir, None)
    assert known.names.tolist() == [str(i) for i in range(N)]
    assert image_names.of_dataset(data.get("digits"), None, None) is None


def test_names_match_by_class_and_file_else_by_file():
    there = ["n01/ILSVRC2012_val_00000003.JPEG", "n02/ILSVRC2012_val_00000001.JPEG"]
    assert matching.rows(["ILSVRC2012_val_00000001.png"], there, "x") == [1]
    assert matching.rows(["a/n01/ILSVRC2012_val_00000003"], there, "x") == [0]
    twins = ["cat/1.png", "dog/1.png"]
    assert matching.rows(["dog/1.jpg", "cat/1.jpg"], twins, "x") == [1, 0]
    with pytest.raises(UserError, match="and several of the same name"):
        matching.rows(["1.jpg"], twins, "x")
    with pytest.raises(UserError, match=r"1 of 2 images, not cat/3.jpg"):
        matching.rows(["cat/1.jpg", "cat/3.jpg"], twins, "x")
