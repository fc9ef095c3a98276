"""Patterns that a layer holds with a remainder, or not at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dst_jax import sparsity
from dst_jax.sparsity import told, uneven_blocks
from dst_jax.sparsity.sparsity_types import Block

CONFIG = {"dist_type": "uniform", "sparsity": 0.5, "rng_seed": 0, "update_freq": 1,
          "update_start_step": 1, "update_end_step": 10**6}  # fmt: skip
DROPS = {"drop_fraction": 0.4, "drop_fraction_schedule": "constant"}


@pytest.mark.parametrize("algorithm", ["rigl", "set"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("shape", "block"),
    [
        ((8, 16), "4,4"),
        ((30, 30), "4,4"),
        ((100, 10), "8,8"),
        ((3, 3, 4, 5), "2,2"),
        ((7, 64), "2,3"),
        ((9, 33, 2), "3,8"),
    ],
)
def test_counts_of_active_weights_never_change(algorithm, packed, shape, block):
    updater = sparsity.create_updater_from_config(
        CONFIG
        | DROPS
        | {"algorithm": algorithm, "sparsity_type": f"block_{block}", "use_packed_masks": packed}
    )
    params = {"a": {"kernel": jax.random.normal(jax.random.key(0), shape)}}
    state = updater.init_state(params)
    params = updater.post_gradient_update(params, state)
    update = jax.jit(updater.update_params_and_state)

    def mask_of(state):
        return np.asarray(updater.forward_masks(params, state)["a"]["kernel"])

    first, moved = mask_of(state), False
    height, width = map(int, block.split(","))
    largest = height * width * int(np.prod(shape[2:]))
    assert abs(int(first.sum()) - first.size / 2) <= largest / 2
    for t in range(1, 12):
        grads = {"a": {"kernel": jax.random.normal(jax.random.key(t), shape)}}
        params, state = update(state._replace(count=jnp.int32(t)), params, grads)
        mask = mask_of(state)
        assert int(mask.sum()) == int(first.sum())  # I2
        for i in range(0, shape[0], height):  # whole blocks
            for j in range(0, shape[1], width):
                assert np.ptp(mask[i : i + height, j : j + width]) == 0
        moved |= bool((mask != first).any())
        assert not np.asarray(params["a"]["kernel"])[mask == 0].any()
        params = updater.post_gradient_update(jax.tree.map(jnp.add, params, grads), state)
    assert moved or shape[:2] == (3, 3)  # of whose classes one is full and the others empty


def test_only_blocks_of_as_many_weights_are_exchanged():
    pattern, shape = Block((4, 4)), (30, 30)
    classes = uneven_blocks._classes(pattern, shape)
    assert {size: len(blocks) for size, blocks in classes.items()} == {16: 49, 8: 14, 4: 1}
    assert uneven_blocks.is_uneven(pattern, shape)
    assert not uneven_blocks.is_uneven(pattern, (8, 16, 3))
    best = uneven_blocks._shares(classes, 450)
    assert abs(sum(size * n for size, n in zip(classes, best, strict=True)) - 450) <= 2


def test_layers_that_cannot_hold_a_pattern_are_dense_and_listed():
    params = {"body": {"kernel": jnp.ones((8, 16))}, "head": {"kernel": jnp.ones((16, 10))}}

    def masks(pattern, algorithm="static"):
        told.forget()
        config = CONFIG | {"algorithm": algorithm, "sparsity_type": pattern}
        return sparsity.create_updater_from_config(config).init_state(params).masks

    with pytest.warns(
        UserWarning, match=r"head/kernel \[16, 10\] needs a last axis of a multiple of 4"
    ):
        found = masks("nm_2,4")
    assert found["head"]["kernel"] is None
    assert (found["body"]["kernel"].reshape(-1, 4).sum(1) == 2).all()
    found = masks("nm_2,4,0")
    assert (found["head"]["kernel"].T.reshape(-1, 4).sum(1) == 2).all()
    with pytest.warns(UserWarning, match="body/kernel .8, 16. needs several blocks"):
        found = masks("block_8,16")
    assert found["body"]["kernel"] is None
    with (
        pytest.warns(UserWarning, match="found no layer to mask"),
        pytest.warns(UserWarning, match="needs an axis 2"),
    ):
        masks("channel_2")
    with pytest.raises(ValueError, match="Sparsity type nm_2,4,0,1 is not supported"):
        masks("nm_2,4,0,1")


def test_a_pattern_without_a_sparsity():
    """As activation sparsity calls it in JaxPruner's code."""
    topk = sparsity.mask_calculator.get_topk_fn(sparsity.sparsity_types.NByM(1, 4))
    assert topk(jnp.arange(16.0).reshape(4, 4), None).tolist() == [[0, 0, 0, 1]] * 4
