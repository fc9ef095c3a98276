"""`config.sparsity.library = "jaxpruner"`: with a stub of its interface, and with itself."""

import dataclasses
import functools
import importlib.util
import sys
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dst_jax import sparsity
from dst_jax.errors import UserError
from dst_jax.sparsity import jaxpruner_bridge, sparsity_distributions, sparsity_schedules
from dst_jax.training import build
from tests.sparsity.conftest import random_like
from tests.sparsity.test_from_config import resolved


@dataclasses.dataclass
class StubSet:
    """Turns every mask upside down; like the original it cannot digest a mask of None."""

    scheduler: Any
    sparsity_distribution_fn: Any
    rng_seed: Any
    skip_gradients: bool = True
    is_sparse_gradients: bool = True

    def wrap_optax(self, inner):
        def init(params):
            targets = self.sparsity_distribution_fn(params)
            masks = jax.tree.map(lambda p: (jnp.arange(p.size) % 2).reshape(p.shape), params)
            masks = jax.tree.map(lambda m: m.astype(jnp.uint8), masks)
            return sparsity.SparseState(masks, inner.init(params), targets, jnp.int32(0))

        def update(updates, state, params, **extra):
            jax.tree.map(lambda m, p: m * p, state.masks, params)
            flipped = jax.lax.cond(
                self.scheduler.is_mask_update_iter(state.count),
                lambda masks: jax.tree.map(lambda m: 1 - m, masks),
                lambda masks: masks,
                state.masks,
            )
            return updates, state._replace(masks=flipped, count=state.count + 1)

        return optax.GradientTransformationExtraArgs(init, update)


@pytest.fixture
def stub(monkeypatch):
    module = types.ModuleType("jaxpruner")
    module.ALGORITHM_REGISTRY = {"set": StubSet}
    module.register_algorithm = module.ALGORITHM_REGISTRY.__setitem__

    def create(config):
        options = dict(config.items())
        algorithm = module.ALGORITHM_REGISTRY[options.pop("algorithm")]
        distribution = getattr(sparsity_distributions, options.pop("dist_type"))
        bound = {"sparsity": options.pop("sparsity")}
        if "filter_fn" in options:
            bound["filter_fn"] = options.pop("filter_fn")
        steps = [options.pop(f"update_{name}") for name in ("freq", "start_step", "end_step")]
        del options["drop_fraction"]
        return algorithm(
            scheduler=sparsity_schedules.PolynomialSchedule(*steps),
            sparsity_distribution_fn=functools.partial(distribution, **bound),
            **options,
        )

    module.create_updater_from_config = create
    monkeypatch.setitem(sys.modules, "jaxpruner", module)
    monkeypatch.setattr(jax, "tree_map", jax.tree.map, raising=False)
    return module


def test_their_masks_our_weights_and_moments(stub, params):
    updater = build.updater(resolved("set", library="jaxpruner", exclude="Conv_0"))
    assert isinstance(updater.theirs, StubSet)
    tx = optax.inject_hyperparams(optax.adam)(0.1)
    state = updater.init_state(params)._replace(inner_state=tx.init(params))
    assert state.masks["Conv_0"]["kernel"] is None
    assert state.masks["Dense_0"]["bias"] is None
    params = updater.post_gradient_update(params, state)
    mask = state.masks["Dense_0"]["kernel"]
    step = next(t for t in range(1, 300) if updater.scheduler.is_mask_update_iter(t))
    inner = jax.tree.map(jnp.ones_like, state.inner_state)
    state = state._replace(inner_state=inner, count=jnp.int32(step))
    params, state = jax.jit(updater.update_params_and_state)(state, params, random_like(params, 1))
    np.testing.assert_array_equal(state.masks["Dense_0"]["kernel"], 1 - mask)
    assert not np.any(params["Dense_0"]["kernel"])  # all of it is new
    assert not np.any(state.inner_state.inner_state[0].mu["Dense_0"]["kernel"])
    assert np.all(state.inner_state.inner_state[0].mu["Conv_0"]["kernel"])


@pytest.mark.parametrize("name", jaxpruner_bridge.OURS)
def test_ours_in_their_registry(stub, params, name):
    updater = build.updater(resolved(name, library="jaxpruner"))
    assert type(updater) is sparsity.ALGORITHM_REGISTRY[name]
    assert stub.ALGORITHM_REGISTRY[name] is type(updater)
    state = updater.init_state(params)._replace(count=jnp.int32(750))
    masks = updater.update_state(state, params, random_like(params, 1)).masks
    total = sum(m.size for m in jax.tree.leaves(masks))
    assert sum(int(m.sum()) for m in jax.tree.leaves(masks)) == round(total / 2)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("regrow_same", "zero"),
        ("adam_fresh", "mean_v"),
        ("drop_fraction_schedule", "constant"),
        ("drop_fraction_floor", 0.1),
    ],
)
def test_options_that_the_original_would_ignore_are_refused(stub, option, value):
    with pytest.raises(UserError, match=f"{option}: found {value}; expected .* library jaxpruner"):
        build.updater(resolved("set", library="jaxpruner", **{option: value}))


def test_algorithms_that_the_original_lacks(stub):
    with pytest.raises(UserError, match=r"algorithm: found snfs, which JaxPruner lacks; .* set"):
        build.updater(resolved("snfs", library="jaxpruner"))
    dense = build.updater(resolved("dense", library="jaxpruner"))
    assert type(dense) is sparsity.NoPruning
    stub.ALGORITHM_REGISTRY["static_sparse"] = StubSet
    assert isinstance(build.updater(resolved("static", library="jaxpruner")).theirs, StubSet)


@pytest.mark.parametrize("module", [None, types.ModuleType("jaxpruner")])
def test_without_the_package_one_line_says_how_to_get_it(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "jaxpruner", module)  # None: an import fails
    with pytest.raises(UserError) as caught:
        build.updater(resolved("rigl", library="jaxpruner"))
    text = str(caught.value)
    assert "config.sparsity.library: found jaxpruner, which is not installed" in text
    assert "git+https://github.com/google-research/jaxpruner@e7af4e4" in text
    assert "\n" not in text


@pytest.mark.skipif(importlib.util.find_spec("jaxpruner") is None, reason="JaxPruner is absent")
@pytest.mark.parametrize("name", ["set", "rigl"])
def test_the_real_package(params, name):
    updater = build.updater(resolved(name, library="jaxpruner"))
    state = updater.init_state(params)._replace(count=jnp.int32(100))
    masked = updater.post_gradient_update(params, state)
    new = jax.jit(updater.update_state)(state, masked, random_like(params, 1)).masks
    before, after = jax.tree.leaves(state.masks), jax.tree.leaves(new)
    assert [int(m.sum()) for m in before] == [int(m.sum()) for m in after]
    assert any((np.asarray(a) != np.asarray(b)).any() for a, b in zip(before, after, strict=True))
