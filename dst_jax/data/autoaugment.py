"""RandAugment and AugMix: which operation of `image_operations` an image gets, and how strong.

Pure JAX functions of one image and its key, mapped over a batch inside the compiled step, for
resident and for streamed data alike. Called by `train_augmentation`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from dst_jax.data import image_operations

RANDAUGMENT = image_operations.OPERATIONS
"""The operations of RandAugment: all fifteen."""

AUGMIX = (
    *("autocontrast", "equalize", "posterize", "solarize"),
    *("rotate", "shear_x", "shear_y", "translate_x", "translate_y"),
)
"""Those of AugMix: none that is also one of ImageNet-C's corruptions."""

_CHAINS, _DEPTH = 3, 3  # AugMix's width, and the most operations in a chain


def randaugment(
    image: jax.Array, key: jax.Array, layers: int, magnitude: float, fill: Sequence[float]
) -> jax.Array:
    """RandAugment (Cubuk et al. 2020) as DeiT trains with it (Touvron et al. 2021, table 9).

    timm's `rand-m9-mstd0.5-inc1` for `layers` 2 and `magnitude` 9: each layer draws one of the
    fifteen operations and applies it with probability 1/2, at a strength normal around `magnitude`
    with standard deviation 0.5, which grows with the magnitude for every operation. Warps are
    bilinear (timm draws bilinear or bicubic), and posterize keeps one bit at least.

    Args:
      image: uint8 [H, W, 3].
      key: the image's own.
      layers: operations that it may get, >= 0.
      magnitude: mean strength, 0 to 10.
      fill: three grey levels for what a warp brings in from outside.

    Returns:
      uint8 [H, W, 3].
    """

    def layer(image: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
        choice, applied, strength, sign = randaugment_draw(key, number, magnitude)
        value = randaugment_value(choice, strength, sign, image.shape)
        choice = jnp.where(applied, choice, -1)
        return image_operations.apply(image, RANDAUGMENT, choice, value, fill), None

    return jax.lax.scan(layer, image, jnp.arange(layers))[0]


def randaugment_draw(
    key: jax.Array, layer: jax.Array | int, magnitude: float
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """One layer's draw: operation, whether it is applied, strength 0..10, sign -1 or 1."""
    choice, applied, strength, sign = jax.random.split(jax.random.fold_in(key, layer), 4)
    return (
        jax.random.randint(choice, (), 0, len(RANDAUGMENT)),
        jax.random.bernoulli(applied),
        jnp.clip(magnitude + 0.5 * jax.random.normal(strength), 0.0, 10.0),
        jax.random.rademacher(sign, (), jnp.float32),
    )


def randaugment_value(
    choice: jax.Array | int, strength: jax.Array, sign: jax.Array, shape: Sequence[int]
) -> jax.Array:
    """What a strength means to the operation that was drawn, float32 [].

    Args:
      choice: index into `RANDAUGMENT`.
      strength: 0..10.
      sign: -1 or 1; not every operation has two directions.
      shape: of the image, [H, W, 3].
    """
    part = strength / 10
    enhancement = jnp.maximum(0.1, 1 + sign * 0.9 * part)
    values = {
        "shear_x": sign * 0.3 * part,
        "shear_y": sign * 0.3 * part,
        "translate_x": sign * 0.45 * shape[1] * part,
        "translate_y": sign * 0.45 * shape[0] * part,
        "rotate": sign * 30 * part,
        "posterize": jnp.maximum(1, 4 - jnp.floor(4 * part)),
        "solarize": 256 - jnp.floor(256 * part),
        "solarize_add": jnp.floor(110 * part),
        "brightness": enhancement,
        "contrast": enhancement,
        "color": enhancement,
        "sharpness": enhancement,
    }
    return _of(choice, RANDAUGMENT, values)


def augmix(image: jax.Array, key: jax.Array, severity: float) -> jax.Array:
    """AugMix (Hendrycks et al. 2020, algorithm 1): a random mixture of chains of operations.

    Three chains of one to three operations, mixed by weights of a flat Dirichlet law, and the
    result with the image by a uniform share (Beta(1, 1)). It is the augmentation alone, without the
    paper's consistency loss over three views of an image.

    Args:
      image: uint8 [H, W, 3].
      key: the image's own.
      severity: largest strength, 0.1 to 10; the paper takes 3.

    Returns:
      float32 [H, W, 3] in 0..255, not rounded.
    """
    weights, share, lengths = augmix_shares(key)
    original = image.astype(jnp.float32)

    def chain(mixture: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
        def link(image: jax.Array, depth: jax.Array) -> tuple[jax.Array, None]:
            choice, value = augmix_draw(key, number * _DEPTH + depth, severity, image.shape)
            choice = jnp.where(depth < lengths[number], choice, -1)
            return image_operations.apply(image, AUGMIX, choice, value, (0, 0, 0)), None

        end = jax.lax.scan(link, image, jnp.arange(_DEPTH))[0].astype(jnp.float32)
        return mixture + weights[number] * end, None

    mixture = jax.lax.scan(chain, jnp.zeros_like(original), jnp.arange(_CHAINS))[0]
    return (1 - share) * original + share * mixture


def augmix_shares(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Weights of the chains [3], share of their mixture [], operations in each chain [3]."""
    weights, share, lengths = jax.random.split(key, 3)
    exponential = jax.random.exponential(weights, (_CHAINS,))  # normalised: Dirichlet(1, 1, 1)
    return (
        exponential / exponential.sum(),
        jax.random.uniform(share),
        jax.random.randint(lengths, (_CHAINS,), 1, _DEPTH + 1),
    )


def augmix_draw(
    key: jax.Array, link: jax.Array | int, severity: float, shape: Sequence[int]
) -> tuple[jax.Array, jax.Array]:
    """The draw of one of the nine links: operation (index into `AUGMIX`) and its value.

    The strength is uniform in 0.1 to `severity`; it is of 10, as RandAugment's. Where the reference
    takes whole numbers, the fraction is cut off.
    """
    choosing, strengthening, signing = jax.random.split(jax.random.fold_in(key, link), 3)
    choice = jax.random.randint(choosing, (), 0, len(AUGMIX))
    part = jax.random.uniform(strengthening, minval=0.1, maxval=severity) / 10
    sign = jax.random.rademacher(signing, (), jnp.float32)
    values = {
        "posterize": 4 - jnp.floor(4 * part),
        "solarize": 256 - jnp.floor(256 * part),
        "rotate": sign * jnp.floor(30 * part),
        "shear_x": sign * 0.3 * part,
        "shear_y": sign * 0.3 * part,
        "translate_x": sign * jnp.floor(shape[1] / 3 * part),
        "translate_y": sign * jnp.floor(shape[0] / 3 * part),
    }
    return choice, _of(choice, AUGMIX, values)


def _of(choice: jax.Array | int, names: Sequence[str], values: dict[str, jax.Array]) -> jax.Array:
    """The value of the chosen operation, 0 for one that takes none."""
    return jnp.stack([jnp.asarray(values.get(name, 0.0), jnp.float32) for name in names])[choice]
