import inspect
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_collections
import pytest

from dst_jax import sparsity
from dst_jax.sparsity import api, sparsity_schedules, sparsity_types


def config(**changes):
    base = {
        "algorithm": "magnitude",
        "update_freq": 10,
        "update_start_step": 200,
        "update_end_step": 1000,
        "sparsity": 0.8,
        "dist_type": "erk",
    }
    return ml_collections.ConfigDict({**base, **changes})


def test_a_full_config():
    given = config()
    updater = sparsity.create_updater_from_config(given)
    assert type(updater) is sparsity.MagnitudePruning
    assert updater.scheduler == sparsity_schedules.PolynomialSchedule(10, 200, 1000)
    parameters = inspect.signature(updater.sparsity_distribution_fn).parameters
    assert len(parameters) == 4
    assert "param_tree" in parameters
    assert parameters["sparsity"].default == 0.8
    assert given == config()  # untouched


def test_every_name_makes_its_updater():
    for name in sparsity.all_algorithm_names():
        updater = sparsity.create_updater_from_config(config(algorithm=name))
        assert type(updater) is sparsity.ALGORITHM_REGISTRY[name]
    assert set(api.ALGORITHMS) >= {
        *("no_prune", "magnitude", "random", "saliency", "magnitude_ste", "random_ste"),
        *("global_magnitude", "global_saliency", "static_sparse", "rigl", "set"),
        *("dense", "static"),
    }


@pytest.mark.parametrize("name", ["no_prune", "dense"])
def test_dense_needs_nothing_else(name):
    only = ml_collections.ConfigDict({"algorithm": name})
    assert type(sparsity.create_updater_from_config(only)) is sparsity.NoPruning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nm_2,4", sparsity_types.NByM(2, 4)),
        ("block_4,2", sparsity_types.Block((4, 2))),
        ("channel_1", sparsity_types.Channel(1)),
        (None, sparsity_types.Unstructured()),
    ],
)
def test_sparsity_types(text, expected):
    updater = sparsity.create_updater_from_config(config(sparsity_type=text))
    assert updater.sparsity_type == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dist_type": "normal"}, "dist_type:"),
        ({"algorithm": "unheard_of"}, r"jaxpruner.all_algorithm_names\(\)"),
        ({"sparsity_type": "wrong"}, "Sparsity type"),
        ({"sparsity_type": "nm_2"}, "Sparsity type"),
        ({"sparsity": None}, "sparsity:"),
        ({"update_freq": None}, "update_freq:"),
    ],
)
def test_mistakes_name_the_key(changes, message):
    with pytest.raises(ValueError, match=message):
        sparsity.create_updater_from_config(config(**changes))


def test_schedules():
    def scheduler(**changes):
        return sparsity.create_updater_from_config(config(**changes)).scheduler

    assert scheduler(update_start_step=None) == sparsity_schedules.NoUpdateSchedule()
    assert scheduler(update_start_step=1000) == sparsity_schedules.OneShotSchedule(1000)
    endless = scheduler(algorithm="rigl", update_end_step=None)
    assert endless.is_mask_update_iter(10**6)


def test_drop_fraction():
    def fraction(**changes):
        return sparsity.create_updater_from_config(config(**changes)).drop_fraction_fn

    assert fraction(algorithm="set")(0) == pytest.approx(0.1)
    # Evci et al. 2020 on CIFAR: 0.3 falling to 0 at step 75,000.
    rigl = fraction(algorithm="rigl", drop_fraction=0.3, update_end_step=75_000)
    steps = {0: 0.3, 100: 0.299999, 37_500: 0.15, 74_900: 1e-6}
    for step, expected in steps.items():
        assert rigl(step) == pytest.approx(expected, abs=1e-6)
    assert fraction(algorithm="rigl", drop_fraction_fn=lambda step: 0.2)(0) == 0.2
    assert fraction(algorithm="rigl", update_start_step=None, update_end_step=None)(9) == 0.1


def test_filter_and_custom_map_and_seed():
    params = {"a": {"kernel": jnp.ones((4, 4))}, "b": {"kernel": jnp.ones((4, 4))}}
    updater = sparsity.create_updater_from_config(
        config(
            algorithm="static",
            dist_type="uniform",
            filter_fn=lambda path, _: path[0] == "a",
            custom_sparsity_map={("b", "kernel"): 0.5},
            sparsity=0.75,
            rng_seed=4,
        )
    )
    masks = updater.init_state(params).masks
    assert int(masks["a"]["kernel"].sum()) == 4
    assert int(masks["b"]["kernel"].sum()) == 8
    assert (updater.rng_seed == jax.random.PRNGKey(4)).all()


def test_registering_an_algorithm(monkeypatch):
    monkeypatch.setattr(api, "ALGORITHM_REGISTRY", dict(api.ALGORITHM_REGISTRY))

    class Mine(sparsity.RigL):
        pass

    sparsity.register_algorithm("mine", Mine)
    updater = sparsity.create_updater_from_config(config(algorithm="mine", drop_fraction=0.4))
    assert type(updater) is Mine
    assert updater.drop_fraction_fn(0) == pytest.approx(0.4)


def test_importing_it_brings_neither_flax_nor_tensorflow_nor_the_rest_of_the_package():
    code = (
        "import sys, dst_jax.sparsity; "
        "mine = {m.split('.')[1] for m in sys.modules if m.startswith('dst_jax.')}; "
        "sys.exit(mine != {'sparsity'} or bool({'tensorflow', 'flax'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_of_jaxpruner():
    """What its own integrations ask of its modules."""
    from dst_jax.sparsity import base_updater, utils
    from dst_jax.sparsity.algorithms import sparse_trainers

    assert utils.summarize_sparsity is sparsity.summarize_sparsity
    assert sparsity.utils.summarize_intersection is sparsity.summarize_intersection
    assert base_updater.NoPruning is sparsity.NoPruning
    assert base_updater.SparseState is sparsity.SparseState
    assert sparse_trainers.StaticRandomSparse is sparsity.StaticRandomSparse
    assert sparsity.sparsity_distributions.NOT_DIM_ONE_FILTER_FN(("bias",), jnp.ones((2, 2)))


def test_its_extensions_register_themselves(monkeypatch):
    """Each under its name and with its class; nothing else takes a name of ours."""
    monkeypatch.setattr(api, "ALGORITHM_REGISTRY", dict(api.ALGORITHM_REGISTRY))
    monkeypatch.setattr(api, "REGISTERED_IN", {})

    class ACDC(sparsity.MagnitudePruning):
        pass

    sparsity.register_algorithm("acdc", ACDC)
    assert api.ALGORITHM_REGISTRY["acdc"] is ACDC
    with pytest.raises(ValueError, match="register_algorithm: found rigl, an algorithm of dst_jax"):
        sparsity.register_algorithm("rigl", ACDC)
