"""The README's examples run as they stand."""

import re

import jax.numpy as jnp
import numpy as np
import optax
import runs
from ml_collections import ConfigDict

from dst_jax import config as config_lib

README = (runs.ROOT / "README.md").read_text()


def test_every_python_block_runs():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    sparsity = {
        "algorithm": "rigl",
        "sparsity": 0.5,
        "dist_type": "erk",
        "update_freq": 10,
        "update_start_step": 0,
        "update_end_step": 100,
    }
    namespace = {
        "config": ConfigDict({"sparsity": sparsity}),
        "optax": optax,
        "params": {"layer": {"kernel": jnp.ones((8, 6)), "bias": jnp.ones(6)}},
        "images": np.full((4, 32, 32, 3), 100, np.uint8),
        "image_ids": np.arange(4, dtype=np.int32),
    }
    for block in blocks:
        exec(block, namespace)
    assert int((namespace["params"]["layer"]["kernel"] == 0).sum()) == 24
    assert namespace["corrupted"].shape == (4, 32, 32, 3)


def test_every_file_and_command_it_names_is_there():
    for link in re.findall(r"\]\(([\w./]+)\)", README):
        assert (runs.ROOT / link).exists(), link
    for card in re.findall(r"--config=(configs/\w+\.py)", README):
        assert (runs.ROOT / card).is_file(), card
    for option in re.findall(r"--config\.([a-z_.]+)=", README):
        assert option in config_lib.OPTIONS, option
