"""`evaluate` against a plain loop; what may not change it; where it goes on; what it refuses."""

import dataclasses
import io
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dst_jax import corruptions, robustness
from dst_jax.errors import RunError, UserError
from dst_jax.robustness import images as images_lib
from dst_jax.robustness import storage, suites
from dst_jax.robustness.engine import Engine
from dst_jax.robustness.records import CLEAN, Condition
from dst_jax.runtime.devices import Devices
from dst_jax.runtime.run_dir import locked

NAMES = ["gaussian_noise", "contrast"]
ONE = Devices(devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def dataset():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (23, 32, 32, 3), dtype=np.uint8)
    return images, random.integers(0, 4, 23).astype(np.int32)


def predict(images):
    """Four classes by the brightness of the four quarters; no network is needed to count."""
    x = images.astype(jnp.float32)
    quarters = [x[:, :16, :16], x[:, :16, 16:], x[:, 16:, :16], x[:, 16:, 16:]]
    return jnp.stack([quarter.mean((1, 2, 3)) for quarter in quarters], -1)


def evaluated(dataset, function=predict, **options):
    options = {"severities": (3, 5), "seed": 3, "batch_size": 7, "devices": ONE, **options}
    return robustness.evaluate(function, dataset, NAMES, quiet=True, **options)


def records(result):
    return {c: (hits.images, *hits.bits) for c, hits in result.hits.items()}


def test_it_counts_as_a_plain_loop_does(dataset):
    images, labels = dataset
    found = evaluated(dataset)
    assert found.setting[:5] == ("gaussian_noise+contrast", "rendered", "cifar32", 3, 23)
    assert found.conditions == tuple(Condition(name, s) for name in NAMES for s in (3, 5))
    for condition in (CLEAN, *found.conditions):
        hits, confidence = [], []
        for index, label in enumerate(labels):
            image = images[index : index + 1]
            if condition != CLEAN:
                keys = corruptions.example_keys(3, *condition, np.array([index]))
                image = corruptions.corrupt(
                    condition.corruption, image, keys, condition.severity, "cifar32"
                )
            logits = np.asarray(predict(jnp.asarray(image)), np.float64)[0]
            hits.append(logits.argmax() == label)
            confidence.append(1 / np.exp(logits - logits.max()).sum())
        assert found.accuracy(*condition) == np.mean(hits)
        assert np.array_equal(found.hits[condition].unpack(23), hits)
        ece = robustness.expected_calibration_error(np.array(confidence), np.array(hits))
        row = next(row for row in found.scores if row.condition == condition)
        assert row.ece == pytest.approx(ece, abs=1e-4)


@pytest.mark.parametrize("size", [1, 64])
def test_batch_size_changes_nothing(dataset, size):
    assert records(evaluated(dataset, batch_size=size)) == records(evaluated(dataset))


def test_devices_change_nothing(dataset):
    four, one = evaluated(dataset, devices=Devices()), evaluated(dataset)
    assert Devices().count == 4
    assert four.scores == one.scores  # calibration too, to the bit
    assert records(four) == records(one)


def test_images_are_the_same_on_one_and_four_devices(dataset):
    plan = suites.plan("common", None, "cifar32")
    rendered = {}
    for devices in (ONE, Devices()):
        engine = Engine(plan, devices)
        source = images_lib.open_source(dataset, "", 0, None, None)
        clean = images_lib.CleanImages(source, devices, 3)
        for condition in (Condition("gaussian_noise", 4), Condition("contrast", 4)):
            parts = [(np.asarray(engine.render(condition, b))[b.real]) for b in clean()]
            rendered.setdefault(condition, []).append(np.concatenate(parts))
    for one, four in rendered.values():
        np.testing.assert_array_equal(one, four)


def test_order_and_form_of_the_images_change_nothing(dataset):
    images, labels = dataset
    expected = records(evaluated(dataset))
    order = np.random.default_rng(1).permutation(23)
    shuffled = [
        {"image": images[part], "label": labels[part], "id": part}
        for part in np.split(order, [4, 5, 16])
    ]
    assert records(evaluated(shuffled)) == expected
    pairs = [(images[:10], labels[:10]), (images[10:], labels[10:].astype(np.int64))]
    assert records(evaluated(pairs)) == expected
    assert records(evaluated(iter(pairs))) == expected  # once is enough: they stay on the device
    assert records(evaluated((jnp.asarray(images), labels))) == expected


def test_images_that_do_not_fit_are_read_once_a_corruption(dataset, monkeypatch):
    passes = []

    class Stream:
        def __iter__(self):
            passes.append(1)
            yield {"image": dataset[0], "label": dataset[1]}

    monkeypatch.setattr(Devices, "bytes_for_data", 1000)
    assert records(evaluated(Stream())) == records(evaluated(dataset))
    assert len(passes) <= 2 + 1 + len(NAMES)  # two looks at the kind, clean images, corruptions
    with pytest.raises(UserError, match="iterated again"):
        evaluated(iter(list(Stream())))


def test_the_first_images_only(dataset):
    images, labels = dataset
    expected = records(evaluated((images[:9], labels[:9])))
    assert records(evaluated(dataset, max_images=9)) == expected
    assert records(evaluated([dataset], max_images=9)) == expected


def test_a_predict_function_may_be_a_pytree_of_its_weights(dataset):
    partial = jax.tree_util.Partial(lambda w, images: predict(images) @ w, jnp.eye(4))
    assert records(evaluated(dataset, partial)) == records(evaluated(dataset))


def test_it_goes_on_where_it_was_cut_off(dataset, tmp_path, monkeypatch):
    whole = evaluated(dataset, path=tmp_path / "whole")
    score, asked = Engine.score, []

    def spy(self, networks, batches, conditions):
        asked.extend(conditions)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return score(self, networks, batches, conditions)

    monkeypatch.setattr(Engine, "score", spy)
    with pytest.raises(KeyboardInterrupt):
        evaluated(dataset, path=tmp_path / "cut")
    assert len(storage.load(tmp_path / "cut").scores) == 3
    # What a kill in the middle of writing leaves: a temporary file that is not whole.
    (tmp_path / "cut" / ".robustness.csv.1.tmp").write_text("suite,sou")
    asked.clear()
    rest = evaluated(dataset, path=tmp_path / "cut")
    assert asked == [CLEAN, *whole.conditions[2:]]
    assert rest.scores == whole.scores
    for name in ("robustness.csv", "robustness.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    # Rows that were lost, and records that were lost, are scored again.
    lines = (tmp_path / "cut" / "robustness.csv").read_text().splitlines(keepends=True)
    (tmp_path / "cut" / "robustness.csv").write_text("".join(lines[:-2]))
    asked.clear()
    assert evaluated(dataset, path=tmp_path / "cut").scores == whole.scores
    assert asked == [CLEAN, *whole.conditions[2:]]


def linear(weights, images):
    """A model of weights [4, 4], as two trainings of one network would be two of them."""
    return predict(images) @ weights


def test_another_model_is_refused_whatever_is_scored(dataset, tmp_path):
    images, labels = dataset
    evaluated(dataset, path=tmp_path)
    before = (tmp_path / "robustness.csv").read_bytes()

    def other(x):
        return -predict(x)

    for data_set, options in (
        (dataset, {}),  # the same conditions
        (dataset, {"corruptions": ["contrast"], "severities": (1,)}),  # others
        ((images[:9], labels[:9]), {}),  # other images
        (dataset, {"seed": 4}),
    ):
        with pytest.raises(UserError, match="found scores of another model"):
            evaluated(data_set, other, path=tmp_path, **options)
    assert (tmp_path / "robustness.csv").read_bytes() == before


def test_weights_tell_models_apart_whose_predictions_are_the_same(dataset, tmp_path):
    one, nearly = (jax.tree_util.Partial(linear, scale * jnp.eye(4)) for scale in (1, 1.00001))
    evaluated(dataset, one, path=tmp_path)
    assert evaluated(dataset, one, path=tmp_path).n == 23
    with pytest.raises(UserError, match="found scores of another model"):
        evaluated(dataset, nearly, path=tmp_path, corruptions=["contrast"])


def test_a_directory_of_an_older_version_has_no_model_yet_and_is_checked_by_its_answers(
    dataset, tmp_path
):
    evaluated(dataset, path=tmp_path)
    (tmp_path / "robustness.json").unlink()
    with pytest.raises(UserError, match=r"another model \(right on"):
        evaluated(dataset, lambda x: -predict(x), path=tmp_path)
    evaluated(dataset, path=tmp_path)
    assert storage.read(tmp_path).model is not None


def test_scores_that_nobody_signed_and_no_answers_can_check_are_refused(dataset, tmp_path):
    evaluated(dataset, path=tmp_path)
    before = (tmp_path / "robustness.csv").read_bytes()
    for name in ("robustness.json", "robustness.npz"):
        (tmp_path / name).unlink()
    for model in (predict, lambda x: -predict(x)):
        with pytest.raises(UserError, match="found scores of a model that is not recorded"):
            evaluated(dataset, model, path=tmp_path, max_images=8)
    assert (tmp_path / "robustness.csv").read_bytes() == before


def test_the_same_weights_in_another_function_are_another_model(dataset, tmp_path):
    weights = jnp.eye(4)
    evaluated(dataset, jax.tree_util.Partial(linear, weights), path=tmp_path)
    other = jax.tree_util.Partial(lambda w, x: linear(w, 255 - x), weights)
    with pytest.raises(UserError, match="found scores of another model"):
        evaluated(dataset, other, path=tmp_path, max_images=8)


def test_own_images_are_told_apart_by_their_pixels(dataset, tmp_path):
    images, labels = dataset
    one = evaluated(dataset, path=tmp_path)
    two = evaluated((255 - images, labels), path=tmp_path)
    assert one.setting.images != two.setting.images
    assert len(storage.load_all(tmp_path)) == 2
    with pytest.raises(UserError, match="other images"):
        two.difference(one)


def test_other_photographs_of_frost_are_another_score(dataset, tmp_path, shared_dir):
    own = tmp_path / "own"
    shutil.copytree(shared_dir / "frost", own)
    plans = [
        suites.plan(["frost"], None, "cifar32", frost_dir=path)
        for path in (shared_dir / "frost", own)
    ]
    assert [plan.source for plan in plans] == ["rendered", "rendered"]
    (own / "frost1.png").unlink()
    shutil.copy(own / "frost2.png", own / "frost1.png")
    other = suites.plan(["frost"], None, "imagenet224", frost_dir=own)
    assert re.fullmatch(r"rendered\+jpeg85\+frost-[0-9a-f]{8}", other.source)
    assert other.jpeg_quality("frost") == 85


def test_a_quick_look_stands_beside_the_full_score(dataset, tmp_path):
    full = evaluated(dataset, path=tmp_path)
    quick = evaluated(dataset, path=tmp_path, max_images=8)
    assert (full.n, quick.n) == (23, 8)
    assert [r.scores for r in storage.load_all(tmp_path)] == [full.scores, quick.scores]
    # Other images of the same number are other scores too.
    images, labels = dataset
    later = evaluated((images[8:16], labels[8:16]), path=tmp_path)
    assert later.setting[:5] == quick.setting[:5]
    kept = [full.scores, quick.scores, later.scores]
    assert [r.scores for r in storage.load_all(tmp_path)] == kept


def test_two_evaluations_never_write_one_directory_at_a_time(dataset, tmp_path):
    with locked(tmp_path, ".evaluation.lock"), pytest.raises(UserError, match="in use by another"):
        evaluated(dataset, path=tmp_path)


def test_frost_is_left_out_without_its_photographs_and_told():
    plan = suites.plan("common", None, "cifar32")
    names = dict.fromkeys(c.corruption for c in plan.conditions[1:])
    assert len(names) == 18
    assert "frost" not in names
    assert plan.notes == ("frost is left out: frost_dir names no photographs.",)


def test_a_later_call_without_photographs_does_not_say_that_frost_lacks(
    dataset, tmp_path, shared_dir
):
    options = {"severities": (3,), "quiet": True, "devices": ONE, "path": tmp_path}
    common = (predict, dataset, "c")
    robustness.evaluate(*common, frost_dir=shared_dir / "frost", corruptions=["frost"], **options)
    later = robustness.evaluate(*common, **options)
    assert later.notes == ("frost is left out: frost_dir names no photographs.",)
    (stored,) = storage.load_all(tmp_path)
    assert "frost" in stored.corruptions
    assert stored.notes == ()


def test_a_nan_is_no_prediction(dataset):
    with pytest.raises(RunError, match="predict gives NaN for 23 of 23 images of clean 0"):
        evaluated(dataset, lambda x: predict(x) * jnp.nan)


def test_published_sets_were_saved_as_jpeg(dataset):
    assert suites.plan("c", None, "imagenet224").source == "rendered+jpeg85"
    assert suites.plan("c", None, "imagenet224", jpeg85=False).source == "rendered"
    assert suites.plan("c", None, "cifar32").source == "rendered"
    assert suites.plan("3dcc", None, "imagenet224").source == "rendered+jpeg75"
    assert suites.plan("3dcc", None, "imagenet224", jpeg85=False).source == "rendered"
    both = suites.plan(["fog", "iso_noise"], None, "imagenet224")
    assert both.source == "rendered+jpeg85+jpeg75"
    assert [both.jpeg_quality(name) for name in ("fog", "iso_noise")] == [85, 75]
    whole = suites.plan("c_bar_imagenet", None, "imagenet224")
    assert whole.source == "rendered+jpeg85+plasma_noise-2"
    part = suites.plan("c_bar_imagenet", None, "imagenet224", only=["sparkles"])
    assert part.source == whole.source  # parts of a suite are scored under one source
    plan = suites.plan(["brightness"], None, "cifar32", jpeg85=True)
    source = images_lib.open_source(dataset, "", 0, None, None)
    (batch,) = images_lib.CleanImages(source, ONE, 23)()
    condition = Condition("brightness", 2)
    plain = Engine(suites.plan(["brightness"], None, "cifar32"), ONE)
    expected = corruptions.jpeg85(plain.render(condition, batch))
    found = Engine(plan, ONE).render(condition, batch)
    np.testing.assert_array_equal(found, expected)
    plan = suites.plan(["color_quant"], None, "imagenet224")
    rendered = Engine(dataclasses.replace(plan, source="rendered"), ONE)
    condition = Condition("color_quant", 1)
    expected = [pillow_jpeg(image) for image in np.asarray(rendered.render(condition, batch))]
    np.testing.assert_array_equal(Engine(plan, ONE).render(condition, batch), expected)


def pillow_jpeg(image):
    """What Pillow reads back after it saved an image without being told a quality."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG")
    return np.asarray(Image.open(file))


IMAGES, LABELS = np.zeros((4, 32, 32, 3), np.uint8), np.zeros(4, np.int32)
WRONG = {
    "no function": ({"predict": 3}, "predict: found an object of type int"),
    "one number per image": (
        {"predict": lambda x: x.mean((1, 2, 3))},
        r"found float32 \[4\] for 4 images; expected logits \[B, classes\]",
    ),
    "whole numbers": ({"predict": lambda x: x[:, 0, :, 0]}, "expected logits, floating-point"),
    "no JAX": (
        {"predict": lambda x: np.asarray(x).mean((1, 2)), "on_host": False},
        "predict: found TracerArrayConversionError when called with",
    ),
    "outputs": ({"outputs": "logit"}, "outputs: found logit; expected logits or probabilities"),
    "too few classes": (
        {"dataset": (IMAGES, LABELS + 4)},
        "logits of 4 classes for labels from 4 to 4",
    ),
    "dataset": ({"dataset": "cifar11"}, "dataset: found cifar11; expected one of cifar10"),
    "no images": ({"dataset": 5}, "dataset: found int; expected a dataset's name"),
    "no batch": ({"dataset": []}, "dataset: found no batch at all"),
    "batch": ({"dataset": [3]}, "dataset: found a batch that is a int"),
    "keys": ({"dataset": [{"x": 1}]}, "a batch that is a mapping with the keys x"),
    "floats": ({"dataset": (IMAGES / 255, LABELS)}, r"images float64 \[4, 32, 32, 3\]; .*uint8"),
    "labels": ({"dataset": (IMAGES, LABELS[:3])}, r"labels int32 \[3\] for 4 images"),
    "ids": (
        {"dataset": [{"image": IMAGES, "label": LABELS, "id": LABELS}]},
        "images with the same id",
    ),
    "size": ({"dataset": (IMAGES[:, :31], LABELS)}, "preset: found nothing, for images of 31x32"),
    "preset": ({"preset": "cifar"}, "preset: found cifar; expected one of cifar32, tiny64"),
    "suite": ({"suite": "commen"}, "suite: found commen; expected one of common, c,"),
    "corruption": ({"suite": ["fog", "fogg"]}, "suite: found fogg; expected one of common, c,"),
    "none": ({"suite": []}, "suite: found no corruption"),
    "frost": ({"suite": "frost"}, "suite: found frost; .* frost needs frost_dir"),
    "codec": ({"suite": "h265_crf"}, "suite: found h265_crf; .*prepared dataset only"),
    "map": ({"suite": "flash", "preset": "imagenet224"}, "found flash; .*a map of its scene"),
    "constants": ({"suite": "3dcc"}, "found cifar32, for which iso_noise has no constants"),
    "severity": ({"severities": (0,)}, "severities: found 0; expected severities from 1 to 5"),
    "seed": ({"seed": -1}, "seed: found -1"),
    "batch size": ({"batch_size": 0}, "batch_size: found 0"),
    "half a batch": ({"batch_size": 1.5}, "batch_size: found 1.5; expected at least 1, a whole"),
    "no seed": ({"seed": 0.5}, "seed: found 0.5; expected a whole number"),
    "fewer than none": ({"max_images": -1}, "max_images: found -1; expected at least 0"),
    "one severity": ({"severities": 3}, "severities: found 3; expected several, as"),
    "half a severity": ({"severities": (1.0,)}, "severities: found 1.0; expected severities"),
    "source": ({"source": "fogs"}, "source: found fogs; expected one of auto, rendered"),
    "only": ({"corruptions": ["snow"]}, "corruptions: found snow; expected among gaussian_noise"),
    "prepared": (
        {"dataset": "cifar10", "suite": "imagenet_c"},
        "(imagenet_c|the TFDS dataset cifar10, prepared)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line(name, tmp_path):
    changes, text = WRONG[name]
    options = {
        "predict": predict,
        "dataset": (IMAGES, LABELS),
        "suite": NAMES,
        "severities": (1,),
        "devices": ONE,
        "data_dir": tmp_path,
        "cache_dir": tmp_path,
        **changes,
    }
    arguments = [options.pop(part) for part in ("predict", "dataset", "suite")]
    with pytest.raises(UserError, match=text) as caught:
        robustness.evaluate(*arguments, quiet=True, **options)
    assert "\n" not in str(caught.value)


def test_images_of_several_sizes_are_refused():
    batches = [(IMAGES, LABELS), (np.zeros((4, 64, 64, 3), np.uint8), LABELS)]
    with pytest.raises(UserError, match=r"found images of \[64, 64, 3\] after \[32, 32, 3\]"):
        evaluated(batches)
