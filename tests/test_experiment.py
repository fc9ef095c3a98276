"""Plans, cards and golden cards: a changed default shows up as a readable difference."""

import importlib.util
import json
from pathlib import Path

import pytest
import runs

from dst_jax import config as config_lib
from dst_jax import data, experiment, models, sparsity
from dst_jax.errors import UserError

CARDS = sorted((runs.ROOT / "configs").glob("*.py"))
IMAGES = {"digits": 1437, "cifar10": 50_000, "imagenet2012": 1_281_167}
GOLDEN = Path(__file__).parent / "golden"


def load(card):
    spec = importlib.util.spec_from_file_location(card.stem, card)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_every_card_resolves_and_names_what_exists(card):
    module = load(card)
    config = module.get_config()
    assert config.model.name in models.MODELS
    assert config.data.name in data.DATASETS
    assert config.sparsity.algorithm in sparsity.all_algorithm_names()
    resolved = config_lib.resolve(config, IMAGES[config.data.name])
    golden = GOLDEN / f"{card.stem}.json"
    text = json.dumps(resolved, indent=1, sort_keys=True) + "\n"
    assert text == golden.read_text(), f"if this is meant, write the new card to {golden}"


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_every_card_says_its_command_and_what_to_expect(card):
    text = load(card).__doc__
    for part in (
        f"python run.py --config=configs/{card.name}",
        "Reproduces",
        "Expected time",
        "Expected result",
    ):
        assert part in text


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_every_run_of_every_sweep_resolves_and_has_its_own_name(card):
    module = load(card)
    config = module.get_config()
    for sweep, members in module.SWEEPS.items():
        planned = experiment.plan(config, module.SWEEPS, sweep)
        assert len(planned) == len(members)
        for member in planned.values():
            config_lib.resolve(member, IMAGES[config.data.name])


def test_a_sweep_changes_its_members_only():
    config = config_lib.default()
    planned = experiment.plan(
        config, {"two": [{"seed": 1}, {"seed": 2, "model.name": "mlp"}]}, "two"
    )
    assert [(name, member.seed) for name, member in planned.items()] == [("1", 1), ("2-mlp", 2)]
    assert config.seed == 0


def test_a_sweep_that_names_no_option_is_refused():
    with pytest.raises(UserError, match="found 'sed'; expected an option"):
        experiment.plan(config_lib.default(), {"x": [{"sed": 1}]}, "x")


def test_default_directories_are_named_after_the_run():
    config = config_lib.default()
    path = experiment.default_workdir("configs/digits_rigl.py", config, "")
    assert path == Path("runs/digits_rigl/dense-seed0")
    config.sparsity.algorithm = "rigl"
    path = experiment.default_workdir("configs/digits_rigl.py", config, "")
    assert path == Path("runs/digits_rigl/rigl-0.5-seed0")
    assert experiment.default_workdir("c/x.py", config, "demo") == Path("runs/x/demo")
