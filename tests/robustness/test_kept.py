"""Predictions that an evaluation keeps on request, and the numbers made of them."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn import metrics as oracle

from dst_jax import robustness
from dst_jax.errors import UserError
from dst_jax.robustness import kept_files, storage
from dst_jax.robustness.kept import Kept, largest
from dst_jax.robustness.records import CLEAN, Condition

pytestmark = pytest.mark.usefixtures("on_one_device")

N, CLASSES = 150, 12
CONTRAST, BRIGHT = Condition("contrast", 4), Condition("brightness", 2)


def data():
    random = np.random.default_rng(0)
    base = random.integers(0, 256, (N, 4, 4, 3)).astype(np.uint8)
    images = np.kron(base, np.ones((1, 8, 8, 1), np.uint8))
    return images, random.integers(0, CLASSES, N).astype(np.int32)


def weights(seed=0):
    return 3 * jax.random.normal(jax.random.key(seed), (48, CLASSES))


def network(matrix, images):
    pooled = images.astype(jnp.float32).reshape(-1, 4, 8, 4, 8, 3).mean((2, 4)) / 255 - 0.5
    return pooled.reshape(len(images), -1) @ matrix


def model(seed=0):
    return jax.tree_util.Partial(network, weights(seed))


def evaluate(predict=None, **options):
    given = {"suite": ["contrast", "brightness"], "severities": (2, 4), "quiet": True}
    images, labels = data()
    # Labels that the network often has right, so that no number is at chance.
    own = np.asarray(network(weights(), jnp.asarray(images)).argmax(-1))
    labels = np.where(np.arange(N) % 3 < 2, own, labels).astype(np.int32)
    return robustness.evaluate(predict or model(), (images, labels), **{**given, **options})


@pytest.fixture(scope="module")
def with_logits():
    return evaluate(keep="logits")


def test_numbers_are_those_of_scikit_learn(with_logits):
    result = with_logits
    assert set(result.kept) == {CLEAN, *result.conditions}
    for condition in (CLEAN, CONTRAST):
        arrays = result.kept[condition].arrays
        logits, labels = arrays["logits"].astype(np.float64), arrays["label"]
        every = range(CLASSES)
        for k in (1, 3, 5, 8):
            wanted = oracle.top_k_accuracy_score(labels, logits, k=k, labels=every)
            assert result.top_k(k, condition) == pytest.approx(wanted)
        assert result.top_k(1, condition) == pytest.approx(
            result.accuracy(*condition) if condition != CLEAN else result.clean_accuracy
        )
        table = oracle.confusion_matrix(labels, logits.argmax(-1), labels=every)
        assert np.array_equal(result.confusion(condition), table)
        recall = oracle.recall_score(
            labels, logits.argmax(-1), labels=every, average=None, zero_division=np.nan
        )
        np.testing.assert_allclose(result.per_class(condition), recall)
        shares = softmax(logits, -1)
        loss = oracle.log_loss(labels, shares, labels=every)
        assert result.nll(condition) == pytest.approx(loss, rel=1e-6)
        distance = ((shares - np.eye(CLASSES)[labels]) ** 2).sum(-1).mean()
        assert result.brier(condition) == pytest.approx(distance, rel=1e-6)
        points = result.reliability(condition)
        filled = points.images > 0
        gaps = np.abs(points.accuracy - points.confidence)[filled]
        ece = (points.images[filled] * gaps).sum() / N
        row = next(row for row in result.scores if row.condition == condition)
        assert ece == pytest.approx(row.ece, abs=1e-6)
    # Without a condition: the mean over those of the benchmark, and all of them together.
    means = [result.nll(condition) for condition in result.conditions]
    assert result.nll() == pytest.approx(np.mean(means))
    assert result.confusion().sum() == N * len(result.conditions)
    assert result.reliability(bins=10).images.sum() == N * len(result.conditions)
    figure = result.plot_reliability(CLEAN, "random network")
    assert figure.axes[0].get_xlabel() == "confidence, %"


def test_keeping_changes_no_score_and_top5_gives_the_same_numbers(with_logits):
    plain, small = evaluate(), evaluate(keep="top5")
    for result in (small, with_logits):
        assert [(r.condition, r.accuracy) for r in result.scores] == [
            (r.condition, r.accuracy) for r in plain.scores
        ]
        for row, other in zip(result.scores, plain.scores, strict=True):
            assert row.ece == pytest.approx(other.ece, abs=1e-6)
    assert not plain.kept
    for name in ("top_k", "nll", "brier"):
        assert getattr(small, name)() == getattr(with_logits, name)()
    assert np.array_equal(small.confusion(), with_logits.confusion())
    assert "top-5 " in small.table()
    few = {c: dataclasses.replace(kept, classes=5) for c, kept in small.kept.items()}
    assert "top-5 " not in dataclasses.replace(small, kept=few).table()  # it would be 100 %
    assert "Brier" not in plain.table()


def test_what_was_not_kept_is_told_in_one_line(with_logits):
    plain, small = evaluate(), evaluate(keep="top5")
    expected = "expected an evaluation with keep='top5' or 'logits'. Evaluate it again with that"
    for ask in (plain.top_k, plain.per_class, plain.confusion, plain.nll, plain.brier):
        with pytest.raises(UserError, match=f"contrast 2 without its predictions; {expected}"):
            ask()
    with pytest.raises(UserError, match=r"found contrast 4 without its logits; .*keep='logits'"):
        small.top_k(6, CONTRAST)
    with pytest.raises(UserError, match="fog 1 without its predictions"):
        with_logits.reliability(("fog", 1))
    with pytest.raises(UserError, match="found none that was scored"):
        with_logits.nll([])
    with pytest.raises(UserError, match="keep: found all; expected top5 or logits"):
        evaluate(keep="all")


def snapshot(path):
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and "lock" not in file.name
    }


def test_an_earlier_evaluation_keeps_its_scores(tmp_path, with_logits):
    evaluate(path=tmp_path)
    before = snapshot(tmp_path)
    assert not (tmp_path / "predictions").exists()
    result = evaluate(path=tmp_path, keep="top5")
    after = snapshot(tmp_path)
    for name in ("robustness.csv", "robustness.npz"):
        assert after[name] == before[name]
    assert len(list(tmp_path.glob("predictions/*/*.npz"))) == 5
    assert result.nll() == with_logits.nll()
    loaded = storage.load(tmp_path)
    assert loaded.nll() == with_logits.nll()
    assert np.array_equal(loaded.confusion(BRIGHT), with_logits.confusion(BRIGHT))
    # More of it, and more conditions: what is there stays, and nothing is asked twice.
    evaluate(path=tmp_path, keep="logits", severities=(2,))
    assert storage.load(tmp_path).top_k(8, BRIGHT) == with_logits.top_k(8, BRIGHT)
    with pytest.raises(UserError, match="contrast 4 without its logits"):
        storage.load(tmp_path).top_k(8, CONTRAST)
    state = snapshot(tmp_path)
    evaluate(path=tmp_path, keep="top5")
    evaluate(path=tmp_path)
    assert snapshot(tmp_path) == state
    assert storage.load(tmp_path).top_k(8, BRIGHT) == with_logits.top_k(8, BRIGHT)


def test_predictions_of_another_model_or_damaged_ones_are_not_there(tmp_path, with_logits):
    evaluate(path=tmp_path, keep="top5")
    result = storage.load(tmp_path)
    file = kept_files.path_of(tmp_path, result.setting, CONTRAST)
    content = file.read_bytes()
    for broken in (content[:200], content[:-30], b"", b"PK"):
        file.write_bytes(broken)
        assert set(storage.load(tmp_path).kept) == {CLEAN, *result.conditions} - {CONTRAST}
    evaluate(path=tmp_path, keep="top5")
    assert file.read_bytes() == content
    other = kept_files.path_of(tmp_path, result.setting, BRIGHT)
    file.write_bytes(other.read_bytes())  # of another condition
    assert CONTRAST not in storage.load(tmp_path).kept
    # The scores are lost, and another model is scored there.
    for name in (storage.CSV, storage.NPZ, storage.JSON):
        (tmp_path / name).unlink()
    second = evaluate(model(1), path=tmp_path)
    assert not second.kept
    assert not storage.load(tmp_path).kept
    third = evaluate(model(1), path=tmp_path, keep="top5")
    assert third.nll() != pytest.approx(with_logits.nll())
    assert storage.load(tmp_path).nll() == third.nll()


def test_other_answers_than_those_on_record_are_not_kept(tmp_path, monkeypatch):
    """As another kind of device may give some: the score stays, and the table says so."""
    evaluate(path=tmp_path)
    before = (tmp_path / "robustness.csv").read_bytes()
    of = Kept.of

    def changed(keep, ids, labels, confidence, logits):
        return of(keep, ids, labels, confidence, np.roll(logits, 1, 0) if len(ids) else logits)

    monkeypatch.setattr(Kept, "of", changed)
    result = evaluate(path=tmp_path, keep="top5")
    assert not result.kept
    assert "The predictions of 5 conditions are not kept" in result.table()
    assert (tmp_path / "robustness.csv").read_bytes() == before


def test_results_are_saved_with_what_they_keep(tmp_path, with_logits):
    storage.save(tmp_path / "a", with_logits)
    loaded = storage.load(tmp_path / "a")
    assert loaded.scores == with_logits.scores
    assert set(loaded.kept) == set(with_logits.kept)
    storage.save(tmp_path / "b", loaded)
    assert storage.load(tmp_path / "b").top_k(9) == with_logits.top_k(9)
    some = with_logits.only([BRIGHT])
    assert set(some.kept) == {CLEAN, BRIGHT}
    plain = dataclasses.replace(with_logits, kept={})
    storage.save(tmp_path / "b", plain)  # it has no less than before
    assert storage.load(tmp_path / "b").top_k(9) == with_logits.top_k(9)


def test_functions_on_the_host_and_probabilities(with_logits):
    matrix = np.asarray(weights())

    def on_the_host(images):
        images = np.asarray(images, np.float32)
        pooled = images.reshape(-1, 4, 8, 4, 8, 3).mean((2, 4)) / np.float32(255) - np.float32(0.5)
        return pooled.reshape(len(images), -1) @ matrix

    host = evaluate(on_the_host, keep="top5", on_host=True)
    assert host.nll() == pytest.approx(with_logits.nll(), rel=1e-4)
    shares = evaluate(
        lambda images: jax.nn.softmax(model()(images)), keep="top5", outputs="probabilities"
    )
    assert shares.nll() == pytest.approx(with_logits.nll(), rel=1e-4)
    assert shares.brier() == pytest.approx(with_logits.brier(), rel=1e-4)


def test_of_equal_logits_the_lower_class_is_first_as_in_argmax():
    rows = np.array([[0, 3, 3, 1], [2, 2, 2, 2], [-np.inf, 0, -np.inf, -np.inf]], np.float32)
    assert largest(rows, 3).tolist() == [[1, 2, 3], [0, 1, 2], [1, 0, 2]]
    assert largest(rows, 9).shape == (3, 4)
    kept = Kept.of("top5", *np.zeros((2, 3), np.int32), np.ones(3), rows)
    wanted = -log_softmax(rows.astype(np.float64), -1)[:, 0]
    assert kept.arrays["nll"].tolist() == pytest.approx(wanted.tolist())


def test_each_file_says_what_it_is_of(tmp_path):
    result = evaluate(path=tmp_path, keep="logits")
    file = kept_files.path_of(tmp_path, result.setting, CONTRAST)
    with np.load(file, allow_pickle=False) as arrays:
        what = json.loads(str(arrays["what"]))
        assert arrays["logits"].shape == (N, CLASSES)
        assert arrays["id"].tolist() == list(range(N))
    assert what == [*result.setting, "contrast", 4, "logits", CLASSES]
