"""Several models side by side: the scores of each alone, on images that are rendered once."""

import dataclasses
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dst_jax import robustness
from dst_jax.errors import RunError, UserError
from dst_jax.robustness.engine import Engine
from dst_jax.robustness.records import CLEAN
from dst_jax.runtime.devices import Devices
from dst_jax.runtime.interrupt import InterruptedRunError

NAMES = ["gaussian_noise", "contrast"]
OPTIONS = {"severities": (1, 4), "batch_size": 7, "quiet": True}


def logits(weights, images):
    return images.reshape(len(images), -1).astype(jnp.float32) @ weights


def network(seed):
    weights = np.random.default_rng(seed).normal(size=(32 * 32 * 3, 4)).astype(np.float32)
    return jax.tree_util.Partial(logits, weights)


@pytest.fixture(scope="module")
def dataset():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (23, 32, 32, 3), dtype=np.uint8)
    return images, random.integers(0, 4, 23).astype(np.int32)


@pytest.fixture
def rendered(monkeypatch):
    """The conditions that were rendered, once per batch."""
    render, asked = Engine.render, []

    def spy(self, condition, batch):
        if condition != CLEAN:
            asked.append(condition)
        return render(self, condition, batch)

    monkeypatch.setattr(Engine, "render", spy)
    return asked


def files(path):
    return {p.name: p.read_bytes() for p in path.iterdir() if not p.name.startswith(".")}


def test_they_have_the_scores_and_the_files_of_each_alone(dataset, tmp_path, rendered):
    models = {"a": network(1), "b": network(2), "c": network(3)}
    together = robustness.evaluate_models(models, dataset, NAMES, path=tmp_path / "all", **OPTIONS)
    devices = Devices()
    batches = -(-23 // (7 * devices.count))
    assert len(rendered) == 4 * batches  # and not three times as often
    for name, predict in models.items():
        alone = robustness.evaluate(predict, dataset, NAMES, path=tmp_path / name, **OPTIONS)
        assert together[name].scores == alone.scores
        assert files(tmp_path / "all" / name) == files(tmp_path / name)
    assert len({result.scores for result in together.values()}) == 3


def test_only_what_a_model_lacks_is_scored_again(dataset, tmp_path, rendered):
    models = {"a": network(1), "b": network(2)}
    robustness.evaluate(models["a"], dataset, NAMES, path=tmp_path / "a", **OPTIONS)
    before, _ = files(tmp_path / "a"), rendered.clear()
    score = Engine.score
    asked = []

    def spy(self, networks, batches, conditions):
        asked.extend((len(networks), condition) for condition in conditions if condition != CLEAN)
        return score(self, networks, batches, conditions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "score", spy)
        robustness.evaluate_models(models, dataset, NAMES, path=tmp_path, **OPTIONS)
    assert [count for count, _ in asked] == [1] * 4
    assert files(tmp_path / "a") == before


def test_what_was_scored_before_an_error_is_on_disk(dataset, tmp_path, monkeypatch):
    score = Engine.score
    asked = []

    def stops(self, networks, batches, conditions):
        asked.extend(conditions)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return score(self, networks, batches, conditions)

    monkeypatch.setattr(Engine, "score", stops)
    models = {"a": network(1), "b": network(2)}
    with pytest.raises(KeyboardInterrupt):
        robustness.evaluate_models(models, dataset, NAMES, path=tmp_path, **OPTIONS)
    for name in models:
        (result,) = robustness.load_all(tmp_path / name)
        assert len(result.scores) == 3  # clean and two conditions


def test_an_error_names_the_model(dataset):
    models = {"good": network(1), "bad": jax.tree_util.Partial(logits, np.zeros((5, 4), "f4"))}
    with pytest.raises(UserError, match="predict of bad: found TypeError"):
        robustness.evaluate_models(models, dataset, NAMES, **OPTIONS)
    with pytest.raises(UserError, match="predicts: found nothing"):
        robustness.evaluate_models({}, dataset, NAMES, **OPTIONS)
    with pytest.raises(UserError, match=r"predicts: found Partial; expected \{name: predict"):
        robustness.evaluate_models(network(1), dataset, NAMES, **OPTIONS)


@pytest.mark.parametrize("name", ["a/b", "../a", "a/../..", "/tmp/a", "..", ".", 1, "a/"])
def test_a_name_is_that_of_a_directory_in_the_path(dataset, tmp_path, name):
    with pytest.raises(UserError, match="predicts: a name: found "):
        robustness.evaluate_models({name: network(1)}, dataset, NAMES, path=tmp_path, **OPTIONS)
    with pytest.raises(UserError, match="a name for each, where there are several"):
        robustness.evaluate_models({"": network(1), "b": network(2)}, dataset, NAMES, **OPTIONS)
    assert not list(tmp_path.iterdir())


@dataclasses.dataclass(frozen=True)
class Shifted:
    """Equal to every other, whatever it adds."""

    shift: int = dataclasses.field(compare=False)

    def __call__(self, weights, images):
        return jnp.roll(logits(weights, images), self.shift, axis=-1)


def test_functions_that_compare_equal_do_not_share_a_program(dataset):
    weights = network(1).args[0]
    models = {str(n): jax.tree_util.Partial(Shifted(n), weights) for n in range(2)}
    assert len({jax.tree.structure(predict) for predict in models.values()}) == 1
    together = robustness.evaluate_models(models, dataset, NAMES, **OPTIONS)
    for name, predict in models.items():
        alone = robustness.evaluate(predict, dataset, NAMES, **OPTIONS)
        assert together[name].scores == alone.scores
    assert together["0"].scores != together["1"].scores


def test_one_that_gives_nan_is_named_and_the_others_are_scored(dataset, tmp_path):
    bad = jax.tree_util.Partial(logits, network(1).args[0] * np.nan)
    with pytest.raises(RunError, match=r"^predict of bad gives NaN for 23 of 23 images of clean"):
        robustness.evaluate_models(
            {"a": network(1), "bad": bad, "c": network(2)}, dataset, NAMES, path=tmp_path, **OPTIONS
        )
    assert [len(r.scores) for n in "ac" for r in robustness.load_all(tmp_path / n)] == [5, 5]
    assert not robustness.load_all(tmp_path / "bad")


def test_an_interruption_is_told_also_where_nothing_is_left(dataset, tmp_path, monkeypatch):
    options = {"path": tmp_path, **OPTIONS}
    robustness.evaluate(network(1), dataset, NAMES, **options)
    score = Engine.score

    def killed(self, *arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return score(self, *arguments)

    monkeypatch.setattr(Engine, "score", killed)
    with pytest.raises(InterruptedRunError, match="5 of 5 conditions scored"):
        robustness.evaluate(network(1), dataset, NAMES, **options)


def test_numbers_beside_the_weights_are_part_of_the_model(dataset, tmp_path):
    def scaled(weights, number, images):
        return logits(weights, images) + number * jnp.arange(4)[None]

    weights = network(1).args[0]
    options = {"path": tmp_path, **OPTIONS}
    robustness.evaluate(jax.tree_util.Partial(scaled, weights, 0.0), dataset, NAMES, **options)
    with pytest.raises(UserError, match="scores of another model"):
        robustness.evaluate(jax.tree_util.Partial(scaled, weights, 0.1), dataset, NAMES, **options)
