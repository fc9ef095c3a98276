"""Image operations as TensorFlow graphs: decoding, the evaluation crop, the random resized crop.

They run on the host inside tf.data, for records that only TensorFlow reads. `tf` is always passed
in, so that importing this file costs nothing. Called by `arrays`, `stream` and `evaluation`.
"""

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

    The part has 8 to 100 % of the area and an aspect ratio of 3/4 to 4/3 (after ten failed draws it
    is the whole image). Of a JPEG only that part is decoded.

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
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.zeros([0, 0, 4], tf.float32),
        seed=seed,
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    top, left, height, width = begin[0], begin[1], extent[0], extent[1]
    part = tf.cond(
        is_jpeg,
        lambda: tf.io.decode_and_crop_jpeg(
            encoded, tf.stack([top, left, height, width]), channels=3, dct_method=_DCT
        ),
        lambda: decode(tf, encoded)[top : top + height, left : left + width],
    )
    image = tf.image.resize(part, [size, size], antialias=True)
    flip_seed = tf.random.experimental.stateless_fold_in(seed, 1)
    image = tf.image.stateless_random_flip_left_right(image, flip_seed)
    return _to_uint8(tf, image, size)


def _to_uint8(tf: Any, image: Any, size: int) -> Any:
    """Rounds and clips a float image of 0..255, and states its shape."""
    image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
    return tf.ensure_shape(image, [size, size, 3])
