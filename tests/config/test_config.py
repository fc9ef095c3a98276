import pytest
from hypothesis import given
from hypothesis import strategies as st

from dst_jax import config as config_lib
from dst_jax.errors import UserError
from dst_jax.training import algorithm_checks


def resolve(num_train=1000, **changes):
    config = config_lib.default()
    for name, value in changes.items():
        config_lib.set_option(config, name.replace("__", "."), value)
    return config_lib.resolve(config, num_train)


def test_every_option_of_the_defaults_is_valid_by_itself():
    config_lib.check_values(config_lib.default())
    for name, option in config_lib.OPTIONS.items():
        assert option.meaning, name
        assert option.expected(), name


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        ("300", 300),
        ("300 steps", 300),
        ("1 step", 1),
        ("5 epochs", 35),
        ("0.5 epoch", 4),
        ("75%", 105),
        ("0", 0),
        ("1e2", 100),
    ],
)
def test_durations_are_converted(duration, steps):
    assert config_lib.steps_of("x", duration, steps_per_epoch=7, total=140) == steps


@pytest.mark.parametrize("duration", ["", "five", "5 weeks", "-3", "1.2.3", "nan", "5 % epochs"])
def test_what_is_no_duration_is_refused(duration):
    with pytest.raises(UserError, match=r"config\.x: found"):
        config_lib.steps_of("x", duration, 7, 140)


@given(st.integers(1, 10**6), st.integers(1, 10**4), st.integers(1, 10**6))
def test_plain_numbers_are_steps(number, per_epoch, total):
    assert config_lib.steps_of("x", str(number), per_epoch, total) == number
    assert config_lib.steps_of("x", f"{number} epochs", per_epoch, total) == number * per_epoch
    assert config_lib.steps_of("x", "100%", per_epoch, total) == total


def test_only_steps_are_left_after_resolve():
    resolved = resolve(
        train__epochs=10.0,
        train__batch_size=100,
        train__warmup="1 epochs",
        sparsity__algorithm="rigl",
        sparsity__update_freq="2 epochs",
    )
    assert resolved["train"]["steps"] == 100
    assert resolved["train"]["steps_per_epoch"] == 10
    assert resolved["train"]["warmup"] == 10
    assert resolved["train"]["milestones"] == [50, 75]
    assert resolved["sparsity"]["update_freq"] == 20
    assert resolved["sparsity"]["update_end_step"] == 75


def test_train_steps_takes_the_place_of_epochs():
    assert resolve(train__steps="6", train__batch_size=8)["train"]["steps"] == 6


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"train__batch_size": 2000},
            "config.train.batch_size: found 2000; expected 1 to 1000, the",
        ),
        ({"train__steps": "0"}, "config.train.steps: found 0; expected a training of at least one"),
        ({"train__epochs": 0.0}, "config.train.epochs: found 0.0"),
        ({"train__warmup": "99 epochs"}, "config.train.warmup"),
        ({"model__dtype": "float16"}, "config.model.dtype: found float16; expected one of"),
        ({"parallelism": "tpu"}, "config.parallelism: found tpu; expected one of jit, pmap"),
        ({"eval__severities": (0,)}, "config.eval.severities: found 0"),
        ({"sparsity__sparsity": 1.2}, "config.sparsity.sparsity: found 1.2"),
        ({"sparsity__exclude": "("}, "config.sparsity.exclude"),
        ({"train__momentum": float("nan")}, "config.train.momentum"),
    ],
)
def test_wrong_values_are_told_in_one_line(changes, text):
    with pytest.raises(UserError) as error:
        resolve(**changes)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"update_end_step": "200%"}, "config.sparsity.update_end_step: found step 140"),
        ({"update_start_step": "60", "update_end_step": "50"}, "config.sparsity.update_start_step"),
        ({"update_freq": "0"}, "config.sparsity.update_freq"),
        ({"sparsity": 1.0}, "config.sparsity.sparsity: found 1.0; expected less than 1"),
    ],
)
def test_inconsistent_sparsity_is_told_in_one_line(changes, text):
    changes = {f"sparsity__{name}": value for name, value in changes.items()}
    with pytest.raises(UserError) as error:
        resolve(sparsity__algorithm="rigl", **changes)
    assert text in str(error.value)


def test_unknown_and_missing_fields_are_named():
    config = config_lib.default().to_dict()
    config["train"]["epoch"] = 3
    with pytest.raises(UserError, match=r"config.train.epoch: found an unknown field"):
        config_lib.resolve(config, 1000)
    del config["train"]["epoch"], config["seed"]
    with pytest.raises(UserError, match=r"config.seed: found nothing"):
        config_lib.resolve(config, 1000)


def test_differences_name_what_trains_another_network_only():
    old = resolve()
    new = resolve(seed=1, eval__seed=4, checkpoint__keep=7, train__learning_rate=0.2)
    assert config_lib.differences(old, old) == []
    assert config_lib.differences(old, new) == [
        "config.seed was 0 and is 1",
        "config.train.learning_rate was 0.1 and is 0.2",
    ]


def test_an_option_that_an_older_version_lacked_is_its_default():
    older = resolve()
    del older["model"]["zero_init_residual"]
    assert config_lib.differences(older, resolve()) == []
    assert config_lib.differences(older, resolve(model__zero_init_residual="yes")) == [
        "config.model.zero_init_residual was 'published' and is 'yes'"
    ]
    older["model"]["since_removed"] = 1
    (line,) = config_lib.differences(older, resolve())
    assert line == "config.model.since_removed was 1 and is 'nothing'"


def test_texts_of_the_command_line_become_tuples():
    resolved = resolve(eval__corruptions=("fog,contrast",), train__milestones=("10%,20%",))
    assert resolved["eval"]["corruptions"] == ["fog", "contrast"]
    assert len(resolved["train"]["milestones"]) == 2


GRANET = {"sparsity__algorithm": "granet_g", "train__steps": "1000"}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"sparsity__sparsity": 0.1, "sparsity__initial_density": 0.8},
            r"config.sparsity.initial_density: found 0.8; expected more than the target "
            r"density 0.9 \(sparsity 0.1\), at most 1",
        ),
        (
            {"sparsity__prune_end_step": "50"},
            "config.sparsity.prune_end_step: found step 50; expected a step with a mask update",
        ),
        (
            {"sparsity__algorithm": "mest_r", "sparsity__update_end_step": "50"},
            "config.sparsity.update_end_step: found step 50; expected a step with a mask update",
        ),
        (
            {"sparsity__algorithm": "set", "sparsity__drop_fraction_floor": 0.4},
            "config.sparsity.drop_fraction_floor: found 0.4; expected at most .*, 0.3",
        ),
    ],
)
def test_densities_and_fractions_that_cannot_be_reached(changes, text):
    with pytest.raises(UserError, match=text):
        algorithm_checks.check(resolve(**{**GRANET, **changes}))


def test_gradual_pruning_starts_dense():
    assert resolve(**{**GRANET, "sparsity__algorithm": "gmp"})["sparsity"]["initial_density"] == 1
    options = {"sparsity__sparsity": 0.1, "sparsity__initial_density": 0.95}
    assert resolve(**GRANET, **options)["sparsity"]["prune_end_step"] == 500


@pytest.mark.parametrize(
    ("sparsity", "density"), [(0.7, 0.8), (0.3, 0.8), (0.2, 0.9), (0.1, 0.95), (0.05, 0.975)]
)
def test_granet_starts_above_its_target_at_every_sparsity(sparsity, density):
    options = resolve(**{**GRANET, "sparsity__sparsity": sparsity})["sparsity"]
    assert options["initial_density"] == density
    assert 1 - sparsity < density < 1


def test_an_update_at_the_end_of_the_training_never_comes():
    card = config_lib.default()
    for name, value in {
        "sparsity.algorithm": "mest_g",
        "train.steps": "6",
        "train.warmup": "0",
        "sparsity.update_freq": "6",
        "sparsity.update_end_step": "100%",
    }.items():
        config_lib.set_option(card, name, value)
    with pytest.raises(UserError, match="a step with a mask update before it: mest_g"):
        algorithm_checks.check(config_lib.resolve(card, 1437))


@pytest.mark.parametrize(
    ("section", "value", "text"),
    [
        ("log", 3, "run/config.json: log: found 3; expected the resolved config"),
        ("model", None, "run/config.json: found no section `model`"),
        ("train", {"steps": 1}, "run/config.json: train.steps_per_epoch: found None"),
        ("model", {"width": "a"}, "run/config.json: model.width: found 'a'; expected a whole"),
        ("seed", "x", "run/config.json: seed: found 'x'; expected a whole number"),
    ],
)
def test_a_damaged_config_of_a_run_is_told_in_one_line(section, value, text):
    config = {**resolve(), section: value}
    with pytest.raises(UserError) as error:
        config_lib.completed(config, "run/config.json")
    assert text in str(error.value)


@pytest.mark.parametrize("algorithm", ["dense", "rigl", "granet_g", "mest_r", "gmp"])
def test_a_config_of_this_version_is_complete_as_it_is(algorithm):
    import json

    resolved = json.loads(json.dumps(resolve(sparsity__algorithm=algorithm)))
    assert config_lib.completed(resolved) == resolved


def test_only_what_an_algorithm_reads_tells_its_runs_apart():
    older = resolve(sparsity__algorithm="rigl")
    older["sparsity"]["initial_density"] = 0.8  # the default of an earlier version
    assert config_lib.differences(older, resolve(sparsity__algorithm="rigl")) == []
    gradual = resolve(sparsity__algorithm="granet_g", sparsity__sparsity=0.1)
    older = resolve(sparsity__algorithm="granet_g", sparsity__sparsity=0.1)
    older["sparsity"]["initial_density"] = 0.93
    assert config_lib.differences(older, gradual) == [
        "config.sparsity.initial_density was 0.93 and is 0.95"
    ]


def test_an_option_with_an_older_name_is_that_option():
    old = resolve(train__grad_accum_steps=2)
    old["train"]["accumulate"] = old["train"].pop("grad_accum_steps")
    assert config_lib.completed(old) == resolve(train__grad_accum_steps=2)
    assert config_lib.differences(old, resolve(train__grad_accum_steps=2)) == []
    assert "train.accumulate" not in config_lib.with_new_names(old)
