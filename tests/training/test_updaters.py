"""What an algorithm cannot do, refused in one line before training; which patterns it can hold."""

import dataclasses
import itertools
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs

from dst_jax import config as config_lib
from dst_jax import experiment, models, paths, sparsity
from dst_jax.config import checks
from dst_jax.config.resolve import READ_BY
from dst_jax.errors import UserError
from dst_jax.sparsity import mask_trees
from dst_jax.training import algorithm_checks, build
from dst_jax.training import step as step_lib

SPARSE = [name for name, kind in sparsity.ALGORITHM_REGISTRY.items() if not kind.is_dense]
DYNAMIC = [name for name in SPARSE if sparsity.ALGORITHM_REGISTRY[name].changes_masks]
AT_MULTIPLES = [name for name in DYNAMIC if name != "acdc"]
NEEDS = {
    "adam-fisher": {"train__optimizer": "adamw"},
    "iterative_nm": {
        "sparsity__sparsity_type": "nm_2,4",
        "sparsity__sparsity": 0.5,
        "sparsity__dist_type": "uniform",
        "sparsity__exclude": "^classifier",
    },
}
WHOLE = {  # which every pattern below fits: 3072 x 16, and 16 x 10 left dense
    "sparsity__dist_type": "uniform",
    "sparsity__sparsity": 0.5,
    "sparsity__exclude": "^classifier",
}
PATTERNS = ("nm_2,4", "block_4,4", "channel_0", "channel_-1")


def config_of(algorithm, **changes):
    options = {
        "model__name": "mlp",
        "model__width": 16,
        "sparsity__algorithm": algorithm,
        "train__steps": "40",
        "sparsity__update_freq": "6",
        "sparsity__update_end_step": "30",
    }
    return runs.small_config(**{**options, **NEEDS.get(algorithm, {}), **changes})


def refused(text, algorithm, **changes):
    with pytest.raises(UserError, match=text) as caught:
        algorithm_checks.check(config_of(algorithm, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("algorithm", sparsity.all_algorithm_names())
def test_every_algorithm_is_accepted(algorithm):
    algorithm_checks.check(config_of(algorithm))


def test_names_of_dense_algorithms_are_those_of_their_classes():
    dense = {name for name, kind in sparsity.ALGORITHM_REGISTRY.items() if kind.is_dense}
    assert set(checks.DENSE) == dense


@pytest.mark.parametrize("option", sorted(READ_BY))
def test_options_that_a_config_knows_by_names_are_fields_of_those_classes(option):
    field = option.removeprefix("sparsity.")
    having = {name for name in sparsity.ALGORITHM_REGISTRY if field in sparsity.fields_of(name)}
    prefixes = READ_BY[option]
    assert having == {name for name in sparsity.ALGORITHM_REGISTRY if name.startswith(prefixes)}


def test_initial_densities_that_a_config_fills_in_are_those_of_the_classes():
    assert sparsity.GradualMagnitudePruning.initial_density == 1.0
    for kind in (sparsity.GraNetRandom, sparsity.GraNetGradient):
        assert kind.initial_density == checks.granet_initial_density(0.5)


# --- schedules by which masks would never change ---


@pytest.mark.parametrize("algorithm", [*DYNAMIC, "magnitude_ste", "random_ste"])
def test_a_start_after_the_last_step_is_refused(algorithm):
    late = {"sparsity__update_start_step": "100%", "sparsity__update_end_step": "100%"}
    refused(
        "config.sparsity.update_start_step: found step 40; expected at most step 39",
        algorithm,
        **late,
    )


@pytest.mark.parametrize("algorithm", AT_MULTIPLES)
def test_a_window_without_an_update_is_refused(algorithm):
    changes = {"sparsity__update_start_step": "13", "sparsity__update_end_step": "17"}
    refused("step with a mask update before it: .* at multiples of", algorithm, **changes)


@pytest.mark.parametrize("algorithm", ["set", "rigl", "snfs"])
def test_updates_that_would_drop_nothing_are_refused(algorithm):
    only_at_the_end = {"sparsity__update_freq": "30"}
    refused("whose only update is at update_end_step, step 30", algorithm, **only_at_the_end)
    constant = {**only_at_the_end, "sparsity__drop_fraction_schedule": "constant"}
    algorithm_checks.check(config_of(algorithm, **constant))
    refused("drop_fraction: found 0; expected more than 0", algorithm, sparsity__drop_fraction=0.0)


def test_runs_of_earlier_versions_with_such_a_schedule_can_still_be_read():
    changes = {"sparsity__update_start_step": "13", "sparsity__update_end_step": "17"}
    updater = build.updater(config_of("rigl", **changes))
    assert not any(updater.is_mask_update(step) for step in range(40))


def test_the_command_refuses_before_it_needs_a_directory(tmp_path, cache_dir):
    card = config_lib.default()
    for name, value in {
        "model.name": "mlp",
        "sparsity.algorithm": "rigl",
        "sparsity.update_freq": "10000",
    }.items():
        config_lib.set_option(card, name, value)
    run_paths = paths.RunPaths(tmp_path / "run", None, cache_dir)
    with pytest.raises(UserError, match="a step with a mask update before it: rigl"):
        experiment.run(card, run_paths, mode="train")
    assert not (tmp_path / "run").exists()


# --- a pruner ends with what was asked for ---


@pytest.mark.parametrize("algorithm", ["magnitude", "random", "saliency", "global_magnitude"])
@pytest.mark.parametrize("freq", [1, 6, 20])
def test_the_last_update_of_a_pruner_reaches_the_sparsity(algorithm, freq):
    updater = build.updater(
        config_of(algorithm, sparsity__update_freq=str(freq), sparsity__update_end_step="39")
    )
    steps = [step for step in range(40) if updater.is_mask_update(step)]
    assert steps == [step for step in range(1, 40) if step % freq == 0]
    assert updater.scheduler.get_sparsity_at_step(0.8, steps[-1]) == 0.8
    assert freq == 20 or updater.scheduler.get_sparsity_at_step(0.8, steps[-3]) < 0.8


# --- what an algorithm needs ---


def test_adam_fisher_needs_adamw():
    refused(
        "config.train.optimizer: found sgd; expected adamw with adam-fisher",
        "adam-fisher",
        train__optimizer="sgd",
    )


@pytest.mark.parametrize("algorithm", [n for n in SPARSE if n not in NEEDS])
def test_snip_is_for_algorithms_that_are_sparse_from_the_start(algorithm):
    changes = {"sparsity__initial_mask": "snip"}
    if sparsity.ALGORITHM_REGISTRY[algorithm].is_sparse_at_start:
        algorithm_checks.check(config_of(algorithm, **changes))
    else:
        refused("initial_mask: found snip; expected random with", algorithm, **changes)


def test_snip_knows_no_patterns():
    refused(
        "initial_mask: found snip; expected random with sparsity_type block_4,4",
        "rigl",
        **{**WHOLE, "sparsity__sparsity_type": "block_4,4", "sparsity__initial_mask": "snip"},
    )


@pytest.mark.parametrize("algorithm", ["magnitude_ste", "random_ste", "topkast"])
def test_of_jaxpruner_only_the_masks_are_used(algorithm):
    refused(
        "library: found jaxpruner; expected dst_jax with", algorithm, sparsity__library="jaxpruner"
    )


def test_nothing_to_mask_is_refused():
    refused("config.sparsity.exclude: found .*; expected a pattern", "rigl", sparsity__exclude=".*")


def test_an_unknown_algorithm_names_those_there_are():
    config = config_of("rigl")
    config["sparsity"]["algorithm"] = "of_my_card"
    with pytest.raises(UserError, match=r"one of no_prune, .*--config"):
        build.updater(config)


# --- patterns ---


@pytest.mark.parametrize("algorithm", SPARSE)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_is_held_or_refused(algorithm, pattern):
    """Counts the masks after updates on random weights and gradients, of a real network."""
    kind = sparsity.ALGORITHM_REGISTRY[algorithm]
    changes = {**WHOLE, "sparsity__sparsity_type": pattern}
    parsed = type(sparsity.config_keys.sparsity_type(pattern))
    if parsed not in kind.patterns:
        refused(
            f"config.sparsity.sparsity_type: found .*; expected {algorithm}", algorithm, **changes
        )
        return
    config = config_of(algorithm, **changes)
    algorithm_checks.check(config)
    updater = build.updater(config)
    rng = np.random.default_rng(0)
    params = models.init(build.model(config), 0, (32, 32, 3))["params"]
    state = updater.init_state(params)
    inner = jax.tree.map(lambda p: np.abs(rng.standard_normal(p.shape, np.float32)), params)
    seen = []
    for step in range(40):
        if updater.is_mask_update(step):
            grads = jax.tree.map(lambda p: rng.standard_normal(p.shape, np.float32), params)
            state = state._replace(inner_state=FakeAdam(inner), count=np.int32(step))
            state = updater.update_state(state, params, grads)
            seen.append(np.asarray(state.masks["fc1"]["kernel"]))
    _, masks = step_lib.forward_network(updater, params, state, 40)
    mask = np.asarray(masks["fc1"]["kernel"])
    assert masks["classifier"]["kernel"] is None
    assert mask.shape == (3072, 16)
    assert mask.sum() == mask.size // 2
    groups = {
        "nm_2,4": mask.reshape(-1, 4),
        "block_4,4": mask.reshape(768, 4, 4, 4).transpose(0, 2, 1, 3).reshape(-1, 16),
        "channel_0": mask,
        "channel_-1": mask.T,
    }[pattern].sum(axis=1)
    size = {"nm_2,4": 4, "block_4,4": 16, "channel_0": 16, "channel_-1": 3072}[pattern]
    assert set(groups) == ({2} if pattern == "nm_2,4" else {0, size})
    if algorithm in ("set", "rigl"):  # and the masks do change
        assert any((one != other).any() for one, other in itertools.pairwise(seen))


def FakeAdam(second):  # noqa: N802
    """A state of Adam whose second moments are given."""
    import optax

    return optax.ScaleByAdamState(count=np.int32(1), mu=second, nu=second)


def test_iterative_nm_needs_a_pattern():
    refused(
        "sparsity_type: found ''; expected nm_N,M with iterative_nm",
        "iterative_nm",
        sparsity__sparsity_type="",
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sparsity__sparsity": 0.8}, "config.sparsity.sparsity: found 0.8; expected 0.5 with"),
        ({"sparsity__dist_type": "erk"}, "config.sparsity.dist_type: found erk; expected uniform"),
        (
            {"sparsity__exclude": ""},
            r"nm_2,4 with classifier/kernel \(16 x 10\); expected a last axis of a multiple of 4\. "
            r"Leave them dense with --config.sparsity.exclude='\^classifier/kernel'",
        ),
        ({"sparsity__sparsity_type": "nm_4,2"}, "sparsity_type|Sparsity type nm_4,2"),
        (
            {"sparsity__sparsity_type": "block_5,4"},
            "block_5,4 with fc1/kernel .*multiples of 5 and",
        ),
        ({"sparsity__sparsity_type": "block_3072,16"}, "expected several blocks in a layer"),
        ({"sparsity__sparsity_type": "channel_2"}, "expected an axis from -2 to 1"),
        (
            {"sparsity__sparsity_type": "channel_-1", "sparsity__sparsity": 0.97},
            "can remove 0.938 of the weights",
        ),
    ],
)
def test_a_pattern_that_contradicts_the_rest_is_refused(changes, text):
    refused(text, "magnitude", **{**WHOLE, "sparsity__sparsity_type": "nm_2,4", **changes})


def test_a_convolution_is_too_small_for_blocks():
    changes = {**WHOLE, "model__name": "resnet20", "sparsity__sparsity_type": "block_4,4"}
    refused("block_4,4 with .* and .* more layers; expected first two axes", "magnitude", **changes)


# --- what a user registers is treated like ours ---


@dataclasses.dataclass
class Own(sparsity.MESTGradient):
    """Says nothing of itself, so what it inherits holds."""


@dataclasses.dataclass
class OwnSte(sparsity.SteMagnitudePruning):
    """Likewise."""


def test_the_class_of_a_registered_algorithm_is_asked(monkeypatch):
    monkeypatch.setitem(sparsity.ALGORITHM_REGISTRY, "own", Own)
    monkeypatch.setitem(sparsity.ALGORITHM_REGISTRY, "own_ste", OwnSte)
    for name in ("own", "own_ste"):
        algorithm_checks.check(config_of(name))
    algorithm_checks.check(config_of("own", sparsity__initial_mask="snip"))
    refused(
        "snip; expected random with own_ste; snip with one of .*, own$",
        "own_ste",
        sparsity__initial_mask="snip",
    )
    refused("a step with a mask update before it: own", "own", sparsity__update_freq="37")
    refused(
        "sparsity_type: found nm_N,M; expected own with", "own", sparsity__sparsity_type="nm_2,4"
    )
    assert build.updater(config_of("own", sparsity__soft_bound=0.2)).soft_bound == 0.2


@dataclasses.dataclass
class OwnDense(sparsity.NoPruning):
    """Dense, with an option of its own."""

    penalty: float = 0.5


@dataclasses.dataclass
class OwnPhases(sparsity.MagnitudePruning):
    """Updates at steps of its own."""

    updates_at_multiples = False


@dataclasses.dataclass
class OwnFisher(sparsity.MagnitudePruning):
    """Reads Adam's second moments."""

    needs_moments = "nu"


def test_the_attributes_of_a_registered_algorithm_decide(monkeypatch):
    for name, kind in {"phases": OwnPhases, "fisher": OwnFisher, "own_dense": OwnDense}.items():
        monkeypatch.setitem(sparsity.ALGORITHM_REGISTRY, name, kind)
    algorithm_checks.check(config_of("own_dense", sparsity__sparsity=0.0))
    text = "config.sparsity.sparsity: found 0.5; expected 0 with own_dense"
    refused(text, "own_dense", sparsity__sparsity=0.5)
    made = sparsity.create_updater_from_config({"algorithm": "own_dense", "penalty": 2.0})
    assert (type(made), made.penalty) == (OwnDense, 2.0)
    window = {"sparsity__update_start_step": "13", "sparsity__update_end_step": "17"}
    algorithm_checks.check(config_of("phases", **window))
    adam = {"train__optimizer": "adamw"}
    algorithm_checks.check(config_of("fisher", **adam))
    refused("a step with a mask update before it", "fisher", **adam, **window)
    refused("adamw with fisher", "fisher", train__optimizer="sgd")


def test_a_run_of_a_version_without_patterns_begins():
    config = config_of("rigl")
    del config["sparsity"]["sparsity_type"]
    algorithm_checks.check(config)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda m: m * 2, "algorithm own: found a mask of a/kernel with 2 in it after the mask up"),
        (
            lambda m: m.astype(np.float32),
            "found a mask float32 [8, 4] of a/kernel after the mask u",
        ),
        (lambda m: m[:1], "found a mask uint8 [1, 4] of a/kernel after the mask update of step 4;"),
        (
            lambda m: m.at[:4].set(0),
            " active weights after the mask update of step 4; expected the ",
        ),
        (lambda m: m, ""),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_masks_that_break_a_rule_are_told_at_the_first_update(spoil, told, packed):
    updater = build.updater(config_of("rigl"))
    updater.use_packed_masks = packed
    params = {"a": {"kernel": jnp.ones((8, 4)), "bias": jnp.ones(4)}}
    state = SimpleNamespace(params=params, sparse=updater.init_state(params))
    config = {"sparsity": {"algorithm": "own"}}
    active = algorithm_checks.active_of_own(config, updater, state, "before step 4")
    assert active == 16
    masks = jax.tree.map(spoil, updater.forward_masks(params, state.sparse))
    if packed:
        if "a mask" in told:
            return  # bits have no other values, types or shapes
        masks = mask_trees.pack_masks(masks)
    state.sparse = state.sparse._replace(masks=masks)
    if not told:
        algorithm_checks.check_own_update(config, updater, active, state, 4)
        return
    with pytest.raises(UserError, match=re.escape(told)):
        algorithm_checks.check_own_update(config, updater, active, state, 4)
    if "active weights" in told:
        updater.changes_density = True
        algorithm_checks.check_own_update(config, updater, active, state, 4)


@dataclasses.dataclass
class OwnPower(sparsity.RigL):
    """Has a field that no option names."""

    power: float = 1.0


@dataclasses.dataclass
class OwnPowerTwo(OwnPower):
    """The same with another default, as docs/sparsity.md has it."""

    power: float = 2.0


def test_a_field_of_an_own_algorithm_is_a_key_of_the_updaters_config_not_of_a_card(monkeypatch):
    for name, kind in {"one": OwnPower, "two": OwnPowerTwo}.items():
        monkeypatch.setitem(sparsity.ALGORITHM_REGISTRY, name, kind)
        assert build.updater(config_of(name)).power == kind.power
    keys = {"algorithm": "one", "dist_type": "erk", "sparsity": 0.5, "power": 3.0}
    window = {"update_freq": 2, "update_start_step": 2, "update_end_step": 8}
    assert sparsity.create_updater_from_config({**keys, **window}).power == 3.0
    with pytest.raises(AttributeError):
        config_lib.default().sparsity.power = 3.0
