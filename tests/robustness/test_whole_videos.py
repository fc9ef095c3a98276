"""An evaluation of clips: perturbations along time are those of the whole video."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dst_jax import data, robustness
from dst_jax.corruptions import video
from dst_jax.data import moving_digits, perturbed_clips
from dst_jax.robustness import suites
from dst_jax.runtime.devices import Devices

NAMES = ["box_jumbling", "sampling", "static_rotation"]
ONE = Devices(devices=jax.devices()[:1])


def predict(clips):
    """Ten classes by where the first, the middle and the last frame are bright."""
    frames = clips.astype(jnp.float32)[:, jnp.asarray([0, 3, 7])].mean(axis=(2, 4))
    weights = jnp.sin(jnp.arange(3 * 32 * 10, dtype=jnp.float32)).reshape(3, 32, 10)
    return jnp.einsum("bfw,fwc->bc", frames, weights, precision="highest")


def scored(cache_dir, **options):
    options = {"severities": (2, 5), "seed": 3, "batch_size": 16, "devices": ONE, **options}
    return robustness.evaluate(
        predict, "moving_digits", NAMES, max_images=120, quiet=True, cache_dir=cache_dir, **options
    )


@pytest.fixture(scope="module")
def result(cache_dir):
    return scored(cache_dir)


def test_scores_are_those_of_whole_videos_perturbed_by_hand(result, cache_dir):
    assert result.setting.source == "rendered+whole-videos"
    still, labels = data.load_arrays(data.get("digits"), "test", None, cache_dir, limit=120)
    shown = perturbed_clips.central_frames(64, data.get("moving_digits").clip)
    assert shown.tolist() == [0, 9, 18, 27, 36, 45, 54, 63]
    everything = np.arange(moving_digits.LENGTH)
    for severity, rate in ((2, 4), (5, 32)):
        right = {"box_jumbling": 0, "sampling": 0}
        for number, (image, label) in enumerate(zip(still, labels, strict=True)):
            whole = moving_digits.frames_of(image, number, everything)
            (key,) = video.clip_keys("box_jumbling", jnp.asarray([number]), severity, 3)
            jumbled = np.asarray(video.perturb("box_jumbling", jnp.asarray(whole), key, severity))
            fast = whole[::rate]
            for name, clip in (
                ("box_jumbling", jumbled[shown]),
                ("sampling", fast[np.arange(8) * (len(fast) - 1) // 7]),
            ):
                right[name] += int(np.argmax(predict(clip[None])[0]) == label)
        assert min(right.values()) > 0
        for name, count in right.items():
            assert result.accuracy(name, severity) == pytest.approx(count / 120)


def test_batches_and_devices_change_nothing(result, cache_dir):
    for options in ({"batch_size": 7}, {"batch_size": 8, "devices": Devices()}):
        other = scored(cache_dir, **options)
        assert other.hits.keys() == result.hits.keys()
        for condition, hits in result.hits.items():
            np.testing.assert_array_equal(other.hits[condition].bits, hits.bits)


def test_scores_of_whole_videos_are_told_from_those_of_clips(tmp_path):
    digits = data.get("moving_digits")
    plan = suites.plan(["jumbling"], digits, data.VIDEO, data_dir=tmp_path)
    assert plan.source == "rendered+whole-videos"
    assert plan.reads_whole_videos("jumbling")
    plan = suites.plan(["static_rotation"], digits, data.VIDEO, data_dir=tmp_path)
    assert plan.source == "rendered"
    assert suites.plan(["jumbling"], None, data.VIDEO).source == "rendered"
    part = suites.plan("video", digits, data.VIDEO, only=["translation"], data_dir=tmp_path)
    assert part.source == "rendered+whole-videos"
