"""The examples of docs/robustness.md for other frameworks, where those are installed."""

import importlib.util
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import runs

from dst_jax.robustness import storage

DOCS = (runs.ROOT / "docs" / "robustness.md").read_text()
ABSENT = {"pytorch": "torch", "equinox": "equinox", "keras": "keras", "onnx": "onnxruntime"}


def example(heading: str) -> str:
    """The program under a heading."""
    section = DOCS.partition(f"\n### {heading}\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return block


def write_network(path):
    """A network that ends in ten classes, for the example of ONNX."""
    onnx = pytest.importorskip("onnx", reason="onnx, which writes the file, is not installed")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    kernel = np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0),
            helper.make_node("MatMul", ["means", "kernel"], ["logits"]),
        ],
        "network",
        [helper.make_tensor_value_info("images", floats, ["B", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", floats, ["B", 10])],
        [onnx.numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(model, path)


@pytest.mark.filterwarnings("ignore")  # of the frameworks
@pytest.mark.parametrize(
    "heading", ["PyTorch", "ONNX", "Flax NNX", "Equinox", "Keras", "Anything else"]
)
def test_the_example(heading, tmp_path, cache_dir, monkeypatch, capsys, on_one_device):
    package = ABSENT.get(heading.lower())
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    if heading == "ONNX":
        write_network(tmp_path / "network.onnx")
    if heading == "Keras":  # another test may have imported it with another backend
        output = in_a_process(example(heading), cache_dir)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache_dir))
        exec(example(heading), {"__name__": "example"})
        output = capsys.readouterr().out
    result = storage.load("scores")
    assert (result.n, len(result.conditions)) == (360, 5)
    assert result.table() in output
    # Each gives the weights that identify it.
    assert re.fullmatch("[0-9a-f]{64}", storage.read("scores").model.weights)


def in_a_process(program, cache_dir):
    path = os.pathsep.join([str(runs.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={**runs.environment(), "PYTHONPATH": path, "XDG_CACHE_HOME": str(cache_dir)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_framework_of_the_table_has_an_example():
    section = DOCS.partition("## Functions of any framework")[2].partition("\n## ")[0]
    headings = re.findall(r"^### (.*)$", section, re.MULTILINE)
    assert headings == ["PyTorch", "ONNX", "Flax NNX", "Equinox", "Keras", "Anything else"]
