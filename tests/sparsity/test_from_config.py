"""Updaters as a resolved config of the training describes them."""

import dataclasses

import pytest

from dst_jax import config as config_lib
from dst_jax import sparsity
from dst_jax.training import build


def resolved(algorithm, **changes):
    config = config_lib.default()
    options = {"algorithm": algorithm, "sparsity": 0.5, **changes}
    for name, value in options.items():
        config_lib.set_option(config, f"sparsity.{name}", value)
    return config_lib.resolve(config, 12_800)


@pytest.mark.parametrize("algorithm", sparsity.all_algorithm_names())
def test_every_algorithm_has_a_config(algorithm):
    updater = build.updater(resolved(algorithm))
    assert type(updater) is sparsity.ALGORITHM_REGISTRY[algorithm]


@pytest.mark.parametrize(
    ("algorithm", "option", "value"),
    [
        ("rigl", "regrow_same", "zero"),
        ("rigl", "adam_fresh", "mean_v"),
        ("granet_g", "initial_density", 0.9),
        ("mest_r", "soft_bound", 0.2),
        ("mest_r", "memory_bound", "hard"),
    ],
)
def test_options_reach_the_algorithm(algorithm, option, value):
    default = build.updater(resolved(algorithm))
    updater = build.updater(resolved(algorithm, **{option: value}))
    changed = {
        field.name
        for field in dataclasses.fields(updater)
        if field.name != "rng_seed"
        and not callable(getattr(updater, field.name))
        and getattr(updater, field.name) != getattr(default, field.name)
    }
    assert changed == {option}
    assert getattr(updater, option) == value


def test_timing_and_schedules():
    updater = build.updater(resolved("set", update_timing="after", update_freq="50"))
    assert not updater.skip_gradients
    assert updater.scheduler.update_freq == 50
    assert updater.scheduler.update_end_step == 750
    assert float(updater.drop_fraction_fn(750)) == 0
    constant = build.updater(resolved("set", drop_fraction_schedule="constant"))
    assert constant.drop_fraction_fn(750) == 0.3
    granet = build.updater(resolved("granet_r", prune_end_step="40%"))
    assert granet.prune_end_step == 400


@pytest.mark.parametrize("algorithm", sparsity.all_algorithm_names())
def test_a_resolved_section_makes_the_updater_of_the_training(algorithm, params):
    """As the README promises: JaxPruner's API with `config.sparsity`."""
    config = resolved(algorithm, exclude="Conv_0", update_timing="after", update_freq="10")
    updater = sparsity.create_updater_from_config({**config["sparsity"], "rng_seed": 0})
    assert type(updater) is sparsity.ALGORITHM_REGISTRY[algorithm]
    masks = updater.forward_masks(params, updater.init_state(params))
    assert masks["Conv_0"]["kernel"] is None
    if algorithm not in ("dense", "no_prune"):
        assert masks["Dense_0"]["kernel"].shape == params["Dense_0"]["kernel"].shape
        assert updater.skip_gradients is False


@pytest.mark.parametrize("timing", ["replace", "after"])
def test_the_timing_of_a_section_is_that_of_the_updater(timing):
    config = resolved("rigl", update_timing=timing)
    assert sparsity.create_updater_from_config(config["sparsity"]).skip_gradients == (
        timing == "replace"
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"update_freq": "100"},
            "update_freq: found '100'; expected a number of steps, as dst_jax",
        ),
        ({"update_end_step": "75%"}, "update_end_step: found '75%'; expected a number of steps"),
        ({"sparsity": "0.5"}, "sparsity: found '0.5'; expected a number"),
        ({"library": "jaxpruner"}, "library: found jaxpruner; expected dst_jax"),
        ({"initial_mask": "snip"}, "initial_mask: found snip; expected random: .*snip_masks"),
        ({"update_timing": "before"}, "update_timing: found 'before'; expected replace or after"),
        ({"exclude": "("}, r"exclude: found '\('; expected a regular expression"),
        ({"filter_fn": "^layers_0/"}, "filter_fn: found '.layers_0/'; expected a function"),
        ({"drop_fractoin": 0.3}, "drop_fractoin: found an unknown key; expected one of "),
        ({"sparsity_type": "nm_2,4"}, "sparsity_type: found nm_N,M; expected rigl with "),
        ({"update_start_step": 900}, "update_start_step: found 900; expected at most .*, 750"),
        (
            {"update_freq": 800},
            "update_freq: found no multiple of 800 from update_start_step 1 to ",
        ),
    ],
)
def test_what_is_no_config_of_an_updater_names_the_key(changes, text):
    section = {**resolved("rigl")["sparsity"], **changes}
    with pytest.raises(ValueError, match=text):
        sparsity.create_updater_from_config(section)


def test_the_defaults_of_a_training_are_refused_by_the_key_that_is_no_number_of_steps():
    section = config_lib.default().sparsity
    section.algorithm = "rigl"
    with pytest.raises(ValueError, match="found '100'; expected a number of steps, as dst_jax"):
        sparsity.create_updater_from_config(section)


def test_options_of_other_algorithms_are_errors_outside_a_section():
    section = resolved("rigl")["sparsity"]
    del section["library"]
    with pytest.raises(ValueError, match="initial_density: found an unknown key"):
        sparsity.create_updater_from_config(section)


@pytest.mark.parametrize("end", [8, 9])
def test_acdc_can_be_copied(end):
    options = {"algorithm": "acdc", "dist_type": "uniform", "sparsity": 0.5, "update_freq": 2}
    options |= {"update_start_step": 8, "update_end_step": end}
    updater = sparsity.create_updater_from_config(options)
    copy = dataclasses.replace(updater, rng_seed=1)
    phases = [updater.scheduler.is_sparse_at(step) for step in range(14)]
    assert [copy.scheduler.is_sparse_at(step) for step in range(14)] == phases
    assert phases == [step >= 8 for step in range(14)]
