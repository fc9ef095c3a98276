"""One small network in the params tree of each framework: the same weights, other containers."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

SHAPES = ((6, 8), (8, 8), (8, 4))


def arrays(seed=0):
    """[(kernel, bias), ...] of the layers."""
    rng = np.random.default_rng(seed)
    return [
        (
            jnp.asarray(rng.standard_normal(shape, np.float32)),
            jnp.asarray(rng.standard_normal(shape[1], np.float32)),
        )
        for shape in SHAPES
    ]


def filled(tree, seed=0):
    """The tree with the values of `arrays`; its leaves are told apart by their shapes, in order."""
    kernels, biases = zip(*arrays(seed), strict=True)
    left = {2: list(kernels), 1: list(biases)}
    leaves, treedef = jax.tree.flatten(tree)

    def take(leaf):
        shapes = (leaf.shape, leaf.shape[::-1])
        index = next(i for i, a in enumerate(left[len(leaf.shape)]) if a.shape in shapes)
        found = left[len(leaf.shape)].pop(index)
        return found if found.shape == leaf.shape else found.T

    return treedef.unflatten([take(leaf) for leaf in leaves])


def linen():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _, width in SHAPES:
                x = nn.Dense(width)(x)
            return x

    shapes = jax.eval_shape(Net().init, jax.random.key(0), jnp.zeros((1, 6)))["params"]
    return filled(shapes)


class NNXNet(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(*shape, rngs=rngs) for shape in SHAPES])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def nnx_state():
    return filled(nnx.state(NNXNet(nnx.Rngs(0)), nnx.Param))


def equinox():
    eqx = pytest.importorskip("equinox", reason="Equinox is not installed")
    keys = jax.random.split(jax.random.key(0), len(SHAPES))
    layers = [eqx.nn.Linear(*shape, key=key) for shape, key in zip(SHAPES, keys, strict=True)]
    return filled(eqx.filter(eqx.nn.Sequential(layers), eqx.is_inexact_array))


def haiku():
    names = ("mlp/~/linear_0", "mlp/~/linear_1", "mlp/~/linear_2")
    return {name: {"w": w, "b": b} for name, (w, b) in zip(names, arrays(), strict=True)}


def pairs():
    (first, second, third) = arrays()
    return [first, (second, {"head": third, "none": None, "empty": {}})]


TREES = {"linen": linen, "nnx": nnx_state, "equinox": equinox, "haiku": haiku, "pairs": pairs}
HAS_EQUINOX = importlib.util.find_spec("equinox") is not None
make = functools.cache(lambda kind: TREES[kind]())
