"""CIFAR-10-C and CIFAR-100-C, prepared from small archives of the published layout."""

import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from dst_jax import data
from dst_jax.data.builders import BUILDERS
from dst_jax.data.prepare import main, prepare
from dst_jax.errors import UserError

N = 100
CORRUPTIONS = ("elastic_transform", "glass_blur", "fog")
CLASSES = {"cifar10": 10, "cifar100": 100}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name in CLASSES:
        monkeypatch.setattr(BUILDERS[f"{name}_corrupted"], "NUM_IMAGES", N)


def content(num_classes: int) -> dict[str, np.ndarray]:
    """Images [5 N, 32, 32, 3] of each corruption, severity by severity, and their labels."""
    random = np.random.default_rng(num_classes)
    arrays = {
        name: random.integers(0, 256, (5 * N, 32, 32, 3), dtype=np.uint8) for name in CORRUPTIONS
    }
    return arrays | {"labels": np.tile(random.permutation(N) % num_classes, 5)}


def save(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


@pytest.fixture(scope="module")
def cifar100_c(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("cifar100") / "CIFAR-100-C", content(100))


def pairs(images, labels):
    return sorted(zip(map(bytes, images), map(int, labels), strict=True))


@pytest.mark.parametrize("name", sorted(CLASSES))
@pytest.mark.parametrize("kind", ["folder", "parent", "tar"])
def test_conditions_hold_the_rows_of_their_severity(name, kind, tmp_path):
    arrays = content(CLASSES[name])
    source = save(tmp_path / "published" / "CIFAR-C", arrays)
    if kind == "parent":
        source = source.parent
    if kind == "tar":
        with tarfile.open(tmp_path / "CIFAR-C.tar", "w") as tar:
            tar.add(source, "CIFAR-C")
        source = tmp_path / "CIFAR-C.tar"
    only = ["elastic_transform_2", "glass_blur"]
    done = prepare(f"{name}_corrupted", source, tmp_path / "tfds", only=only)

    wanted = [("elastic_transform", 2), *(("glass_blur", severity) for severity in range(1, 6))]
    assert len(done) == 6
    dataset = data.get(name)
    assert data.prepared_conditions(dataset, tmp_path / "tfds") == wanted
    orders = set()
    for corruption, severity in wanted:
        images, labels = data.load_corrupted(
            dataset, corruption, severity, tmp_path / "tfds", tmp_path / "cache"
        )
        rows = slice((severity - 1) * N, severity * N)
        assert pairs(images, labels) == pairs(arrays[corruption][rows], arrays["labels"][rows])
        orders.add(bytes(labels))
    assert len(orders) == 1  # the same image has the same row in all conditions
    assert not (images == arrays["glass_blur"][rows]).all()  # in an order that mixes the classes


@pytest.mark.parametrize("name", ["cifar10_corrupted", "cifar100_corrupted"])
def test_all_conditions_are_declared(name):
    configs = BUILDERS[name].BUILDER_CONFIGS
    assert len({config.name for config in configs}) == 95
    if name == "cifar10_corrupted":
        import tensorflow_datasets as tfds

        assert {c.name for c in configs} == set(tfds.builder_cls(name).builder_configs)


def test_the_names_of_tfds_will_do(tmp_path):
    source = save(tmp_path / "CIFAR-10-C", content(10))
    done = prepare("cifar10_corrupted", source, tmp_path, only=["frosted_glass_blur_3"])
    assert done == ["cifar10_corrupted/frosted_glass_blur_3"]


def test_the_command_keeps_what_is_prepared(cifar100_c, tmp_path, capsys):
    command = ["cifar100_corrupted", f"--source={cifar100_c}", f"--data_dir={tmp_path}"]
    assert main([*command, "--only=fog_1"]) == 0
    output, errors = capsys.readouterr()
    assert output == f"prepared: cifar100_corrupted/fog_1 in {tmp_path}\n"
    assert errors == "preparing cifar100_corrupted/fog_1 (1 of 1)\n"
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/fog_1/**/*")}
    assert files
    assert main([*command, "--only=fog_2,fog_1"]) == 0
    assert "fog_1 to cifar100_corrupted/fog_2 (2) in" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert data.prepared_conditions(data.get("cifar100"), tmp_path) == [("fog", 1), ("fog", 2)]


def _labels(change):
    arrays = content(100)
    return {"labels": change(arrays["labels"])}


def _swap_two(labels):
    labels = labels.copy()
    labels[[0, 1]] = labels[[1, 0]]
    return labels


@pytest.mark.parametrize(
    ("arrays", "only", "text"),
    [
        ({}, "", r"no gaussian_noise\.npy, shot_noise\.npy.*; expected all of 19 arrays"),
        ({}, "fog,snow", r"no snow\.npy; expected all of 2 arrays.*--only"),
        (_labels(lambda labels: labels % 10), "fog", r"labels 0\.\.9 in .*; expected labels 0\.\."),
        (_labels(lambda labels: labels - 1), "fog", r"labels -1\.\.98 in .*labels\.npy"),
        (_labels(_swap_two), "fog", "labels of severities that differ"),
        (_labels(lambda labels: labels[:N]), "fog", r"int64 \[100\] in .*; expected integer \[500"),
        (_labels(lambda labels: labels / 1), "fog", r"float64 \[500\] in"),
        ({"fog": np.zeros((4 * N, 32, 32, 3), np.uint8)}, "fog", r"uint8 \[400, 32, 32, 3\] in .*"),
        ({"fog": np.zeros((5 * N, 3, 32, 32), np.uint8)}, "fog", r"\[500, 3, 32, 32\] in .*fog"),
        ({"fog": np.zeros((5 * N, 32, 32, 3))}, "fog", r"float64 .*; expected uint8 \[500, 32,"),
        (
            {"fog": np.array([print] * 3, object)},
            "fog",
            r"object \[3\] in fog\.npy; expected uint8",
        ),
        ({"labels": np.array([print] * 500, object)}, "fog", r"object \[500\] in labels\.npy"),
    ],
)
def test_wrong_arrays_are_refused(arrays, only, text, tmp_path, refused):
    source = save(tmp_path / "CIFAR-100-C", content(100) | arrays)
    refused("cifar100_corrupted", source, text, only)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (
            lambda path: path.write_bytes(path.read_bytes()[:9999]),
            r"fog\.npy, which ends too early",
        ),
        (lambda path: path.write_bytes(b""), r"fog\.npy, which is no array"),
        (lambda path: path.write_bytes(pickle.dumps(Harmful())), r"fog\.npy, which is no array"),
        (lambda path: path.rename(path.with_name("fog.bak")), r"no fog\.npy"),
    ],
)
def test_damaged_arrays_are_refused_and_nothing_is_unpickled(
    damage, text, tmp_path, refused, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    source = save(tmp_path / "CIFAR-100-C", content(100))
    damage(source / "fog.npy")
    refused("cifar100_corrupted", source, text, "fog")
    assert not (tmp_path / "unpickled").exists()


def test_wrong_archives_are_refused(cifar100_c, tmp_path, refused):
    (tmp_path / "empty").mkdir()
    refused("cifar100_corrupted", tmp_path / "empty", r"no labels\.npy; expected the published")
    refused("cifar100_corrupted", tmp_path / "nowhere", "nothing there")
    with tarfile.open(tmp_path / "C.tar.gz", "w:gz") as tar:
        tar.add(cifar100_c / "labels.npy", "labels.npy")
    refused("cifar100_corrupted", tmp_path / "C.tar.gz", "a compressed tar; .*Unpack it first")
    with tarfile.open(tmp_path / "C.tar", "w") as tar:
        tar.add(cifar100_c, "CIFAR-100-C")
    content = (tmp_path / "C.tar").read_bytes()
    (tmp_path / "C.tar").write_bytes(content[: len(content) // 2])
    refused("cifar100_corrupted", tmp_path / "C.tar", "cannot be read .*download it again")


def test_wrong_names_list_the_right_ones(cifar100_c, tmp_path):
    with pytest.raises(UserError, match="found cifar1000; expected one of cifar10_corrupted, "):
        prepare("cifar1000", cifar100_c, tmp_path)
    with pytest.raises(UserError, match="--only: found fogg; expected among gaussian_noise, shot"):
        prepare("cifar100_corrupted", cifar100_c, tmp_path, only=["fogg"])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--data_dir: found .*; expected a directory that can be"):
        prepare("cifar100_corrupted", cifar100_c, tmp_path / "file", only=["fog_1"])
    expected = "python -m dst_jax.data.prepare cifar100_corrupted --only=fog_1 --source=PATH --data"
    with pytest.raises(UserError, match=expected):
        data.load_corrupted(data.get("cifar100"), "fog", 1, tmp_path, tmp_path)


def test_help_says_what_to_download():
    command = [sys.executable, "-W", "error", "-m", "dst_jax.data.prepare", "--help"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert all(f"  {name}: {builder.DOWNLOAD}" in done.stdout for name, builder in BUILDERS.items())
