"""Clips of videos: which frames, which part, in which order; on a small dataset like TFDS's."""

import dataclasses
import os

import jax
import numpy as np
import pytest

from dst_jax import data
from dst_jax.corruptions import video
from dst_jax.data import array_files, moving_digits, perturbed_clips, tf_clips
from dst_jax.data.datasets import Clip
from dst_jax.errors import UserError

SIDE = 16
LENGTHS = {"train": (40, 9, 25, 64, 31, 12), "test": (40, 5, 33)}
# As ucf101, but small.
TINY = dataclasses.replace(
    data.get("ucf101"), image_shape=(4, 12, 12, 3), clip=Clip(frames=4, stride=5, side=SIDE)
)


def frames_of(split, video_number):
    """Frames whose grey level is their number: a clip tells where it comes from."""
    length = LENGTHS[split][video_number]
    level = 3 * np.arange(length, dtype=np.uint8)[:, None, None, None] + 40
    return np.broadcast_to(level, (length, SIDE, SIDE, 3)).copy()


@pytest.fixture(scope="module")
def ucf101(tmp_path_factory):
    """The directory of a prepared `ucf101/ucf101_1_256` with 6 + 3 videos; label = number."""
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("tensorflow")

    class Ucf101(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("2.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="ucf101_1_256")]  # noqa: RUF012

        def _info(self):
            features = {
                "video": tfds.features.Video((None, SIDE, SIDE, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(num_classes=101),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in LENGTHS}

        def _generate_examples(self, split):
            for number in range(len(LENGTHS[split])):
                yield number, {"video": frames_of(split, number), "label": number}

    path = tmp_path_factory.mktemp("tfds")
    Ucf101(data_dir=os.fspath(path)).download_and_prepare()
    return path


def shown(clip):
    """Frame numbers of a clip [T, H, W, 3] from `frames_of`."""
    numbers = (clip.astype(int) - 40) / 3
    assert np.all(numbers == numbers[:, :1, :1, :1])
    return numbers[:, 0, 0, 0].astype(int).tolist()


def expected_frames(start, window, frames):
    """pytorchvideo's rule: `linspace(0, window - 1, frames)`, rounded down."""
    exact = [start * (frames - 1) + i * (window - 1) for i in range(frames)]
    return [value // (frames - 1) for value in exact]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_evaluation_shows_the_middle_of_every_video_whole(ucf101):
    seen = {}
    for batch in data.stream_eval_batches(TINY, ucf101, 2):
        assert batch["image"].shape == (2, 4, SIDE, SIDE, 3)
        for clip, label, weight in zip(
            batch["image"], batch["label"], batch["weight"], strict=True
        ):
            if weight:
                seen[int(label)] = shown(clip)
    assert sorted(seen) == [0, 1, 2]
    for label, numbers in seen.items():
        length = LENGTHS["test"][label]
        window = min(length, 20)
        assert numbers == expected_frames((length - window) // 2, window, 4)


ALONG_TIME = [(name, severity) for name in video.ALONG_TIME for severity in (1, 5)]


def orders(length, number):
    return [video.frame_order(name, length, number, level, seed=2) for name, level in ALONG_TIME]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_whole_videos_are_perturbed_before_the_clip_is_taken(ucf101):
    """Against all frames of the video, reordered by hand."""
    seen = {}
    for batch in perturbed_clips.perturbed_clips(TINY, orders, [0, 2], 1, ucf101):
        (images,), (label,), (number,) = batch["image"], batch["label"], batch["id"]
        assert images.shape == (len(ALONG_TIME), 4, SIDE, SIDE, 3)
        seen[int(number)] = int(label), images
    assert sorted(seen) == [0, 2]
    for number, (label, images) in seen.items():
        whole = frames_of(
            "test", label
        )  # videos are labelled by their number before TFDS's shuffle
        for (name, severity), clip in zip(ALONG_TIME, images, strict=True):
            order = video.frame_order(name, len(whole), number, severity, seed=2)
            perturbed = whole[order]
            window = min(len(perturbed), 20)
            shows = expected_frames((len(perturbed) - window) // 2, window, 4)
            np.testing.assert_array_equal(clip, perturbed[shows])
        # Nothing but the first frame, and the 33rd where there is one.
        sampled = images[ALONG_TIME.index(("sampling", 5))]
        assert set(shown(sampled)) == set(range(0, len(whole), 32))


def test_a_batch_of_perturbed_clips_is_padded(cache_dir):
    dataset = data.get("moving_digits")
    batches = [*perturbed_clips.perturbed_clips(dataset, orders, [5, 1, 4], 2, None, cache_dir)]
    assert [batch["id"].tolist() for batch in batches] == [[1, 4], [5, 0]]
    assert [batch["weight"].tolist() for batch in batches] == [[1, 1], [1, 0]]
    _, labels = data.load_arrays(data.get("digits"), "test", None, cache_dir)
    assert batches[0]["label"].tolist() == [*labels[[1, 4]]]


def test_training_clips_are_a_function_of_seed_and_step(ucf101):
    def clips(seed, steps, first=0):
        pipeline = data.StreamPipeline(
            TINY, ucf101, batch_size=3, seed=seed, augment="clip_crop_flip"
        )
        feeds = [
            jax.tree.map(np.asarray, pipeline.host_inputs(s)) for s in range(first, first + steps)
        ]
        batch = pipeline.batch(pipeline.host_inputs(first + steps - 1), first + steps - 1)
        assert batch["image"].shape == (3, 4, 12, 12, 3)
        pipeline.close()
        return feeds

    one = clips(0, 4)
    for step, feed in enumerate(one):
        for clip, label in zip(feed["image"], feed["label"], strict=True):
            length = LENGTHS["train"][label]
            window = min(length, 20)
            numbers = shown(clip)
            starts = range(length - window + 1)
            assert numbers in [expected_frames(start, window, 4) for start in starts], step
    again = clips(0, 2, first=2)
    for a, b in zip(one[2:], again, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
    other = clips(1, 4)
    assert any(np.any(a["image"] != b["image"]) for a, b in zip(one, other, strict=True))


def test_every_start_of_the_window_and_every_corner_is_drawn(ucf101):
    tf = pytest.importorskip("tensorflow")
    frames = np.zeros((22, SIDE, SIDE, 3), np.uint8)
    frames[..., 0] = np.arange(22)[:, None, None]
    frames[..., 1] = np.arange(SIDE)[:, None]
    frames[..., 2] = np.arange(SIDE)
    encoded = tf.stack([tf.io.encode_png(frame) for frame in frames])
    clip, draws = TINY.clip, []

    @tf.function
    def sample(seed):
        return tf_clips.random(tf, encoded, clip, 12, seed, crop=True)

    for number in range(150):
        part = sample(tf.constant([7, number])).numpy()
        assert part.shape == (4, 12, 12, 3)
        flipped = part[0, 0, 0, 2] > part[0, 0, -1, 2]
        left = min(part[0, 0, 0, 2], part[0, 0, -1, 2])
        assert np.all(part[..., 1:] == part[:1, ..., 1:])  # one square for the whole clip
        draws.append((part[0, 0, 0, 0], part[0, 0, 0, 1], left, flipped))
    starts, tops, lefts, flips = map(set, zip(*draws, strict=True))
    assert starts == {0, 1, 2}
    assert tops == lefts == {0, 1, 2, 3, 4}
    assert flips == {True, False}


def test_without_the_dataset_one_line_says_what_it_takes(tmp_path):
    with pytest.raises(UserError) as error:
        list(data.stream_eval_batches(data.get("ucf101"), tmp_path, 2))
    text = str(error.value)
    assert "\n" not in text
    for part in ("ucf101/ucf101_1_256, prepared", "6.5 GB", "ffmpeg", "tfds.load"):
        assert part in text


@pytest.mark.parametrize(
    ("name", "augment"), [("ucf101", "crop_flip"), ("cifar10", "clip_crop_flip")]
)
def test_an_augmentation_of_the_other_kind_is_refused(name, augment, tmp_path):
    with pytest.raises(UserError, match=rf"config\.data\.augment: found {augment}"):
        data.StreamPipeline(data.get(name), tmp_path, batch_size=2, seed=0, augment=augment)


def test_digits_slide_across_the_frame():
    image = np.zeros((2, 32, 32, 3), np.uint8)
    image[:, 10, 16] = 200
    clips = moving_digits.clips_of(image, 5)
    assert clips.shape == (2, 5, 32, 32, 3)
    columns = [[int(frame[10].any(-1).argmax()) for frame in clip] for clip in clips]
    assert columns == [[8, 12, 16, 20, 24], [24, 20, 16, 12, 8]]


def test_moving_digits_are_the_digits(cache_dir):
    images, labels = data.load_arrays(data.get("moving_digits"), "test", None, cache_dir, limit=3)
    still, same = data.load_arrays(data.get("digits"), "test", None, cache_dir, limit=3)
    assert images.shape == (3, 8, 32, 32, 3)
    np.testing.assert_array_equal(labels, same)
    np.testing.assert_array_equal(images[0, 0, :, 5], still[0, :, 13])


def test_the_clip_of_a_sliding_digit_is_taken_of_its_video(cache_dir):
    dataset = data.get("moving_digits")
    clips, _ = data.load_arrays(dataset, "test", None, cache_dir, limit=2)
    still, _ = data.load_arrays(data.get("digits"), "test", None, cache_dir, limit=2)
    frames = perturbed_clips.central_frames(moving_digits.LENGTH, dataset.clip)
    for number in (0, 1):
        found = moving_digits.frames_of(still[number], number, frames)
        np.testing.assert_array_equal(found, clips[number])


def test_clips_that_are_given_as_arrays_are_their_own_videos(tmp_path):
    dataset = data.get("moving_digits")
    assert array_files.has_whole_videos(dataset, tmp_path)
    assert array_files.has_whole_videos(data.get("ucf101"), tmp_path)
    assert not array_files.has_whole_videos(data.get("digits"), tmp_path)
    assert not array_files.has_whole_videos(None, tmp_path)
    array_files.write(
        dataset, "test", np.zeros((2, 8, 32, 32, 3), np.uint8), np.zeros(2, int), tmp_path
    )
    assert not array_files.has_whole_videos(dataset, tmp_path)


def test_perturbed_clips_depend_on_the_clip_and_not_on_its_batch():
    clips = np.random.default_rng(0).integers(0, 256, (3, 4, 16, 16, 3), np.uint8)
    ids = np.arange(3, dtype=np.int32)
    whole = video.perturb_batch("gaussian_noise", clips, ids, 3, seed=1)
    part = video.perturb_batch("gaussian_noise", clips[2:], ids[2:], 3, seed=1)
    np.testing.assert_array_equal(whole[2:], part)
    same = np.stack([clips[0], clips[0]])
    drawn = video.perturb_batch("gaussian_noise", same, ids[:2], 3, seed=1)
    assert np.any(drawn[0] != drawn[1])
