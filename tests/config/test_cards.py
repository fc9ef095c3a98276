"""Cards: what they resolve to, what they say, their sweeps, and their toy form from end to end."""

import dataclasses
import importlib.util
import itertools
import json
import re
import sys
from pathlib import Path

import jax
import pytest
import runs

from dst_jax import config as config_lib
from dst_jax import data, experiment, models, run_configs, sparsity, sweep
from dst_jax import paths as places_lib
from dst_jax.config import cards
from dst_jax.config.checks import DENSE
from dst_jax.errors import UserError
from dst_jax.report import runs as run_directories
from dst_jax.robustness import storage

pytestmark = pytest.mark.usefixtures("on_one_device")

CARDS = sorted((runs.ROOT / "configs").glob("*.py"))
METHODS = ("dense", "static", *cards.SIX_METHODS)
IMAGES = {
    "digits": 1437,
    "moving_digits": 1437,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "tiny_imagenet": 100_000,
    "imagenet2012": 1_281_167,
    "ucf101": 9537,
}
GOLDEN = runs.ROOT / "tests" / "golden"


def load(card):
    spec = importlib.util.spec_from_file_location(card.stem, card)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def frozen(name):
    """A file of what was resolved once, by dotted names; of a card, what is not the default.

    In JSON, so that 1 and 1.0 are not the same.
    """
    text = (GOLDEN / f"{name}.json").read_text()
    return {name: json.dumps(value) for name, value in json.loads(text).items()}


def text_of(resolved):
    return {name: json.dumps(value) for name, value in config_lib.flatten(resolved)}


every_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)


@every_card
def test_every_card_resolves_as_it_did(card):
    config = load(card).get_config()
    assert config.model.name in models.MODELS
    assert config.sparsity.algorithm in sparsity.all_algorithm_names()
    resolved = config_lib.resolve(config, IMAGES[config.data.name])
    found, defaults = text_of(resolved), frozen("defaults")
    own = frozen(card.stem)
    assert {**defaults, **own} == found, (
        f"if this is meant, write to {card.stem}.json: "
        + json.dumps(
            {name: value for name, value in found.items() if defaults.get(name) != value}, indent=1
        )
    )
    assert not [name for name, value in own.items() if defaults[name] == value]


def test_the_defaults_resolve_as_they_did():
    found = text_of(config_lib.resolve(config_lib.default(), IMAGES["cifar10"]))
    assert found == frozen("defaults"), "if this is meant, write it to defaults.json"


@every_card
@pytest.mark.parametrize("tiny", ["", "tiny,"])
def test_every_card_resolves_for_every_method(card, tiny):
    for method in METHODS:
        config = load(card).get_config(f"{tiny}algorithm={method}")
        resolved = config_lib.resolve(config, IMAGES[config.data.name])
        assert resolved["sparsity"]["algorithm"] == method


@every_card
def test_every_card_says_its_command_and_what_to_expect(card):
    text = load(card).__doc__
    for part in (
        f"python run.py --config=configs/{card.name}",
        "Reproduces",
        "Expected time",
        "Expected result",
    ):
        assert part in text


@every_card
@pytest.mark.parametrize("argument", ["", "tiny"])
def test_every_run_of_every_sweep_resolves_and_has_its_own_name(card, argument):
    config = load(card).get_config(argument)
    lists = sweep.lists_of(str(card), argument)
    assert lists
    for name, members in lists.items():
        planned = sweep.plan(config, sweep.Sweep(lists=lists, name=name))
        assert len(planned) == len(members)
        for _, member in planned:
            config_lib.resolve(member, IMAGES[config.data.name])


@every_card
@pytest.mark.parametrize("argument", ["", "tiny"])
def test_every_card_trains_sparse_by_default(card, argument):
    options = load(card).get_config(argument).sparsity
    assert options.algorithm not in DENSE
    papers = [expected.sparsity for expected in load(card).EXPECTED]
    assert options.sparsity == (papers[0] if papers else 0.5)


@every_card
@pytest.mark.parametrize("argument", ["", "tiny"])
def test_every_sweep_has_dense_runs_like_its_sparse_ones_with_the_same_seeds(card, argument):
    config = load(card).get_config(argument)
    lists = sweep.lists_of(str(card), argument)
    for name in lists:
        seeds: dict[str, dict[str, set[int]]] = {"dense": {}, "sparse": {}}
        for _, member in sweep.plan(config, sweep.Sweep(lists=lists, name=name)):
            for run in run_configs.seeds_of(Path(), "", member).values():
                resolved = config_lib.resolve(run, IMAGES[config.data.name])
                options, seed = resolved.pop("sparsity"), resolved.pop("seed")
                dense = options["algorithm"] in DENSE
                assert (options["sparsity"] == 0) == dense
                recipe = json.dumps(resolved, sort_keys=True)  # all but `sparsity` and the seed
                seeds["dense" if dense else "sparse"].setdefault(recipe, set()).add(seed)
        assert seeds["sparse"], name
        for recipe, sparse in seeds["sparse"].items():
            assert seeds["dense"].get(recipe) == sparse, name


def test_the_demo_trains_five_seeds_of_dense_and_of_rigl():
    card = runs.ROOT / "configs" / "digits_rigl.py"
    planned = sweep.plan(load(card).get_config(), sweep.Sweep(lists=load(card).SWEEPS, name="demo"))
    paths = [
        path for name, member in planned for path in run_configs.seeds_of(Path(), name, member)
    ]
    assert [str(path) for path in paths] == [
        f"{name}-seed{seed}" for name in ("dense", "rigl") for seed in range(5)
    ]


def test_the_lists_behind_the_figures():
    members = cards.figure2()
    assert len(members) == 3 + 6 * 5 * 3
    pairs = {(m["sparsity.algorithm"], m.get("sparsity.sparsity")) for m in members}
    methods = {"set", "rigl", "mest_r", "mest_g", "granet_r", "granet_g"}
    assert pairs == {("dense", None), *itertools.product(methods, (0.3, 0.4, 0.5, 0.6, 0.7))}
    assert len(cards.table1()) == 3 + 3 * 3
    changed = [tuple(member) for member in cards.ablation(("10",), {"model.width": 3}, seeds=(0,))]
    assert changed.count(("sparsity.algorithm", "seed")) == 3  # dense, rigl, static
    assert sorted({name for change in changed for name in change}) == [
        *("model.width", "seed", "sparsity.algorithm", "sparsity.dist_type"),
        *("sparsity.regrow_same", "sparsity.update_freq"),
    ]


def test_a_toy_sweep_keeps_two_methods_two_sparsities_and_two_seeds_beside_dense():
    members = cards.tiny_members(cards.figure2())
    assert len(members) == 2 + 2 * 2 * 2
    assert [m["seed"] for m in members[:2]] == [0, 1]
    assert all(m["sparsity.algorithm"] == "dense" for m in members[:2])


@every_card
def test_the_small_dense_network_has_as_many_parameters_as_the_sparse_one_has_active(card):
    config = load(card).get_config()
    small = [m for m in load(card).SWEEPS.get("ablation", ()) if "model.width" in m]
    if not small:
        return
    counts = []
    for width in (0, small[0]["model.width"]):
        model = models.create(config.model.name, 10, **({"width": width} if width else {}))
        shape = data.get(config.data.name).image_shape
        image = jax.ShapeDtypeStruct((1, *shape), "float32")
        leaves = jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0), image)["params"])
        kernels = sum(leaf.size for leaf in leaves if leaf.ndim > 1)
        counts.append((sum(leaf.size for leaf in leaves), kernels))
    (whole, kernels), (reduced, _) = counts
    active = whole - config.sparsity.sparsity * kernels
    assert reduced == pytest.approx(active, rel=0.02)


@every_card
def test_the_table_of_settings_has_the_card_and_the_papers_numbers(card):
    text = (runs.ROOT / "docs" / "cards.md").read_text()
    rows = [line for line in text.splitlines() if f"`{card.stem}" in line]
    assert rows
    for expected in load(card).EXPECTED:
        for value in expected.theirs.values():
            assert any(f"{value:g}" in re.findall(r"[\d.]+", row) for row in rows), value
        assert not expected.ours, "write what was measured into docs/cards.md, and check it here"


def test_the_argument_of_a_card():
    config = cards.with_argument(config_lib.default(), "algorithm=set, sparsity=0.8,seed=3")
    assert (config.sparsity.algorithm, config.sparsity.sparsity, config.seed) == ("set", 0.8, 3)
    assert config.data.stand_in_for == ""
    for wrong in ("algo=set", "algorithm", "seed=x", "tiny=1"):
        with pytest.raises(UserError, match="argument of the card"):
            cards.with_argument(config_lib.default(), wrong)


def test_the_toy_form_says_what_stands_in_and_gives_way_to_other_arguments():
    config = config_lib.default()
    config.data.name = "imagenet2012"
    config = cards.with_argument(config, "epochs=2,tiny,seed=4", {"model.width": 8})
    assert (config.data.name, config.data.stand_in_for) == ("digits", "imagenet2012")
    assert (config.model.width, config.seed, config.train.epochs) == (8, 4, 2.0)


# Every card once and every method once; the whole product is under the marker `full`.
SUBSET = [
    (card, METHODS[number % len(METHODS)])
    for number, card in zip(range(max(len(CARDS), len(METHODS))), itertools.cycle(CARDS))
]
PRODUCT = [pair for pair in itertools.product(CARDS, METHODS) if pair not in SUBSET]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("card", "method"),
    [*SUBSET, *(pytest.param(*pair, marks=pytest.mark.full) for pair in PRODUCT)],
    ids=lambda value: getattr(value, "stem", value),
)
def test_every_card_runs_with_every_method(card, method, tmp_path, cache_dir):
    """Six steps with one mask update, a checkpoint, a robust evaluation and a report."""
    config = load(card).get_config(f"tiny,algorithm={method},sparsity=0.5")
    config.train.steps, config.sparsity.update_freq = "6", "3"
    config.sparsity.prune_end_step = "3"
    config.checkpoint.every, config.log.every = "6", "6"
    config.train.batch_size = 8
    config.eval.max_images, config.eval.severities = 16, (1,)
    config.eval.batch_size = 16
    run_paths = places_lib.RunPaths(tmp_path, None, cache_dir)
    text = experiment.run(config, run_paths)
    assert str(tmp_path / "report.html") in text
    run = run_directories.read(tmp_path)
    assert run.finished
    assert run.step == 6
    assert run.status == ""
    updates = [line for line in run.metrics if "mask_churn" in line]
    assert len(updates) == (method != "dense")
    if updates:  # the last update of MEST, here its only one, removes without growing
        moves = method not in ("static", "mest_r", "mest_g")
        assert (updates[0]["mask_churn"] > 0) == moves
    (result,) = storage.load_all(tmp_path)
    assert result.n == 16
    assert len(result.hits) == 1 + len(config.eval.corruptions)
    if method != "dense":
        assert run.structure["sparsity"] == pytest.approx(0.5, abs=1e-3)


def test_expected_results_are_percentages():
    for card in CARDS:
        for expected in load(card).EXPECTED:
            values = dataclasses.asdict(expected)
            assert 0 < expected.sparsity < 1
            assert all(1 < value < 100 for value in values["theirs"].values())


# --- a user's own card ---


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a card, which this process forgets after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(body, name="my_own_card.py"):
        text = "from dst_jax.config import cards\n\n\ndef get_config(argument=''):\n"
        (tmp_path / name).write_text(text + "".join(f"    {line}\n" for line in body))
        return name

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("my_own"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            ["raise ValueError('no\\nsuch')"],
            "--config: found a card that fails (ValueError: no) at my_own_card.py:5, in get_config",
        ),
        (
            ["config = cards.load('digits_rigl').get_config()", "config.seed = 'x'"],
            "found a card that fails (TypeError: Could not override field 'seed' (reference). x is",
        ),
        (
            ["config = cards.load('digits_rigl').get_config()", "config.train.epoch = 1"],
            "config, set at my_own_card.py:6, in get_config: found no field epoch; expected epochs",
        ),
        (
            ["import sys", "sys.exit(0)"],
            "--config: found a card that calls sys.exit(0); expected an",
        ),
        (["return 3"], "found my_own_card.py, whose get_config gives int; expected a ConfigDict"),
    ],
)
def test_what_a_card_raises_is_one_line_with_its_place(body, told, own):
    with pytest.raises(UserError) as caught:
        cards.config_of(own(body), "")
    assert told in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_card_runs_once_and_may_import_what_lies_beside_it(own, tmp_path, capsys):
    (tmp_path / "my_own_helper.py").write_text("print('helper')\nSEED = 7\n")
    body = ["config = cards.load('digits_rigl').get_config(argument)"]
    card = own([*body, "from my_own_helper import SEED", "config.seed = SEED", "return config"])
    with (tmp_path / card).open("a") as file:
        file.write("\nprint('card')\nSWEEPS = {'two': [{'seed': 1}, {'seed': 2}]}\n")
    config = cards.config_of(card, "tiny")
    assert (config.seed, config.is_locked) == (7, True)
    assert sweep.lists_of(card, "") == {"two": [{"seed": 1}, {"seed": 2}]}
    assert places_lib.default_workdir(card, config, "").parts[:2] == ("runs", "my_own_card")
    assert capsys.readouterr().out == "card\nhelper\n"
    with (tmp_path / card).open("a") as file:
        file.write("SWEEPS = {}\n")  # edited: a notebook that reads it again gets what it says
    assert sweep.lists_of(card, "") == {}
