"""Files of a run directory: written whole or not at all; which checkpoints are seen."""

import numpy as np
import pytest

from dst_jax.runtime import run_dir


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a.npz"
    run_dir.write_arrays(path, {"x": np.arange(3)})
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        run_dir.write_arrays(path, {"x": np.array([{}], object)})
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]
    np.testing.assert_array_equal(run_dir.read_arrays(path)["x"], np.arange(3))


def test_only_whole_checkpoints_are_seen(tmp_path):
    assert run_dir.checkpoint_steps(tmp_path) == []
    for name in ("12", "5", "7.orbax-checkpoint-tmp-1", "²"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert run_dir.checkpoint_steps(tmp_path) == [5, 12]
