"""The code of docs/models.md runs as it stands, its options and names are there."""

import json
import re

import jax
import pytest
import runs

from dst_jax import config as config_lib
from dst_jax import export, models
from dst_jax.models import torch_names
from dst_jax.runtime.checkpoint import Checkpoints
from dst_jax.training import build, step

PAGE = (runs.ROOT / "docs" / "models.md").read_text()
IN, OUT = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_weights_come_in():
    pytest.importorskip("torchvision", reason="torchvision, whose network is loaded, is absent")
    names: dict = {}
    exec(IN, names)
    assert names["logits"].shape == (1, 1000)


def test_weights_go_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "runs" / "mine"
    path.mkdir(parents=True)
    config = runs.small_config(model__name="mlp", model__width=4)
    (path / "config.json").write_text(json.dumps(config))
    recipe = build.recipe(config)
    checkpoints = Checkpoints(path / "checkpoints")
    state = step.init_state(recipe, models.init(recipe.model, 0, (32, 32, 3)))
    checkpoints.save(1, jax.tree.map(jax.numpy.asarray, state))
    checkpoints.close()
    names: dict = {}
    exec(OUT, names)
    assert jax.tree.leaves(names["weights"]["masks"])
    assert "compact is the smaller" in capsys.readouterr().out


def test_what_it_names_is_there():
    for option in re.findall(r"`((?:model|sparsity)\.(?!json)\w+)[`=]", PAGE):
        assert option in config_lib.OPTIONS, option
    for option in re.findall(r"--config\.([a-z_.]+)=", PAGE):
        assert option in config_lib.OPTIONS, option
    section = PAGE.partition("## Weights in")[2].partition("To train from")[0]
    assert set(torch_names.NAMES) <= set(re.findall(r"`(\w+)`", section))
    for format in export.FORMATS:
        assert f"| `{format}` |" in PAGE
