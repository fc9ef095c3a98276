"""Networks in ONNX files as predict functions, against the same weights in NumPy."""

import jax
import numpy as np
import pytest

from dst_jax import robustness
from dst_jax.errors import UserError
from dst_jax.runtime.devices import Devices

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra `onnx`)")

ONE = Devices(devices=jax.devices()[:1])
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
KERNEL = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
BIAS = np.random.default_rng(2).normal(size=4).astype(np.float32)


@pytest.fixture(scope="module")
def dataset():
    random = np.random.default_rng(0)
    means = random.integers(0, 256, (23, 1, 1, 3))
    images = np.clip(means + random.integers(-40, 40, (23, 32, 32, 3)), 0, 255).astype(np.uint8)
    return images, random.integers(0, 4, 23).astype(np.int32)


def expected(images, mean=MEAN, std=STD):
    """The network of `write`, in NumPy."""
    normal = (images / 255.0 - np.array(mean)) / np.array(std)
    return normal.mean((1, 2)) @ KERNEL + BIAS


def write(
    path, *, batch="B", kind=onnx.TensorProto.FLOAT, layout="NCHW", beside=False, kernel=KERNEL
):
    """A network of one linear layer on the means of the channels."""
    helper = onnx.helper
    axes = [2, 3] if layout == "NCHW" else [1, 2]
    shape = [batch, 3, 32, 32] if layout == "NCHW" else [batch, 32, 32, 3]
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=onnx.TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["means"], axes=axes, keepdims=0),
        helper.make_node("Gemm", ["means", "kernel", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [batch, 4])],
        [
            onnx.numpy_helper.from_array(kernel, "kernel"),
            onnx.numpy_helper.from_array(BIAS, "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    location = f"{path.name}.{'weights' * 20}"  # its length takes two bytes
    (path.parent / location).unlink(missing_ok=True)  # else onnx adds to it
    onnx.save_model(
        model,
        path,
        save_as_external_data=beside,
        location=location,
        size_threshold=0,
    )
    return path


def evaluated(dataset, predict, **options):
    options = {"severities": (3,), "batch_size": 7, "devices": ONE, "quiet": True, **options}
    return robustness.evaluate(predict, dataset, ["contrast"], **options)


@pytest.mark.parametrize("devices", [ONE, None])
def test_it_scores_as_the_same_weights_in_numpy(dataset, tmp_path, devices):
    predict = robustness.onnx_predict(write(tmp_path / "network.onnx"), MEAN, STD)
    found = evaluated(dataset, predict, devices=devices)
    theirs = evaluated(dataset, lambda x: expected(np.asarray(x)))
    assert [row.accuracy for row in found.scores] == [row.accuracy for row in theirs.scores]
    assert found.clean_ece == pytest.approx(theirs.clean_ece, abs=1e-5)
    np.testing.assert_allclose(predict(dataset[0]), expected(dataset[0]), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "statistics"),
    [
        ({"batch": 5}, (MEAN, STD)),
        ({"batch": 64}, (MEAN, STD)),
        ({"layout": "NHWC"}, (MEAN, STD)),
        ({"kind": onnx.TensorProto.FLOAT16}, (MEAN, STD)),
        ({"kind": onnx.TensorProto.DOUBLE}, (MEAN, STD)),
        ({}, None),  # images in [0, 1]
        ({"kind": onnx.TensorProto.UINT8}, None),  # as they are
        ({"beside": True}, (MEAN, STD)),
    ],
)
def test_kinds_of_networks(dataset, tmp_path, options, statistics):
    path = write(tmp_path / "network.onnx", **options)
    layout = options.get("layout", "NCHW")
    predict = robustness.onnx_predict(path, *(statistics or ()), layout=layout)
    mean, std = statistics or ((0, 0, 0), (1, 1, 1))
    if options.get("kind") == onnx.TensorProto.UINT8:
        std = (1 / 255, 1 / 255, 1 / 255)
    found = predict(dataset[0])
    tolerance = 0.01 if options.get("kind") == onnx.TensorProto.FLOAT16 else 1e-5
    np.testing.assert_allclose(found, expected(dataset[0], mean, std), rtol=tolerance, atol=0.01)
    assert found.shape == (23, 4)


@pytest.mark.parametrize("beside", [False, True])
def test_the_file_and_those_beside_it_identify_the_model(dataset, tmp_path, beside):
    def predict(**options):
        path = write(tmp_path / "network.onnx", beside=beside, **options)
        return robustness.onnx_predict(path, MEAN, STD)

    options = {"path": tmp_path / "scores"}
    first = evaluated(dataset, predict(), **options)
    (tmp_path / "of_nobody").write_text("text")
    assert evaluated(dataset, predict(), **options).scores == first.scores
    with pytest.raises(UserError, match="found scores of another model"):
        evaluated(dataset, predict(kernel=KERNEL + np.float32(1e-6)), **options)
    predict()
    otherwise = robustness.onnx_predict(tmp_path / "network.onnx", MEAN, (0.2, 0.2, 0.2))
    with pytest.raises(UserError, match="found scores of another model"):
        evaluated(dataset, otherwise, **options)


def test_mistakes_are_one_line(dataset, tmp_path):
    (tmp_path / "text.onnx").write_text("no network")
    good = write(tmp_path / "good.onnx")
    numbers = write(tmp_path / "numbers.onnx", kind=onnx.TensorProto.UINT8)
    whole = write(tmp_path / "whole.onnx", kind=onnx.TensorProto.INT64)
    for arguments, text in (
        ((tmp_path / "none.onnx",), "path: found no file .*none.onnx; expected an ONNX file"),
        ((tmp_path / "text.onnx",), "path: found .*text.onnx, .*; expected an ONNX file that can"),
        ((whole,), "an input of type int64; expected one of uint8, float16"),
        ((numbers, MEAN, STD), "mean or std: found a value, where the input of .* is uint8"),
        ((good, (124, 116, 104), STD), "mean: found .*; expected three numbers, for images in"),
        ((good, MEAN, STD, "HWC"), "layout: found HWC"),
    ):
        with pytest.raises(UserError, match=text) as caught:
            robustness.onnx_predict(*arguments)
        assert "\n" not in str(caught.value)
    small = (np.zeros((4, 64, 64, 3), np.uint8), np.zeros(4, np.int32))
    with pytest.raises(UserError, match="predict: found on the host, with a NumPy array, ") as e:
        evaluated(small, robustness.onnx_predict(good, MEAN, STD))
    assert "\n" not in str(e.value)
