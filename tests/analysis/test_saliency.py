"""Grad-CAM against finite differences, rollout against a product written out."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dst_jax import models
from dst_jax.analysis import saliency
from dst_jax.errors import UserError

IMAGES = jax.random.uniform(jax.random.key(1), (3, 6, 6, 3))
LABELS = jnp.array([0, 2, 1])


class Features(nn.Module):
    @nn.compact
    def __call__(self, images):
        return jnp.tanh(nn.Conv(4, (3, 3), name="conv")(images))


class Toy(nn.Module):
    """`shift` is added to the features, so that a test can differentiate by hand."""

    @nn.compact
    def __call__(self, images, train=False, shift=0.0):
        features = Features(name="features")(images) + shift
        hidden = nn.tanh(nn.Dense(5, name="hidden")(features.reshape(len(images), -1)))
        return nn.Dense(3, name="classifier")(hidden)


def test_grad_cam_is_a_finite_difference():
    module = Toy()
    variables = module.init(jax.random.key(0), IMAGES)
    found = saliency.grad_cam(module, variables, IMAGES, LABELS)
    features = Features().apply({"params": variables["params"]["features"]}, IMAGES)
    expected = np.zeros((3, 6, 6))
    score = jax.jit(
        lambda shift: jnp.take_along_axis(
            module.apply(variables, IMAGES, shift=shift), LABELS[:, None], 1
        )[:, 0]
    )
    for channel in range(4):
        # Moving the whole channel by h moves the score by h times the sum of the gradients.
        shift = jnp.zeros((1, 6, 6, 4)).at[..., channel].set(1e-2)
        weight = (score(shift) - score(-shift)) / 2e-2 / 36
        expected += np.asarray(weight)[:, None, None] * np.asarray(features[..., channel])
    np.testing.assert_allclose(found, np.maximum(expected, 0), atol=2e-4)
    assert found.max() > 1e-3


def test_layers_of_a_residual_network():
    module = models.create("resnet20", 10, width=4)
    names = saliency.feature_layers(module, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
    assert names[0] == "conv1"
    assert names[-1] == "layer3_2"
    variables = models.init(module, 0, (32, 32, 3))
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    method, explain = saliency.method_for(module, variables, images)
    maps = jax.jit(explain)(variables, images, jnp.array([1, 2]))
    assert (method, maps.shape) == ("Grad-CAM", (2, 8, 8))
    assert (maps >= 0).all()
    early = saliency.grad_cam(module, variables, images, jnp.array([1, 2]), "layer1_0/conv2")
    assert early.shape == (2, 32, 32)
    with pytest.raises(UserError, match=r"layer: found layer9; expected one of conv1, bn1"):
        saliency.grad_cam(module, variables, images, jnp.array([1, 2]), "layer9")


def test_a_network_without_feature_maps_says_so():
    module = models.create("mlp", 10)
    variables = models.init(module, 0, (32, 32, 3))
    with pytest.raises(UserError, match="found no feature maps"):
        saliency.method_for(module, variables, jnp.zeros((1, 32, 32, 3)))


class Attentive(nn.Module):
    """A class token and four patches through two blocks of Flax's own attention."""

    blocks: int = 11

    @nn.compact
    def __call__(self, images, train=False):
        patches = nn.Conv(8, (3, 3), strides=3, name="patches")(images)
        tokens = patches.reshape(len(images), -1, 8)
        first = self.param("token", nn.initializers.normal(1.0), (1, 1, 8))
        tokens = jnp.concatenate([jnp.broadcast_to(first, (len(images), 1, 8)), tokens], 1)
        for index in range(self.blocks):
            attention = nn.MultiHeadDotProductAttention(num_heads=2, name=f"block_{index}")
            tokens += attention(tokens, sow_weights=True)
        return nn.Dense(3)(tokens[:, 0])


def test_rollout_of_a_network_with_flax_attention():
    module = Attentive()
    variables = {"params": module.init(jax.random.key(0), IMAGES)["params"]}
    _, state = module.apply(variables, IMAGES, mutable=["intermediates"])
    expected = np.tile(np.eye(5), (3, 1, 1))
    for index in range(11):  # block_10 comes after block_9, not after block_1
        weights = np.asarray(state["intermediates"][f"block_{index}"]["attention_weights"][0])
        for image in range(3):
            mixed = 0.5 * weights[image].mean(0) + 0.5 * np.eye(5)
            expected[image] = mixed @ expected[image]
    method, explain = saliency.method_for(module, variables, IMAGES)
    assert method == "attention rollout"
    found = explain(variables, IMAGES, LABELS)
    np.testing.assert_allclose(found, expected[:, 0, 1:].reshape(3, 2, 2), rtol=1e-5)
    assert (found.sum((1, 2)) < 1).all()  # the rest stays with the class token


class DotProductAttention(nn.Module):
    @nn.compact
    def __call__(self, query, key, value):
        scores = jnp.einsum("bqhd,bkhd->bhqk", query / jnp.sqrt(4.0), key)
        return jnp.einsum("bhqk,bkhd->bqhd", nn.softmax(scores), value)


class Plain(nn.Module):
    """Attention that sows nothing: a class token and four patches."""

    @nn.compact
    def __call__(self, images, train=False):
        tokens = nn.Conv(8, (3, 3), strides=3)(images).reshape(len(images), -1, 8)
        tokens = jnp.concatenate([tokens.mean(1, keepdims=True), tokens], 1)
        for _ in range(2):
            qkv = nn.Dense(24)(tokens).reshape(len(images), 5, 3, 2, 4)
            mixed = DotProductAttention()(*jnp.moveaxis(qkv, 2, 0))
            self.sow("intermediates", "known", qkv)
            tokens += mixed.reshape(tokens.shape)
        return nn.Dense(3)(tokens[:, 0])


def test_rollout_of_a_network_that_sows_nothing():
    module = Plain()
    variables = {"params": module.init(jax.random.key(0), IMAGES)["params"]}
    _, state = module.apply(variables, IMAGES, mutable=["intermediates"])
    expected = np.tile(np.eye(5), (3, 1, 1))
    for qkv in np.asarray(state["intermediates"]["known"]):
        for image in range(3):
            heads = []
            for head in range(2):
                query, key, _ = np.moveaxis(qkv[image, :, :, head], 1, 0)
                powers = np.exp(query @ key.T / 2)
                heads.append(powers / powers.sum(1, keepdims=True))
            expected[image] = (np.mean(heads, 0) + np.eye(5)) / 2 @ expected[image]
    method, explain = saliency.method_for(module, variables, IMAGES)
    assert method == "attention rollout"
    found = jax.jit(explain)(variables, IMAGES, LABELS)
    np.testing.assert_allclose(found, expected[:, 0, 1:].reshape(3, 2, 2), rtol=1e-4)


def test_rollout_leaves_a_distillation_token_out():
    uniform = jnp.full((1, 2, 6, 6), 1 / 6)  # class, distillation, four patches
    maps = saliency.rollout([uniform])
    assert maps.shape == (1, 2, 2)
    np.testing.assert_allclose(maps, 1 / 12, rtol=1e-6)
