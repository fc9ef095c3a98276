"""Which runs may be compared, what is said of a gain, and what the paper's numbers stand beside.

The folder of `confounded` holds runs that differ from a RigL study in one thing each: none of them
may be its baseline or its sample.
"""

import csv
import itertools
import json
import re

import numpy as np
import pytest
import synthetic_results as synthetic
from run_directories import CORRUPTIONS, SEVERITIES, conditions, make

from dst_jax import report
from dst_jax.report import comparisons, groups, published, recipes, runs, tables, verdicts
from dst_jax.robustness import Condition, storage
from dst_jax.robustness.records import Fingerprint


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
    assert text.startswith("rigl 50 % has no dense baseline: the nearest, dense, differs")
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
        f"{path.name} was also scored on 8 images and 4 conditions: the score on 100 images and 4 "
        "conditions is shown." in comparison.notes
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
    text = paragraph(one(*study(tmp_path, ("rigl", 0.5, (0.60, 0.62, 0.61)))))
    # Differences 0.10, 0.11 and 0.09: t = 0.1 / (0.01 / sqrt(3)) = 17.32, p of 2 degrees of
    # freedom 1 - t / sqrt(2 + t^2) = 0.0033.
    assert "More robust than dense: rigl 50 % (+10.0 pp)." in text
    assert "the chance of any false one is at most 5%" in text
    assert len(re.findall(r"\.(?= [A-Z]|$)", text)) == 3


def test_less_robust_and_not_resolved_and_their_number(tmp_path):
    comparison = one(
        *study(
            tmp_path,
            ("mest_g", 0.3, (0.50, 0.52, 0.54)),
            ("set", 0.5, (0.40, 0.42, 0.40)),
        )
    )
    text = paragraph(comparison)
    assert (
        "Less robust than dense: set 50 % (-10.3 pp); not resolved: mest_g 30 % (+1.0 pp)" in text
    )
    assert "corrected for the 2 comparisons of this page" in text
    # Differences 0.10, 0.09 and 0.12: t = 11.72, alone p = 0.0072; among 8 alike it is 0.058 and no
    # verdict any more.
    many = [("set", 0.1 * (i + 1), (0.40, 0.42, 0.40)) for i in range(8)]
    assert "not resolved" in paragraph(one(*study(tmp_path / "many", *many))).lower()


def test_the_correction_is_over_all_tables_of_a_page(tmp_path):
    # Differences 0.10, 0.11 and 0.08: t = 10.96, p = 0.0082 alone and 0.082 among 10.
    first = study(tmp_path / "a", ("rigl", 0.5, (0.60, 0.62, 0.60)))
    assert [v.text for v in verdicts.judge(compared(*first)).values()] == [verdicts.MORE]
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
    assert "One seed: no verdict: rigl 50 %." in text
    assert "no difference can be told from chance" in text.lower()
    assert "ore robust than dense:" not in text
    assert by_name(comparison)["rigl"][6:8] == ["–", "one seed: no verdict"]


def test_seeds_without_any_spread_are_no_statement(tmp_path):
    text = paragraph(one(*study(tmp_path, ("rigl", 0.5, (0.6, 0.6)), dense=(0.5, 0.5))))
    assert "No spread: no verdict: rigl 50 %." in text


@pytest.mark.parametrize("reason", ["stand-in", "short", "chance"])
def test_a_toy_run_gets_no_verdict(tmp_path, reason):
    clean = 0.12 if reason == "chance" else 0.9
    paths = [
        make(tmp_path, algorithm, sparsity, seed, conditions(clean, value))
        for algorithm, sparsity, values in (
            ("dense", 0.0, (0.50, 0.51, 0.52)),
            ("rigl", 0.5, (0.60, 0.62, 0.61)),
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
    assert "Toy: no verdict: rigl 50 %" in text
    assert "ore robust than dense:" not in text


def test_nothing_is_said_of_the_papers_claim_on_other_data(tmp_path):
    text = paragraph(one(*study(tmp_path, ("rigl", 0.5, (0.60, 0.62, 0.61)))))
    assert "the dataset is none of those of Wu et al. 2025" in text


def signed(path, seed, weights, images=40):
    """Gives a run of `make` scores with a record and the weights that they are of."""
    random = np.random.default_rng(seed)
    result = synthetic.of_hits(
        {Condition(c, s): random.random(images) < 0.5 for c in CORRUPTIONS for s in SEVERITIES},
        clean=random.random(images) < 0.9,
        dataset="digits",
        setting=("Test-C", "rendered", "cifar32", 0),
    )
    nothing = np.zeros(2)
    storage.write(path, [result], Fingerprint(weights, nothing.astype(int), nothing))
    return path


@pytest.mark.parametrize("what", ["weights", "answers"])
def test_a_copy_of_a_run_with_another_seed_is_not_counted(tmp_path, what):
    weights = {"weights": ["aa", "bb", "aa"], "answers": ["", "", ""]}[what]
    draws = {"weights": [0, 1, 2], "answers": [0, 1, 0]}[what]
    paths = [
        signed(make(tmp_path, "rigl", 0.5, seed), draw, weight)
        for seed, (draw, weight) in enumerate(zip(draws, weights, strict=True))
    ]
    comparison = one(*paths)
    assert [run.seed for run in comparison.groups[0].runs] == [0, 1]
    remarks = [row.remark for row in tables.build(comparison).rows if row.remark]
    assert remarks == ["not counted: the same training as rigl-0.5-0"]


def test_scores_of_other_weights_than_the_runs_are_not_counted(tmp_path):
    path = signed(make(tmp_path, "rigl", 0.5, 0), 0, "aa")
    facts = json.loads((path / "model.json").read_text())
    (path / "model.json").write_text(json.dumps({**facts, "weights": "bb"}))
    run = runs.read(path)
    assert run.results == ()
    assert any("scores of other weights than this run's" in problem for problem in run.problems)


def test_scores_on_another_data_set_are_left_out_and_the_rest_is_drawn(tmp_path):
    paths = [signed(make(tmp_path, "rigl", 0.5, seed), seed, str(seed)) for seed in (0, 1)]
    facts = json.loads((paths[0] / "robustness.json").read_text())
    facts["results"][0]["dataset"] = "cifar10"
    (paths[0] / "robustness.json").write_text(json.dumps(facts))
    text = " ".join(report.write(paths, tmp_path / "out").text.split())
    assert "scores on cifar10, not the run's dataset, are not counted" in text


def test_a_sparsity_that_config_and_network_contradict_is_not_counted(tmp_path):
    paths = study(tmp_path, ("rigl", 0.5, (0.6, 0.61)))
    for path in paths[-2:]:
        facts = json.loads((path / "model.json").read_text())
        (path / "model.json").write_text(json.dumps({**facts, "sparsity": 0.0}))
    comparison = one(*paths)
    assert [group.name for group in comparison.groups] == ["dense"]
    remarks = [row.remark for row in tables.build(comparison).rows if row.remark]
    assert remarks == ["not counted: config.json asks for sparsity 50.0 %, model.json counts 0.0 %"]


def test_a_training_that_ended_elsewhere_than_its_config_says_is_unfinished(tmp_path):
    path = make(tmp_path, "rigl", 0.5, 0, conditions(0.9, 0.6))
    (path / "summary.json").write_text('{"step": 40, "finished": true, "seconds": 1.0}')
    run = runs.read(path)
    assert run.status == "training not finished at step 40 of 400"
    assert "summary.json says finished at step 40, config.json 400 steps" in run.problems


def test_unfinished_runs_get_no_verdict(tmp_path):
    paths = study(tmp_path, ("rigl", 0.5, (0.60, 0.62, 0.61)), upto=40)
    assert by_name(one(*paths))["rigl (training not finished at step 40 of 400)"][7] == (
        "unfinished: no verdict"
    )


def test_a_quick_look_of_some_seeds_does_not_displace_what_all_were_scored_on(tmp_path):
    paths = [
        make(tmp_path, "rigl", 0.5, seed, conditions(0.9, {("fog", 1): 0.5 + seed / 100}, n=64))
        for seed in range(3)
    ]
    for path in paths[:2]:
        rows = conditions(0.9, {("gaussian_noise", 1): 0.9}, n=360)
        with (path / "robustness.csv").open("a") as file:
            file.write("".join(",".join(map(str, row)) + "\n" for row in rows))
    comparison = one(*paths)
    (group,) = comparison.groups
    assert (len(group.runs), comparison.of(group)[0].n) == (3, 64)
    assert comparison.robust(group).mean == pytest.approx(0.51)


def test_a_look_at_more_conditions_does_not_either(tmp_path):
    paths = study(tmp_path, ("rigl", 0.5, (0.60, 0.62, 0.61)))
    for path in paths:  # all but one were scored on fog alone
        lines = (path / "robustness.csv").read_text().splitlines(keepends=True)
        more = "gaussian_noise,2" if path == paths[-1] else "gaussian_noise"
        kept = [line for line in lines if more not in line]
        (path / "robustness.csv").write_text("".join(kept))
    comparison = one(*paths)
    assert [len(group.runs) for group in comparison.groups] == [3, 3]
    assert comparison.gain(comparison.groups[1]).absolute == pytest.approx(0.1)
    assert comparison.corruptions == ("fog",)


def test_the_runs_own_suite_comes_first(tmp_path):
    path = make(tmp_path, "dense", 0.0, 0)
    config = json.loads((path / "config.json").read_text())
    config["eval"]["suite"] = "Test-C"
    (path / "config.json").write_text(json.dumps(config))
    other = [("gaussian_noise+fog", *row[1:]) for row in conditions(0.9, 0.9)]
    lines = ["suite,corruption,severity,n,accuracy"]
    lines += [",".join(map(str, row)) for row in [*other, *conditions(0.9, 0.5)]]
    (path / "robustness.csv").write_text("\n".join(lines) + "\n")
    names = [comparison.image_source.benchmark.name for comparison in compared(path)]
    assert names == ["Test-C", "gaussian_noise+fog"]


def test_the_claim_is_not_tested_by_a_list_that_is_no_benchmark(tmp_path):
    paths = study(tmp_path, ("rigl", 0.5, (0.60, 0.62, 0.61)))
    for path in paths:
        text = (path / "config.json").read_text().replace('"digits"', '"cifar10"')
        (path / "config.json").write_text(text)
        table = (path / "robustness.csv").read_text().replace("Test-C", "gaussian_noise+fog")
        (path / "robustness.csv").write_text(table)
    text = paragraph(one(*paths))
    assert "hese runs do not test the claim of Wu et al. 2025" in text


def test_rows_of_the_csv_say_what_each_was_scored_on(tmp_path):
    paths = [
        make(tmp_path, "dense", 0.0, 0, conditions(0.9, 0.5, n=100)),
        make(tmp_path, "rigl", 0.5, 0, conditions(0.9, {("fog", 1): 0.6}, n=36)),
    ]
    written = report.write(paths, tmp_path / "out")
    rows = list(csv.DictReader(written.csv_path.read_text().splitlines()))
    found = [(row["conditions"], row["images"], row["incomplete"]) for row in rows]
    assert found == [
        ("4", "100", ""),
        ("1", "36", "1 of 4 conditions, without gaussian_noise; 36 images, others 100"),
    ]
    page = written.html_path.read_text()
    # The result table, run by run, and corruption by corruption: each says so.
    assert page.count("(incomplete: 1 of 4 conditions") == 3


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

    from dst_jax import config, data

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
        card = importlib.import_module(f"configs.{cards[row.dataset, row.model]}")
        for method in published.METHODS:
            sparsity = row.sparsity
            given = card.get_config(f"algorithm={method},sparsity={sparsity}")
            count = data.get(row.dataset).num_train
            run = dict(config.flatten(config.resolve(given, count)))
            assert (run["data.name"], run["model.name"]) == (row.dataset, row.model)
            place = (row.recipe, row.dataset, row.model)
            assert recipes.differing(run, *place, method, sparsity) == []


IMAGENET_C = list(itertools.product(synthetic.metrics_15(), range(1, 6)))


def imagenet(
    root,
    algorithm="rigl",
    sparsity=0.1,
    seed=0,
    n=50_000,
    scored=IMAGENET_C,
    source="rendered+jpeg85",
    **changes,
):
    """A whole run of ResNet-50 on ImageNet as the card has it, with changes {option: value}."""
    path = make(root, algorithm, sparsity, seed, name=f"{algorithm}-{seed}", steps=500_400)
    place = ("imagenet2012", "resnet50", algorithm, sparsity)
    flat = {**recipes.resolved(recipes.IMAGENET, *place), "seed": seed, **changes}
    config: dict = {}
    for name, value in flat.items():
        section, _, field = name.rpartition(".")
        (config.setdefault(section, {}) if section else config)[field] = value
    (path / "config.json").write_text(json.dumps(config))
    result = synthetic.of_accuracies(
        dict.fromkeys(scored, 0.4),
        n=n,
        setting=("ImageNet-C", source, "" if "tfds" in source else "imagenet224", 0),
    )
    storage.write(path, [result])
    return path


def answers(*paths):
    rows = published.compare_with_paper(compared(*paths))
    return {(r.published.benchmark, r.method): r.ours for r in rows if r.ours != published.NOT_RUN}


def test_a_whole_run_of_the_papers_recipe_answers(tmp_path):
    assert answers(imagenet(tmp_path)) == {("ImageNet-C", "rigl"): "40.00 (n = 1)"}
    row = next(
        r for r in published.compare_with_paper(compared(tmp_path / "rigl-0")) if r.method == "rigl"
    )
    assert row.images == "rendered+jpeg85 here"


SHORT = {
    "width": ({"model.width": 8}, "model.width 8, not 0"),
    "depth": ({"model.depth": 1}, "model.depth 1, not 0"),
    "stem": ({"model.stem": "small"}, "model.stem small, not published"),
    "length": ({"train.epochs": 90.0}, "train.epochs 90.0, not 100.0"),
    "steps": ({"train.steps": 12}, "training not finished at step 500400 of 12"),
    "mixup": ({"train.mixup": 0.8}, "train.mixup 0.8, not 0.0"),
    "AugMix": ({"data.augmix": 3.0}, "data.augmix 3.0, not 0.0"),
    "warm-up": ({"train.warmup": 0}, "train.warmup 0, not 25020"),
    "Nesterov": ({"train.nesterov": True}, "train.nesterov True, not False"),
    "dtype": ({"model.dtype": "float32"}, "model.dtype float32, not bfloat16"),
    "drop fraction": ({"sparsity.drop_fraction": 0.1}, "sparsity.drop_fraction 0.1, not 0.5"),
    "distribution": ({"sparsity.dist_type": "uniform"}, "sparsity.dist_type uniform, not erk"),
    "training images": ({"train.steps_per_epoch": 3}, "about 768 of 1,281,167 training images"),
    "held out": ({"data.validation": 0.1}, "10% of the training images held out"),
    "rate": ({"train.learning_rate": 0.001}, "train.learning_rate 0.001, not 0.1"),
    "test images": ({"n": 16}, "16 of 50,000 images"),
    "too many": ({"n": 60_000}, "60,000 test images, not 50,000"),
    "source": ({"source": "tfds/whatever"}, "images from tfds/whatever"),
    "photographs": ({"source": "rendered+jpeg85+frost-00000000"}, "other photographs of frost"),
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
    paths = study(root / "study", ("rigl", 0.5, (0.60, 0.62, 0.61)))
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
    comparison = next(c for c in compared(*paths) if c.image_source.benchmark.name == "Test-C")
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
        "set 50 % has no dense baseline",
        "rigl 50 % (unfinished) has no dense baseline",
        "not counted: scored on 100 images, 1 conditions",
        "one seed: no verdict",
    ):
        assert sentence in text, sentence
    page = written.html_path.read_text()
    assert all(f">{path.name} " in page for path in paths)
    assert page.count(">more robust<") == 1
    assert ">less robust<" not in page
    assert text.count("More robust than dense: rigl 50 % (+10.0 pp); one seed") == 1
    assert "14 runs of mlp on digits, 1 to 3 seeds per method, scored on Test-C, some of" in text
    assert "INCOMPLETE (8 images, others 100); 2 runs not counted, see the table." in text
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
