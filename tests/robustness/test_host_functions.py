"""Predict functions that JAX cannot trace: the same scores as JAX's, while the devices render."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dst_jax import robustness
from dst_jax.errors import RunError, UserError
from dst_jax.robustness import predict_functions
from dst_jax.robustness.engine import Engine
from dst_jax.robustness.records import CLEAN
from dst_jax.runtime.devices import Devices

NAMES = ["gaussian_noise", "contrast"]
ONE = Devices(devices=jax.devices()[:1])
WEIGHTS = np.random.default_rng(3).normal(size=(32 * 32 * 3, 4)).astype(np.float32) / 100


@pytest.fixture(scope="module")
def dataset():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (23, 32, 32, 3), dtype=np.uint8)
    return images, random.integers(0, 4, 23).astype(np.int32)


def of_jax(images):
    return images.reshape(len(images), -1).astype(jnp.float32) @ WEIGHTS


def of_numpy(images):
    if not isinstance(images, np.ndarray):
        raise TypeError("NumPy only")
    return images.reshape(len(images), -1).astype(np.float32) @ WEIGHTS


def evaluated(dataset, predict=of_numpy, **options):
    options = {"severities": (3, 5), "batch_size": 7, "devices": ONE, "quiet": True, **options}
    return robustness.evaluate(predict, dataset, NAMES, **options)


def records(result):
    return {c: (hits.images, *hits.bits) for c, hits in result.hits.items()}


@pytest.mark.parametrize("on_host", [None, True])
@pytest.mark.parametrize("devices", [ONE, None])
def test_the_scores_are_those_of_the_same_network_in_jax(dataset, on_host, devices):
    expected = evaluated(dataset, of_jax)
    found = evaluated(dataset, on_host=on_host, devices=devices)
    assert records(found) == records(expected)
    assert len({row.accuracy for row in expected.scores}) > 1
    for ours, theirs in zip(found.scores, expected.scores, strict=True):
        assert ours.ece == pytest.approx(theirs.ece, abs=1e-5)


def test_a_function_of_jax_may_be_run_on_the_host(dataset):
    asked = []

    def predict(images):
        asked.append(type(images))
        return of_jax(images)

    assert records(evaluated(dataset, predict, on_host=True)) == records(evaluated(dataset))
    assert set(asked) == {np.ndarray}


def test_the_next_batches_are_under_way_while_the_host_works(dataset, monkeypatch):
    events = []
    render = Engine.render

    def rendered(self, condition, batch):
        if condition != CLEAN:
            events.append("render")
        return render(self, condition, batch)

    def predict(images):
        events.append("predict")
        return of_numpy(images)

    monkeypatch.setattr(Engine, "render", rendered)
    host = robustness.HostFunction(predict)
    robustness.evaluate(
        host, dataset, "contrast", severities=(3,), batch_size=4, devices=ONE, quiet=True
    )
    events = events[events.index("render") :]
    assert events == [*["render"] * 3, *["predict", "render"] * 3, *["predict"] * 3]


def test_models_of_both_kinds_side_by_side(dataset, tmp_path):
    def wrote(images):
        logits = of_numpy(images)
        images[:] = 0  # its own copy: the others still see the images
        return -logits

    models = {"writes": wrote, "jax": of_jax, "numpy": of_numpy}
    options = {"severities": (3,), "batch_size": 7, "devices": ONE, "quiet": True}
    together = robustness.evaluate_models(models, dataset, NAMES, path=tmp_path, **options)
    for name, predict in models.items():
        alone = robustness.evaluate(predict, dataset, NAMES, **options)
        assert together[name].scores == alone.scores
        assert robustness.load(tmp_path / name).scores == alone.scores
    assert records(together["jax"]) == records(together["numpy"]) != records(together["writes"])


def test_somebody_is_told_that_it_runs_on_the_host(dataset, capsys):
    evaluated(dataset, quiet=False, severities=(3,))
    text = "predict: runs on the host, as JAX cannot trace it (TypeError: NumPy only)"
    assert text in capsys.readouterr().err.splitlines()
    for options in ({"on_host": True}, {"predict": robustness.HostFunction(of_numpy)}):
        evaluated(dataset, quiet=False, severities=(3,), **options)
        assert "runs on the host" not in capsys.readouterr().err


def test_weights_that_are_given_identify_the_model(dataset, tmp_path):
    def model(weights):
        return robustness.HostFunction(of_numpy, lambda: {"kernel": weights})

    options = {"path": tmp_path, "severities": (3,)}
    first = evaluated(dataset, model(WEIGHTS), **options)
    assert evaluated(dataset, model(WEIGHTS.copy()), **options).scores == first.scores
    assert evaluated(dataset, **options).scores == first.scores  # it answers as the model does
    nearly = WEIGHTS.copy()
    nearly[0, 0] += 1e-6
    with pytest.raises(UserError, match="found scores of another model"):
        evaluated(dataset, model(nearly), **options)
    with pytest.raises(UserError, match="found scores of another model"):
        evaluated(dataset, lambda x: of_numpy(255 - x), **options)


def after(count, then):
    """Fails when it is asked for the (count + 1)th time: what one trial cannot see."""
    asked = []

    def predict(images):
        asked.append(images.shape)
        return of_numpy(images) if len(asked) <= count else then(images)

    return predict


def raises(images):
    raise OSError("no such device\nand more")


WRONG = {
    "on neither side": (
        lambda x: np.asarray(x) @ np.ones(5),
        r"predict: found TracerArrayConversionError when called with \[7, 32, 32, 3\]: .* \(traced "
        r"by JAX\); on the host, with a NumPy array, ValueError: .*; expected a function of images",
    ),
    "one number per image": (
        lambda x: np.asarray(x, np.float32).mean((1, 2, 3)),
        r"found float32 \[7\] for 7 images; expected logits \[B, classes\]",
    ),
    "whole numbers": (
        lambda x: np.asarray(x)[:, 0, :, 0],
        r"found uint8 \[7, 32\] for 7 images; expected logits, floating-point",
    ),
    "no array": (lambda x: {"logits": of_numpy(x)}, r"found object \[\] for 7 images"),
    "too few classes": (
        lambda x: of_numpy(x)[:, :2],
        "logits of 2 classes for labels from 0 to 3; expected as many",
    ),
    "other classes later": (
        after(3, lambda x: of_numpy(x)[:, :3]),
        r"predict: found float32 \[7, 3\] for 7 images; expected logits of 4 classes, as before",
    ),
    "fewer rows later": (
        after(3, lambda x: of_numpy(x)[1:]),
        r"predict: found float32 \[6, 4\] for 7 images; expected logits \[B, classes\]",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line(dataset, name):
    predict, text = WRONG[name]
    with pytest.raises(UserError, match=text) as caught:
        evaluated(dataset, predict)
    assert "\n" not in str(caught.value)


def test_what_fails_in_the_middle_ends_the_run_in_one_line(dataset, tmp_path):
    with pytest.raises(RunError, match=r"^predict fails on the host: OSError: no such device$"):
        evaluated(dataset, after(9, raises), path=tmp_path)
    assert [row.condition for row in robustness.load(tmp_path).scores] == [CLEAN]
    assert len(evaluated(dataset, path=tmp_path).scores) == 5  # and it goes on from there


def test_a_nan_is_no_prediction(dataset):
    with pytest.raises(RunError, match="predict gives NaN for 23 of 23 images of clean 0"):
        evaluated(dataset, lambda x: of_numpy(x) * np.float32("nan"))

    def on_one_image(images):
        logits = of_numpy(images)
        logits[images.mean((1, 2, 3)) == dataset[0][11].mean(), 2] = np.nan
        return logits

    with pytest.raises(RunError, match="predict gives NaN for 1 of 23 images of clean 0"):
        evaluated(dataset, on_one_image)


def test_who_says_which_kind_it_is_gets_that(dataset):
    text = "found TracerArrayConversionError when called with"
    with pytest.raises(UserError, match=text) as caught:
        evaluated(dataset, lambda x: of_numpy(np.asarray(x)), on_host=False)
    assert "on the host" not in str(caught.value)
    with pytest.raises(UserError, match="found a function of the host; expected one of JAX"):
        evaluated(dataset, robustness.HostFunction(of_numpy), on_host=False)


def test_a_function_of_jax_that_is_wrong_is_not_tried_on_the_host(dataset):
    class Network(nnx.Module):
        def __init__(self):
            self.norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
            self.head = nnx.Linear(3, 4, rngs=nnx.Rngs(0))

        def __call__(self, images):
            return self.head(self.norm(images / 255).mean((1, 2)))

    network = Network()  # in training mode: outside of JAX's tracing it would change its averages
    with pytest.raises(UserError, match="found TraceContextError when called with"):
        evaluated(dataset, network)
    np.testing.assert_array_equal(network.norm.mean[...], 0)
    network.eval()
    assert evaluated(dataset, network, severities=(3,)).n == 23


def test_one_process_only(dataset, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="found a function of the host in 2 processes"):
        predict_functions.check_predict(of_numpy, (7, 32, 32, 3))
