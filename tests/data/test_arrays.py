"""The datasets as arrays: the digits without TensorFlow, CIFAR-10, the cache, missing datasets."""

import io
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dst_jax import data
from dst_jax.data import prepared
from dst_jax.errors import UserError


def run(code: str, *args) -> str:
    """Output of a fresh interpreter."""
    root = pathlib.Path(__file__).resolve().parents[2]
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, args)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


LOAD_DIGITS = """
import sys
from dst_jax import data
assert "tensorflow_datasets" not in sys.modules
images, labels = data.load_arrays(data.get("digits"), "train", cache_dir=sys.argv[1])
assert images.shape == (1437, 32, 32, 3), images.shape
assert "tensorflow" not in sys.modules
"""


@pytest.mark.slow
def test_digits_are_prepared_silently_without_tensorflow_by_two_processes_at_once(tmp_path):
    root = pathlib.Path(__file__).resolve().parents[2]
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", LOAD_DIGITS, tmp_path],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate()[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    # A slow machine is told how far it is, and nothing else is said.
    assert not [line for lines in outputs for line in lines if not line.startswith("decoding ")]
    assert run(LOAD_DIGITS, tmp_path) == ""
    assert not [
        path for path in tmp_path.rglob("*") if "part" in path.name or "incompl" in str(path)
    ]


def test_digits_are_the_digits_of_scikit_learn(cache_dir):
    from sklearn.datasets import load_digits

    source = load_digits()
    sizes, seen = {}, []
    for split in ("train", "test"):
        images, labels = data.load_arrays(data.get("digits"), split, cache_dir=cache_dir)
        sizes[split] = len(labels)
        seen += [(image.tobytes(), label) for image, label in zip(images, labels, strict=True)]
    assert sizes == {"train": 1437, "test": 360}
    want = []
    for image, label in zip(source.images, source.target, strict=True):
        small = Image.fromarray(np.rint(image * 255 / 16).astype(np.uint8))
        large = small.resize((32, 32), Image.Resampling.BILINEAR).convert("RGB")
        want.append((np.asarray(large).tobytes(), label))
    assert sorted(seen) == sorted(want)


@pytest.mark.parametrize(("name", "tolerance"), [("digits", 1e-4), ("cifar10", 2e-3)])
def test_mean_and_std_are_those_of_the_training_images(name, tolerance, cache_dir, request):
    dataset = data.get(name)
    data_dir = None if name == "digits" else request.getfixturevalue("shared_dir") / "tfds"
    images, _ = data.load_arrays(dataset, dataset.train_split, data_dir, cache_dir)
    histograms = [np.bincount(images[..., c].ravel(), minlength=256) for c in range(3)]
    levels = np.arange(256) / 255
    for histogram, mean, std in zip(histograms, dataset.mean, dataset.std, strict=True):
        share = histogram / histogram.sum()
        found = (share * levels).sum()
        assert found == pytest.approx(mean, abs=tolerance)
        assert np.sqrt((share * (levels - found) ** 2).sum()) == pytest.approx(std, abs=tolerance)


def test_cifar10_is_complete_and_read_in_file_order(shared_dir, cache_dir):
    dataset = data.get("cifar10")
    images, labels = data.load_arrays(dataset, "test", shared_dir / "tfds", cache_dir)
    assert (images.shape, images.dtype, labels.dtype) == ((10_000, 32, 32, 3), np.uint8, np.int32)
    np.testing.assert_array_equal(np.bincount(labels), [1000] * 10)
    few, few_labels = data.load_arrays(dataset, "test", shared_dir / "tfds", cache_dir, limit=7)
    np.testing.assert_array_equal(few, images[:7])
    np.testing.assert_array_equal(few_labels, labels[:7])
    # Independent reader: the records of the file one after the other, decoded by Pillow.
    tf = prepared.tensorflow("test")
    path = shared_dir / "tfds/cifar10/3.0.2/cifar10-test.tfrecord-00000-of-00001"
    for i, record in enumerate(tf.data.TFRecordDataset(str(path)).take(5).as_numpy_iterator()):
        example = tf.train.Example.FromString(record).features.feature
        assert example["label"].int64_list.value[0] == labels[i]
        image = np.asarray(Image.open(io.BytesIO(example["image"].bytes_list.value[0])))
        np.testing.assert_array_equal(images[i], image)


class TestCache:
    """What happens to the decoded arrays on disk."""

    dataset = data.get("digits")

    def load(self, cache):
        return data.load_arrays(self.dataset, "test", cache_dir=cache)

    def entry(self, cache, kind):
        (path,) = (cache / "arrays").glob(f"digits-*-test-*.{kind}.npy")
        return path

    def test_second_start_reads_it(self, tmp_path):
        self.load(tmp_path)
        path = self.entry(tmp_path, "images")
        images = np.load(path)
        images[0] = 77
        np.save(path, images)
        assert (self.load(tmp_path)[0][0] == 77).all()

    @pytest.mark.parametrize("kind", ["images", "labels"])
    @pytest.mark.parametrize("damage", ["truncated", "empty", "other shape", "missing"])
    def test_damaged_entry_is_rebuilt(self, tmp_path, kind, damage):
        images, labels = (np.array(array) for array in self.load(tmp_path))
        path = self.entry(tmp_path, kind)
        content = path.read_bytes()
        if damage == "missing":
            path.unlink()
        elif damage == "other shape":
            np.save(path, np.load(path)[:-1])
        else:
            path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
        rebuilt = self.load(tmp_path)
        np.testing.assert_array_equal(rebuilt[0], images)
        np.testing.assert_array_equal(rebuilt[1], labels)
        assert path.read_bytes() == content

    def test_other_content_is_another_entry(self, tmp_path):
        import tensorflow_datasets as tfds

        def prepare(data_dir, labels):
            class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
                """Three grey images under CIFAR-10's name."""

                VERSION = tfds.core.Version("3.0.2")

                def _info(self):
                    features = tfds.features.FeaturesDict(
                        {
                            "image": tfds.features.Image(shape=(32, 32, 3)),
                            "label": tfds.features.ClassLabel(num_classes=10),
                        }
                    )
                    return tfds.core.DatasetInfo(builder=self, features=features)

                def _split_generators(self, dl_manager):
                    del dl_manager
                    return {"train": self._generate_examples()}

                def _generate_examples(self):
                    for i, label in enumerate(labels):
                        file = io.BytesIO()
                        Image.new("RGB", (32, 32), (label,) * 3).save(file, "PNG")
                        file.seek(0)
                        yield i, {"image": file, "label": label}

            Cifar10(data_dir=data_dir, file_format="array_record").download_and_prepare()

        for name, labels in (("a", [1, 2, 3]), ("b", [4, 5, 6])):
            prepare(tmp_path / name, labels)
            images, got = data.load_arrays(
                data.get("cifar10"), "train", tmp_path / name, tmp_path / "cache"
            )
            assert sorted(got) == labels
            np.testing.assert_array_equal(images[:, 0, 0, 0], got)


def test_missing_dataset_names_place_and_command(tmp_path):
    with pytest.raises(UserError) as caught:
        data.load_arrays(data.get("cifar10"), "train", tmp_path, tmp_path)
    for part in (
        f"{tmp_path}/cifar10/<version>/dataset_info.json",
        "tfds.load('cifar10'",
        "python -c",
    ):
        assert part in str(caught.value)
    with pytest.raises(UserError, match=r"image-net\.org.*downloads/manual.*tfds\.load") as caught:
        data.load_arrays(data.get("imagenet2012"), "train", tmp_path, tmp_path)
    assert "\n" not in str(caught.value)


def test_unknown_split_and_images_of_many_sizes(shared_dir, tmp_path):
    with pytest.raises(UserError, match=r"'validation'.* has test, train"):
        data.load_arrays(data.get("cifar10"), "validation", shared_dir / "tfds", tmp_path)
    with pytest.raises(UserError, match=r"data\.input=stream"):
        data.load_arrays(data.get("imagenet2012"), "train", shared_dir / "tfds", tmp_path)


def test_without_tensorflow_the_extra_is_named(shared_dir, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UserError, match=r"pip install 'dst-jax\[tf\]'"):
        data.load_arrays(data.get("cifar10"), "test", shared_dir / "tfds", tmp_path)


def test_damaged_records_are_told(shared_dir, tmp_path):
    source = shared_dir / "tfds/cifar10/3.0.2"
    target = tmp_path / "tfds/cifar10/3.0.2"
    target.mkdir(parents=True)
    for path in source.iterdir():
        content = path.read_bytes()
        if "test.tfrecord" in path.name:
            content = content[:500_000] + b"damaged" + content[500_007:]
        (target / path.name).write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read.*prepare the dataset again"):
        data.load_arrays(data.get("cifar10"), "test", tmp_path / "tfds", tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.npy*"))


def test_unwritable_place_for_the_digits(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cache_dir"):
        data.load_arrays(data.get("digits"), "test", cache_dir=tmp_path / "file")


def test_digits_need_no_place_among_the_datasets(shared_dir, tmp_path):
    _, labels = data.load_arrays(data.get("digits"), "test", shared_dir / "tfds", tmp_path)
    assert data.num_examples(data.get("digits"), "test", shared_dir / "tfds", tmp_path) == 360
    assert len(labels) == 360
    _, again = data.load_arrays(data.get("digits"), "test", tmp_path / "tfds", tmp_path / "other")
    np.testing.assert_array_equal(again, labels)
    assert not (tmp_path / "other" / "tfds").exists()
