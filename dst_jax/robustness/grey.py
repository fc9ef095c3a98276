"""Grey images under a corruption: grey again.

The corruptions are rendered in colour, from three equal channels. What comes out in colour becomes
grey by the rule that `imagecorruptions` has for grey images, the one published code with such rules
(`imagecorruptions/corruptions.py`). Called by `engine`.
"""

import jax
import jax.numpy as jnp

# Those whose rule is one channel: noise is drawn once per pixel, and the hue that saturation gives
# to grey is red. All others are left with equal channels, or take their luma.
_FIRST_CHANNEL = frozenset(
    {"gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "saturate"}
)


def as_grey(name: str, images: jax.Array) -> jax.Array:
    """Three equal channels of what a corruption makes of three equal channels.

    Args:
      name: of the corruption.
      images: uint8 [B, H, W, 3].

    Returns:
      uint8 [B, H, W, 3]: for noise and saturation the first channel, else the luma of ITU-R BT.601
      in whole numbers, as Pillow's `convert("L")`, which changes no grey pixel.
    """
    if name in _FIRST_CHANNEL:
        return jnp.broadcast_to(images[..., :1], images.shape)
    red, green, blue = (images[..., channel].astype(jnp.int32) for channel in range(3))
    luma = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    return jnp.broadcast_to(luma.astype(jnp.uint8)[..., None], images.shape)
