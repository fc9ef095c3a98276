"""Which runs may be compared, what is said of a gain, and what the paper's numbers stand beside.

The folder of `confounded` holds runs that differ from a RigL study in one thing each: none of them
may be its baseline or its sample.
"""

import itertools
import json
import re

import pytest
import synthetic_results as synthetic
from run_directories import conditions, make

from dst_jax import report
from dst_jax.report import comparisons, groups, published, runs, tables, verdicts
from dst_jax.robustness import storage


def compared(*directories):
    return comparisons.compare(list(map(runs.read, directories)))


def one(*directories):
    (comparison,) = compared(*directories)
    return comparison


def paragraph(comparison):
    return verdicts.paragraph(comparison, 0, verdicts.judge([comparison]))


def study(root, *others, dense=(0.50, 0.51, 0.52), **options):
    """Dense runs and others, as (algorithm, sparsity, accuracies by seed)."""
    return [
        make(root, algorithm, sparsity, seed, conditions(0.9, value), **options)
        for algorithm, sparsity, values in (("dense", 0.0, dense), *others)
        for seed, value in enumerate(values)
    ]


def by_name(comparison):
    table = tables.build(comparison)
    return {row.cells[0].text: [cell.text for cell in row.cells] for row in table.rows}


# --- which dense runs are a baseline ---

CHANGES = {
    "learning rate": {"train": {"learning_rate": 0.001}},
    "steps": {"steps": 800},
    "width": {"model": {"name": "mlp", "width": 4}},
    "augmentation": {"data": {"name": "digits", "augment": "crop"}},
    "parallelism": {"parallelism": "pmap"},
    "weights averaged": {"train": {"ema": 0.99}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_dense_runs_of_another_recipe_are_no_baseline(tmp_path, name):
    change = CHANGES[name]
    kept = {key: value for key, value in change.items() if key in ("steps", "train")}
    paths = study(tmp_path / "dense", **kept)
    for path in paths:
        config = json.loads((path / "config.json").read_text())
        for section, values in change.items():
            if section not in kept:
                merged = {**config[section], **values} if isinstance(values, dict) else values
                config[section] = merged
        (path / "config.json").write_text(json.dumps(config))
    sparse = study(tmp_path / "rigl", ("rigl", 0.5, (0.7, 0.71, 0.72)), dense=())
    comparison = one(*paths, *sparse)
    rigl = next(group for group in comparison.groups if not group.is_dense)
    assert comparison.baseline(rigl) is None
    assert comparison.gain(rigl) is None
    differing = {"steps": "train.steps (800, here 400)"}.get(name)
    text = comparison.obstacle(rigl)
    assert text.startswith("rigl 50 % is compared with no dense run: the nearest, dense, differs")
    assert differing is None or differing in text
    assert "More robust" not in paragraph(comparison)


def test_what_a_baseline_may_differ_in(tmp_path):
    assert groups.BASELINE_DIFFERS == ("sparsity.", "seed")
    paths = study(tmp_path, ("rigl", 0.5, (0.7, 0.71, 0.72)))
    path = paths[-1]
    config = json.loads((path / "config.json").read_text())
    config["eval"]["batch_size"], config["checkpoint"]["keep"] = 7, 9
    config["train"]["steps_per_dispatch"] = 1
    (path / "config.json").write_text(json.dumps(config))
    comparison = one(*paths)
    assert [len(group.runs) for group in comparison.groups] == [3, 3]
    assert comparison.gain(comparison.groups[1]).absolute == pytest.approx(0.2)


def test_each_study_of_a_folder_finds_its_own_baseline(tmp_path):
    low = study(tmp_path / "low", ("rigl", 0.5, (0.32, 0.33, 0.34)), dense=(0.3, 0.31, 0.32),
                train={"learning_rate": 0.01})  # fmt: skip
    high = study(tmp_path / "high", ("rigl", 0.5, (0.6, 0.61, 0.62)))
    cells = by_name(one(*low, *high))
    assert cells["rigl, train.learning_rate=0.01"][5] == "+2.0"
    assert cells["rigl, train.learning_rate=0.1"][5] == "+10.0"
    assert set(cells) >= {"dense, train.learning_rate=0.01", "dense, train.learning_rate=0.1"}


def test_other_images_of_the_same_number_are_not_compared(tmp_path):
    dense, sparse = (make(tmp_path, a, s, 0) for a, s in (("dense", 0.0), ("rigl", 0.5)))
    for path, images in ((dense, "11111111"), (sparse, "22222222")):
        result = synthetic.of_accuracies(
            dict.fromkeys(synthetic.GRID[:5], 0.5),
            dataset="digits",
            n=100,
            setting=("gaussian_noise", "rendered", "cifar32", 0),
        )
        rows = tuple(row._replace(images=images) for row in result.scores)
        storage.write(path, [type(result)("digits", rows)])
    comparison = one(dense, sparse)
    assert comparison.obstacle(comparison.groups[1]).endswith("was scored on other 100 images.")
    assert comparison.gain(comparison.groups[1]) is None


def test_the_fullest_score_of_a_run_is_shown_and_told(tmp_path):
    path = make(tmp_path, "dense", 0.0, 0, conditions(0.9, 0.5, n=100))
    quick = conditions(1.0, 0.9, n=8)
    rows = [",".join(map(str, row)) for row in quick]
    with (path / "robustness.csv").open("a") as file:
        file.write("\n".join(rows) + "\n")
    comparison = one(path)
    assert by_name(comparison)["dense"][4] == "50.0"
    assert (
        f"{path.name} was also scored on 8 images and 4 conditions: the fullest score, on 100 "
        "images and 4 conditions, is shown." in comparison.notes
    )


def test_a_seed_that_is_scored_on_less_is_not_averaged(tmp_path):
    paths = study(tmp_path, ("rigl", 0.5, (0.6, 0.62)))
    half = make(tmp_path, "rigl", 0.5, 2, conditions(0.9, {("fog", 1): 0.9}))
    quick = make(tmp_path, "rigl", 0.5, 3, conditions(0.9, 0.9, n=8))
    comparison = one(*paths, half, quick)
    rigl = comparison.groups[1]
    assert (len(rigl.runs), comparison.robust(rigl).mean) == (2, pytest.approx(0.61))
    remarks = {row.remark for row in tables.build(comparison).rows if row.remark}
    assert remarks == {
        "not counted: scored on 100 images, 1 conditions (1 of 4 conditions, without "
        "gaussian_noise)",
        "not counted: scored on 8 images, 4 conditions",
    }


# --- verdicts ---


def test_more_robust(tmp_path):
    text = paragraph(one(*study(tmp_path, ("rigl", 0.5, (0.60, 0.61, 0.62)))))
    # t = 0.1 / sqrt(2 * 0.0001 / 3) = 12.25, p of 2 degrees of freedom 0.0066.
    assert "More robust than dense: rigl 50 % (+10.0 pp)." in text
    assert "the chance of any false one is at most 5%" in text
    assert len(re.findall(r"\.(?= [A-Z]|$)", text)) == 3


def test_less_robust_and_not_resolved_and_their_number(tmp_path):
    comparison = one(
        *study(
            tmp_path,
            ("mest_g", 0.3, (0.50, 0.52, 0.54)),
            ("set", 0.5, (0.40, 0.41, 0.42)),
        )
    )
    text = paragraph(comparison)
    assert (
        "Less robust than dense: set 50 % (-10.0 pp); not resolved: mest_g 30 % (+1.0 pp)" in text
    )
    assert "corrected for the 2 comparisons of this page" in text
    # Alone p = 0.0066; among 8 alike it is 0.05 and no verdict any more.
    many = [("set", 0.1 * (i + 1), (0.40, 0.41, 0.42)) for i in range(8)]
    assert "not resolved" in paragraph(one(*study(tmp_path / "many", *many))).lower()


def test_the_correction_is_over_all_tables_of_a_page(tmp_path):
    first = study(tmp_path / "a", ("rigl", 0.5, (0.60, 0.61, 0.62)))
    others = []
    for index in range(9):
        for path in study(tmp_path / f"b{index}", ("rigl", 0.5, (0.50, 0.52, 0.51))):
            text = (path / "config.json").read_text()
            (path / "config.json").write_text(text.replace('"mlp"', f'"model{index}"'))
            others.append(path)
    found = verdicts.judge(compared(*first, *others))
    assert len(found) == 10
    assert all(verdict.text == verdicts.OPEN for verdict in found.values())


@pytest.mark.parametrize(
    ("dense", "sparse"), [((0.5,), (0.6,)), ((0.5, 0.51, 0.52), (0.9,)), ((0.5,), (0.9, 0.91, 0.9))]
)
def test_one_seed_is_no_statement(tmp_path, dense, sparse):
    comparison = one(*study(tmp_path, ("rigl", 0.5, sparse), dense=dense))
    text = paragraph(comparison)
    assert "One seed: no statement: rigl 50 %." in text
    assert "nothing here tells a method from chance" in text.lower()
    assert "ore robust than dense:" not in text
    assert by_name(comparison)["rigl"][6:8] == ["–", "one seed: no statement"]


def test_seeds_without_any_spread_are_no_statement(tmp_path):
    text = paragraph(one(*study(tmp_path, ("rigl", 0.5, (0.6, 0.6)), dense=(0.5, 0.5))))
    assert "No spread: no statement: rigl 50 %." in text


@pytest.mark.parametrize("reason", ["stand-in", "short", "chance"])
def test_a_toy_run_gets_no_verdict(tmp_path, reason):
    clean = 0.12 if reason == "chance" else 0.9
    paths = [
        make(tmp_path, algorithm, sparsity, seed, conditions(clean, value))
        for algorithm, sparsity, values in (
            ("dense", 0.0, (0.50, 0.51, 0.52)),
            ("rigl", 0.5, (0.60, 0.61, 0.62)),
        )
        for seed, value in enumerate(values)
    ]
    for path in paths:
        config = json.loads((path / "config.json").read_text())
        if reason == "stand-in":
            config["data"]["stand_in_for"] = "cifar100"
        if reason == "short":
            config["train"]["epochs"] = 0.27
        (path / "config.json").write_text(json.dumps(config))
    text = paragraph(one(*paths))
    assert "Toy: no statement: rigl 50 %" in text
    assert "ore robust than dense:" not in text


def test_nothing_is_said_of_the_papers_claim_on_other_data(tmp_path):
    text = paragraph(one(*study(tmp_path, ("rigl", 0.5, (0.60, 0.61, 0.62)))))
    assert "the data set is none of those of Wu et al. 2025" in text


# --- the paper's numbers ---


def test_every_name_of_the_paper_is_in_a_registry():
    from dst_jax import data, models, sparsity
    from dst_jax.data.benchmarks import named

    for row in published.PUBLISHED:
        assert row.model in models.MODELS
        assert row.dataset in data.DATASETS
        assert named(row.benchmark) in data.BENCHMARKS
        assert len(row.numbers) == len(published.METHODS)
    assert set(published.METHODS) <= set(sparsity.all_algorithm_names())
    assert set(verdicts.METHODS) <= set(sparsity.all_algorithm_names())


def test_recipes_are_those_of_the_cards():
    import importlib

    from dst_jax import config

    cards = {
        ("imagenet2012", "resnet50"): "imagenet_resnet50",
        ("imagenet2012", "deit_base"): "imagenet_deit_base",
        ("ucf101", "resnet3d50"): "ucf101_resnet3d50",
        ("ucf101", "i3d_r50"): "ucf101_i3d",
        ("cifar10", "vgg16"): "cifar10_vgg16",
        ("cifar100", "resnet34"): "cifar100_resnet34",
        ("tiny_imagenet", "efficientnet_b0"): "tinyimagenet_efficientnet_b0",
    }
    for row in published.PUBLISHED:
        card = importlib.import_module(f"configs.{cards[row.dataset, row.model]}").get_config()
        flat = dict(config.flatten(card))
        assert {name: flat[name] for name in row.recipe} == row.recipe
        assert (flat["data.name"], flat["model.name"]) == (row.dataset, row.model)


IMAGENET_C = list(itertools.product(synthetic.metrics_15(), range(1, 6)))


def imagenet(root, algorithm="rigl", sparsity=0.1, seed=0, n=50_000, scored=IMAGENET_C, **changes):
    """A whole run of ResNet-50 on ImageNet as the card has it, with changes {option: value}."""
    path = make(root, algorithm, sparsity, seed, name=f"{algorithm}-{seed}", steps=500_400)
    config = json.loads((path / "config.json").read_text())
    options = {
        "data.name": "imagenet2012",
        "data.augment": "resized_crop_flip",
        "model.name": "resnet50",
        "train.epochs": 100.0,
        "train.steps_per_epoch": 5004,
        "train.batch_size": 256,
        "train.weight_decay": 1e-4,
        "train.schedule": "step",
        **changes,
    }
    for name, value in options.items():
        section, _, field = name.partition(".")
        config[section][field] = value
    (path / "config.json").write_text(json.dumps(config))
    result = synthetic.of_accuracies(
        dict.fromkeys(scored, 0.4),
        n=n,
        setting=("ImageNet-C", "rendered+jpeg85", "imagenet224", 0),
    )
    storage.write(path, [result])
    return path


def answers(*paths):
    rows = published.beside(compared(*paths))
    return {(r.published.benchmark, r.method): r.ours for r in rows if r.ours != published.NOT_RUN}


def test_a_whole_run_of_the_papers_recipe_answers(tmp_path):
    assert answers(imagenet(tmp_path)) == {("ImageNet-C", "rigl"): "40.00 (n = 1)"}
    row = next(r for r in published.beside(compared(tmp_path / "rigl-0")) if r.method == "rigl")
    assert row.images == "rendered+jpeg85 here"


SHORT = {
    "width": ({"model.width": 8}, "width 8"),
    "depth": ({"model.depth": 1}, "depth 1"),
    "stem": ({"model.stem": "small"}, "stem small"),
    "length": ({"train.epochs": 90.0}, "epochs 90, not 100"),
    "training images": ({"train.steps_per_epoch": 3}, "about 768 of 1,281,167 training images"),
    "held out": ({"data.validation": 0.1}, "10% of the training images held out"),
    "rate": ({"train.learning_rate": 0.001}, "learning_rate 0.001, not 0.1"),
    "test images": ({"n": 16}, "16 of 50,000 images"),
    "frost": (
        {"scored": [c for c in IMAGENET_C if c[0] != "frost"]},
        "70 of 75 conditions, without frost",
    ),
    "severities": ({"scored": [c for c in IMAGENET_C if c[1] == 3]}, "15 of 75 conditions"),
    "sparsity": ({"sparsity": 0.5}, "sparsity 50 %"),
}


@pytest.mark.parametrize("name", SHORT)
def test_less_is_listed_as_what_it_is(tmp_path, name):
    changes, text = SHORT[name]
    path = imagenet(tmp_path, **changes)
    assert answers(path) == {}
    (line,) = published.short_of(compared(path))
    assert text in line
    written = report.write([path], tmp_path / "out")
    page = written.html_path.read_text().replace("\u00a0", " ")
    assert "0 of them answered by these runs" in page
    assert "Not beside them, as they fall short" in page


# --- a folder on purpose as confusing as it can be ---


def confounded(root):
    """RigL with three seeds and its dense runs, and beside them whatever may mislead."""
    paths = study(root / "study", ("rigl", 0.5, (0.60, 0.61, 0.62)))
    paths += study(root / "rate", dense=(0.30, 0.31, 0.32), train={"learning_rate": 0.001})
    paths += [make(root / "width", "dense", 0.0, 0, conditions(0.9, 0.2))]
    paths += [make(root / "augment", "dense", 0.0, 0, conditions(0.9, 0.1))]
    for path, section, field, value in (
        (paths[-2], "model", "width", 4),
        (paths[-1], "data", "augment", "crop"),
    ):
        config = json.loads((path / "config.json").read_text())
        config[section][field] = value
        (path / "config.json").write_text(json.dumps(config))
    other = [("gaussian_noise+fog", *row[1:]) for row in conditions(0.9, 0.9)]
    paths += [make(root / "suite", "set", 0.5, 0, other)]
    paths += [make(root / "images", "set", 0.5, 1, conditions(0.9, 0.95, n=8))]
    paths += [make(root / "half", "rigl", 0.5, 7, conditions(0.9, {("fog", 1): 0.99}))]
    paths += [make(root / "unfinished", "rigl", 0.5, 8, conditions(0.9, 0.99), upto=120)]
    paths += [make(root / "one", "granet_g", 0.5, 5, conditions(0.9, 0.9))]
    return paths


def test_the_page_draws_all_of_it_and_compares_nothing_that_it_may_not(tmp_path):
    paths = confounded(tmp_path / "runs")
    written = report.write(paths, tmp_path / "out")
    comparison = next(c for c in compared(*paths) if c.place.benchmark.name == "Test-C")
    gains = {g.name: comparison.gain(g) for g in comparison.groups if comparison.gain(g)}
    assert {name: round(gain.absolute, 6) for name, gain in gains.items()} == {
        "rigl 50 %": 0.10,  # 61 - 51, of three seeds each
        "granet_g 50 %": 0.39,
    }
    assert [len(g.runs) for g in comparison.groups if g.name == "rigl 50 %"] == [3]
    found = verdicts.judge([comparison])
    texts = {g.name: v.text for g in comparison.groups if (v := verdicts.of(found, 0, g))}
    assert texts == {"rigl 50 %": verdicts.MORE, "granet_g 50 %": verdicts.ONE_SEED}
    text = " ".join(written.text.split())
    for sentence in (
        "set 50 % is compared with no dense run",
        "rigl 50 % (unfinished) is compared with no dense run",
        "not counted: scored on 100 images, 1 conditions",
        "one seed: no statement",
    ):
        assert sentence in text, sentence
    page = written.html_path.read_text()
    assert all(f">{path.name} " in page for path in paths)
    assert page.count(">more robust<") == 1
    assert ">less robust<" not in page
    assert text.count("More robust than dense: rigl 50 % (+10.0 pp); one seed") == 1
    assert "14 runs of mlp on digits, 1 to 3 seeds a method, scored on Test-C; 2 runs not" in text
    assert "2 corruptions, 4 conditions, 8 to 100 images each" in text


def test_what_the_cards_expect_is_what_the_paper_prints():
    """The same numbers stand in the cards and here: in the benchmarks' own names."""
    import importlib
    from pathlib import Path

    from dst_jax.data.benchmarks import named

    numbers = {
        (row.benchmark, row.model): dict(zip(published.METHODS, row.numbers, strict=True))
        for row in published.PUBLISHED
    }
    seen = set()
    root = Path(published.__file__).parents[2]
    for path in sorted((root / "configs").glob("*.py")):
        card = importlib.import_module(f"configs.{path.stem}")
        model = card.get_config().model.name
        for expected in card.EXPECTED:
            assert named(expected.suite) is not None, (path.stem, expected.suite)
            theirs = numbers.get((expected.suite, model), {})
            for method, value in expected.theirs.items():
                assert theirs[method] == value, (path.stem, method)
                seen.add((expected.suite, model))
    assert seen == set(numbers)
