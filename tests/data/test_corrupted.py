"""Corrupted test sets, written by TFDS's own builder from an archive in CIFAR-10-C's layout."""

import cifar10_c
import numpy as np
import pytest
from cifar10_c import CONDITIONS, N

from dst_jax import data
from dst_jax.errors import UserError

CIFAR10 = data.get("cifar10")


@pytest.fixture(scope="module")
def archive():
    return cifar10_c.arrays()


@pytest.fixture(scope="module")
def data_dir(archive, tmp_path_factory):
    """A TFDS directory with three prepared conditions."""
    target = tmp_path_factory.mktemp("tfds")
    cifar10_c.prepare(archive, tmp_path_factory.mktemp("source"), target)
    return target


def test_prepared_conditions_are_found_in_our_names(data_dir, tmp_path):
    assert data.prepared_conditions(CIFAR10, data_dir) == CONDITIONS
    assert data.prepared_conditions(CIFAR10, tmp_path) == []
    assert data.prepared_conditions(data.get("digits"), data_dir) == []
    assert data.prepared_conditions(data.get("imagenet2012"), data_dir) == []


def test_unfinished_preparation_is_not_found(tmp_path):
    folder = tmp_path / "cifar10_corrupted/fog_3/1.0.0.incompleteABC"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").touch()
    (tmp_path / "cifar10_corrupted/.config").mkdir()
    assert data.prepared_conditions(CIFAR10, tmp_path) == []


@pytest.mark.parametrize(("corruption", "severity"), CONDITIONS)
def test_images_are_the_rows_of_that_severity(archive, data_dir, tmp_path, corruption, severity):
    images, labels = data.load_corrupted(CIFAR10, corruption, severity, data_dir, tmp_path)
    assert (images.shape, labels.shape) == ((N, 32, 32, 3), (N,))
    rows = slice((severity - 1) * N, severity * N)

    def pairs(some_images, some_labels):
        return sorted(
            (image.tobytes(), int(label))
            for image, label in zip(some_images, some_labels, strict=True)
        )

    want = pairs(archive[corruption][rows], archive["labels"][rows])
    assert pairs(images, labels) == want  # TFDS stores them in an order of its own
    batches = list(data.corrupted_batches(CIFAR10, corruption, severity, 8, data_dir))
    assert [batch["weight"].sum() for batch in batches] == [8, 8, 4]
    np.testing.assert_array_equal(np.concatenate([b["image"] for b in batches])[:N], images)
    np.testing.assert_array_equal(np.concatenate([b["label"] for b in batches])[:N], labels)


def test_what_is_not_prepared_is_told_by_its_tfds_name(data_dir, tmp_path):
    with pytest.raises(UserError, match=r"tfds\.load\('cifar10_corrupted/elastic_4', data_dir="):
        data.load_corrupted(CIFAR10, "elastic_transform", 4, data_dir, tmp_path)
    imagenet, theirs = data.get("imagenet2012"), "imagenet2012_corrupted"
    with pytest.raises(UserError, match=r"imagenet2012_corrupted/fog_1.*ILSVRC2012_img_val\.tar"):
        data.load_corrupted(imagenet, "fog", 1, data_dir, tmp_path, suite=theirs)
    with pytest.raises(UserError, match=r"dst_jax.data.prepare imagenet_c --only=fog_1"):
        data.load_corrupted(imagenet, "fog", 1, data_dir, tmp_path)
    with pytest.raises(UserError, match="found digits; expected a dataset with a corrupted"):
        data.load_corrupted(data.get("digits"), "fog", 1, data_dir, tmp_path)


def test_names_are_those_of_tfds():
    """Every corruption of TFDS's has one of our names, and every synonym is a name of theirs."""
    import tensorflow_datasets as tfds

    corruptions = pytest.importorskip("dst_jax.corruptions")
    for name in ("cifar10", "imagenet2012"):
        corrupted = data.corrupted_set(data.get(name), f"{name}_corrupted")
        configs = tfds.builder_cls(corrupted.tfds_name).builder_configs
        theirs = {config.rpartition("_")[0] for config in configs}
        assert len(theirs) == 19
        assert set(corrupted.synonyms) <= theirs
        ours = {corrupted.synonyms.get(config, config) for config in theirs}
        assert ours <= set(corruptions.CORRUPTIONS)
