"""Where in the image a decision comes from: Grad-CAM for convolutions, rollout for attention.

Both look into any linen model by name, without a hook in its code. Maps are small, at the
resolution of the layer or of the patches; `enlarged` brings them to the image's. Called by
`measurements`, and by notebooks.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dst_jax.errors import UserError
from dst_jax.models.leaf_paths import by_path, natural_order


def feature_layers(module: nn.Module, images: Any) -> list[str]:
    """Names of the modules that give feature maps of more than one position, in calling order.

    Args:
      module: a linen model of images.
      images: normalised images [B, H, W, C], or a `jax.ShapeDtypeStruct` of them.
    """
    names: list[str] = []

    def note(next_call, args, kwargs, context):
        result = next_call(*args, **kwargs)
        shape: tuple[int, ...] = getattr(result, "shape", ())
        called = context.method_name == "__call__" and context.module.path
        if called and len(shape) == 4 and shape[1] * shape[2] > 1:
            names.append("/".join(context.module.path))
        return result

    with nn.intercept_methods(note):
        jax.eval_shape(module.init, jax.random.key(0), images)
    return names


def grad_cam(
    module: nn.Module,
    variables: Mapping[str, Any],
    images: jax.Array,
    labels: jax.Array,
    layer: str = "",
) -> jax.Array:
    """Grad-CAM (Selvaraju et al. 2017, equations 1 and 2) of each image for a class.

    The rectified sum of a layer's feature maps, each weighed by the mean over positions of the
    gradient of the class's logit.

    Args:
      module: a linen model, `module.apply(variables, images)` -> logits [B, classes].
      variables: its variables.
      images: normalised images [B, H, W, C].
      labels: int32 [B], the class that is explained.
      layer: a name of `feature_layers`; "": the last, for a residual network its last block.

    Returns:
      float32 [B, h, w], >= 0, not scaled.

    Raises:
      UserError: the model has no such feature maps.
    """
    names = feature_layers(module, jax.ShapeDtypeStruct(images.shape, images.dtype))
    if not names or (layer and layer not in names):
        known = ", ".join(dict.fromkeys(names)) or "none: no layer has feature maps"
        raise UserError("layer", layer or "no feature maps", f"one of {known}")
    layer = layer or names[-1]
    path = tuple(layer.split("/"))

    def score(shift: jax.Array | float) -> tuple[jax.Array, jax.Array]:
        seen = []

        def shifted(next_call, args, kwargs, context):
            result = next_call(*args, **kwargs)
            if context.module.path != path or context.method_name != "__call__":
                return result
            seen.append(result)
            return result + jnp.asarray(shift, result.dtype)

        with nn.intercept_methods(shifted):
            logits: Any = module.apply(variables, images)
        chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)
        return jnp.sum(chosen), seen[-1]

    shape = jax.eval_shape(score, 0.0)[1].shape
    gradient, features = jax.grad(score, has_aux=True)(jnp.zeros(shape))
    weights = gradient.mean((1, 2), keepdims=True)
    return nn.relu(jnp.sum(weights * features.astype(jnp.float32), -1))


def rollout(attentions: Sequence[jax.Array]) -> jax.Array:
    """Attention rollout (Abnar & Zuidema 2020, section 3) from the class token to the patches.

    Args:
      attentions: one per block, in order, [B, heads, T, T], rows sum to 1; the first of the tokens
        is the class token, the last ones are the patches, a square of them row by row; tokens
        between (a distillation token) are left out of the result.

    Returns:
      float32 [B, h, w]: how much of the class token comes from each patch.
    """
    tokens = attentions[0].shape[-1]
    flow = jnp.eye(tokens)[None]
    for attention in attentions:
        # Half of a token goes round the block, through the residual connection.
        mixed = (attention.astype(jnp.float32).mean(1) + jnp.eye(tokens)[None]) / 2
        flow = mixed / mixed.sum(-1, keepdims=True) @ flow
    side = math.isqrt(tokens - 1)
    return flow[:, 0, tokens - side * side :].reshape(-1, side, side)


def attention_rollout(
    module: nn.Module, variables: Mapping[str, Any], images: jax.Array, name: str = ""
) -> jax.Array:
    """`rollout` of a model whose attention weights can be seen.

    They can where a module called `...DotProductAttention` is given queries, keys and values [B, T,
    heads, d] (softmax of Q K^T / sqrt(d)), or where blocks `sow("intermediates", name, weights)`
    [B, heads, T, T], as `flax.linen.MultiHeadDotProductAttention` does with `sow_weights=True`.

    Args:
      module: a linen model.
      variables: its variables.
      images: normalised images [B, H, W, C].
      name: what they are sown as; "": anything with "attention" in its name.

    Returns:
      float32 [B, h, w].

    Raises:
      UserError: the model shows no such weights.
    """
    seen: list[jax.Array] = []

    def note(next_call, args, kwargs, context):
        named = type(context.module).__name__.endswith("DotProductAttention")
        if named and len(args) == 3 and all(getattr(a, "ndim", 0) == 4 for a in args):
            query, key = args[0], args[1]
            scores = jnp.einsum("bqhd,bkhd->bhqk", query / math.sqrt(query.shape[-1]), key)
            seen.append(nn.softmax(scores.astype(jnp.float32)))
        return next_call(*args, **kwargs)

    with nn.intercept_methods(note):
        _, state = module.apply(variables, images, mutable=["intermediates"])
    if seen:
        return rollout(seen)
    found = by_path(state.get("intermediates", {}))
    chosen = [
        (natural_order(path), leaf)
        for path, leaf in found.items()
        if (name or "attention") in path
        and getattr(leaf, "ndim", 0) == 4
        and leaf.shape[-1] == leaf.shape[-2]
    ]
    if not chosen:
        raise UserError(
            "attention weights", "none that the model shows", f"`{name or '...attention...'}`"
        )
    return rollout([leaf for _, leaf in sorted(chosen, key=lambda pair: pair[0])])


def method_for(
    module: nn.Module, variables: Mapping[str, Any], images: jax.Array
) -> tuple[str, Callable[..., jax.Array]]:
    """The method that fits a model: attention rollout where it sows its attention, else Grad-CAM.

    Args:
      module: a linen model.
      variables: its variables.
      images: [B, H, W, C], for their shape.

    Returns:
      ("Grad-CAM" or "attention rollout", (variables, normalised images, labels) -> maps float32
      [B, h, w]); rollout does not depend on the labels.

    Raises:
      UserError: the model has neither attention nor feature maps.
    """
    example = jax.ShapeDtypeStruct(images.shape, jnp.float32)
    with contextlib.suppress(UserError):
        jax.eval_shape(functools.partial(attention_rollout, module), variables, example)
        return "attention rollout", lambda v, x, _: attention_rollout(module, v, x)
    labels = jax.ShapeDtypeStruct(images.shape[:1], jnp.int32)
    jax.eval_shape(functools.partial(grad_cam, module), variables, example, labels)
    return "Grad-CAM", functools.partial(grad_cam, module)
