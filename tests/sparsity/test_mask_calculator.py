import functools
import math

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from dst_jax.sparsity import mask_calculator, sparsity_types
from dst_jax.sparsity.topk import exact_topk, topk_masks

# Few shapes, so that each is compiled once; values from a small set, so that ties abound.
SHAPES = [(1,), (2, 3), (3, 1, 4, 3), (61,)]
VALUES = [-math.inf, -2.5, -1e-40, -0.0, 0.0, 1e-40, 1.0, 1.0000001, 3.0, math.inf, math.nan]


def stable_topk(scores: np.ndarray, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
    """Brute force: a stable sort in float64, NaN as -inf."""
    flat = np.nan_to_num(
        scores.ravel().astype(np.float64), nan=-np.inf, posinf=np.inf, neginf=-np.inf
    )
    order = np.argsort(-flat, kind="stable")
    if allowed is not None:
        order = order[allowed.ravel()[order] != 0]
    mask = np.zeros(flat.size, np.uint8)
    mask[order[:k]] = 1
    return mask.reshape(scores.shape)


@st.composite
def score_arrays(draw):
    shape = draw(st.sampled_from(SHAPES))
    size = math.prod(shape)
    values = draw(st.lists(st.sampled_from(VALUES), min_size=size, max_size=size))
    return np.array(values, np.float32).reshape(shape)


@hypothesis.settings(deadline=None, max_examples=150)
@hypothesis.given(score_arrays(), st.data())
def test_exact_topk_is_a_stable_sort(scores, data):
    k = data.draw(st.integers(0, scores.size))
    mask = np.asarray(exact_topk(scores, k))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, stable_topk(scores, k))


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(score_arrays(), st.data())
def test_exact_topk_chooses_only_candidates(scores, data):
    bits = st.lists(st.integers(0, 1), min_size=scores.size, max_size=scores.size)
    allowed = np.array(data.draw(bits), np.uint8).reshape(scores.shape)
    k = data.draw(st.integers(0, scores.size))
    mask = np.asarray(exact_topk(scores, k, candidates=allowed))
    np.testing.assert_array_equal(mask, stable_topk(scores, k, allowed))


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(score_arrays(), st.integers(0, 2**31 - 1), st.data())
def test_random_ties_change_only_which_of_the_equal_scores(scores, seed, data):
    k = data.draw(st.integers(0, scores.size))
    mask = np.asarray(exact_topk(scores, k, tie_key=jax.random.key(seed)))
    assert mask.sum() == k
    # The chosen scores are the same multiset as with any other tie rule.
    clean = np.where(np.isnan(scores), -np.inf, scores) + 0.0
    np.testing.assert_array_equal(
        np.sort(clean[mask == 1]), np.sort(clean[stable_topk(scores, k) == 1])
    )


def test_random_ties_are_fair():
    scores = jnp.zeros((64,))
    keys = jax.random.split(jax.random.key(0), 2000)
    masks = jax.vmap(lambda key: exact_topk(scores, 16, tie_key=key))(keys)
    share = np.asarray(masks).mean(axis=0)
    assert (masks.sum(axis=1) == 16).all()
    # 2000 draws at p = 0.25: standard deviation 0.0097, so 0.05 is five of them.
    np.testing.assert_allclose(share, 0.25, atol=0.05)
    together = np.asarray(masks).T.astype(float) @ np.asarray(masks) / 2000
    np.fill_diagonal(together, 16 * 15 / (64 * 63))
    np.testing.assert_allclose(together, 16 * 15 / (64 * 63), atol=0.035)


@pytest.mark.parametrize("values", ["normal", "mostly zero", "integers", "uint32", "bfloat16"])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.97])
def test_large_layers(values, share):
    rng = np.random.default_rng(1)
    scores = rng.standard_normal(70_000, np.float32)
    if values == "mostly zero":
        scores *= rng.random(70_000) < 0.05
    if values == "integers":
        scores = (scores * 3).astype(np.int32)
    if values == "uint32":
        scores = rng.integers(0, 2**32, 70_000, np.uint32)
    if values == "bfloat16":
        scores = np.asarray(jnp.asarray(scores, jnp.bfloat16))
    allowed = (rng.random(70_000) < 0.6).astype(np.uint8)
    k = int(share * allowed.sum())
    mask = exact_topk(scores, k, candidates=allowed)
    np.testing.assert_array_equal(mask, stable_topk(scores, k, allowed))


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint32, jnp.int8, jnp.bool_])
def test_integers_are_ranked_exactly(dtype):
    rng = np.random.default_rng(0)
    low, high = (0, 2) if dtype == jnp.bool_ else (jnp.iinfo(dtype).min, jnp.iinfo(dtype).max)
    scores = rng.integers(low, high, 50).astype(dtype)
    np.testing.assert_array_equal(exact_topk(scores, 20), stable_topk(scores, 20))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_short_floats_are_ranked_as_float32(dtype):
    scores = jax.random.normal(jax.random.key(0), (6, 40)).astype(dtype)
    wide = np.asarray(scores.astype(jnp.float32))
    np.testing.assert_array_equal(exact_topk(scores, 100), stable_topk(wide, 100))


def test_several_arrays_are_ranked_as_one():
    scores = [jnp.array([[3.0, 1.0], [2.0, 2.0]]), jnp.array([2.0, 5.0, 0.0])]
    for k in range(8):
        masks = topk_masks(scores, k, joint=True)
        joined = stable_topk(np.concatenate([np.ravel(s) for s in scores]), k)
        np.testing.assert_array_equal(np.concatenate([np.ravel(m) for m in masks]), joined)


def test_k_may_be_traced_and_out_of_range():
    scores = jnp.array([1.0, 3.0, 2.0])
    topk = jax.jit(exact_topk)
    expected = {-1: [0, 0, 0], 0: [0, 0, 0], 1: [0, 1, 0], 2: [0, 1, 1], 3: [1, 1, 1], 9: [1, 1, 1]}
    for k, mask in expected.items():
        np.testing.assert_array_equal(topk(scores, k), mask)
        np.testing.assert_array_equal(exact_topk(scores, k), mask)


def test_no_scores_at_all():
    assert exact_topk(jnp.zeros((0, 3)), 0).shape == (0, 3)
    assert mask_calculator.topk_mask_calculator(jnp.zeros((0,)), 0.5).shape == (0,)


@pytest.mark.parametrize("tie_key", [None, 3])
def test_sharded_scores_give_the_same_mask(tie_key):
    key = None if tie_key is None else jax.random.key(tie_key)
    scores = jnp.round(jax.random.normal(jax.random.key(0), (3, 3, 8, 16)), 1)
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, None, "a", "b"))
    topk = jax.jit(functools.partial(exact_topk, tie_key=key))
    one = topk(scores, 300)
    four = topk(jax.device_put(scores, sharding), 300)
    np.testing.assert_array_equal(one, four)


def test_float32_count_rule_and_where_it_ends():
    assert mask_calculator.number_active(10, 0.85) == 1  # JaxPruner's: float64 would say 2
    assert mask_calculator.number_active(5, 0.5) == 2  # half to even
    assert mask_calculator.number_active(7, 1.0) == 1
    assert mask_calculator.number_active(7, 0.0) == 7
    assert mask_calculator.number_active(102_760_448, 0.9) == 10_276_045
    assert int(jax.jit(lambda s: mask_calculator.number_active(10, s))(0.85)) == 1
    assert int(jax.jit(lambda s: mask_calculator.number_active(2**25 + 1, s))(0.0)) == 2**25 + 1


def test_nested_lists_and_keyword():
    topk = mask_calculator.get_topk_fn(sparsity_types.Unstructured)
    np.testing.assert_array_equal(topk([[1.0, 4.0], [3.0, 2.0]], sparsity=0.5), [[0, 1], [1, 0]])
    jitted = jax.jit(topk)
    np.testing.assert_array_equal(jitted([[1.0, 4.0], [3.0, 2.0]], 0.5), [[0, 1], [1, 0]])


def test_n_by_m():
    topk = mask_calculator.get_topk_fn(sparsity_types.NByM(2, 4))
    np.testing.assert_array_equal(topk(jnp.ones(8), 0.5), [0, 0, 1, 1, 0, 0, 1, 1])
    np.testing.assert_array_equal(topk(jnp.ones(8), 0.0), np.ones(8))
    np.testing.assert_array_equal(jax.jit(topk)(jnp.ones(8), 0.0), np.ones(8))
    other_axis = mask_calculator.get_topk_fn(sparsity_types.NByM(1, 2, axis=0))
    np.testing.assert_array_equal(other_axis([[1, 5], [2, 4]], 0.5), [[0, 1], [1, 0]])
    with pytest.raises(ValueError, match="must be <="):
        mask_calculator.get_topk_fn(sparsity_types.NByM(4, 2))(jnp.ones(8), 0.5)
    with pytest.raises(ValueError, match="multiple of 4"):
        topk(jnp.ones(6), 0.5)


@pytest.mark.parametrize("use_avg_pooling", [False, True])
@pytest.mark.parametrize("shape", [(7, 10), (4, 6), (5,), (3, 3, 4, 2)])
def test_blocks_are_whole(shape, use_avg_pooling):
    scores = jax.random.uniform(jax.random.key(1), shape)
    topk = mask_calculator.get_topk_fn(sparsity_types.Block((2, 3), use_avg_pooling))
    mask = np.asarray(topk(scores, 0.5))
    assert mask.shape == shape
    grid = mask.reshape(1, -1) if len(shape) == 1 else mask
    blocks = [
        grid[row : row + 2, column : column + 3]
        for row in range(0, grid.shape[0], 2)
        for column in range(0, grid.shape[1], 3)
    ]
    assert all(block.min() == block.max() for block in blocks)
    assert sum(int(block.max()) for block in blocks) == round(len(blocks) / 2)


def test_pooling_means_over_what_is_there():
    pooled = mask_calculator._pool_2d(jnp.arange(6.0).reshape(2, 3), 2, 2, True)
    np.testing.assert_allclose(pooled, [[2.0, 3.5]])
    pooled = mask_calculator._pool_2d(-jnp.ones((2, 3)), 2, 2, False)
    np.testing.assert_allclose(pooled, [[-1.0, -1.0]])


def test_channels_are_whole():
    scores = jnp.array([[1.0, 5.0, 2.0], [1.0, 1.0, 2.0]])
    topk = mask_calculator.get_topk_fn(sparsity_types.Channel(axis=-1))
    np.testing.assert_array_equal(topk(scores, 1 / 3), [[0, 1, 1], [0, 1, 1]])


def test_unknown_type():
    with pytest.raises(ValueError, match="Not a supported sparsity type"):
        mask_calculator.get_topk_fn("dense")
    assert sparsity_types.is_sparsity_type(sparsity_types.Channel())
    assert not sparsity_types.is_sparsity_type("block_4,4")
