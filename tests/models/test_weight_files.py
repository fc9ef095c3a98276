"""Files of weights: the format itself, and our two layouts in it."""

import json
import struct

import jax
import numpy as np
import pytest

from dst_jax import models
from dst_jax.errors import UserError
from dst_jax.models import safetensors_files, weight_files

ARRAYS = {
    "b/scalar": np.float32(3),
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "none": np.zeros((0, 4), np.int64),
    "bits": np.array([True, False, True]),
    "bytes": np.arange(5, dtype=np.uint8),
    "half": np.array([1.5, -2], np.float16),
    "brain": np.array([1.5, -2, 3], jax.numpy.bfloat16),
    "whole": np.array([-1, 2**40]),
}


def written(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    return path


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == np.asarray(array).dtype
        np.testing.assert_array_equal(found[name], array)


def test_arrays_come_back_as_they_were(tmp_path):
    content = safetensors_files.encoded(ARRAYS, {"what": "a test"})
    found, metadata = safetensors_files.read(written(tmp_path, content))
    same(found, ARRAYS)
    assert metadata == {"what": "a test"}
    assert content == safetensors_files.encoded(dict(reversed(ARRAYS.items())), {"what": "a test"})


def test_the_package_reads_ours_and_we_read_its(tmp_path):
    package = pytest.importorskip("safetensors.numpy", reason="safetensors is absent")
    plain = {name: array for name, array in ARRAYS.items() if name != "brain"}
    plain = {name: np.asarray(array) for name, array in plain.items()}
    path = written(tmp_path, safetensors_files.encoded(plain, {"what": "a test"}))
    same(package.load_file(path), plain)
    package.save_file(plain, tmp_path / "y.safetensors", {"what": "theirs"})
    found, metadata = safetensors_files.read(tmp_path / "y.safetensors")
    same(found, plain)
    assert metadata == {"what": "theirs"}


def header(**entry):
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **entry}
    text = json.dumps({"a": entry}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(8)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"abc",
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"\xff\xfe{}",
        header()[:-1],
        header(shape=[3]),
        header(shape=[-2]),
        header(data_offsets=[-8, 0]),
        header(data_offsets=[8, 16]),
        header(dtype="F31"),
        header(shape=None),
        safetensors_files.encoded(ARRAYS, {})[:-3],
    ],
)
def test_a_damaged_file_is_told_in_one_line(tmp_path, content):
    with pytest.raises(UserError, match=r"x.safetensors: found no whole file of the format") as e:
        safetensors_files.read(written(tmp_path, content))
    assert "\n" not in str(e.value)


def test_a_pickle_is_not_opened(tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(b"cos\nsystem\n(S'touch harmed'\ntR.")
    with pytest.raises(UserError, match=r"which is a pickle; .* Convert it .* python -c .*net.pth"):
        models.load_torch("resnet18", path)
    with pytest.raises(UserError, match=r"found a file net.npz; expected a file .safetensors"):
        models.load_torch("resnet18", tmp_path / "net.npz")
    with pytest.raises(UserError, match="No such file"):
        models.load_torch("resnet18", tmp_path / "none.safetensors")


def trees(density):
    generator = np.random.default_rng(0)
    masks = {
        "conv": {"kernel": (generator.random((3, 3, 2, 5)) < density).astype(np.uint8)},
        "fc": {"kernel": (generator.random((64, 65)) < density).astype(np.uint8), "bias": None},
    }
    params = {
        layer: {
            "kernel": generator.standard_normal(leaf["kernel"].shape, np.float32) * leaf["kernel"],
            "bias": generator.standard_normal(5, np.float32),
        }
        for layer, leaf in masks.items()
    }
    params["fc"]["kernel"][masks["fc"]["kernel"] != 0][:3] = 0  # new weights are 0 and active
    return params, {"bn": {"var": np.ones(5, np.float32)}}, masks


@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
def test_both_layouts_come_back_as_they_were(tmp_path, density):
    params, batch_stats, masks = trees(density)
    path = written(tmp_path, safetensors_files.encoded(*weight_files.dense(params, batch_stats)))
    found = models.load_weights(path)
    assert found["masks"] == {}
    for name, tree in (("params", params), ("batch_stats", batch_stats)):
        jax.tree.map(np.testing.assert_array_equal, found[name], tree)
    arrays = weight_files.compact(params, batch_stats, masks)
    found = models.load_weights(written(tmp_path, safetensors_files.encoded(*arrays)))
    del masks["fc"]["bias"]
    for name, tree in (("params", params), ("batch_stats", batch_stats), ("masks", masks)):
        jax.tree.map(np.testing.assert_array_equal, found[name], tree)


def test_compact_is_the_smaller_one_below_its_break_even():
    """Counted on the arrays, for a large layer: the header does not depend on the density."""
    size = 32 * 1000
    for density in (0.1, 30 / 32, 31 / 32, 1.0):
        mask = (np.arange(size) < density * size).astype(np.uint8)
        weights = mask.astype(np.float32)
        arrays, _ = weight_files.compact({"kernel": weights}, {}, {"kernel": mask})
        compact = sum(array.nbytes for array in arrays.values())
        assert compact == 4 * density * size + size / 8
        assert (compact < weights.nbytes) == (density < weight_files.BREAK_EVEN)


def test_a_file_of_pytorch_names_is_no_file_of_ours(tmp_path):
    path = written(tmp_path, safetensors_files.encoded({"conv1.weight": np.zeros(3)}, {}))
    with pytest.raises(
        UserError, match=r"tensors such as conv1.weight; .* dst_jax.models.load_torch"
    ):
        models.load_weights(path)


def test_masks_that_do_not_fit_are_told_in_one_line(tmp_path):
    arrays, metadata = weight_files.compact(*trees(0.5))
    for broken in ("params/fc/kernel.values", "params/fc/kernel.mask"):
        changed = {**arrays, broken: arrays[broken][:-1]}
        path = written(tmp_path, safetensors_files.encoded(changed, metadata))
        with pytest.raises(UserError, match=r"x.safetensors: found a damaged file"):
            models.load_weights(path)
