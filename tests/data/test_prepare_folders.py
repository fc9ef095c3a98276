"""ImageNet-C and its kin, prepared from small trees of the published layout."""

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dst_jax import corruptions, data
from dst_jax.data import datasets
from dst_jax.data.builders import BUILDERS
from dst_jax.data.prepare import prepare

WNIDS = ("n01440764", "n01443537", "n02123045")
# Dataset, its corrupted set, two of its corruptions.
SETS = {
    "imagenet_c": ("imagenet2012", "gaussian_noise", "snow"),
    "imagenet_c_bar": ("imagenet2012", "plasma_noise", "sparkles"),
    "imagenet_3dcc": ("imagenet2012", "fog_3d", "near_focus"),
    "tiny_imagenet_corrupted": ("tiny_imagenet", "gaussian_noise", "snow"),
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name in SETS:
        monkeypatch.setattr(BUILDERS[name], "NUM_CLASSES", len(WNIDS))
        monkeypatch.setattr(BUILDERS[name], "IMAGES_PER_CLASS", 4)


def colour(corruption: str, severity: int, label: int, number: int) -> tuple[int, int, int]:
    return (40 * severity, 20 + 60 * label + 10 * number, 250 if corruption > "o" else 0)


def jpeg(size: int, colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(file, "JPEG", quality=95)
    return file.getvalue()


def write_tree(top: Path, corruption_names: tuple[str, ...], size: int) -> Path:
    for name in corruption_names:
        for severity in range(1, 6):
            for label, wnid in enumerate(WNIDS):
                folder = top / name / str(severity) / wnid
                folder.mkdir(parents=True)
                for i in range(4):
                    content = jpeg(size, colour(name, severity, label, i))
                    (folder / f"ILSVRC2012_val_{i:08}.JPEG").write_bytes(content)
    return top


def means(images) -> list[tuple[int, ...]]:
    return [tuple(np.rint(image.mean((0, 1))).astype(int).tolist()) for image in images]


@pytest.mark.parametrize("name", sorted(SETS))
def test_conditions_hold_the_images_of_their_folder(name, tmp_path):
    dataset_name, *corruption_names = SETS[name]
    dataset = data.get(dataset_name)
    size = dataset.image_shape[0]
    # As unpacked into folders of its own, beside a file that belongs to the download.
    source = tmp_path / "published"
    write_tree(source / "part1", corruption_names[:1], size)
    write_tree(source / "part2", corruption_names[1:], size)
    (source / "README.txt").touch()
    one, two = corruption_names
    assert len(prepare(name, source, tmp_path / "tfds", only=[f"{one}_4", f"{two}_1"])) == 2

    wanted = sorted([(one, 4), (two, 1)])
    assert data.prepared_conditions(dataset, tmp_path / "tfds", suite=name) == wanted
    orders = set()
    for corruption, severity in wanted:
        images, labels = load(dataset, corruption, severity, tmp_path, name)
        assert images.shape == (12, size, size, 3)
        found = means(images)
        expected = [(*colour(corruption, severity, i // 4, i % 4), i // 4) for i in range(12)]
        rows = [(*mean, label) for mean, label in zip(found, labels.tolist(), strict=True)]
        rows.sort(key=lambda row: row[1])  # green tells all images of a condition apart
        np.testing.assert_allclose(rows, expected, atol=2)
        orders.add(tuple(np.argsort([mean[1] for mean in found]).tolist()))
    assert len(orders) == 1  # the same image has the same row in all conditions


def load(dataset, corruption, severity, folder, suite):
    if dataset.resident:
        return data.load_corrupted(
            dataset, corruption, severity, folder / "tfds", folder / "cache", suite=suite
        )
    stream = data.corrupted_batches(dataset, corruption, severity, 6, folder / "tfds", suite=suite)
    batches = list(stream)
    return [np.concatenate([batch[part] for batch in batches]) for part in ("image", "label")]


def test_a_plain_tar_is_read_as_its_folder_is(tmp_path):
    source = write_tree(tmp_path / "Tiny-ImageNet-C", ("fog",), 64)
    with tarfile.open(tmp_path / "Tiny.tar", "w") as tar:
        tar.add(source, "Tiny-ImageNet-C")
    loaded = []
    for path in (source, tmp_path / "Tiny.tar"):
        target = tmp_path / f"tfds-{path.suffix}"
        prepare("tiny_imagenet_corrupted", path, target, only=["fog_3"])
        loaded.append(data.load_corrupted(data.get("tiny_imagenet"), "fog", 3, target, target))
    np.testing.assert_array_equal(loaded[0][0], loaded[1][0])
    np.testing.assert_array_equal(loaded[0][1], loaded[1][1])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return write_tree(tmp_path_factory.mktemp("tiny") / "Tiny-ImageNet-C", ("fog", "snow"), 64)


@pytest.mark.parametrize(
    ("damage", "only", "text"),
    [
        (lambda top: None, "", r"no folder gaussian_noise, .*--only=fog,snow"),
        (lambda top: shutil.rmtree(top / "fog"), "fog", "no folder fog; expected all of 1"),
        (
            lambda top: shutil.rmtree(top / "fog/3"),
            "fog",
            r"no folder fog/3; .*fog_1,fog_2,fog_4,fog_5$",
        ),
        (
            lambda top: shutil.rmtree(top / "fog/5" / WNIDS[1]),
            "fog",
            "2 folders in fog/5; .*same 3",
        ),
        (
            lambda top: (top / "fog/5" / WNIDS[1]).rename(top / "fog/5/n99999999"),
            "fog",
            "3 folders in fog/5; expected the same 3 in each",
        ),
        (
            lambda top: next((top / "fog/2" / WNIDS[1]).iterdir()).unlink(),
            "fog_2",
            "3 images in fog/2/n01443537; expected 4",
        ),
        (
            lambda top: next((top / "fog/2" / WNIDS[1]).iterdir()).write_bytes(b""),
            "fog_2",
            r"fog/2/n01443537/ILSVRC2012_val_0000000\d.JPEG \(0 bytes\) that is no image",
        ),
        (
            lambda top: next((top / "fog/2" / WNIDS[1]).iterdir()).write_bytes(
                jpeg(64, (9, 9, 9))[:-40]
            ),
            "fog_2",
            "that is no image, or a part of one; expected a whole JPEG or PNG",
        ),
        (
            lambda top: next((top / "fog/2" / WNIDS[1]).iterdir()).write_bytes(jpeg(32, (9, 9, 9))),
            "fog_2",
            "with 32x32 pixels; expected 64x64 pixels",
        ),
    ],
)
def test_partial_trees_are_refused(damage, only, text, tiny, tmp_path, refused):
    source = shutil.copytree(tiny, tmp_path / "copy")
    damage(source)
    refused("tiny_imagenet_corrupted", source, text, only)


def test_one_severity_is_prepared_where_the_others_are_not_there(tmp_path):
    source = write_tree(tmp_path / "C", ("fog",), 64)
    for severity in "2345":
        shutil.rmtree(source / "fog" / severity)
    prepare("tiny_imagenet_corrupted", source, tmp_path / "tfds", only=["fog_1"])
    tiny_imagenet = data.get("tiny_imagenet")
    assert data.prepared_conditions(tiny_imagenet, tmp_path / "tfds") == [("fog", 1)]


def test_a_compressed_tar_is_refused(tiny, tmp_path, refused):
    with tarfile.open(tmp_path / "C.tar.gz", "w:gz") as tar:
        tar.add(tiny / "fog" / "1", "fog/1")
    refused("imagenet_c", tmp_path / "C.tar.gz", "a compressed tar; expected a folder or a plain")


def test_all_conditions_are_declared():
    assert [len(BUILDERS[name].BUILDER_CONFIGS) for name in sorted(SETS)] == [60, 95, 50, 95]
    assert set(datasets.COMMON) == {*corruptions.BENCHMARK, *corruptions.EXTRA}
    assert set(BUILDERS) == {*datasets.NOT_IN_TFDS, "cifar10_corrupted"}


def test_labels_are_those_of_tfds():
    """TFDS orders the wnids of imagenet2012 as the folders are ordered here."""
    import tensorflow_datasets as tfds

    wnids = tfds.core.tfds_path("datasets/imagenet2012/labels.txt").read_text().split()
    assert wnids == sorted(wnids)
    assert len(wnids) == BUILDERS["imagenet_c"].__mro__[1].NUM_CLASSES == 1000
