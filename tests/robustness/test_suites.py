"""Benchmarks: their lists against the registries, complete or not; where images come from."""

import itertools

import pytest
import synthetic_results as tables

from dst_jax import corruptions, data
from dst_jax.corruptions import video
from dst_jax.data import benchmarks
from dst_jax.errors import UserError
from dst_jax.robustness import suites
from dst_jax.robustness.records import CLEAN, Condition


def test_lists_are_those_of_the_registries():
    assert benchmarks.C == corruptions.BENCHMARK
    assert benchmarks.EXTRA == corruptions.EXTRA
    assert set(benchmarks.VIDEO) == set(video.PERTURBATIONS)
    for name, members in corruptions.SUITES.items():
        assert set(benchmarks.SUITES[name]) == set(members), name
    for name, corruption in corruptions.CORRUPTIONS.items():
        assert benchmarks.category(name) == corruption.group
    for name in set(video.PERTURBATIONS) - set(corruptions.CORRUPTIONS):
        perturbation = video.PERTURBATIONS[name]
        assert benchmarks.category(name) == perturbation.category


def test_numbers_of_corruptions_and_images_are_the_published_ones():
    """Hendrycks & Dietterich 2019, Mintun et al. 2021; 3DCC and UCF101-P as Wu et al. 2025."""
    counts = {
        "CIFAR10-C": (19, 5, 10_000),
        "CIFAR100-C": (19, 5, 10_000),
        "TinyImageNet-C": (15, 5, 10_000),
        "ImageNet-C": (15, 5, 50_000),
        "CIFAR10-C-bar": (10, 5, 10_000),
        "ImageNet-C-bar": (10, 5, 50_000),
        "ImageNet-3DCC": (11, 5, 50_000),
        "UCF101-P": (16, 4, 3_783),
    }
    published = [b for b in data.BENCHMARKS if b.source]
    assert {b.name for b in published} == set(counts)
    for b in published:
        assert (len(b.corruptions), len(b.severities), b.test_images) == counts[b.name]
        assert len(set(b.conditions)) == len(b.corruptions) * len(b.severities)
        assert b.dataset in data.DATASETS
        assert data.get(b.dataset).num_test == b.test_images


ALL = [Condition(name, s) for name in benchmarks.COMMON for s in benchmarks.SEVERITIES]


def of(conditions, suite="common", dataset="imagenet2012", n=50_000, preset="imagenet224"):
    """A result with 40 % on the 15 of ImageNet-C and 90 % on everything else."""
    accuracies = {Condition(*c): 0.4 if c[0] in benchmarks.C else 0.9 for c in conditions}
    return tables.of_accuracies(
        accuracies, dataset=dataset, n=n, setting=(suite, "rendered+jpeg85", preset, 0)
    )


def test_robust_accuracy_of_19_scored_on_imagenet_is_that_of_the_15():
    result = of(ALL)
    assert result.benchmark.name == "ImageNet-C"
    assert result.robust_accuracy == pytest.approx(0.4)
    assert result.lacking == ""
    assert result.by_category["extra"] == pytest.approx(0.9)
    assert "robust accuracy over ImageNet-C, complete" in result.table()


def test_of_19_on_cifar_it_is_over_all_19():
    result = of(ALL, dataset="cifar10", n=10_000, preset="cifar32")
    assert result.benchmark.name == "CIFAR10-C"
    assert result.robust_accuracy == pytest.approx((15 * 0.4 + 4 * 0.9) / 19)
    assert result.lacking == ""


@pytest.mark.parametrize(
    ("options", "lacking"),
    [
        ({"conditions": [c for c in ALL if c[0] != "frost"]}, "70 of 75 conditions, without frost"),
        ({"conditions": [c for c in ALL if c[1] == 3]}, "15 of 75 conditions"),
        ({"conditions": ALL, "n": 8}, "8 of 50,000 images"),
        ({"conditions": ALL, "preset": "inception299"}, "constants of inception299"),
        (
            {"conditions": [("fog", 1)], "n": 8},
            "1 of 75 conditions; 8 of 50,000 images",
        ),
    ],
)
def test_an_incomplete_benchmark_says_what_lacks(options, lacking):
    result = of(**options)
    assert result.lacking == lacking
    assert f"robust accuracy over ImageNet-C, INCOMPLETE: {lacking}" in result.table()
    assert result.summary()["lacking"] == lacking


def test_fifteen_on_cifar_are_not_its_benchmark():
    found = data.benchmark_of("c", "cifar10")
    assert found.name == "common corruptions (15)"
    assert not found.source


def prepared(root, name, conditions):
    """Directories as TFDS leaves them once a config is prepared."""
    for corruption, severity in conditions:
        (root / name / f"{corruption}_{severity}" / "1.0.0").mkdir(parents=True)


C15 = list(itertools.product(benchmarks.C, benchmarks.SEVERITIES))


def plan(root, suite="ImageNet-C", **options):
    dataset = data.get("imagenet2012")
    return suites.plan(suite, dataset, "imagenet224", data_dir=root, **options)


def test_auto_prefers_the_published_files_to_what_tfds_renders(tmp_path):
    prepared(tmp_path, "imagenet2012_corrupted", C15)
    assert plan(tmp_path).source == "tfds/imagenet2012_corrupted"
    prepared(tmp_path, "imagenet_c", C15)
    found = plan(tmp_path)
    assert found.source == "tfds/imagenet_c"
    assert found.conditions == (CLEAN, *(Condition(*c) for c in C15))
    bar = list(itertools.product(benchmarks.C_BAR, benchmarks.SEVERITIES))
    prepared(tmp_path, "imagenet_c_bar", bar)
    assert plan(tmp_path, "ImageNet-C-bar").source == "tfds/imagenet_c_bar"


def test_auto_takes_no_source_that_lacks_a_condition(tmp_path):
    prepared(tmp_path, "imagenet_c", C15[:-1])
    found = plan(tmp_path)
    assert found.source == "rendered+jpeg85"
    assert {c.corruption for c in found.conditions[1:]} == {*benchmarks.C} - {"frost"}
    assert found.notes == ("frost is left out: frost_dir names no photographs.",)
    # What is asked for is there.
    assert plan(tmp_path, only=["fog"]).source == "tfds/imagenet_c"
    assert plan(tmp_path, severities=[1, 2]).source == "tfds/imagenet_c"


def test_a_prepared_set_that_lacks_a_condition_is_refused_where_it_is_named(tmp_path):
    prepared(tmp_path, "imagenet_c", [("fog", 1)])
    for options in ({"source": "imagenet_c"}, {"suite": "imagenet_c"}):
        with pytest.raises(UserError, match=r"imagenet_c with 1 of \d+ conditions prepared \(not"):
            plan(tmp_path, **options)
    found = plan(tmp_path, source="imagenet_c", only=["fog"], severities=[1])
    assert found.conditions == (CLEAN, Condition("fog", 1))


def test_a_benchmark_of_another_dataset_is_refused():
    with pytest.raises(UserError, match=r"found ImageNet-C, which is of imagenet2012; .*CIFAR10-C"):
        suites.plan("ImageNet-C", data.get("cifar10"), "cifar32")
    with pytest.raises(UserError, match="for images without a name one of common"):
        suites.plan("imagenet-c", None, "imagenet224")
    found = suites.plan("imagenet-c", None, "imagenet224", name="imagenet2012")
    assert (found.suite, found.source) == ("ImageNet-C", "rendered+jpeg85")
    assert suites.plan("UCF101-P", data.get("ucf101"), data.VIDEO).conditions[1:5] == tuple(
        Condition("gaussian_noise", s) for s in (1, 2, 3, 4)
    )
