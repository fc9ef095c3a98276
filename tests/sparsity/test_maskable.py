"""Which parameters have a mask by default, in networks of each framework."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dst_jax import models, sparsity
from dst_jax.sparsity import maskable, param_paths


def masked(params, rule=maskable.MASKABLE_FILTER_FN):
    paths, leaves, _ = param_paths.flatten(params)
    return {param_paths.text(p) for p, leaf in zip(paths, leaves, strict=True) if rule(p, leaf)}


def shapes(module, *inputs):
    return jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]


class Block(nn.Module):
    @nn.compact
    def __call__(self, h, _):
        return nn.RMSNorm()(nn.LayerNorm()(nn.Dense(8)(h))), None


def test_flax_linen():
    x = jnp.ones((2, 5, 8))
    attention = masked(shapes(nn.MultiHeadDotProductAttention(2), x, x))
    assert attention == {f"{part}/kernel" for part in ("query", "key", "value", "out")}
    scanned = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=6)
    assert masked(shapes(scanned(), x, None)) == {"Dense_0/kernel"}
    table = shapes(nn.Embed(10, 4), jnp.arange(3))
    assert masked(table) == set()
    assert masked(table, maskable.EMBEDDINGS_TOO_FILTER_FN) == {"embedding"}
    assert masked(table, maskable.NOT_DIM_ONE_FILTER_FN) == {"embedding"}
    lstm = shapes(nn.RNN(nn.LSTMCell(4)), x)
    assert masked(lstm)
    assert all(path.endswith("kernel") for path in masked(lstm))


def test_flax_nnx():
    state = nnx.state(nnx.MultiHeadAttention(2, 8, rngs=nnx.Rngs(0), decode=False), nnx.Param)
    assert masked(state) == {f"{part}/kernel" for part in ("query", "key", "value", "out")}
    assert masked(nnx.state(nnx.BatchNorm(8, rngs=nnx.Rngs(0)))) == set()


def test_equinox():
    eqx = pytest.importorskip("equinox", reason="Equinox is not installed")

    class Net(eqx.Module):
        conv: eqx.nn.Conv2d
        norm: eqx.nn.LayerNorm
        attention: eqx.nn.MultiheadAttention
        token_embedding: eqx.nn.Embedding
        scale: jax.Array

    keys = jax.random.split(jax.random.key(0), 3)
    net = Net(
        eqx.nn.Conv2d(3, 4, 3, key=keys[0]),  # its bias is [4, 1, 1]
        eqx.nn.LayerNorm((4, 4)),
        eqx.nn.MultiheadAttention(2, 4, use_query_bias=True, key=keys[1]),
        eqx.nn.Embedding(10, 4, key=keys[2]),
        jnp.ones((4, 1)),
    )
    tree = eqx.filter(net, eqx.is_inexact_array)
    projections = {f"attention/{part}_proj/weight" for part in ("query", "key", "value", "output")}
    assert masked(tree) == {"conv/weight", *projections}
    more = masked(tree, maskable.EMBEDDINGS_TOO_FILTER_FN)
    assert more == {"conv/weight", "token_embedding/weight", *projections}


@pytest.mark.parametrize(
    ("path", "shape", "dtype", "expected"),
    [
        (("w",), (4, 4), "float32", True),
        (("0",), (4, 4), "bfloat16", True),
        (("encoder", "patch_embed", "kernel"), (4, 4, 3, 8), "float32", True),
        (("embedding", "kernel"), (4, 4, 3, 8), "float32", True),  # Flax's ViT cuts patches so
        (("batch_norm", "w"), (6, 8), "float32", False),
        (("in_proj_bias",), (2, 8), "float32", False),
        (("layer_stack", "linear", "b"), (6, 8), "float32", False),
        (("b",), (6, 8), "float32", True),
        (("relative_index",), (4, 4), "int32", False),
        (("mask",), (4, 4), "bool", False),
        (("kernel",), (8,), "float32", False),
        (("cls_token",), (1, 1, 8), "float32", False),
        (("pos_embedding",), (1, 9, 8), "float32", False),
        (("normal", "weight"), (4, 4), "float32", True),
    ],
)
def test_names_and_dtypes(path, shape, dtype, expected):
    leaf = jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))
    assert maskable.MASKABLE_FILTER_FN(path, leaf) == expected
    assert bool(maskable.why_dense(path, leaf)) != expected
    assert maskable.NOT_DIM_ONE_FILTER_FN(path, leaf) == (len(shape) > 1)


@pytest.mark.parametrize("name", list(models.MODELS))
def test_the_default_and_our_models_agree(name):
    """A training of ours has its model's rule; the default would mask no bias, norm or token."""
    size = (1, 4, 32, 32, 3) if "3d" in name or "i3d" in name else (1, 32, 32, 3)
    module = models.create(name, 10)
    tree = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(size))["params"]
    kernels = {
        p
        for p, leaf in param_paths.by_text(tree).items()
        if p.split("/")[-1] == "kernel" and len(leaf.shape) > 1
    }
    assert masked(tree) == kernels
    assert masked(tree, models.maskable(name)) <= kernels


def test_rules_by_name_and_exclude():
    base = {"algorithm": "static", "dist_type": "uniform", "sparsity": 0.5, "rng_seed": 0}
    params = {
        "a": {"kernel": jnp.ones((4, 4)), "bias": jnp.ones((2, 4))},
        "b": {"kernel": jnp.ones((4, 4))},
    }

    def found(**options):
        state = sparsity.create_updater_from_config(base | options).init_state(params)
        return {p for p, mask in param_paths.by_text(state.masks).items() if mask is not None}

    assert found() == found(filter_fn="default") == {"a/kernel", "b/kernel"}
    assert found(filter_fn="not_dim_one") == {"a/kernel", "a/bias", "b/kernel"}
    assert found(filter_fn="not_dim_one", exclude="^a/k") == {"a/bias", "b/kernel"}
    with pytest.raises(
        ValueError, match=r"filter_fn: found 'other'; expected a function .* default"
    ):
        found(filter_fn="other")


def test_the_layer_table_says_what_has_none():
    params = {"a": {"kernel": jnp.ones((4, 4)), "bias": jnp.ones((2, 4)), "b": np.ones(3)}}
    base = {"algorithm": "static", "dist_type": "uniform", "sparsity": 0.5, "rng_seed": 0}
    state = sparsity.create_updater_from_config(base).init_state(params)
    lines = sparsity.layer_table(params, state).splitlines()
    assert lines[0].split() == ["a/kernel", "4", "x", "4", "8", "of", "16", "density", "0.5000"]
    assert lines[-1] == "without a mask: a/bias (2 x 4, called bias)"
