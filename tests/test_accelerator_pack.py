"""`python -m benchmarks.accelerator --pack`: the folder, what is unpacked, digests of files."""

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import runs
from PIL import Image

from benchmarks.accelerator import (
    command,
    identity,
    pack,
    sources,
    unpack,
)
from dst_jax import data
from dst_jax.data import array_files
from dst_jax.errors import UserError

CIFAR10 = data.get("cifar10")


def synthetic(split: str, count: int, where: Path) -> np.ndarray:
    generator = np.random.default_rng(count)
    images = generator.integers(0, 256, (count, 32, 32, 3), np.uint8)
    array_files.write(CIFAR10, split, images, np.arange(count) % 10, where)
    return images


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    root = tmp_path_factory.mktemp("packed")
    images = {
        split: synthetic(split, count, root) for split, count in (("train", 96), ("test", 40))
    }
    text = pack.pack(root / "folder", ["cifar10"], str(root))
    return root / "folder", images, text


def test_a_packed_folder_has_sources_packages_licences_and_images(packed):
    folder, _, text = packed
    names = {path.name for path in folder.iterdir()}
    assert {"dst_jax", "configs", "benchmarks", "run.py", "run.sh", "ml_collections", "clu"} < names
    assert "cifar10: 96 train images" in text
    for package in pack.PACKAGES:
        (info,) = folder.glob(f"{package.replace('-', '_')}-*.dist-info")
        assert list(info.rglob("LICENSE*")), package
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < pack.LIMIT
    assert not [path for path in files if path.suffix in (".pyc", ".so", ".pkl")]
    assert os.access(folder / "run.sh", os.X_OK)


def listing(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def test_packing_deletes_nothing(packed, tmp_path, capfd):
    folder, _, _ = packed
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for name in ("pack.json", "thesis.tex"):
        (foreign / name).write_text("{}")
    file = tmp_path / "file"
    file.write_text("mine")
    before = {where: listing(where) for where in (folder, foreign, tmp_path)}
    for where in (folder, foreign, file, file / "below"):
        assert command.main([f"--pack={where}"]) == 2
        printed = capfd.readouterr().err
        assert printed.startswith("benchmarks.accelerator: --pack: found ")
        assert printed.count("\n") == 1
    assert before == {where: listing(where) for where in before}


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("imagenet2012", "--data: found imagenet2012, [224, 224, 3]; expected images of 32x32x3"),
        ("cifar10,tiny_imagenet", "--data: found tiny_imagenet, [64, 64, 3]; expected images of"),
        (",", "--data: found no name; expected names of datasets"),
        ("digits, digits", "--data: found digits more than once; expected each dataset once"),
        ("dice", "--data: found dice; expected one of cifar10, "),
    ],
)
def test_what_a_packed_folder_would_refuse_is_not_packed(tmp_path, capfd, names, told):
    assert command.main([f"--pack={tmp_path / 'folder'}", f"--data={names}"]) == 2
    printed = capfd.readouterr()
    assert printed.err.startswith(f"benchmarks.accelerator: {told}")
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert not list(tmp_path.iterdir())


def test_a_folder_inside_the_sources_is_refused(tmp_path, capfd, monkeypatch):
    root = tmp_path / "checkout"
    (root / "benchmarks").mkdir(parents=True)
    (tmp_path / "link").symlink_to(root / "benchmarks")
    monkeypatch.setattr(pack, "ROOT", root)
    for place in (root / "benchmarks" / "pk", tmp_path / "link" / "a" / "pk"):
        assert command.main([f"--pack={place}", "--data=digits"]) == 2
        printed = capfd.readouterr().err
        assert f"--pack: found {place}; expected a folder outside of benchmarks" in printed
        assert printed.count("\n") == 1
    assert not list((root / "benchmarks").iterdir())


@pytest.mark.parametrize("change", [{"commit": None}, {"commit": 5}, {"data": ["cifar10"]}])
def test_a_damaged_list_is_told_in_one_line(tmp_path, capfd, monkeypatch, change):
    facts = {"dst_jax": "1", "packages": {}, "data": {"cifar10": {}}, "commit": "0", **change}
    facts = {key: value for key, value in facts.items() if value is not None}
    (tmp_path / "pack.json").write_text(json.dumps(facts))
    monkeypatch.setattr(unpack.dst_jax, "__file__", str(tmp_path / "dst_jax" / "__init__.py"))
    out = tmp_path / "out"
    assert command.main([f"--out={out}", f"--work={tmp_path / 'work'}"]) == 2
    printed = capfd.readouterr().err
    assert printed.startswith(f"benchmarks.accelerator: {tmp_path / 'pack.json'}: found a damaged")
    assert printed.count("\n") == 1
    assert not out.exists()


def test_packed_images_are_the_same_pixels_in_the_same_order(packed, tmp_path):
    folder, images, _ = packed
    assert "96 train and 40 test images" in unpack.unpack(folder, "cifar10", tmp_path)
    assert unpack.unpack(folder, "cifar10", tmp_path) == "cifar10: unpacked before"
    for split, wanted in images.items():
        found, labels = data.load_arrays(CIFAR10, split, tmp_path)
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(labels, np.arange(len(wanted)) % 10)


def test_a_damaged_packed_file_is_told(packed, tmp_path):
    folder, _, _ = packed
    copy = tmp_path / "copy" / "data" / "cifar10"
    copy.mkdir(parents=True)
    whole = (folder / "data" / "cifar10" / "train.npz").read_bytes()
    (copy / "train.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"train\.npz: found an unreadable file"):
        unpack.unpack(tmp_path / "copy", "cifar10", tmp_path)
    with pytest.raises(UserError, match="--data: found mnist; expected packed here: cifar10"):
        unpack.choose(folder, "mnist")


def packed_by_hand(folder: Path, contents, labels, **promised) -> None:
    """A packed folder of which each file is written here; both splits are the same."""
    path = folder / "data" / "cifar10"
    path.mkdir(parents=True, exist_ok=True)
    joined = b"".join(contents)
    arrays = {
        "encoded": np.frombuffer(joined, np.uint8),
        "lengths": np.array([len(content) for content in contents], np.int32),
        "labels": np.array(labels, np.int32),
    }
    facts = {
        "sha256": hashlib.sha256(joined).hexdigest(),
        "labels_sha256": hashlib.sha256(arrays["labels"].tobytes()).hexdigest(),
        **promised,
    }
    for split in ("train", "test"):
        np.savez_compressed(path / f"{split}.npz", allow_pickle=False, **arrays)
    listed = {"cifar10": {"train": facts, "test": facts}}
    (folder / "pack.json").write_text(json.dumps({"data": listed}))


def png(colour: int, side: int = 32) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (side, side), (colour, 0, 0)).save(content, "PNG")
    return content.getvalue()


def test_other_packed_images_are_unpacked_again_and_bad_ones_are_refused(tmp_path):
    folder, target = tmp_path / "folder", tmp_path / "data"
    for colour, labels in ((1, [0, 1]), (2, [0, 1]), (2, [1, 0])):  # the count stays
        packed_by_hand(folder, [png(colour), png(9)], labels)
        assert "2 train" in unpack.unpack(folder, "cifar10", target)
        images, found = data.load_arrays(CIFAR10, "test", target)
        assert images[0, 5, 5].tolist() == [colour, 0, 0]
        assert found.tolist() == labels
    assert unpack.unpack(folder, "cifar10", target) == "cifar10: unpacked before"
    for promised in ({"sha256": "0"}, {"labels_sha256": "0"}):
        packed_by_hand(folder, [png(2), png(9)], [1, 0], **promised)
        with pytest.raises(UserError, match=r"train\.npz: found images or labels other than"):
            unpack.unpack(folder, "cifar10", target)
    packed_by_hand(folder, [png(2), png(9)], [1, 0])
    for kind in ("images", "labels"):  # replaced below WORK, with the mark left as it was
        path = target / "cifar10" / f"test.{kind}.npy"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + b"\5")
        text = unpack.unpack(folder, "cifar10", target)
        assert text.startswith("cifar10: 2 test images decoded in ")
        assert text.endswith(f"; {target / 'cifar10'} held others than were unpacked there")
        assert path.read_bytes() == whole
        path.unlink()
        assert "held others" not in unpack.unpack(folder, "cifar10", target)
        assert path.read_bytes() == whole
    assert unpack.unpack(folder, "cifar10", target) == "cifar10: unpacked before"
    whole = png(3)
    for bad in (png(3, 1), png(3, 64), whole[:-20], whole[:60], b"none"):
        packed_by_hand(folder, [png(2), bad], [1, 0])
        with pytest.raises(UserError, match="image 1 that cannot be decoded"):
            unpack.unpack(folder, "cifar10", target)


@pytest.fixture
def taken(packed, tmp_path):
    """A function: what a call in the packed folder would take."""
    folder, _, _ = packed
    return lambda name="", data_dir=None: sources.choose(name, data_dir, tmp_path / "work", folder)


def test_what_is_packed_comes_before_data_dir(taken, packed, tmp_path, monkeypatch):
    folder, _, _ = packed
    other = tmp_path / "other"
    other.mkdir()
    own = str(tmp_path / "work" / "data")
    assert taken() == sources.Source("cifar10", own, folder)
    for name in ("", "cifar10"):
        found = taken(name, str(other))
        assert (found.name, found.data_dir, found.packed) == ("cifar10", own, folder)
        assert found.remark == "--data_dir is not looked at: cifar10 is packed"
    cifar100 = data.get("cifar100")
    with pytest.raises(UserError, match="--data: found cifar100; expected packed here: cifar10"):
        taken("cifar100")
    images = np.zeros((2, 32, 32, 3), np.uint8)
    for split in ("train", "test"):
        array_files.write(cifar100, split, images, np.arange(2), other)
    assert taken("cifar100", str(other)) == sources.Source("cifar100", str(other))
    for name in ("", "digits"):  # without a packed folder; a directory without digits in it
        found = sources.choose(name, str(other), tmp_path / "work", None)
        assert (found.name, found.data_dir, found.embedded) == ("digits", own, True)
    (other / "cifar100" / "test.labels.npy").unlink()
    with pytest.raises(UserError, match="no such file"):
        taken("cifar100", str(other))
    monkeypatch.setattr(sources, "_installed", lambda package: False)
    with pytest.raises(UserError, match="tensorflow_datasets is not installed"):
        taken("tiny_imagenet32", str(other))


@pytest.mark.parametrize("flags", [[], ["--data=digits"], ["--data=cifar10"], ["--tiny"]])
def test_a_data_dir_that_is_not_there_is_one_line(flags, tmp_path, capfd):
    for name in ("data_dir", "frost_dir"):
        arguments = [f"--{name}={tmp_path / 'none'}", f"--out={tmp_path / 'out'}"]
        assert command.main([*arguments, f"--work={tmp_path / 'work'}", *flags[:1]]) == 2
        printed = capfd.readouterr()
        if name == "data_dir":
            assert printed.err.startswith("benchmarks.accelerator: --data_dir: found ")
        assert printed.out + printed.err == printed.err
        assert printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_digits_without_tfds_are_those_of_tfds(tmp_path, cache_dir):
    source = sources.choose("digits", None, tmp_path, None)
    assert source.embedded
    source.prepare()
    files = sorted((tmp_path / "data" / "digits").iterdir())
    times = [path.stat().st_mtime_ns for path in files]
    source.prepare()
    assert [path.stat().st_mtime_ns for path in files] == times
    digits = data.get("digits")
    for split in ("train", "test"):
        ours = data.load_arrays(digits, split, source.data_dir)
        theirs = data.load_arrays(digits, split, None, cache_dir)  # in another order
        assert len(ours[1]) == len(theirs[1]) > 300
        one, two = (
            sorted((image.tobytes(), int(label)) for image, label in zip(*found, strict=True))
            for found in (ours, theirs)
        )
        assert one == two


# Hides what a bare machine lacks, then does ceilings and a training with its evaluation.
BARE = """
import sys
HIDDEN = ("tensorflow", "tensorflow_datasets", "tensorboard")
class Hide:
    def __init__(self, finder):
        self._finder = finder
    def find_spec(self, name, *rest):
        hidden = name.partition(".")[0] in HIDDEN
        return None if hidden else self._finder.find_spec(name, *rest)
    def __getattr__(self, name):
        return getattr(self._finder, name)
sys.meta_path[:] = map(Hide, sys.meta_path)
from pathlib import Path
from benchmarks.accelerator import command, trainer
out, work = sys.argv[1:]
flags = ["--tiny", "--only=ceilings", "--budget_s=500", f"--out={out}", f"--work={work}"]
assert command.main(flags) == 0
here = str(Path(work) / "here")
Path(here).mkdir()
flags = ["--tiny", "--only=corruptions,steps", "--budget_s=500", "--data=digits"]
flags += [f"--out={out}/digits", f"--work={work}/digits", f"--data_dir={here}"]
assert command.main(flags) == 0
from dst_jax import experiment
from dst_jax.paths import RunPaths
changes = {"data.name": "cifar10", "model.name": "mlp", "model.width": 8, "model.depth": 1}
changes |= {"train.batch_size": 32, "train.steps": "6", "sparsity.algorithm": "rigl"}
changes |= {"sparsity.update_freq": "2", "eval.corruptions": ("contrast",)}
changes |= {"eval.severities": (3,), "eval.batch_size": 40, "eval.suite": "CIFAR10-C"}
run_paths = RunPaths(Path(work) / "run", f"{work}/data", Path(work) / "cache")
print(experiment.run(trainer.card(changes), run_paths))
assert not any(name in sys.modules for name in HIDDEN)
here = Path.cwd()
for name in ("dst_jax", "ml_collections", "clu", "benchmarks"):
    assert Path(sys.modules[name].__file__).is_relative_to(here), sys.modules[name].__file__
"""


@pytest.mark.slow
def test_a_packed_folder_trains_and_reports_with_what_a_bare_machine_has(packed, tmp_path):
    folder, _, _ = packed
    out, work = tmp_path / "out", tmp_path / "work"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BARE, str(out), str(work)],
        cwd=folder,
        env={key: value for key, value in runs.environment().items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    table = (out / "table.md").read_text()
    assert "- data: cifar10" in table
    of_digits = (out / "digits" / "table.md").read_text()
    assert "- data: digits" in of_digits
    assert "failed" not in of_digits
    assert "test images | 4 equal in every pixel" in of_digits
    assert "mask entries differ" in of_digits
    assert "96 train and 40 test images decoded" in table
    assert (work / "run" / "report.html").exists()
    assert "rigl" in done.stdout


@pytest.mark.slow
def test_the_real_test_images_of_cifar10_survive_packing(shared_dir, cache_dir, tmp_path):
    pytest.importorskip("tensorflow", reason="CIFAR-10 lies in tfrecord files")
    source = str(shared_dir / "tfds")
    path = tmp_path / "folder" / "data" / "cifar10" / "test.npz"
    path.parent.mkdir(parents=True)
    facts = pack.pack_split(CIFAR10, "test", source, path)
    assert facts["images"] == 10_000
    assert 6 * facts["bytes"] < 20_000_000  # all 60,000 images
    encoded, offsets, labels = unpack._open(path)
    wanted, wanted_labels = data.load_arrays(CIFAR10, "test", source, cache_dir)
    np.testing.assert_array_equal(labels, wanted_labels)
    for index in range(0, 10_000, 10):
        with Image.open(io.BytesIO(encoded[offsets[index] : offsets[index + 1]])) as image:
            np.testing.assert_array_equal(np.asarray(image.convert("RGB")), wanted[index])


def test_digests_follow_the_files(tmp_path):
    images, labels = synthetic("train", 900, tmp_path), np.arange(900) % 10  # above 2 MiB
    first = identity.data("cifar10", str(tmp_path))
    array_files.write(CIFAR10, "train", images, labels, tmp_path)
    assert identity.data("cifar10", str(tmp_path)) == first
    for changed in (25, 450, 899):  # one image, wherever it lies
        images[changed] ^= 1
        array_files.write(CIFAR10, "train", images, labels, tmp_path)
        assert identity.data("cifar10", str(tmp_path)) != first
        images[changed] ^= 1
    prepared = tmp_path / "tiny_imagenet" / "32x32" / "1.0.0"  # as TFDS names it
    prepared.mkdir(parents=True)
    (prepared / "train.tfrecord").write_bytes(b"1")
    first = identity.data("tiny_imagenet32", str(tmp_path))
    (prepared / "train.tfrecord").write_bytes(b"2")
    assert identity.data("tiny_imagenet32", str(tmp_path)) != first
    assert identity.frost("") == ""
    (tmp_path / "frost1.png").write_bytes(b"1")
    first = identity.frost(str(tmp_path))
    (tmp_path / "frost1.png").write_bytes(b"2")
    assert identity.frost(str(tmp_path)) != first
