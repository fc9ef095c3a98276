"""Clips of videos as TensorFlow graphs: which frames, and which part of them.

They run on the host inside tf.data; only the chosen frames are decoded. `tf` is always passed in,
so that importing this file costs nothing. Called by `stream` and `evaluation`.

The rule is that of pytorchvideo's loaders of slow_r50 and i3d_r50 (8 frames, 8 apart, of 224
pixels), on which the video experiments of Wu et al. 2025 rest by way of Schiappa et al. 2023: a
window of frames x stride, or all of a shorter video; in it, T frames at equal distances, the first
and the last of the window among them, rounded down (its `uniform_temporal_subsample`). The
window begins anywhere in training, and lies in the middle of the video in evaluation.
"""

from typing import Any

from dst_jax.data import tf_images
from dst_jax.data.datasets import Clip


def central(tf: Any, encoded: Any, clip: Clip) -> Any:
    """The clip for evaluation: the central window, whole frames as they are stored.

    Args:
      tf: TensorFlow.
      encoded: string [L], the frames of the video.
      clip: how many frames, how far apart.

    Returns:
      uint8 [T, side, side, 3].
    """
    length = tf.shape(encoded)[0]
    start = (length - _window(tf, length, clip)) // 2
    return _frames(tf, encoded, start, clip)


def random(tf: Any, encoded: Any, clip: Clip, size: int, seed: Any, *, crop: bool) -> Any:
    """The clip for training: a window anywhere in the video, and a square of its frames.

    Args:
      tf: TensorFlow.
      encoded: string [L], the frames of the video.
      clip: how many frames, how far apart.
      size: side of the square in pixels, at most that of the stored frames.
      seed: int32 [2]; all randomness comes from it.
      crop: a random square, mirrored half the time, the same for all frames; otherwise the central
        one, never mirrored.

    Returns:
      uint8 [T, size, size, 3].
    """
    draws = tf.random.stateless_uniform([4], seed)
    length = tf.shape(encoded)[0]
    frames = _frames(tf, encoded, _pick(tf, draws[0], length - _window(tf, length, clip)), clip)
    slack = clip.side - size
    if not crop:
        begin = slack // 2
        return frames[:, begin : begin + size, begin : begin + size]
    top, left = _pick(tf, draws[1], slack), _pick(tf, draws[2], slack)
    frames = frames[:, top : top + size, left : left + size]
    return tf.ensure_shape(
        tf.where(draws[3] < 0.5, frames, frames[:, :, ::-1]), [clip.frames, size, size, 3]
    )


def _pick(tf: Any, draw: Any, most: Any) -> Any:
    """A whole number from 0 to `most` from a uniform draw in [0, 1)."""
    most = tf.cast(most, tf.float32)
    return tf.cast(tf.minimum(tf.floor(draw * (most + 1)), most), tf.int32)


def _window(tf: Any, length: Any, clip: Clip) -> Any:
    return tf.minimum(length, clip.frames * clip.stride)


def _frames(tf: Any, encoded: Any, start: Any, clip: Clip) -> Any:
    """Decodes T frames of the window that begins at `start`, uint8 [T, side, side, 3]."""
    last = _window(tf, tf.shape(encoded)[0], clip) - 1
    # In whole numbers: a float32 `linspace` may round the last index down.
    index = start + tf.range(clip.frames) * last // (clip.frames - 1)
    frames = tf.map_fn(
        lambda frame: tf_images.decode(tf, frame),
        tf.gather(encoded, index),
        fn_output_signature=tf.TensorSpec([None, None, 3], tf.uint8),
    )
    return tf.ensure_shape(frames, [clip.frames, clip.side, clip.side, 3])
