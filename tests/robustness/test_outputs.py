"""Logits or probabilities: what is declared is honoured, and the one is not taken for the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dst_jax import robustness
from dst_jax.errors import RunError, UserError
from dst_jax.robustness.networks import highest_confidence_of_probabilities
from dst_jax.runtime.devices import Devices

ONE = Devices(devices=jax.devices()[:1])
WEIGHTS = np.random.default_rng(3).normal(size=(32 * 32 * 3, 4)).astype(np.float32) / 2000


@pytest.fixture(scope="module")
def dataset():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (23, 32, 32, 3), dtype=np.uint8)
    return images, random.integers(0, 4, 23).astype(np.int32)


def logits(images):
    return images.reshape(len(images), -1).astype("float32") @ WEIGHTS


def softmax(images):
    shares = jnp.exp(logits(images))
    return shares / shares.sum(-1, keepdims=True)


def on_host(predict):
    return robustness.HostFunction(lambda images: np.asarray(predict(images)))


def evaluated(dataset, predict, **options):
    options = {"severities": (3,), "batch_size": 7, "devices": ONE, "quiet": True, **options}
    return robustness.evaluate(predict, dataset, ["contrast"], **options)


KINDS = {"jax": lambda predict: predict, "host": on_host}
both = pytest.mark.parametrize("kind", KINDS)


@both
def test_probabilities_are_not_taken_for_logits(dataset, kind):
    with pytest.raises(UserError, match="rows without a negative number and with the sum 1, pro"):
        evaluated(dataset, KINDS[kind](softmax))
    with pytest.raises(UserError) as caught:
        evaluated(dataset, KINDS[kind](softmax))
    assert str(caught.value).endswith('; expected logits, or outputs="probabilities"')
    assert "for all 23 clean images" in str(caught.value)


@both
def test_declared_probabilities_are_the_confidence(dataset, kind):
    found = evaluated(dataset, KINDS[kind](softmax), outputs="probabilities")
    expected = evaluated(dataset, logits)
    assert [r.accuracy for r in found.scores] == [r.accuracy for r in expected.scores]
    for ours, theirs in zip(found.scores, expected.scores, strict=True):
        assert ours.ece == pytest.approx(theirs.ece, abs=1e-5)
    shares = np.asarray(softmax(dataset[0]), np.float64)
    ece = robustness.expected_calibration_error(shares.max(-1), shares.argmax(-1) == dataset[1])
    assert found.clean_ece == pytest.approx(ece, abs=1e-5)
    # Read as logits they would have another: this is what the refusal is for.
    as_logits = np.exp(shares) / np.exp(shares).sum(-1, keepdims=True)
    wrong = robustness.expected_calibration_error(
        as_logits.max(-1), shares.argmax(-1) == dataset[1]
    )
    assert abs(wrong - ece) > 0.05


@both
def test_they_are_not_made_to_sum_to_1(dataset, kind):
    def nearly(images):
        return softmax(images) * 0.995

    found = evaluated(dataset, KINDS[kind](nearly), outputs="probabilities")
    shares = np.asarray(nearly(dataset[0]), np.float64)
    ece = robustness.expected_calibration_error(shares.max(-1), shares.argmax(-1) == dataset[1])
    assert found.clean_ece == pytest.approx(ece, abs=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_probabilities_of_few_digits_are_known_too(dataset, dtype):
    with pytest.raises(UserError, match="sum 1, probabilities"):
        evaluated(dataset, lambda x: jax.nn.softmax(logits(x).astype(dtype), -1))


def votes(images):
    return jax.nn.one_hot(logits(images).argmax(-1), 4)


def one_is_none(images):
    return softmax(images) + (jnp.arange(len(images)) == 0)[:, None]


LOGITS = {
    "logits": logits,
    "logarithms of probabilities": lambda x: jnp.log(softmax(x)),
    "no negative number": lambda x: jnp.maximum(logits(x), 0),
    "a sum of 1": lambda x: logits(x) - logits(x).mean(-1, keepdims=True) + 0.25,
    "votes": votes,
    "all classes alike": lambda x: jnp.full((len(x), 4), 0.25),
    "all 0": lambda x: jnp.zeros((len(x), 4)),
    "one class always": lambda x: jnp.zeros((len(x), 4)).at[:, 2].set(1),
    "some rows only": one_is_none,
    "large": lambda x: 50 * logits(x),
}


@both
@pytest.mark.parametrize("name", LOGITS)
def test_logits_are_not_taken_for_probabilities(dataset, name, kind):
    assert evaluated(dataset, KINDS[kind](LOGITS[name])).n == 23


@both
def test_logits_that_are_declared_probabilities_are_refused(dataset, kind):
    text = r"predict: found what is negative or does not sum to 1, no probabilities, for 23 of 23"
    with pytest.raises(UserError, match=text) as caught:
        evaluated(dataset, KINDS[kind](logits), outputs="probabilities")
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match="predict gives NaN for 23 of 23 images of clean 0"):
        evaluated(dataset, KINDS[kind](lambda x: softmax(x) * jnp.nan), outputs="probabilities")


@both
def test_so_is_what_is_none_on_corrupted_images(dataset, kind):
    def predict(images):  # contrast makes images grey
        grey = images.astype("float32").std((1, 2, 3)) < 60
        return softmax(images) * jnp.where(grey, 2.0, 1.0)[:, None]

    with pytest.raises(RunError, match=r"no probabilities, for 23 of 23 images of contrast 3"):
        evaluated(dataset, KINDS[kind](predict), outputs="probabilities")


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_no_probabilities_are_surer_than_the_bound(classes):
    """Else a network would not be looked at: the corner of the simplex is the worst."""
    random = np.random.default_rng(0)
    rows = random.dirichlet(np.full(classes, 0.05), 500) * random.uniform(0.99, 1.01, (500, 1))
    rows = np.concatenate([rows, np.eye(classes)[:1]])
    confidence = (np.exp(rows) / np.exp(rows).sum(-1, keepdims=True)).max(-1)
    bound = highest_confidence_of_probabilities(classes)
    assert confidence.max() < bound < 1.05 * confidence.max()


def test_a_network_that_is_sure_is_not_asked_twice(dataset):
    asked = []

    def predict(images):
        asked.append(1)
        return np.asarray(50 * logits(images))

    evaluated(dataset, robustness.HostFunction(predict))
    once = len(asked)
    asked.clear()
    evaluated(dataset, robustness.HostFunction(lambda x: predict(x) / 1000 + 0.05))
    assert once < len(asked) <= once + 4  # the clean images again, until one row is none
