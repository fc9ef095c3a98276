"""DeiT (Touvron et al. 2021): vision transformers that train on ImageNet alone.

Layers are named as in the published code: `patch_embed`, `blocks_3/attn/qkv`, `blocks_3/mlp/fc1`,
`norm`, counted from 0. Position embedding and tokens are no kernels: nothing masks or decays them.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from dst_jax.errors import UserError
from dst_jax.models.convolution import Conv
from dst_jax.models.initializers import PYTORCH, Normal
from dst_jax.models.layers import classify

# Of all linear layers, tokens and positions. The code truncates at 2, that is 100 deviations.
_LAW = Normal(0.02)


class PatchEmbed(Conv):
    """Convolution whose window equals its stride, as one matrix product.

    Its window is the patch; parameters are those of `Conv` with bias.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images [B, H, W, C] to patches [B, N, features], row after row."""
        (height, width), (rows, columns) = self.kernel_size, x.shape[1:3]
        if rows % height or columns % width:
            raise UserError(
                "image size", f"{rows} x {columns}", f"multiples of the patch, {height} x {width}"
            )
        shape = (height, width, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
        x = x.reshape(x.shape[0], rows // height, height, columns // width, width, x.shape[-1])
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape[0], -1, math.prod(shape[:-1]))
        y = x.astype(self.dtype) @ kernel.astype(self.dtype).reshape(-1, self.features)
        return y + bias.astype(self.dtype).reshape(1, 1, -1)


class DotProductAttention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V: no parameters, a module so that its cost can be counted."""

    @nn.compact
    def __call__(self, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        """Maps three arrays [B, N, heads, d] to one; the softmax is float32."""
        scores = jnp.einsum("bqhd,bkhd->bhqk", query / math.sqrt(query.shape[-1]), key)
        weights = nn.softmax(scores.astype(jnp.float32)).astype(value.dtype)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


class Attention(nn.Module):
    """Multi-head self-attention.

    Attributes:
      heads: number of heads.
      dense: constructor of linear layers.
    """

    heads: int
    dense: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, N, D] to [B, N, D]."""
        batch, count, width = x.shape
        qkv = self.dense(3 * width, name="qkv")(x)
        query, key, value = jnp.moveaxis(qkv.reshape(batch, count, 3, self.heads, -1), 2, 0)
        y = DotProductAttention(name="product")(query, key, value)
        return self.dense(width, name="proj")(y.reshape(batch, count, width))


class MLP(nn.Module):
    """Two linear layers with a GELU between, four times as wide inside.

    Attributes:
      dense: constructor of linear layers.
    """

    dense: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, N, D] to [B, N, D]."""
        y = nn.gelu(self.dense(4 * x.shape[-1], name="fc1")(x), approximate=False)
        return self.dense(x.shape[-1], name="fc2")(y)


class Block(nn.Module):
    """Attention and MLP, each behind a LayerNorm and beside a shortcut.

    Attributes:
      heads: number of heads.
      dense: constructor of linear layers.
      norm: constructor of LayerNorm layers.
      drop_path: probability that an image skips the attention, and the same for the MLP, in
        training.
    """

    heads: int
    dense: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    drop_path: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, N, D] to [B, N, D]."""
        drop = functools.partial(
            nn.Dropout, self.drop_path, broadcast_dims=(1, 2), deterministic=not train
        )
        y = Attention(self.heads, self.dense, name="attn")(self.norm(name="norm1")(x))
        x = x + drop(name="drop_path1")(y)
        y = MLP(self.dense, name="mlp")(self.norm(name="norm2")(x))
        return x + drop(name="drop_path2")(y)


class DeiT(nn.Module):
    """Patches, class token, learned positions, transformer blocks, classifier of the class token.

    Attributes:
      num_classes: number of logits.
      patch: height and width of a patch, in pixels.
      width: size of a token.
      depth: number of blocks.
      heads: number of heads; it divides `width`.
      drop_path: what the blocks' `drop_path` rises to, linearly from 0.
      distilled: whether there is a distillation token with a classifier of its own; logits are the
        mean of both then, as the paper has it for inference.
      dtype: dtype of the computation; parameters and logits are float32.
      cls_token_init: initialiser of the class token.
      dist_token_init: initialiser of the distillation token.
      pos_embed_init: initialiser of the positions.
    """

    num_classes: int
    patch: int
    width: int
    depth: int
    heads: int
    drop_path: float
    distilled: bool
    dtype: Any = jnp.float32
    cls_token_init: Callable[..., jax.Array] = _LAW
    dist_token_init: Callable[..., jax.Array] = _LAW
    pos_embed_init: Callable[..., jax.Array] = _LAW

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps images [B, H, W, C] to logits [B, num_classes].

        Args:
          images: normalised images, of the size that the parameters were made for.
          train: whether blocks are dropped (needs the rng "dropout").

        Returns:
          Logits, float32.
        """
        dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=_LAW)
        norm = functools.partial(nn.LayerNorm, epsilon=1e-6, dtype=self.dtype)
        x = PatchEmbed(
            self.width,
            (self.patch, self.patch),
            self.patch,
            use_bias=True,
            dtype=self.dtype,
            kernel_init=PYTORCH,
            name="patch_embed",
        )(images)
        names = ("cls_token", "dist_token") if self.distilled else ("cls_token",)
        tokens = [
            jnp.broadcast_to(
                self.param(name, getattr(self, f"{name}_init"), (1, 1, self.width), jnp.float32),
                (x.shape[0], 1, self.width),
            ).astype(self.dtype)
            for name in names
        ]
        x = jnp.concatenate([*tokens, x], axis=1)
        shape = (1, x.shape[1], self.width)
        x = x + self.param("pos_embed", self.pos_embed_init, shape, jnp.float32).astype(self.dtype)
        for index in range(self.depth):
            x = Block(
                heads=self.heads,
                dense=dense,
                norm=norm,
                drop_path=self.drop_path * index / max(1, self.depth - 1),
                name=f"blocks_{index}",
            )(x, train)
        x = norm(name="norm")(x)
        head = functools.partial(
            classify, num_classes=self.num_classes, dtype=self.dtype, kernel_init=_LAW
        )
        logits = head(x[:, 0])
        if self.distilled:
            logits = (logits + head(x[:, 1], name="dist_classifier")) / 2
        return logits


def _create(
    published_width: int,
    num_classes: int,
    dtype: Any = jnp.float32,
    *,
    width: int = 0,
    depth: int = 0,
    stem: Literal["published", "small"] = "published",
    drop_path: float = 0.1,
    distilled: bool = False,
) -> DeiT:
    """A published network, or one reduced in width or depth.

    Args:
      published_width: size of a token in the paper.
      num_classes: number of logits.
      dtype: dtype of the computation.
      width: size of a token, with a head for every 64; 0: as published.
      depth: number of blocks; 0: 12, as published.
      stem: the published patches are 16 pixels wide; "small" has 4, for images of 64 pixels or
        less, which would end with at most 16 patches.
      drop_path: probability that an image skips a part of the last block, falling to 0 at the
        first.
      distilled: see `DeiT`.

    Returns:
      The module.

    Raises:
      UserError: if the heads do not divide the width.
    """
    width = width or published_width
    heads = max(1, width // 64)
    if width % heads:
        raise UserError("model.width", width, "less than 128, or a multiple of 64")
    return DeiT(
        num_classes=num_classes,
        patch=16 if stem == "published" else 4,
        width=width,
        depth=depth or 12,
        heads=heads,
        drop_path=drop_path,
        distilled=distilled,
        dtype=dtype,
    )


deit_small = functools.partial(_create, 384)
deit_base = functools.partial(_create, 768)
