"""Perturbations of video: temporal laws, Pillow's rotation, crops, frames against images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dst_jax import corruptions
from dst_jax.corruptions import video

T = 80
KEY = jax.random.key(3)
# The value of a frame is its number.
NUMBERED = jnp.broadcast_to(jnp.arange(T, dtype=jnp.uint8)[:, None, None, None], (T, 2, 2, 3))
CLIP = jnp.asarray(np.random.default_rng(0).integers(1, 256, (6, 24, 32, 3), dtype=np.uint8))


def order(name, severity, key=KEY):
    return np.asarray(video.perturb(name, NUMBERED, key, severity))[:, 0, 0, 0].astype(int)


def test_the_published_names():
    assert len(video.PERTURBATIONS) + len(video.CODECS) == 18


@pytest.mark.parametrize("severity", range(1, 6))
def test_time(severity):
    frames = np.arange(T)
    rate = 2**severity
    sampled = np.repeat(frames[::rate], rate)[:T]
    np.testing.assert_array_equal(order("sampling", severity), sampled)
    np.testing.assert_array_equal(order("reverse_sampling", severity), sampled[::-1])

    segment = 64 // 2**severity
    jumbled = order("jumbling", severity)
    assert sorted(jumbled) == list(frames)
    np.testing.assert_array_equal(jumbled // segment, frames // segment)
    assert (jumbled != frames).any()

    size = (severity + 1) ** 2
    boxes = [list(frames[i : i + size]) for i in range(0, T, size)]
    found = list(order("box_jumbling", severity))
    while found:
        box = next(box for box in boxes if found[: len(box)] == box)
        boxes.remove(box)
        del found[: len(box)]
    assert not boxes

    frozen = order("freezing", severity)
    assert frozen[0] == 0
    repeats = frozen[1:] == frozen[:-1]
    np.testing.assert_array_equal(frozen[1:][~repeats], frames[1:][~repeats])


@pytest.mark.parametrize("name", video.ALONG_TIME)
@pytest.mark.parametrize("severity", range(1, 6))
def test_the_order_of_a_whole_video_is_that_of_perturb(name, severity):
    """Also where the host draws more numbers than there are frames; sampling drops, not holds."""
    for length in (1, 30, 80):
        numbers = jnp.arange(length, dtype=jnp.uint8)[:, None, None, None]
        (key,) = video.clip_keys(name, jnp.asarray([9]), severity, 4)
        frames = jnp.broadcast_to(numbers, (length, 1, 1, 3))
        whole = np.asarray(video.perturb(name, frames, key, severity))[:, 0, 0, 0]
        found = video.frame_order(name, length, 9, severity, seed=4)
        if "sampling" in name:
            whole = whole[np.sort(np.unique(whole, return_index=True)[1])]
        np.testing.assert_array_equal(found, whole)


def test_the_order_is_a_function_of_seed_severity_and_video():
    first = video.frame_order("jumbling", 100, 3, 1, seed=0)
    np.testing.assert_array_equal(first, video.frame_order("jumbling", 100, 3, 1, seed=0))
    for other in ((4, 1, 0), (3, 2, 0), (3, 1, 1)):
        clip_id, severity, seed = other
        found = video.frame_order("jumbling", 100, clip_id, severity, seed=seed)
        assert np.any(found != first)
    with pytest.raises(ValueError, match="found 'fog'; expected one of sampling"):
        video.frame_order("fog", 100, 3, 1)


@pytest.mark.parametrize("shape", [(24, 32), (31, 31)])
def test_rotation_is_pillows(shape):
    frame = np.random.default_rng(1).integers(1, 256, (*shape, 3), dtype=np.uint8)
    look_up = jax.jit(video._look_up)
    for angle in (0, 7.5, 15, 30, 45, 90, *range(-31, 32, 3)):
        expected = np.asarray(Image.fromarray(frame).rotate(angle))
        found = look_up(jnp.asarray(frame), jnp.asarray(video._rotation(angle, *shape)))
        np.testing.assert_array_equal(found, expected)


def test_camera():
    for severity, angle in enumerate((7.5, 15, 30, 45, 90), start=1):
        found = np.asarray(video.perturb("static_rotation", CLIP, KEY, severity))
        for frame, clean in zip(found, np.asarray(CLIP), strict=True):
            np.testing.assert_array_equal(frame, Image.fromarray(clean).rotate(angle))
    found = np.asarray(video.perturb("random_rotation", CLIP, KEY, 5))
    used = set()
    for frame, clean in zip(found, np.asarray(CLIP), strict=True):
        image = Image.fromarray(clean)
        turns = [a for a in range(-31, 32) if np.array_equal(frame, image.rotate(a))]
        assert turns
        used.add(turns[0])
    assert len(used) > 1


@pytest.mark.parametrize("severity", [1, 5])
def test_translation(severity):
    y, x = np.mgrid[:64, :96]
    frame = np.stack([y + 1, x + 1, np.ones_like(x)], -1).astype(np.uint8)
    clip = jnp.broadcast_to(jnp.asarray(frame), (40, 64, 96, 3))
    found = np.asarray(video.perturb("translation", clip, KEY, severity)).astype(int)
    assert found.shape == (40, 56, 56, 3)
    corners = found[:, 0, 0, :2] - 1
    assert set(np.unique(corners)) == set(range(2 * severity + 1))
    for crop, (top, left) in zip(found, corners, strict=True):
        expected = np.asarray(Image.fromarray(frame).crop((left, top, left + 56, top + 56)))
        np.testing.assert_array_equal(crop, expected)


@pytest.mark.parametrize("name", ["speckle_noise", "zoom_blur"])
def test_frames_are_corrupted_images(name):
    preset = {"speckle_noise": "tiny64", "zoom_blur": "imagenet224"}[name]
    found = np.asarray(video.perturb(name, CLIP, KEY, jnp.int32(2))).astype(int)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(KEY, jnp.arange(len(CLIP)))
    expected = np.asarray(corruptions.corrupt(name, CLIP, keys, 2, preset))
    assert np.abs(found - expected).max() <= 1
    assert (found != np.asarray(CLIP)).any()


@pytest.mark.parametrize("name", list(video.PERTURBATIONS))
def test_shapes(name):
    for severity in (3, jnp.int32(3)):
        found = jax.eval_shape(lambda s=severity: video.perturb(name, CLIP, KEY, s))
        assert found.dtype == jnp.uint8
        assert found.shape == ((6, 21, 21, 3) if name == "translation" else CLIP.shape)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": "mpeg1"}, "mpeg1 is the output of a video codec"),
        ({"name": "rain"}, "found 'rain'; expected one of gaussian_noise"),
        ({"severity": 6}, "severity: found 6"),
        ({"frames": CLIP[0]}, r"frames: found uint8 \[24, 32, 3\]"),
    ],
)
def test_mistakes_are_told(change, text):
    arguments = {"name": "sampling", "frames": CLIP, "key": KEY, "severity": 1, **change}
    with pytest.raises(ValueError, match=text):
        video.perturb(**arguments)
