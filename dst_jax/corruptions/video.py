"""Perturbations of video (Schiappa et al. 2023: UCF101-P, HMDB51-P, Kinetics-400-P, SSv2-P).

    frames = video.perturb("jumbling", frames, key, severity)  # uint8 [T, H, W, 3], pure

The authors' code has three variants; this is the generator of the published benchmark, with its
constants, before the MP4 coding of its output. Where a clip would become shorter, T stays:

| perturbation | what it does, severities 1..5 |
|---|---|
| gaussian_noise, impulse_noise, defocus_blur, motion_blur, zoom_blur, jpeg_compression | \
ImageNet-C's, fresh draws every frame |
| shot_noise, speckle_noise | Tiny-ImageNet-C's, fresh draws every frame |
| sampling | holds every 2nd, 4th, 8th, 16th, 32nd frame; the generator drops the others |
| reverse_sampling | the same, backwards |
| jumbling | shuffles within segments of 32, 16, 8, 4, 2 frames: milder with severity |
| box_jumbling | shuffles segments of 4, 9, 16, 25, 36 frames |
| freezing | a frame repeats the one before with probability 0.12 s |
| static_rotation | by 7.5, 15, 30, 45, 90 degrees |
| random_rotation | each frame by a whole number of degrees up to 6 s + 1 |
| translation | each frame cropped to 7/8 of the short side, up to s/32 of it off the corner |

`mpeg1` and `mpeg2` are the output of codecs: `codecs.render` makes them through ffmpeg. Called by
users and tests; the images' registry does not know this file.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.corruptions.base import by_severity, to_uint8
from dst_jax.corruptions.constants import ROWS
from dst_jax.corruptions.registry import CORRUPTIONS

# (frames [T, H, W, 3] uint8, key, severity) -> [T, H', W', 3] uint8
Apply = Callable[[jax.Array, jax.Array, Any], jax.Array]


@dataclasses.dataclass(frozen=True)
class Perturbation:
    """One perturbation of a clip.

    Attributes:
      name: its name in `PERTURBATIONS`.
      category: of the benchmark.
      apply: (frames [T, H, W, 3] uint8, key, severity) -> [T, H', W', 3] uint8, deterministic given
        the key; severity may be traced.
    """

    name: str
    category: Literal["noise", "blur", "digital", "temporal", "camera"]
    apply: Apply


# --- every frame on its own ---


def _each_frame(name: str, preset: str) -> Apply:
    def apply(frames: jax.Array, key: jax.Array, severity: Any) -> jax.Array:
        corruption, shape = CORRUPTIONS[name], (frames.shape[1], frames.shape[2])
        constants = corruption.constants(ROWS[name][preset], shape, severity)

        def corrupt_one(frame: jax.Array, number: jax.Array) -> jax.Array:
            draws = corruption.draw(jax.random.fold_in(key, number), shape, constants)
            return corruption.apply(frame, draws, constants)

        return to_uint8(jax.vmap(corrupt_one)(frames, jnp.arange(len(frames))), "truncate")

    return apply


# --- which frame is shown when ---


def _sampled(length: int, key: jax.Array, severity: Any) -> jax.Array:
    del key
    rate = by_severity((2, 4, 8, 16, 32), severity)
    return jnp.arange(length) // rate * rate


def _reversed(length: int, key: jax.Array, severity: Any) -> jax.Array:
    return _sampled(length, key, severity)[::-1]


def _jumbled(length: int, key: jax.Array, severity: Any) -> jax.Array:
    segment = jnp.arange(length) // by_severity((32, 16, 8, 4, 2), severity)
    return jnp.lexsort((jax.random.uniform(key, (length,)), segment))


def _box_jumbled(length: int, key: jax.Array, severity: Any) -> jax.Array:
    segment = jnp.arange(length) // by_severity((4, 9, 16, 25, 36), severity)
    place = jax.random.uniform(key, (length,))[segment]
    # By the number of the segment too: two might draw the same place.
    return jnp.lexsort((segment, place))


def _frozen(length: int, key: jax.Array, severity: Any) -> jax.Array:
    probability = by_severity((0.12, 0.24, 0.36, 0.48, 0.6), severity)
    repeats = jax.random.uniform(key, (length,)) < probability
    return jax.lax.cummax(jnp.where(repeats, 0, jnp.arange(length)))


def _reordered(index: Callable[[int, jax.Array, Any], jax.Array]) -> Apply:
    def apply(frames: jax.Array, key: jax.Array, severity: Any) -> jax.Array:
        return jnp.take(frames, index(len(frames), key, severity), axis=0)

    return apply


# --- a moving camera ---

_WIDEST = 31  # degrees of the random rotation, severity 5


def _rotation(degrees: float, height: int, width: int) -> list[int]:
    """Where Pillow's `Image.rotate` looks up a pixel, in units of 1 / 65536 pixel (host side).

    Returns:
      [6] a, b, c, d, e, f: pixel (x, y) shows (a x + b y + c, d x + e y + f).
    """
    radians = -np.deg2rad(degrees % 360)
    # Rounded as there: a quarter of a turn is exact.
    cos, sin = round(float(np.cos(radians)), 15), round(float(np.sin(radians)), 15)
    left, top = width / 2, height / 2
    # From the middle of a pixel.
    across = left - cos * left - sin * top + (cos + sin) / 2
    down = top + sin * left - cos * top + (cos - sin) / 2
    return [int(np.floor(v * 65536 + 0.5)) for v in (cos, sin, across, -sin, cos, down)]


def _look_up(frame: jax.Array, rotation: jax.Array) -> jax.Array:
    """The nearest pixels of [H, W, 3]; black outside."""
    H, W, _ = frame.shape
    y, x = jnp.arange(H)[:, None], jnp.arange(W)[None, :]
    a, b, c, d, e, f = rotation
    col, row = (a * x + b * y + c) >> 16, (d * x + e * y + f) >> 16
    inside = (row >= 0) & (row < H) & (col >= 0) & (col < W)
    pixels = frame[jnp.clip(row, 0, H - 1), jnp.clip(col, 0, W - 1)]
    return jnp.where(inside[..., None], pixels, 0)


def _static_rotation(frames: jax.Array, key: jax.Array, severity: Any) -> jax.Array:
    del key
    H, W = frames.shape[1:3]
    angles = (7.5, 15.0, 30.0, 45.0, 90.0)
    rotation = by_severity([_rotation(angle, H, W) for angle in angles], severity)
    return jax.vmap(_look_up, in_axes=(0, None))(frames, rotation)


def _random_rotation(frames: jax.Array, key: jax.Array, severity: Any) -> jax.Array:
    H, W = frames.shape[1:3]
    table = [_rotation(angle, H, W) for angle in range(-_WIDEST, _WIDEST + 1)]
    most = 6 * severity + 1
    angles = jax.random.randint(key, (len(frames),), -most, most + 1)
    return jax.vmap(_look_up)(frames, jnp.asarray(table, jnp.int32)[angles + _WIDEST])


def _translation(frames: jax.Array, key: jax.Array, severity: Any) -> jax.Array:
    short = min(frames.shape[1:3])
    side, most = short * 7 // 8, short * severity // 32
    offsets = jax.random.randint(key, (len(frames), 2), 0, most + 1)
    # At severity 5 a crop may stick out by s/32 of the short side less than it is smaller: black.
    margin = max(short * 5 // 32 - (short - side), 0)
    frames = jnp.pad(frames, ((0, 0), (0, margin), (0, margin), (0, 0)))

    def crop(frame: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(frame, (offset[0], offset[1], 0), (side, side, 3))

    return jax.vmap(crop)(frames, offsets)


PERTURBATIONS: dict[str, Perturbation] = {
    perturbation.name: perturbation
    for perturbation in (
        Perturbation("gaussian_noise", "noise", _each_frame("gaussian_noise", "imagenet224")),
        Perturbation("shot_noise", "noise", _each_frame("shot_noise", "tiny64")),
        Perturbation("impulse_noise", "noise", _each_frame("impulse_noise", "imagenet224")),
        Perturbation("speckle_noise", "noise", _each_frame("speckle_noise", "tiny64")),
        Perturbation("defocus_blur", "blur", _each_frame("defocus_blur", "imagenet224")),
        Perturbation("motion_blur", "blur", _each_frame("motion_blur", "imagenet224")),
        Perturbation("zoom_blur", "blur", _each_frame("zoom_blur", "imagenet224")),
        Perturbation("jpeg_compression", "digital", _each_frame("jpeg_compression", "imagenet224")),
        Perturbation("sampling", "temporal", _reordered(_sampled)),
        Perturbation("reverse_sampling", "temporal", _reordered(_reversed)),
        Perturbation("jumbling", "temporal", _reordered(_jumbled)),
        Perturbation("box_jumbling", "temporal", _reordered(_box_jumbled)),
        Perturbation("freezing", "temporal", _reordered(_frozen)),
        Perturbation("static_rotation", "camera", _static_rotation),
        Perturbation("random_rotation", "camera", _random_rotation),
        Perturbation("translation", "camera", _translation),
    )
}
CODECS = ("mpeg1", "mpeg2")


def perturb(name: str, frames: jax.Array, key: jax.Array, severity: Any) -> jax.Array:
    """Perturbs one clip. Pure; one compiled program serves all severities.

    Args:
      name: a name in `PERTURBATIONS`.
      frames: [T, H, W, 3] uint8, RGB.
      key: a random key of this clip, `perturb_batch` makes them.
      severity: 1..5, may be traced.

    Returns:
      [T, H, W, 3] uint8; of 'translation' [T, S, S, 3], S = 7/8 of the short side, as published
      224 of 256.

    Raises:
      ValueError: if an argument is not one of those.
    """
    if name in CODECS:
        raise ValueError(
            f"perturbation: {name} is the output of a video codec (ffmpeg) and is never imitated "
            "here: it comes from the published clips, or from corruptions.codecs.render"
        )
    if name not in PERTURBATIONS:
        raise ValueError(
            f"perturbation: found {name!r}; expected one of {', '.join(PERTURBATIONS)}"
        )
    if isinstance(severity, int | np.integer) and not 1 <= severity <= 5:
        raise ValueError(f"severity: found {severity}; expected 1, 2, 3, 4 or 5")
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != jnp.uint8:
        raise ValueError(
            f"frames: found {frames.dtype} {list(frames.shape)}; expected uint8 [T, H, W, 3]"
        )
    return _perturb(frames, key, severity, name=name)


@functools.partial(jax.jit, static_argnames=("name",))
def _perturb(frames: jax.Array, key: jax.Array, severity: jax.Array, *, name: str) -> jax.Array:
    return PERTURBATIONS[name].apply(frames, key, severity)


def perturb_batch(
    name: str, clips: jax.Array, clip_ids: jax.Array, severity: Any, seed: Any = 0
) -> jax.Array:
    """Perturbs a batch of clips; the randomness of a clip comes from its number. Pure.

    Args:
      name: a name in `PERTURBATIONS`.
      clips: [B, T, H, W, 3] uint8, RGB.
      clip_ids: [B] int32, the numbers of the clips in their dataset.
      severity: 1..5, may be traced.
      seed: the seed of the whole evaluation, may be traced.

    Returns:
      [B, T, H', W', 3] uint8, as of `perturb`.
    """
    # "video/": no perturbation of a clip shares its draws with a corruption of an image.
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(f"video/{name}".encode()))
    key = jax.random.fold_in(key, severity)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.asarray(clip_ids))
    return jax.vmap(lambda frames, own: perturb(name, frames, own, severity))(clips, keys)
