"""Updaters as a resolved config of the training describes them."""

import dataclasses

import pytest

from dst_jax import config as config_lib
from dst_jax import sparsity, train


def resolved(algorithm, **changes):
    config = config_lib.default()
    options = {"algorithm": algorithm, "sparsity": 0.5, **changes}
    for name, value in options.items():
        config_lib.set_option(config, f"sparsity.{name}", value)
    return config_lib.resolve(config, 12_800)


@pytest.mark.parametrize("algorithm", sparsity.all_algorithm_names())
def test_every_algorithm_has_a_config(algorithm):
    updater = train.create_updater(resolved(algorithm))
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
    default = train.create_updater(resolved(algorithm))
    updater = train.create_updater(resolved(algorithm, **{option: value}))
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
    updater = train.create_updater(resolved("set", update_timing="after", update_freq="50"))
    assert not updater.skip_gradients
    assert updater.scheduler.update_freq == 50
    assert updater.scheduler.update_end_step == 750
    assert float(updater.drop_fraction_fn(750)) == 0
    constant = train.create_updater(resolved("set", drop_fraction_schedule="constant"))
    assert constant.drop_fraction_fn(750) == 0.3
    granet = train.create_updater(resolved("granet_r", prune_end_step="40%"))
    assert granet.prune_end_step == 400
