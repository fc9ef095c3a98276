"""The notebook: committed without outputs, and it runs from top to bottom with a small card."""

import json
import time

import pytest
import runs

NOTEBOOK = runs.ROOT / "notebooks" / "colab_tpu.ipynb"
OVERRIDES = {
    "model.width": 4,
    "model.depth": 1,
    "train.epochs": 1.0,
    "train.warmup": "5",
    "sparsity.update_freq": "7",
    "checkpoint.every": "5",
    "eval.corruptions": "('gaussian_noise',)",
    "eval.severities": "(1,)",
    "eval.max_images": 64,
    "analysis.parts": "()",
    "analysis.images": 32,
    "analysis.radii": "(0,16,32)",
}


def test_it_is_committed_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 8
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert all(not cell.get("metadata") for cell in cells)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_it_runs_from_top_to_bottom_and_again(tmp_path, cache_dir, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    options = " ".join(f"--config.{name}={value}" for name, value in OVERRIDES.items())
    monkeypatch.setenv("DST_JAX_OVERRIDES", options)
    monkeypatch.setenv("DST_JAX_STORAGE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_dir))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache_dir.parent / "xla"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # A disconnect at the end: the training cell once more, in the same place.
    train = next(cell for cell in notebook.cells if cell.id == "train")
    again = nbformat.v4.new_code_cell(train.source)
    notebook.cells.insert(notebook.cells.index(train) + 1, again)
    client = nbclient.NotebookClient(
        notebook,
        timeout=240,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )
    start = time.monotonic()
    client.execute()  # raises at the first cell that fails
    print(f"executed in {time.monotonic() - start:.0f} s")

    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    flat = [output for found in outputs.values() for output in found]
    assert not [output for output in flat if output.output_type == "error"]
    pictures = [o for o in flat if "image/png" in o.get("data", {})]
    assert len(pictures) == 2
    assert all(len(o.data["image/png"]) > 5_000 for o in pictures)
    texts = {name: "".join(o.get("text", "") for o in found) for name, found in outputs.items()}
    assert f"run directory: {tmp_path / 'digits_rigl'}" in texts["storage"]
    assert "cpu:0" in texts["devices"]
    assert "step" in texts["train"]
    assert "rigl" in texts[again.id]
    assert "at step 44" in texts["load"]  # 1,437 images in batches of 32
    assert "<iframe srcdoc=" in outputs["report"][-1].data["text/html"]
    steps = [line["step"] for line in runs.record(tmp_path / "digits_rigl")]
    assert steps == sorted(set(steps)), "the second call trained again"
