"""Perturbations of video (Schiappa et al. 2023: UCF101-P, HMDB51-P, Kinetics-400-P, SSv2-P).

    frames = video.perturb("jumbling", frames, key, severity)  # uint8 [T, H, W, 3], pure
    order = video.frame_order("jumbling", length, clip_id, severity)  # int [L], on the host

The authors' code has three variants; this is the generator of the published benchmark, with its
constants, before the MP4 coding of its output. The published evaluation perturbs a whole video
along time and takes the network's clip from that: `frame_order` says which frames the whole video
then shows, in what order, so that nobody has to hold it. The others treat each frame by itself,
with draws of its own, so that it is the same to perturb the frames of the clip alone. In `perturb`,
where a clip would become shorter, T stays:

| perturbation | what it does, severities 1..5 |
|---|---|
| gaussian_noise, impulse_noise, defocus_blur, motion_blur, zoom_blur, jpeg_compression | \
ImageNet-C's, fresh draws every frame |
| shot_noise, speckle_noise | Tiny-ImageNet-C's, fresh draws every frame |
| sampling | keeps every 2nd, 4th, 8th, 16th, 32nd frame; `perturb` holds each, `frame_order` \
drops the others, as published |
| reverse_sampling | the same, backwards |
| jumbling | shuffles within segments of 32, 16, 8, 4, 2 frames: milder with severity |
| box_jumbling | shuffles segments of 4, 9, 16, 25, 36 frames |
| freezing | a frame repeats the one before with probability 0.12 s |
| static_rotation | by 7.5, 15, 30, 45, 90 degrees |
| random_rotation | each frame by a whole number of degrees up to 6 s + 1 |
| translation | each frame cropped to 7/8 of the short side, up to s/32 of it off the corner |

`mpeg1` and `mpeg2` are the output of codecs: `codecs.render` makes them through ffmpeg. Called by
`robustness` and by users; the images' registry does not know this file.
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
# Of NumPy's arrays (`frame_order`) or of JAX's (`perturb`), as `numbers` says.

_RATES = (2, 4, 8, 16, 32)


def _choose(numbers: Any, rows: tuple[float, ...], severity: Any) -> Any:
    return numbers.asarray(rows)[severity - 1]


def _jumbled(numbers: Any, u: Any, severity: Any) -> Any:
    segment = numbers.arange(len(u)) // _choose(numbers, (32, 16, 8, 4, 2), severity)
    return numbers.lexsort((u, segment))


def _box_jumbled(numbers: Any, u: Any, severity: Any) -> Any:
    segment = numbers.arange(len(u)) // _choose(numbers, (4, 9, 16, 25, 36), severity)
    # By the number of the segment too: two might draw the same place.
    return numbers.lexsort((segment, u[segment]))


def _frozen(numbers: Any, u: Any, severity: Any) -> Any:
    probability = _choose(numbers, (0.12, 0.24, 0.36, 0.48, 0.6), severity)
    moves = numbers.where(u < probability, 0, numbers.arange(len(u)))
    return np.maximum.accumulate(moves) if numbers is np else jax.lax.cummax(moves)


_SHUFFLES = {"jumbling": _jumbled, "box_jumbling": _box_jumbled, "freezing": _frozen}


def _reordered(name: str) -> Apply:
    def apply(frames: jax.Array, key: jax.Array, severity: Any) -> jax.Array:
        length = len(frames)
        if name in _SHUFFLES:
            order = _SHUFFLES[name](jnp, jax.random.uniform(key, (length,)), severity)
        else:
            rate = _choose(jnp, _RATES, severity)
            order = jnp.arange(length) // rate * rate
            order = order[::-1] if name == "reverse_sampling" else order
        return jnp.take(frames, order, axis=0)

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
        Perturbation("sampling", "temporal", _reordered("sampling")),
        Perturbation("reverse_sampling", "temporal", _reordered("reverse_sampling")),
        Perturbation("jumbling", "temporal", _reordered("jumbling")),
        Perturbation("box_jumbling", "temporal", _reordered("box_jumbling")),
        Perturbation("freezing", "temporal", _reordered("freezing")),
        Perturbation("static_rotation", "camera", _static_rotation),
        Perturbation("random_rotation", "camera", _random_rotation),
        Perturbation("translation", "camera", _translation),
    )
}
ALONG_TIME = tuple(name for name, p in PERTURBATIONS.items() if p.category == "temporal")
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
    keys = clip_keys(name, clip_ids, severity, seed)
    return jax.vmap(lambda frames, own: perturb(name, frames, own, severity))(clips, keys)


def clip_keys(name: str, clip_ids: jax.Array, severity: Any, seed: Any = 0) -> jax.Array:
    """The random keys [B] of a batch of clips; the arguments are those of `perturb_batch`."""
    # "video/": no perturbation of a clip shares its draws with a corruption of an image.
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(f"video/{name}".encode()))
    key = jax.random.fold_in(key, severity)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.asarray(clip_ids))


def frame_order(name: str, length: int, clip_id: int, severity: int, seed: int = 0) -> np.ndarray:
    """Which frames a whole video shows after a perturbation along time, on the host.

    Args:
      name: one of `ALONG_TIME`.
      length: L, frames of the video.
      clip_id: the number of the video in its dataset.
      severity: 1..5.
      seed: the seed of the whole evaluation.

    Returns:
      Int64 [L], the frame numbers by which `perturb` reorders all frames with the key that
      `clip_keys` makes. Of 'sampling' and 'reverse_sampling' [L / rate], rounded up.
    """
    if name not in ALONG_TIME:
        raise ValueError(f"perturbation: found {name!r}; expected one of {', '.join(ALONG_TIME)}")
    if name not in _SHUFFLES:
        kept = np.arange(0, length, _RATES[severity - 1])
        return kept[::-1] if name == "reverse_sampling" else kept
    # Of a longer array the first numbers are the same: few sizes, few programs.
    size = -(-length // 256) * 256
    u = np.asarray(_uniform(np.int32(clip_id), np.int32(severity), np.int32(seed), name, size))
    return np.asarray(_SHUFFLES[name](np, u[:length], severity), np.int64)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _uniform(clip_id: Any, severity: Any, seed: Any, name: str, size: int) -> jax.Array:
    (key,) = clip_keys(name, clip_id[None], severity, seed)
    return jax.random.uniform(key, (size,))
