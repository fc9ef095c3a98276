"""The programs of a training: steps of one run, or of several that differ in their seed only.

Pure functions that `devices.Devices.compile` compiles; a step itself is in `step`. Called by
`loop`.
"""

from collections.abc import Callable
from typing import Any

import jax

from dst_jax.runtime.devices import Axis
from dst_jax.training.step import Recipe, TrainState, snip, train_step

Tree = Any


def whole_steps(
    recipe: Recipe, draw: Callable[..., Tree]
) -> tuple[Callable[..., Tree], Callable[..., Tree]]:
    """The two programs of a training, to be compiled by `devices.Devices.compile`.

    They train one run or several that differ in their seed only. The runs lie side by side in one
    program, so the compiler can work on them at the same time; a seed is an argument of the
    program, so every seed finds it in the compilation cache.

    Args:
      recipe: the recipe of the runs; its seed is not used.
      draw: `draw(feed, step, shard, seed) -> batch`, the pure half of an input pipeline.

    Returns:
      (ordinary, update), each `(states, feeds, seeds, count, axis) -> states` with a tuple entry a
      run. `ordinary` takes `count` steps, a traced number, in one program; `update` takes one step
      and updates the masks in it.
    """

    def step(state: TrainState, feed: Tree, seed: jax.Array, axis: Axis, update: bool) -> Tree:
        batch = axis.split(draw(feed, state.step, axis.shard, seed))
        return train_step(state, batch, recipe.with_seed(seed), axis, update=update)

    def each(states: Tree, feeds: Tree, seeds: Tree, axis: Axis, update: bool) -> Tree:
        runs = zip(states, feeds, seeds, strict=True)
        return tuple(step(*run, axis, update) for run in runs)

    def ordinary(states: Tree, feeds: Tree, seeds: Tree, count: jax.Array, axis: Axis) -> Tree:
        return jax.lax.fori_loop(0, count, lambda _, s: each(s, feeds, seeds, axis, False), states)

    def update(states: Tree, feeds: Tree, seeds: Tree, count: jax.Array, axis: Axis) -> Tree:
        del count  # always one
        return each(states, feeds, seeds, axis, True)

    return ordinary, update


def snip_step(recipe: Recipe, draw: Callable[..., Tree]) -> Callable[..., Tree]:
    """One more, with the arguments of `whole_steps`: `snip` before the first step."""

    def choose(states: Tree, feeds: Tree, seeds: Tree, count: jax.Array, axis: Axis) -> Tree:
        del count
        return tuple(
            snip(
                state,
                axis.split(draw(feed, state.step, axis.shard, seed)),
                recipe.with_seed(seed),
                axis,
            )
            for state, feed, seed in zip(states, feeds, seeds, strict=True)
        )

    return choose
