"""JaxPruner's own numbers (masks, densities, schedules, trajectories), where they are at hand."""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent


@pytest.mark.slow
def test_golden_vectors_of_jaxpruner(shared_dir):
    script = shared_dir / "golden" / "jaxpruner" / "check_golden.py"
    if not script.exists():
        pytest.skip("no golden vectors beside this checkout")
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    done = subprocess.run(
        [sys.executable, str(script), "golden_adapter"],
        env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "TOTAL pass 907 fail 0" in done.stdout
    assert "skipped" not in done.stdout
