import jax.numpy as jnp
import pytest

from dst_jax import sparsity


def test_sparsity():
    tree = {
        "a": jnp.ones((2, 2)),
        "b": {"c": None, "d": jnp.array([1, 0, 1, 0.001]), "e": jnp.zeros([2, 1])},
    }
    total = {"_total_sparsity": 0.3, "_nparams": 10.0, "_nparams_nnz": 7.0}
    assert sparsity.summarize_sparsity(tree, only_total_sparsity=True) == total
    layers = {"a": 0.0, "b/c": None, "b/d": 0.25, "b/e": 1.0}
    found = sparsity.summarize_sparsity(tree)
    assert found == total | layers
    assert all(value is None or value.dtype == jnp.float32 for value in found.values())
    assert sparsity.summarize_sparsity([jnp.ones(2), jnp.zeros(2)])["1"] == 1.0


def test_intersection():
    first = {
        "a": jnp.array([0, 0, 1, 1]),
        "b": {"c": None, "d": jnp.array([1, 0]), "e": jnp.array([1, 0])},
    }
    second = {
        "a": jnp.array([0, 1, 0, 1]),
        "b": {"c": None, "d": jnp.array([1, 0]), "e": jnp.array([0, 1])},
    }
    total = {"_total_intersection": 0.5}
    assert sparsity.summarize_intersection(first, second, only_total_intersection=True) == total
    layers = {"a": 0.5, "b/c": None, "b/d": 1.0, "b/e": 0.0}
    assert sparsity.summarize_intersection(first, second) == total | layers
    empty = {"a": jnp.zeros(4)}
    assert sparsity.summarize_intersection(empty, empty)["_total_intersection"] == pytest.approx(0)


def test_layer_table():
    params = {
        "conv": {"kernel": jnp.ones((3, 3, 1, 2)), "bias": jnp.ones(2)},
        "z": jnp.ones((2, 4)),
    }
    masks = {
        "conv": {"kernel": jnp.ones((3, 3, 1, 2), jnp.uint8), "bias": None},
        "z": jnp.eye(2, 4, dtype=jnp.uint8),
    }
    assert sparsity.summaries.layer_table(params, masks).splitlines() == [
        "conv/kernel          3 x 3 x 1 x 2            18 of           18  density 1.0000",
        "z                            2 x 4             2 of            8  density 0.2500",
        "all maskable layers                           20 of           26  density 0.7692",
    ]
    assert sparsity.summaries.layer_table(params, {"z": None}).splitlines() == [
        "No layer has a mask.",
        "without a mask: conv/kernel (3 x 3 x 1 x 2), z (2 x 4)",
    ]
