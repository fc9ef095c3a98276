import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dst_jax.sparsity import sparsity_schedules as schedules

TARGET = {"a": 0.5, "b": {"c": None, "d": 0.5}}


def test_schedules_without_a_ramp():
    for schedule in (
        schedules.NoUpdateSchedule(),
        schedules.OneShotSchedule(target_step=20),
        schedules.PeriodicSchedule(5, 0, 20),
    ):
        assert schedule.get_sparsity_at_step(TARGET, 9) == TARGET
    assert schedules.NoUpdateSchedule().is_mask_update_iter(19) is False
    assert schedules.OneShotSchedule(target_step=20).is_mask_update_iter(20) is True
    assert schedules.OneShotSchedule(target_step=20).is_mask_update_iter(19) is False


@pytest.mark.parametrize("end", [20, None])
def test_periodic(end):
    schedule = schedules.PeriodicSchedule(5, 10, end)
    steps = [t for t in range(31) if schedule.is_mask_update_iter(t)]
    assert steps == [10, 15, 20] + ([] if end else [25, 30])
    traced = jax.vmap(schedule.is_mask_update_iter)(jnp.arange(31))
    assert np.flatnonzero(traced).tolist() == steps
    assert schedule.is_mask_update_iter(None) is False


def test_polynomial():
    schedule = schedules.PolynomialSchedule(5, 0, 20)
    expected = {"a": 0.4375, "b": {"c": None, "d": 0.4375}}
    assert schedule.get_sparsity_at_step(TARGET, 9) == expected
    assert jax.jit(schedule.get_sparsity_at_step)(TARGET, 9) == expected
    assert schedule.get_sparsity_at_step(None, 9) is None
    assert schedules.PolynomialSchedule(5, 4, 4).get_sparsity_at_step(0.5, 0) == 0.5


def test_mistakes():
    with pytest.raises(ValueError, match="end_step"):
        schedules.PolynomialSchedule(1, 1, 0).get_sparsity_at_step({}, 0)
    with pytest.raises(ValueError, match="end_step"):
        schedules.PolynomialSchedule(1, 1, None).get_sparsity_at_step({}, 0)
    with pytest.raises(ValueError, match="update_freq"):
        schedules.PeriodicSchedule(0, 1, 2)
