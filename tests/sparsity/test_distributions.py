import functools
import inspect
import json
import math

import flax.core
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from dst_jax.sparsity import sparsity_distributions as distributions

TREE = {"a": np.zeros((2, 4)), "b": {"c": np.zeros((3, 6, 7)), "d": np.ones((4,))}}


def test_uniform_keeps_the_structure():
    assert distributions.uniform(TREE, 0.5) == {"a": 0.5, "b": {"c": 0.5, "d": None}}
    assert distributions.uniform([np.zeros((2, 4)), np.ones(4)], 0.5) == [0.5, None]
    assert distributions.uniform(np.zeros((2, 4)), 0.5) == 0.5
    assert distributions.uniform(TREE, 0.5, custom_sparsity_map={("b", "d"): 0.1})["b"]["d"] == 0.1
    kernels = distributions.uniform({"kernel": np.ones(3)}, 0.5, distributions.KERNEL_FILTER_FN)
    assert kernels == {"kernel": 0.5}


@pytest.mark.parametrize("function", [distributions.uniform, distributions.erk])
def test_frozen_in_frozen_out(function):
    assert isinstance(function(flax.core.freeze(TREE), 0.5), flax.core.FrozenDict)


def test_erk_moves_sparsity_to_the_large_layers():
    sparsities = distributions.erk(TREE, 0.5)
    assert sparsities["a"] == 0.0
    assert sparsities["b"]["d"] is None
    assert sparsities["b"]["c"] == pytest.approx(0.53, abs=0.005)


def test_erk_leaves_custom_layers_out_of_the_budget():
    tree = {**TREE, "e": np.zeros((7, 4))}
    sparsities = distributions.erk(tree, 0.5, custom_sparsity_map={("e",): 0.1})
    assert sparsities["e"] == 0.1
    assert sparsities["b"]["c"] == pytest.approx(0.53, abs=0.005)


@pytest.mark.parametrize("array", [np.ones((2, 2)), jnp.ones((2, 2))])
def test_erk_needs_a_tree(array):
    with pytest.raises(ValueError, match="Please provide a paramater tree"):
        distributions.erk(array, 0.5)


def test_impossible_requests():
    with pytest.raises(ValueError, match="Variable shape dictionary"):
        distributions.get_sparsities_erdos_renyi({}, 0.5)
    with pytest.raises(ValueError, match="Default sparsity"):
        distributions.get_sparsities_erdos_renyi({"a": (1, 1)}, -1)


@pytest.mark.parametrize("sparsity", [0.0, 1.0])
def test_erk_at_the_ends(sparsity):
    shapes = {"a": (3, 3, 8, 16), "b": (4, 4), "c": (100, 3)}
    found = distributions.get_sparsities_erdos_renyi(shapes, sparsity)
    assert found == dict.fromkeys(shapes, pytest.approx(sparsity))


@pytest.fixture(scope="module")
def resnet50(shared_dir):
    shapes = json.loads((shared_dir / "golden/jaxpruner/golden.json").read_text())
    shapes = {k: tuple(v) for k, v in shapes["resnet50_shapes"].items()}
    return {k: jax.ShapeDtypeStruct(v, np.float32) for k, v in shapes.items() if len(v) > 1}


def test_published_erk_densities_of_resnet50(resnet50):
    # Evci et al. 2020 publish the FLOPs that follow from these: 0.42x and 0.24x.
    shapes = {name: leaf.shape for name, leaf in resnet50.items()}
    assert sum(math.prod(s) for s in shapes.values()) == 25_502_912
    expected = {
        0.8: {(7, 7, 3, 64): 0.8572, (3, 3, 64, 64): 0.3619, (3, 3, 512, 512): 0.0435},
        0.9: {(7, 7, 3, 64): 0.4200, (3, 3, 64, 64): 0.1773, (3, 3, 512, 512): 0.0213},
    }
    more = {
        0.8: {(1, 1, 64, 64): 1.0, (1, 1, 512, 2048): 0.2433, (2048, 1000): 0.1482},
        0.9: {(1, 1, 64, 64): 1.0, (1, 1, 512, 2048): 0.1192, (2048, 1000): 0.0726},
    }
    for sparsity, densities in expected.items():
        found = distributions.get_sparsities_erdos_renyi(shapes, sparsity)
        of_shape = {shapes[name]: 1 - s for name, s in found.items()}
        for shape, density in (densities | more[sparsity]).items():
            assert of_shape[shape] == pytest.approx(density, abs=5e-5), (sparsity, shape)
        dense = sum(s == 0 for s in found.values())
        assert dense == {0.8: 8, 0.9: 1}[sparsity]


@pytest.mark.parametrize("function", [distributions.uniform, distributions.erk])
@pytest.mark.parametrize("sparsity", [0.1, 0.3, 0.5, 0.8, 0.9, 0.95, 0.99])
def test_counts_of_resnet50_are_exact(resnet50, function, sparsity):
    counts = distributions.active_counts(resnet50, function(resnet50, sparsity), sparsity)
    assert sum(counts.values()) == round((1 - sparsity) * 25_502_912)
    for name, leaf in resnet50.items():
        assert 1 <= counts[name] <= math.prod(leaf.shape)


@hypothesis.settings(deadline=None)
@hypothesis.given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=6),
    st.floats(0, 1),
    st.sampled_from([distributions.uniform, distributions.erk]),
)
@hypothesis.example([(1, 1), (1, 16)], 0.03125, distributions.uniform)  # 15.5 rounds to all 16
@hypothesis.example([(9, 29)], 1 / 512, distributions.erk)  # half a weight: ERK rounds to none
def test_counts_add_up(shapes, sparsity, function):
    tree = {str(i): jax.ShapeDtypeStruct(s, np.float32) for i, s in enumerate(shapes)}
    sparsities = function(tree, sparsity)
    counts = distributions.active_counts(tree, sparsities, sparsity)
    sizes = {name: math.prod(leaf.shape) for name, leaf in tree.items()}
    total = round((1 - sparsity) * sum(sizes.values()))
    assert all(1 <= counts[name] <= sizes[name] for name in tree)
    # What the rule itself makes dense stays so, and no other layer is emptied.
    fewest = sum(sizes[name] if 1 - sparsities[name] == 1 else 1 for name in tree)
    assert sum(counts.values()) == max(total, fewest)
    for name in tree:
        if sparsities[name] == 0:
            assert counts[name] == sizes[name]


def test_counts_without_one_overall_sparsity():
    tree = {"a": np.zeros((5, 1)), "b": np.zeros((5, 1)), "c": np.zeros((5, 1)), "d": np.zeros(3)}
    halves = functools.partial(distributions.uniform, sparsity=0.5)(tree)
    assert distributions.active_counts(tree, halves, 0.5) == {"a": 3, "b": 3, "c": 2, "d": None}
    # A request that the layers do not follow is not theirs.
    assert sum(filter(None, distributions.active_counts(tree, halves, 0.0).values())) == 8


@pytest.mark.parametrize("rule", [distributions.uniform, distributions.erk])
@pytest.mark.parametrize("custom", [None, {("a",): 0.25}])
def test_a_distribution_is_a_partial_with_names(rule, custom):
    bound = {"sparsity": 0.5, "custom_sparsity_map": custom}
    partial, found = functools.partial(rule, **bound), distributions.Distribution(rule, **bound)
    assert found(TREE) == found.sparsities(TREE) == partial(TREE)
    assert found(TREE, sparsity=0.125) == partial(TREE, sparsity=0.125)
    assert inspect.signature(found).parameters["sparsity"].default == 0.5
    assert list(inspect.signature(found).parameters) == list(inspect.signature(rule).parameters)
    exact = distributions.active_counts(TREE, partial(TREE), None if custom else 0.5)
    assert found.counts(TREE) == distributions.Distribution.of(partial).counts(TREE) == exact
    assert distributions.requested_sparsity(partial) == (None if custom else 0.5)


def test_any_function_is_a_distribution():
    def half(params):
        return jax.tree.map(lambda p: 0.5, params)

    found = distributions.Distribution.of(half)
    assert distributions.Distribution.of(found) is found
    assert (found.requested, found.counts({"a": np.zeros(7)})) == (None, {"a": 4})
    assert distributions.requested_sparsity(None) is None
