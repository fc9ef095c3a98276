"""Training FLOPs of every method, added up by hand, and against published numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dst_jax import sparsity
from dst_jax.analysis.flops import LayerCost, inference_flops
from dst_jax.analysis.training_cost import training_flops_ratio

F = 0.25  # a forward pass with the last masks, over a dense one


def updater_of(algorithm, freq=10, start=10, end=80, sparsity_=0.8, **options):
    return sparsity.create_updater_from_config(
        {"algorithm": algorithm, "dist_type": "erk", "sparsity": sparsity_, "update_freq": freq,
         "update_start_step": start, "update_end_step": end, **options}
    )  # fmt: skip


def ratio(algorithm, first=F, **options):
    backward = options.pop("backward", None)
    snip = options.pop("snip", False)
    updater = updater_of(algorithm, **options)
    return training_flops_ratio(updater, 100, first, F, backward=backward, snip=snip)


@pytest.mark.parametrize(("algorithm", "published"), [("rigl", 0.4165), ("snfs", 0.6097)])
def test_published_for_resnet50(algorithm, published):
    """ERK at sparsity 0.8, where a sparse forward pass costs 0.41457; RigL updates every 100."""
    updater = updater_of(algorithm, freq=100, start=100, end=32_000)
    found = training_flops_ratio(updater, 32_000, 0.41457, 0.41457)
    assert found == pytest.approx(published, abs=6e-5)


def test_dense():
    assert training_flops_ratio(updater_of("dense"), 100, 1.0, 1.0) == 1


@pytest.mark.parametrize("algorithm", ["static", "static_sparse", "set"])
def test_sparse_throughout(algorithm):
    assert ratio(algorithm) == pytest.approx(F)
    # The batch that SNIP looks at: a dense forward and backward pass more.
    assert ratio(algorithm, snip=True) == pytest.approx(F + 1 / 100)


def test_rigl_by_hand():
    """8 of 100 steps also compute the weight gradient of inactive weights."""
    assert ratio("rigl") == pytest.approx((100 * 3 * F + 8 * (1 - F)) / (100 * 3))


def test_snfs_and_top_kast_by_hand():
    assert ratio("snfs") == pytest.approx((2 * F + 1) / 3)
    assert ratio("topkast", backward=0.5) == pytest.approx((2 * F + 0.5) / 3)


def test_mest_by_hand():
    """First masks cost 0.35: steps 0..60 at 0.35, to 80 at 0.30, then 19 at 0.25.

    Updates take place at 10, 20, ..., 80. Three quarters of the way to 80 is 60, whose update
    halves the surplus; that of 80 ends it. A step is taken with the masks before its own update.
    """
    forward = (61 * 0.35 + 20 * 0.30 + 19 * 0.25) / 100
    assert ratio("mest_r", first=0.35) == pytest.approx(forward)
    dense = (6 * 0.65 + 2 * 0.70) / 300  # updates at 10..60 and at 70 and 80
    assert ratio("mest_g", first=0.35) == pytest.approx(forward + dense)
    assert ratio("mest_r", memory_bound="hard") == pytest.approx(F)


@pytest.mark.parametrize("algorithm", ["gmp", "granet_r", "granet_g"])
def test_gradual_pruning_by_hand(algorithm):
    """Four updates, at 20, 40, 60 and 80: after the j-th 1 - (1 - j/4)^3 of the way is gone."""
    left = [1, 27 / 64, 8 / 64, 1 / 64, 0]
    forward = [F + (0.85 - F) * part for part in left]
    mean = (21 * forward[0] + 20 * sum(forward[1:4]) + 19 * forward[4]) / 100
    if algorithm == "granet_g":
        mean += sum(1 - f for f in forward[:4]) / 300
    assert ratio(algorithm, first=0.85, freq=20, start=20) == pytest.approx(mean)


def test_granet_prunes_until_its_own_end():
    left = [1, 1 / 8, 0]
    forward = [F + (0.85 - F) * part for part in left]
    mean = (21 * forward[0] + 20 * forward[1] + 59 * forward[2]) / 100
    found = ratio("granet_r", first=0.85, freq=20, start=20, prune_end_step=40)
    assert found == pytest.approx(mean)


def test_acdc_by_hand():
    """Dense to 20, sparse to 40, dense to 60, sparse to 80 and on: 42 dense steps.

    The phases' first steps, 20 and 60, are taken with the masks before them, 40 with sparse ones.
    """
    dense = 21 + 20
    assert ratio("acdc", first=1.0, freq=20, start=20) == pytest.approx(
        (dense + (100 - dense) * F) / 100
    )


@pytest.mark.parametrize(
    "algorithm", ["magnitude", "random", "global_magnitude", "adam-fisher", "saliency"]
)
def test_pruners_by_hand(algorithm):
    """The schedule of sparsity: at 20, 40, 60, 80 it has reached 1 - (1 - (t + 1 - 20) / 60)^3."""
    left = [1, *((1 - min(t + 1 - 20, 60) / 60) ** 3 for t in (20, 40, 60, 80))]
    forward = [F + (1 - F) * part for part in left]
    mean = (21 * forward[0] + 20 * sum(forward[1:4]) + 19 * forward[4]) / 100
    if algorithm == "saliency":
        mean += sum(1 - f for f in forward[:4]) / 300
    assert ratio(algorithm, first=1.0, freq=20, start=20) == pytest.approx(mean)


def test_straight_through_by_hand():
    """Pruned anew at every step; gradients reach all weights."""
    progress = [1 - (1 - np.clip(t + 1 - 20, 0, 60) / 60) ** 3 for t in range(100)]
    forward = 1 - (1 - F) * np.mean(progress)
    found = ratio("magnitude_ste", first=1.0, freq=20, start=20)
    assert found == pytest.approx((2 * forward + 1) / 3)


@pytest.mark.parametrize("algorithm", sparsity.all_algorithm_names())
def test_every_method_has_a_ratio(algorithm):
    found = training_flops_ratio(updater_of(algorithm), 100, 0.9, F, backward=0.5)
    assert F <= found <= 1


def test_density_of_granet_follows_its_masks():
    """On a toy network of two layers the cost is that of the masks an actual training had."""
    updater = updater_of("gmp", freq=2, start=2, end=8, sparsity_=0.5, rng_seed=0)
    params = {"a": {"kernel": jax.random.normal(jax.random.key(0), (8, 8))}}
    costs = [LayerCost("a/kernel", (8, 8), 64 * 9, 0)]
    state = updater.init_state(params)
    spent, passes = 0.0, []
    for step in range(12):
        density = float(state.masks["a"]["kernel"].mean())
        passes.append(inference_flops(costs, {"a/kernel": density}) / inference_flops(costs))
        spent += passes[-1] / 12
        state = state._replace(count=jnp.int32(step))
        if updater.scheduler.is_mask_update_iter(step):
            state = updater.update_state(state, params, params)
    found = training_flops_ratio(updater, 12, passes[0], passes[-1])
    assert found == pytest.approx(spent, abs=0.5 / 64)  # the weights are whole


@pytest.mark.parametrize(
    ("algorithm", "steps_at_the_end"), [("magnitude", 89), ("magnitude_ste", 90)]
)
def test_n_by_m_is_whole_from_the_first_update_on(algorithm, steps_at_the_end):
    """Updates at 10, 20, ...: steps 0..10 are dense; straight-through is sparse at step 10."""
    found = ratio(algorithm, first=1.0, sparsity_=0.5, sparsity_type="nm_2,4", dist_type="uniform")
    passes = (steps_at_the_end * F + (100 - steps_at_the_end)) / 100
    weights = 1.0 if algorithm.endswith("ste") else passes
    assert found == pytest.approx((2 * passes + weights) / 3)


# --- algorithms that a user registers: what they say of themselves is what counts ---


@dataclasses.dataclass
class Constant(sparsity.BaseUpdater):
    """An algorithm of nobody's family."""

    changes_density = False
    dense_gradients = "updates"


@dataclasses.dataclass
class Always(Constant):
    dense_gradients = "always"


@dataclasses.dataclass
class Wide(Constant):
    dense_gradients = ""
    backward_ratio: float = 3.0


@dataclasses.dataclass
class Halfway(Constant):
    dense_gradients = ""

    def density_progress(self, latest):
        return np.where(latest < 50, 0.5, 1.0)


@dataclasses.dataclass
class EveryStep(sparsity.BaseUpdater):
    changes_masks = False


RISING = [1 - (1 - np.clip(step - 9, 0, 70) / 70) ** 3 for step in range(100)]


@pytest.mark.parametrize(
    ("kind", "first", "expected"),
    [
        (Constant, F, F + 8 * (1 - F) / 300),
        (Always, F, (2 * F + 1) / 3),
        (Wide, F, (2 * F + 0.75) / 3),
        (Halfway, 1.0, F + 0.5 * (1 - F) * 51 / 100),
        (EveryStep, 1.0, 1 - (1 - F) * np.mean(RISING)),
    ],
)
def test_a_registered_algorithm_is_asked(kind, first, expected, monkeypatch):
    monkeypatch.setitem(sparsity.ALGORITHM_REGISTRY, "own", kind)
    assert ratio("own", first=first, backward=0.75) == pytest.approx(expected)


@pytest.mark.parametrize(
    "base", ["mest_g", "granet_g", "gmp", "topkast", "magnitude_ste", "saliency", "snfs"]
)
def test_a_registered_subclass_costs_what_its_base_does(base, monkeypatch):
    kind = dataclasses.dataclass(type("Own", (sparsity.ALGORITHM_REGISTRY[base],), {}))
    monkeypatch.setitem(sparsity.ALGORITHM_REGISTRY, "own", kind)
    assert ratio("own", first=0.8, backward=0.5) == ratio(base, first=0.8, backward=0.5)
