"""The programs of a training and its input, without loop and files: for tests of steps."""

import jax
import numpy as np

from dst_jax import models
from dst_jax.training import build, compiled_steps, step


class Trainer:
    """The two programs of a run and its input, on some devices."""

    def __init__(self, config, devices, cache_dir):
        self.devices = devices
        self.pipeline = build.pipeline(config, devices, None, cache_dir)
        self.recipe = build.recipe(config)
        self.is_update = self.recipe.updater.scheduler.is_mask_update_iter
        both = compiled_steps.whole_steps(self.recipe, self.pipeline.batch)
        self.ordinary, self.update = map(devices.compile, both)

    def first(self):
        variables = models.init(self.recipe.model, self.recipe.seed, (32, 32, 3))
        make = jax.jit(lambda variables: step.init_state(self.recipe, variables))
        return self.devices.replicate(make(variables))

    def step(self, state, now):
        program = self.update if self.is_update(now) else self.ordinary
        return self.run(program, state, now, 1)

    def run(self, program, state, now, count):
        seed = np.uint32(self.recipe.seed)
        return program((state,), (self.pipeline.host_inputs(now),), (seed,), count)[0]

    def states(self, steps):
        """The state after each step, canonical, as NumPy arrays."""
        state = self.first()
        for now in range(steps):
            state = self.step(state, now)
            yield jax.tree.map(np.asarray, self.devices.canonical(state))


def relative_errors(expected, found):
    return {
        jax.tree_util.keystr(path): np.linalg.norm(b - a) / max(np.linalg.norm(a), 1e-9)
        for (path, a), b in zip(
            jax.tree.leaves_with_path(expected), jax.tree.leaves(found), strict=True
        )
    }


def assert_same_masks(expected, found):
    masks = jax.tree.leaves(expected.sparse.masks), jax.tree.leaves(found.sparse.masks)
    for a, b in zip(*masks, strict=True):
        np.testing.assert_array_equal(a, b)
