"""Checkpoints: what goes in comes out, and what does not fit is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dst_jax.errors import UserError
from dst_jax.runtime import checkpoint
from dst_jax.runtime.devices import Devices
from dst_jax.sparsity import SparseState


def state(scale=1.0):
    return {
        "params": {"a": {"kernel": jnp.full((3, 4), scale), "bias": jnp.zeros(4)}},
        "sparse": SparseState(
            masks={"a": {"kernel": jnp.ones((3, 4), jnp.uint8), "bias": None}},
            inner_state=(jnp.arange(3.0), ()),
            count=jnp.int32(7),
        ),
        "batch_stats": {},
    }


def abstract(tree):
    return Devices("jit", jax.devices()[:1]).abstract(tree)


def test_a_state_comes_back_as_it_was_and_the_last_two_are_kept(tmp_path):
    saved = checkpoint.Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 15):
        saved.save(step, state(scale=float(step)))
    saved.wait()
    assert saved.steps() == [10, 15]
    for step, expected in ((None, state(15.0)), (10, state(10.0))):
        found = saved.restore(abstract(state()), step)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    saved.close()


def test_it_can_be_read_without_knowing_what_it_holds(tmp_path):
    saved = checkpoint.Checkpoints(tmp_path)
    saved.save(3, state())
    saved.close()
    found = checkpoint.read(tmp_path)
    assert sorted(found) == ["params", "sparse"]
    np.testing.assert_array_equal(found["sparse"]["masks"]["a"]["kernel"], np.ones((3, 4)))
    assert "bias" not in found["sparse"]["masks"]["a"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s["params"]["a"].pop("bias"), r"params/a/bias: found a leaf; expected nothing"),
        (
            lambda s: s["params"].update(b=jnp.zeros(2)),
            r"params/b: found nothing; expected a leaf",
        ),
        (
            lambda s: s["params"]["a"].update(kernel=jnp.zeros((3, 5))),
            r"params/a/kernel: found shape \(3, 4\); expected shape \(3, 5\)",
        ),
    ],
)
def test_a_checkpoint_of_another_network_is_told_by_its_first_leaf(tmp_path, change, text):
    saved = checkpoint.Checkpoints(tmp_path)
    saved.save(3, state())
    saved.wait()
    other = state()
    change(other)
    with pytest.raises(UserError, match=text):
        saved.restore(abstract(other))
    saved.close()


def test_no_checkpoint_is_told(tmp_path):
    with pytest.raises(UserError, match=r"found no checkpoint; .*--mode=train"):
        checkpoint.read(tmp_path)
