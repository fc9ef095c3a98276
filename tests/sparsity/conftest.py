"""A small tree with everything that trips sparse training: convolutions, biases, BatchNorm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dst_jax.sparsity import told


class SmallNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=False)(nn.Conv(6, (3, 3))(x))
        x = nn.Conv(10, (3, 3))(nn.relu(x)).mean(axis=(1, 2))
        return nn.Dense(7)(x)


@pytest.fixture(autouse=True)
def _told_anew():
    """A warning that is given once in a process is given in each test."""
    told.forget()


@pytest.fixture(scope="session")
def params():
    images = jnp.zeros((1, 8, 8, 3))
    shapes = jax.eval_shape(SmallNet().init, jax.random.key(0), images)["params"]
    return random_like(shapes, 0)


def random_like(tree, seed):
    """Normal values of a tree's shapes."""
    leaves, treedef = jax.tree.flatten(tree)
    rng = np.random.default_rng(seed)
    return treedef.unflatten(
        [jnp.asarray(rng.standard_normal(p.shape, np.float32)) for p in leaves]
    )
