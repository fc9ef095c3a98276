"""Evaluation of run directories: what is scored, what is skipped, where the images come from."""

import dataclasses
import shutil

import cifar10_c
import jax
import numpy as np
import pytest
import runs

from dst_jax import data, evaluate, load_run, robustness
from dst_jax.analysis import network_facts
from dst_jax.data import array_files
from dst_jax.errors import UserError
from dst_jax.robustness import storage
from dst_jax.robustness.engine import Engine
from dst_jax.runtime.run_dir import claim
from dst_jax.training import build, loop

pytestmark = pytest.mark.usefixtures("on_one_device")

TINY = {
    "model__name": "mlp",
    "train__epochs": 0.25,
    "train__warmup": "0",
    "sparsity__update_freq": "4",
}


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory, cache_dir):
    config = runs.small_config(**TINY)
    workdir = tmp_path_factory.mktemp("digits")
    claim(workdir, config)
    loop.train([config], [workdir], None, cache_dir)
    return config, workdir


def with_eval(config, **options):
    return {**config, "eval": {**config["eval"], **options}}


def scores(config, workdir, cache_dir, data_dir=None):
    evaluate.evaluate(config, load_run(workdir), data_dir, cache_dir)
    return [row for result in storage.load_all(workdir) for row in result.scores]


def test_every_test_image_counts_and_a_restart_scores_only_what_is_missing(
    digits_run, cache_dir, monkeypatch
):
    config, workdir = digits_run
    rows = scores(config, workdir, cache_dir)
    assert [(row.corruption, row.severity, row.n) for row in rows] == [
        ("clean", 0, 360),
        ("gaussian_noise", 1, 360),
        ("gaussian_noise", 5, 360),
    ]
    lines = (workdir / "robustness.csv").read_text().splitlines(keepends=True)
    (workdir / "robustness.csv").write_text("".join([*lines[:2], lines[3]]))
    score, asked = Engine.score, []

    def spy(self, networks, batches, conditions):
        asked.extend(conditions)
        return score(self, networks, batches, conditions)

    monkeypatch.setattr(Engine, "score", spy)
    assert sorted(scores(config, workdir, cache_dir)) == sorted(rows)
    assert asked == [("clean", 0), ("gaussian_noise", 1)]  # clean: is it still that model?
    asked.clear()
    assert sorted(scores(config, workdir, cache_dir)) == sorted(rows)
    assert asked == []


def test_other_suites_stand_beside_it(digits_run, cache_dir):
    config, workdir = digits_run
    before = scores(config, workdir, cache_dir)
    options = {"suite": "c_bar_cifar", "corruptions": ["checkerboard_cutout"], "severities": [2]}
    rows = scores(with_eval(config, **options), workdir, cache_dir)
    assert set(before) < set(rows)
    added = [(row.suite, row.corruption, row.severity) for row in rows if row not in before]
    assert added == [("c_bar_cifar", "clean", 0), ("c_bar_cifar", "checkerboard_cutout", 2)]


@pytest.mark.parametrize("changes", [{"max_images": 8}, {"seed": 1}, {"severities": [5]}])
def test_a_quick_look_never_replaces_a_finished_score(digits_run, cache_dir, changes):
    config, workdir = digits_run
    before = scores(config, workdir, cache_dir)
    quick = evaluate.evaluate(with_eval(config, **changes), load_run(workdir), None, cache_dir)
    assert quick.n == changes.get("max_images", 360)
    assert set(before) <= set(scores(config, workdir, cache_dir))
    # What the run itself asks for is complete as before, with all its images.
    full = evaluate.complete(config, workdir, None, cache_dir)
    assert full.scores == tuple(row for row in before if row in full.scores)
    assert (full.n, len(full.conditions)) == (360, 2)


def test_a_lost_robustness_json_is_written_again(digits_run, cache_dir):
    config, workdir = digits_run
    before = evaluate.evaluate(config, load_run(workdir), None, cache_dir)
    (workdir / "robustness.json").unlink()
    assert evaluate.complete(config, workdir, None, cache_dir) is None
    after = evaluate.evaluate(config, load_run(workdir), None, cache_dir)
    assert (after.dataset, sorted(after.scores)) == ("digits", sorted(before.scores))
    assert storage.read(workdir).model is not None
    assert {result.dataset for result in storage.load_all(workdir)} <= {"digits", ""}


def test_scores_of_other_weights_are_no_scores_of_the_run(digits_run, cache_dir, tmp_path):
    config, workdir = digits_run
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    (copy / "model.json").write_text('{"weights": "those of another training"}')
    with pytest.raises(UserError, match=r"robustness.json: found scores of other weights than"):
        evaluate.complete(config, copy, None, cache_dir)


def test_without_photographs_frost_is_left_out_and_says_why(digits_run, tmp_path):
    config, _ = digits_run
    wanted = evaluate.plan(with_eval(config, corruptions=[]), None)
    names = {condition.corruption for condition in wanted.conditions}
    assert len(names - {"clean"}) == 18
    assert "frost" not in names
    with pytest.raises(UserError, match=r"eval.corruptions: found frost; .*frost_dir"):
        evaluate.plan(with_eval(config, corruptions=["frost"]), None)
    with pytest.raises(UserError, match=r"eval.frost_dir: found no frost1.png"):
        evaluate.plan(with_eval(config, frost_dir=str(tmp_path)), None)


def test_frost_is_scored_where_its_photographs_are(digits_run, cache_dir, shared_dir):
    config, workdir = digits_run
    options = {"corruptions": ["frost"], "frost_dir": str(shared_dir / "frost"), "max_images": 20}
    rows = scores(with_eval(config, **options), workdir, cache_dir)
    assert [row.corruption for row in rows if row.n == 20] == ["clean", "frost", "frost"]


def test_a_corrupted_dataset_must_be_one_of_the_dataset_and_prepared(digits_run, tmp_path):
    config, _ = digits_run
    with pytest.raises(UserError, match=r"eval.source: found fogs; expected one of auto, rendered"):
        evaluate.plan(with_eval(config, source="fogs"), None)
    imagenet = with_eval({**config, "data": {**config["data"], "name": "imagenet2012"}})
    imagenet = with_eval(imagenet, source="imagenet_c")
    with pytest.raises(UserError, match=r"eval.source: found imagenet_c, not prepared"):
        evaluate.plan(imagenet, str(tmp_path))


def test_a_run_that_is_not_finished_is_refused(digits_run, cache_dir):
    config, workdir = digits_run
    longer = {**config, "train": {**config["train"], "steps": 99}}
    unfinished = dataclasses.replace(load_run(workdir), config=longer)
    with pytest.raises(UserError, match=r"training at step 11 of 99"):
        evaluate.evaluate(longer, unfinished, None, cache_dir)


def test_prepared_corrupted_images_are_used_and_counted(tmp_path, cache_dir, shared_dir):
    data_dir = tmp_path / "tfds"
    data_dir.mkdir()
    (data_dir / "cifar10").symlink_to(shared_dir / "tfds" / "cifar10")
    (tmp_path / "source").mkdir()
    cifar10_c.prepare(cifar10_c.arrays(), tmp_path / "source", data_dir)
    config = runs.small_config(
        **{**TINY, "train__epochs": 10.0},
        train__steps="2",
        sparsity__update_end_step="2",
        sparsity__drop_fraction_schedule="constant",  # the only update would drop nothing
        data__name="cifar10",
        eval__corruptions=(),
        eval__severities=(),
    )
    workdir = tmp_path / "run"
    claim(workdir, config)
    loop.train([config], [workdir], str(data_dir), cache_dir)
    # One of 95 conditions prepared is not the set: `auto` does not take it for the whole.
    assert evaluate.plan(config, str(data_dir)).source == "rendered"
    with pytest.raises(UserError, match=r"cifar10_corrupted with 3 of 95 conditions prepared"):
        evaluate.plan(with_eval(config, source="cifar10_corrupted"), str(data_dir))
    one = with_eval(config, corruptions=["elastic_transform"], severities=[5])
    assert evaluate.plan(one, str(data_dir)).source == "tfds/cifar10_corrupted"
    # The small set has not the images that the run's part of CIFAR-10 has: `test_published_files`
    # and `test_image_names` have a set that has.
    with pytest.raises(UserError, match=r"elastic_transform 5: found 0 of 20 images, not \d+;"):
        scores(with_eval(one, max_images=20), workdir, cache_dir, str(data_dir))


def test_networks_of_equal_configs_share_a_compiled_program(digits_run):
    _, workdir = digits_run
    one, other = (load_run(workdir) for _ in range(2))
    assert jax.tree.structure(one.predict) == jax.tree.structure(other.predict)
    traced = []

    @jax.jit
    def classes(predict, images):
        traced.append(images.shape)
        return predict(images).argmax(-1)

    images = np.zeros((3, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(classes(one.predict, images), classes(other.predict, images))
    assert len(traced) == 1
    bf16 = {**one.config, "model": {**one.config["model"], "dtype": "bfloat16"}}
    assert build.logits_function(bf16) != build.logits_function(one.config)


def test_scores_of_other_images_under_the_same_name_are_not_these(digits_run, tmp_path, cache_dir):
    config, workdir = digits_run
    shutil.copytree(workdir, tmp_path / "run")
    digits, run = data.get("digits"), load_run(tmp_path / "run")
    images, labels = data.load_arrays(digits, digits.test_split, None, cache_dir)
    found = []
    for name, pixels in (("a", images), ("b", 255 - images)):
        array_files.write(digits, digits.test_split, pixels, labels, tmp_path / name)
        found.append(evaluate.evaluate(config, run, str(tmp_path / name), cache_dir))
    assert found[0].scores != found[1].scores
    for name, result in zip("ab", found, strict=True):  # both lie in one table
        kept = evaluate.complete(config, tmp_path / "run", str(tmp_path / name), cache_dir)
        assert kept.scores == result.scores


def test_a_runs_directory_takes_no_scores_of_what_may_not_be_that_run(
    digits_run, tmp_path, cache_dir
):
    _, workdir = digits_run
    evaluated = tmp_path / "run"
    shutil.copytree(workdir, evaluated, ignore=shutil.ignore_patterns("robustness.*"))
    run = load_run(evaluated)
    network_facts.write(run)
    options = {"path": evaluated, "max_images": 8, "cache_dir": cache_dir, "quiet": True}
    with pytest.raises(UserError, match="a run's directory, for a function without weights"):
        robustness.evaluate(lambda x: run.predict(x), "digits", ["contrast"], **options)
    other = jax.tree.map(lambda leaf: leaf + 1, run.predict)
    with pytest.raises(UserError, match="the directory of a run of other weights"):
        robustness.evaluate(other, "digits", ["contrast"], **options)
    robustness.evaluate(run.predict, "digits", ["contrast"], **options)
    # Elsewhere a function without weights adds scores, and the weights on record stay there.
    options["path"] = tmp_path / "scores"
    robustness.evaluate(run.predict, "digits", ["contrast"], **options)
    robustness.evaluate(lambda x: run.predict(x), "digits", ["fog"], **options)
    assert storage.read(tmp_path / "scores").model.weights
