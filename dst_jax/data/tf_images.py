"""Image operations as TensorFlow graphs: decoding, the evaluation crop, the random resized crop.

They run on the host inside tf.data, for records that only TensorFlow reads. `tf` is always passed
in, so that importing this file costs nothing. Called by `arrays`, `stream` and `evaluation`.
"""

import math
from typing import Any

# Decoding with the accurate DCT equals Pillow bit by bit; TensorFlow's default is up to 5 grey
# levels off and darkens JPEG-coded CIFAR-10 by 0.8 levels on average.
_DCT = "INTEGER_ACCURATE"


def decode(tf: Any, encoded: Any) -> Any:
    """Decodes a JPEG or PNG string to uint8 [height, width, 3]."""
    return tf.io.decode_jpeg(encoded, channels=3, dct_method=_DCT)


def central_crop(tf: Any, image: Any, size: int) -> Any:
    """The evaluation image: shorter side to `size * 256 / 224`, then the central square.

    The recipe of ImageNet-C and torchvision: antialiased bilinear resize, crop of `size` pixels.

    Args:
      tf: TensorFlow.
      image: uint8 [height, width, 3].
      size: side of the result in pixels.

    Returns:
      uint8 [size, size, 3].
    """
    shape = tf.shape(image)
    height, width = shape[0], shape[1]
    shorter = tf.minimum(height, width)
    target = size * 256 // 224
    height, width = height * target // shorter, width * target // shorter
    image = tf.image.resize(image, [height, width], antialias=True)
    # torchvision rounds the offset half to even, as tf.round does.
    top = tf.cast(tf.round(tf.cast(height - size, tf.float32) / 2), tf.int32)
    left = tf.cast(tf.round(tf.cast(width - size, tf.float32) / 2), tf.int32)
    return _to_uint8(tf, image[top : top + size, left : left + size], size)


def resized_crop_flip(tf: Any, encoded: Any, size: int, seed: Any) -> Any:
    """The training image of Szegedy et al. 2015: a random part, resized, mirrored half the time.

    As in torchvision's RandomResizedCrop: the area is uniform in 8 to 100 % of the image, the
    aspect ratio log-uniform in 3/4 to 4/3; if ten draws do not fit, the largest central part that
    does. (TensorFlow's own sampler draws the height uniformly: 37 % of the area on average, not
    50 %.) Of a JPEG only that part is decoded.

    Args:
      tf: TensorFlow.
      encoded: JPEG or PNG string.
      size: side of the result in pixels.
      seed: int32 [2]; all randomness comes from it.

    Returns:
      uint8 [size, size, 3].
    """
    is_jpeg = tf.io.is_jpeg(encoded)
    shape = tf.cond(
        is_jpeg,
        lambda: tf.io.extract_jpeg_shape(encoded),
        lambda: tf.shape(decode(tf, encoded)),
    )
    draws = tf.random.stateless_uniform([23], seed)
    height, width = _part_size(tf, shape[0], shape[1], tf.reshape(draws[3:], [10, 2]))
    slack = tf.cast(tf.stack([shape[0] - height, shape[1] - width]), tf.float32)
    corner = tf.cast(tf.floor(draws[:2] * (slack + 1)), tf.int32)
    top, left = corner[0], corner[1]
    part = tf.cond(
        is_jpeg,
        lambda: tf.io.decode_and_crop_jpeg(
            encoded, tf.stack([top, left, height, width]), channels=3, dct_method=_DCT
        ),
        lambda: decode(tf, encoded)[top : top + height, left : left + width],
    )
    image = tf.image.resize(part, [size, size], antialias=True)
    image = _to_uint8(tf, image, size)
    return tf.where(draws[2] < 0.5, image, image[:, ::-1])


def _part_size(tf: Any, height: Any, width: Any, draws: Any) -> tuple[Any, Any]:
    """Height and width of the part to crop, from uniform draws [10, 2]."""
    full = tf.cast(tf.stack([height, width]), tf.float32)
    area = (0.08 + 0.92 * draws[:, 0]) * full[0] * full[1]
    ratio = tf.exp((2 * draws[:, 1] - 1) * math.log(4 / 3))
    sizes = tf.round(tf.sqrt(tf.stack([area / ratio, area * ratio], axis=1)))
    fits = tf.reduce_all((sizes >= 1) & (sizes <= full), axis=1)
    central = tf.minimum(full, tf.round(full[::-1] * 4 / 3))
    # argmax finds the first True, or the first draw where none is.
    chosen = tf.where(tf.reduce_any(fits), sizes[tf.argmax(tf.cast(fits, tf.int32))], central)
    chosen = tf.cast(chosen, tf.int32)
    return chosen[0], chosen[1]


def _to_uint8(tf: Any, image: Any, size: int) -> Any:
    """Rounds and clips a float image of 0..255, and states its shape."""
    image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
    return tf.ensure_shape(image, [size, size, 3])
