"""The examples of the README and of pages without a test of their own run as they stand."""

import json
import re

import jax
import pytest
import runs

from dst_jax import config as config_lib
from dst_jax import models
from dst_jax.runtime.checkpoint import Checkpoints
from dst_jax.training import build, step

README = (runs.ROOT / "README.md").read_text()


PAGES = ("README.md", "docs/corruptions.md", "docs/data.md", "docs/analysis.md")
# Of the published archives, which a test has not.
NEEDS_DATA = "data.load_corrupted(cifar100"


@pytest.mark.parametrize("page", PAGES)
def test_every_python_block_runs(page, tmp_path, monkeypatch, cache_dir):
    """With nothing defined before; docs/ has others with tests of their own."""
    blocks = re.findall(r"```python\n(.*?)```", (runs.ROOT / page).read_text(), re.DOTALL)
    blocks = [block for block in blocks if NEEDS_DATA not in block]
    assert blocks
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_dir))
    if page == "docs/analysis.md":
        untrained_run(tmp_path / "runs" / "demo" / "rigl-seed0")
    for block in blocks:
        seen: dict[str, object] = {}
        exec(block, seen)
        if "corrupted" in seen:
            assert seen["corrupted"].shape == (4, 32, 32, 3)
        if "tx" in seen:
            assert int((seen["params"]["layer"]["kernel"] == 0).sum()) == 24
        if "curve" in seen:
            assert len(seen["curve"]) == 3


def untrained_run(path):
    config = runs.small_config()
    recipe = build.recipe(config)
    state = step.init_state(recipe, models.init(recipe.model, 0, (32, 32, 3)))
    checkpoints = Checkpoints(path / "checkpoints")
    checkpoints.save(1, jax.tree.map(jax.numpy.asarray, state))
    checkpoints.close()
    (path / "config.json").write_text(json.dumps(config))


def test_every_file_and_command_it_names_is_there():
    for link in re.findall(r"\]\(([\w./]+)\)", README):
        assert (runs.ROOT / link).exists(), link
    for card in re.findall(r"--config=(configs/\w+\.py)", README):
        assert (runs.ROOT / card).is_file(), card
    for option in re.findall(r"--config\.([a-z_.]+)=", README):
        assert option in config_lib.OPTIONS, option
