"""The notebook: committed without outputs, installs without changing JAX, runs from top to bottom.

Colab is a stand-in: a package `google.colab` whose upload gives a wheel, and a pip that writes down
how it was called.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import runs

NOTEBOOK = runs.ROOT / "notebooks" / "colab_tpu.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]
PROJECT = tomllib.loads((runs.ROOT / "pyproject.toml").read_text())["project"]
METADATA = "\n".join(
    [
        "Metadata-Version: 2.1",
        "Name: dst-jax",
        "Version: 9",
        *(f"Requires-Dist: {need}" for need in PROJECT["dependencies"]),
        "",
    ]
)
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
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert len(code) >= 8
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert all(not cell.get("metadata") for cell in CELLS)


def test_it_names_no_address_to_fill_in():
    text = "".join(line for cell in CELLS for line in cell["source"])
    for word in ("REPOSITORY", "git clone", "git+", "http", "YOUR", "example.", "TODO"):
        assert word not in text, word


# What stands in for Colab: its module, and a pip that writes down its arguments and constraints.
STAND_IN = {
    "google/colab/__init__.py": "",
    "google/colab/drive.py": "def mount(path): print('mounted', path)",
    "google/colab/output.py": "",  # JAX imports it on Colab
    "google/colab/files.py": """
import os, shutil
from pathlib import Path
def upload():
    wheel = os.environ.get("UPLOAD")
    return {shutil.copy(wheel, Path(wheel).name): b""} if wheel else {}
""",
    "pip/__init__.py": "",
    "pip/__main__.py": """
import json, os, sys
from pathlib import Path
_, constraints, *rest = sys.argv[2:]
assert sys.argv[1:3] == ["install", "-c"], sys.argv
called = {"constraints": Path(constraints).read_text().split(), "rest": rest}
Path(os.environ["CALLED"]).write_text(json.dumps(called))
if os.environ.get("PIP_FAILS"):
    sys.exit("ERROR: Cannot install dst-jax==9 because of conflicts.")
for name, version in json.loads(os.environ.get("PIP_INSTALLS", "{}")).items():
    info = Path(__file__).parents[1] / f"{name}-0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    (info / "RECORD").write_text("bin/dst-jax,,\\n" if name == "dst_jax" else "")
    if name == "dst_jax":
        (info.parent / "bin").mkdir(exist_ok=True)
        (info.parent / "bin" / "dst-jax").touch()
""",
}


@pytest.fixture
def colab(tmp_path):
    """Runs the notebook's cells up to the install cell as on Colab: gives (exit, output, pip's)."""
    site, empty, wheel = (
        tmp_path / "site",
        tmp_path / "empty",
        tmp_path / "dst_jax-9-py3-none-any.whl",
    )
    empty.mkdir()
    for name, text in STAND_IN.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("dst_jax-9.dist-info/METADATA", METADATA)
    # The tests' own dst_jax is hidden, so that there is none; a package that is named is faked.
    hide = """
from importlib import metadata
import google.colab
real = metadata.Distribution.from_name.__func__
def from_name(cls, name):
    found = real(cls, name)
    if name == "dst-jax" and "site/dst_jax-0.dist-info" not in str(getattr(found, "_path", "")):
        raise metadata.PackageNotFoundError(name)
    return found
metadata.Distribution.from_name = classmethod(from_name)
"""
    source = [
        "".join(cell["source"])
        for cell in CELLS
        if cell["id"] in ("parameters", "storage", "install")
    ]
    (tmp_path / "cells.py").write_text("\n".join([hide, *source]))

    def run(upload=True, fake=None, **environment):
        for name, version in (fake or {}).items():
            info = site / f"{name}-0.dist-info"
            info.mkdir()
            text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            (info / "METADATA").write_text(text)
        called = tmp_path / "called.json"
        done = subprocess.run(
            [sys.executable, str(tmp_path / "cells.py")],
            cwd=empty,
            env={
                **os.environ,
                "PYTHONPATH": str(site),
                "DST_JAX_STORAGE": str(tmp_path / "drive"),
                "CALLED": str(called),
                "UPLOAD": str(wheel) if upload else "",
                **environment,
            },
            capture_output=True,
            text=True,
        )
        last = (done.stderr.strip().splitlines() or [""])[-1].partition("StoppedError: ")[2]
        return done, last, json.loads(called.read_text()) if called.exists() else None

    return run


STAY = {name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "numpy")}


def test_the_uploaded_wheel_is_installed_with_the_versions_there_are_as_constraints(
    colab, tmp_path
):
    done, _, called = colab(PIP_INSTALLS=json.dumps({"dst_jax": "9"}))
    assert done.returncode == 0, done.stderr
    kept = tmp_path / "drive" / "dst_jax-9-py3-none-any.whl"
    assert called["rest"] == [str(kept)]
    assert kept.exists()  # for the next machine
    assert set(called["constraints"]) >= {f"{name}=={STAY[name]}" for name in STAY}
    assert f"as before: jax {STAY['jax']}, jaxlib {STAY['jaxlib']}" in done.stdout
    assert f"run as {tmp_path / 'site' / 'bin' / 'dst-jax'}" in done.stdout


@pytest.mark.parametrize("fake", [{"jax": "0.4.33"}, {"jax": "99.0"}, {"flax": "0.1"}])
def test_another_jax_is_refused_in_one_line_before_anything_is_installed(fake, colab):
    done, line, called = colab(fake=fake)
    ((name, version),) = fake.items()
    assert done.returncode
    assert called is None
    assert line.startswith(f"dst_jax needs {name}")
    assert f"here is {name} {version}. Nothing was installed. To let pip replace it" in line
    assert "%pip install '" in line


def test_an_accelerators_library_stays_too_and_is_named_where_jax_must_be_replaced(colab):
    _, _, called = colab(fake={"libtpu": "0.0.43"})
    assert "libtpu==0.0.43" in called["constraints"]
    _, line, _ = colab(fake={"jax": "0.4.33"})
    assert "any.whl[tpu]'" in line


def test_what_pip_does_not_do_or_does_all_the_same_is_one_line(colab):
    done, line, _ = colab(PIP_FAILS="1")
    assert done.returncode
    assert line.startswith("pip did not install dst_jax beside {'jax': ")
    assert line.endswith("ERROR: Cannot install dst-jax==9 because of conflicts.")
    done, line, _ = colab(PIP_INSTALLS=json.dumps({"dst_jax": "9", "jax": "0.99"}))
    assert done.returncode
    assert line == "pip has replaced jax in spite of the constraints"


def test_without_a_wheel_one_line_says_where_to_put_it(colab, tmp_path):
    done, line, called = colab(upload=False)
    assert done.returncode
    assert called is None
    assert line.startswith("there is no dst_jax here. Make its wheel with `pip wheel --no-deps .`")
    assert str(tmp_path / "drive") in line


def install(tmp_path: Path) -> Path:
    """The package as a wheel would install it, in a folder for PYTHONPATH."""
    site = tmp_path / "site"
    shutil.copytree(
        runs.ROOT / "dst_jax", site / "dst_jax", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(runs.ROOT / "configs", site / "dst_jax" / "configs")
    script = "import sys\nfrom dst_jax.cli import main\nsys.exit(main())\n"
    (site / "bin").mkdir()
    (site / "bin" / "dst-jax").write_text(script)
    info = site / "dst_jax-9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "RECORD").write_text("bin/dst-jax,,\n")
    return site


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("place", ["checkout", "empty directory"])
def test_it_runs_from_top_to_bottom_and_again(place, tmp_path, cache_dir, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    options = " ".join(f"--config.{name}={value}" for name, value in OVERRIDES.items())
    monkeypatch.setenv("DST_JAX_OVERRIDES", options)
    monkeypatch.setenv("DST_JAX_STORAGE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_dir))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache_dir.parent / "xla"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    folder = NOTEBOOK.parent
    if place == "empty directory":
        folder = tmp_path / "empty"
        folder.mkdir()
        monkeypatch.setenv("PYTHONPATH", str(install(tmp_path)))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # A disconnect at the end: the training cell once more, in the same place.
    train = next(cell for cell in notebook.cells if cell.id == "train")
    again = nbformat.v4.new_code_cell(train.source)
    notebook.cells.insert(notebook.cells.index(train) + 1, again)
    client = nbclient.NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
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
    program = runs.ROOT / "run.py" if folder == NOTEBOOK.parent else tmp_path / "site/bin/dst-jax"
    assert f"dst_jax is run as {program}\n" in texts["install"]
    assert not any(word in texts["install"] for word in ("installing", "replaced"))
    assert "cpu:0" in texts["devices"]
    assert "step" in texts["train"]
    assert "rigl" in texts[again.id]
    assert "at step 44" in texts["load"]  # 1,437 images in batches of 32
    assert "<iframe srcdoc=" in outputs["report"][-1].data["text/html"]
    steps = [line["step"] for line in runs.record(tmp_path / "digits_rigl")]
    assert steps == sorted(set(steps)), "the second call trained again"
