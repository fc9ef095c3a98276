"""Scoring, against loops in NumPy and numbers by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dst_jax import corruptions, data
from dst_jax.errors import UserError
from dst_jax.robustness import (
    CLEAN,
    Condition,
    Score,
    read_scores,
    robust_accuracy,
    score,
    write_scores,
)

CONDITIONS = [CLEAN, Condition("gaussian_noise", 5), Condition("contrast", 3)]


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


def scored(dataset, batch_size, **options):
    def batches():
        return (
            jax.tree.map(jnp.asarray, batch) for batch in data.eval_batches(*dataset, batch_size)
        )

    results = score(predict, batches, CONDITIONS, preset="cifar32", seed=3, **options)
    return {condition: (n, accuracy) for condition, n, accuracy in results}


def test_it_counts_as_a_plain_loop_does(dataset):
    images, labels = dataset
    found = scored(dataset, 8)
    for condition in CONDITIONS:
        hits = 0
        for index, label in enumerate(labels):
            image = images[index : index + 1]
            if condition != CLEAN:
                keys = corruptions.example_keys(3, *condition, np.array([index]))
                image = corruptions.corrupt(
                    condition.corruption, image, keys, condition.severity, "cifar32"
                )
            hits += int(np.argmax(predict(image))) == label
        assert found[condition] == (23, hits / 23)


def test_batches_and_passes_change_nothing(dataset):
    expected = scored(dataset, 8)
    assert scored(dataset, 23) == expected
    assert scored(dataset, 5, at_once=True) == expected


def test_a_predict_function_may_be_a_pytree_of_its_weights(dataset):
    weights = jnp.eye(4)
    partial = jax.tree_util.Partial(lambda w, images: predict(images) @ w, weights)
    batches = list(data.eval_batches(*dataset, 23))
    ((_, n, accuracy),) = score(partial, lambda: batches, [CLEAN], preset="cifar32")
    assert (n, accuracy) == scored(dataset, 23)[CLEAN]


def test_robust_accuracy_is_the_plain_mean_without_clean_images():
    rows = [
        Score("suite", "clean", 0, 10, 1.0),
        Score("suite", "fog", 1, 10, 0.8),
        Score("suite", "fog", 2, 10, 0.6),
        Score("suite", "snow", 1, 10, 0.1),
    ]
    assert robust_accuracy(rows) == pytest.approx(0.5)


def test_scores_survive_their_file(tmp_path):
    path = tmp_path / "robustness.csv"
    rows = [Score("rendered/cifar32/seed0", "fog", 2, 360, 1 / 3), Score("x", "clean", 0, 7, 1.0)]
    assert read_scores(path) == []
    write_scores(path, rows)
    assert read_scores(path) == rows
    assert path.read_text().splitlines()[0] == "suite,corruption,severity,n,accuracy"


@pytest.mark.parametrize(
    "text", ["suite\nx\n", "suite,corruption,severity,n,accuracy\na,b,c,d,e\n"]
)
def test_a_damaged_file_is_one_line(tmp_path, text):
    path = tmp_path / "robustness.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=r"robustness.csv: found a damaged table"):
        read_scores(path)
