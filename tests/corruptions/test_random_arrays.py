"""The large random arrays: JAX's own words, the laws, and the same numbers in every batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dst_jax.corruptions import random_arrays

KEY = jax.random.key(9)


def test_numbers_are_jaxs():
    """`jax.random` in its older mode hashes the same counters."""
    words = jax.random.bits(KEY, (2,), jnp.uint32)
    with jax.threefry_partitionable(False):
        expected = jax.random.uniform(jax.random.wrap_key_data(words), (5, 7, 3), minval=-1)
    np.testing.assert_array_equal(random_arrays.uniform(KEY, (5, 7, 3), -1.0, 1.0), expected)
    with jax.threefry_partitionable(False):
        expected = jax.random.normal(jax.random.wrap_key_data(words), (5, 7, 3))
    np.testing.assert_array_equal(random_arrays.normal(KEY, (5, 7, 3)), expected)


def test_laws():
    u = np.asarray(random_arrays.uniform(KEY, (40_000,), -45.0, 45.0))
    assert u.min() >= -45
    assert u.max() < 45
    assert stats.kstest(u, "uniform", (-45, 90)).pvalue > 1e-4
    n = np.asarray(random_arrays.normal(KEY, (40_000,)))
    assert stats.kstest(n, "norm").pvalue > 1e-4
    assert abs(np.corrcoef(n[:-1], n[1:])[0, 1]) < 0.02


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_any_kind_of_key(kind):
    keys = jax.random.split(jax.random.key(0, impl=kind), 3)
    found = jax.vmap(lambda key: random_arrays.normal(key, (100,)))(keys)
    assert np.isfinite(found).all()
    assert len(np.unique(np.asarray(found)[:, 0])) == 3


@pytest.mark.parametrize("shape", [(32, 32, 3), (31, 17)])
def test_every_batch_has_the_same_bits(shape):
    keys = jax.random.split(KEY, 64)
    draw = jax.jit(jax.vmap(lambda key: random_arrays.normal(key, shape)))
    together = np.asarray(draw(keys))
    np.testing.assert_array_equal(
        np.concatenate([draw(k) for k in keys[:63].reshape(9, 7)]), together[:63]
    )
    np.testing.assert_array_equal(draw(keys[5:6])[0], together[5])
    np.testing.assert_array_equal(random_arrays.normal(keys[5], shape), together[5])
