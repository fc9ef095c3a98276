"""What a mask update costs, and what masks cost the steps in between.

    python -m benchmarks.mask_update [--rounds 5] [--json FILE]

Prints a table in Markdown. One RigL update of ResNet-50 (25.5 M maskable weights, ERK, sparsity
0.8, momentum reset included) in a compiled program against two full sorts per layer, as JaxPruner's
`update_state` takes; then steps of `wrap_optax` that update nothing against the plain optimizer.
Ratios are of one round, in turns; the median is printed.
"""

import argparse
import functools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import timing
from dst_jax import models, sparsity
from dst_jax.models import resnet

Tree = Any
FIRST_UPDATE = 10_000  # later than any step taken here


def updater_of(algorithm: str, start: int = 0) -> Any:
    return sparsity.create_updater_from_config(
        {
            "algorithm": algorithm,
            "dist_type": "erk",
            "sparsity": 0.8,
            "update_freq": 100,
            "update_start_step": start,
            "update_end_step": 2 * FIRST_UPDATE,
            "drop_fraction": 0.3,
            "rng_seed": 0,
        }
    )


def random_like(tree: Tree) -> Tree:
    generator = np.random.default_rng(0)
    return jax.tree.map(lambda p: jnp.asarray(generator.standard_normal(p.shape, "f4")), tree)


def by_sorting(state: Tree, params: Tree, grads: Tree, drop_fraction: float) -> Tree:
    """A RigL update with two full sorts per layer."""

    def highest(scores: jax.Array, k: jax.Array) -> jax.Array:
        order = jnp.argsort(-scores.ravel())
        ranks = jnp.zeros(scores.size, jnp.int32).at[order].set(jnp.arange(scores.size))
        return (ranks < k).reshape(scores.shape).astype(jnp.uint8)

    def update(mask: Any, param: jax.Array, grad: jax.Array) -> Any:
        if mask is None:
            return None
        n = jnp.sum(mask, dtype=jnp.int32)
        stay = jnp.round(n * (1 - drop_fraction)).astype(jnp.int32)
        kept = highest(jnp.where(mask == 0, -1.0, jnp.abs(param)), stay)
        return highest(jnp.where(kept == 1, jnp.inf, jnp.abs(grad)), n)

    masks = sparsity.mask_trees.map_masks(update, state.masks, params, grads)
    resets = jax.tree.map(lambda new, old: 1 - (new & old), masks, state.masks)
    inner = sparsity.optimizer_state.reset_moments(state.inner_state, resets)
    return state._replace(masks=masks, inner_state=inner)


def compiled(function: Callable[..., Tree], *arguments: Tree) -> tuple[Any, float, float]:
    """(program, seconds to trace and compile it, MiB that it needs besides its arguments)."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    seconds = time.perf_counter() - start
    memory = program.memory_analysis()
    if memory is None:
        return program, seconds, float("nan")
    return program, seconds, (memory.temp_size_in_bytes + memory.output_size_in_bytes) / 2**20


def update_lines(rounds: int) -> list[dict[str, Any]]:
    params = models.init(models.create("resnet50", 1000), 0, (224, 224, 3))["params"]
    updater = updater_of("rigl")
    momentum = optax.trace(0.9)
    state = jax.jit(
        lambda p: updater.init_state(p)._replace(inner_state=momentum.init(p), count=jnp.int32(100))
    )(params)
    params, grads = updater.post_gradient_update(params, state), random_like(params)
    arguments = (state, params, grads)
    ours, seconds, memory = compiled(updater.update_state, *arguments)
    drop_fraction = float(updater.drop_fraction_fn(100))
    sorts, sort_seconds, sort_memory = compiled(
        functools.partial(by_sorting, drop_fraction=drop_fraction), *arguments
    )
    measures = {
        "compiled": lambda: timing.seconds(lambda: ours(*arguments)),
        "sorting": lambda: timing.seconds(lambda: sorts(*arguments)),
    }
    figures = timing.in_turns(measures, rounds)
    lines = [line("update in a compiled program, s", "two sorts a layer", figures, "compiled")]
    for text, aim, mine, other in (
        ("trace and compile the update, s", "<= 5 s", seconds, sort_seconds),
        ("peak memory of a compiled update, MiB", "", memory, sort_memory),
    ):
        lines.append({"what": text, "alternative": "two sorts a layer", "aim": aim,
                      "ours": [mine], "other": [other], "ratio": None})  # fmt: skip
    lines[0]["aim"] = ">= 10 times faster"
    return lines


def line(what: str, alternative: str, figures: dict[str, list[float]], name: str) -> dict[str, Any]:
    ratio = timing.ratios(figures["sorting"], figures[name])
    return {"what": what, "alternative": alternative, "aim": "", "ours": figures[name],
            "other": figures["sorting"], "ratio": ratio}  # fmt: skip


def optimizer_line(rounds: int, donate: bool) -> dict[str, Any]:
    """The optimizer's step of ResNet-50 alone, without a gradient; in place if `donate`."""
    params = models.init(models.create("resnet50", 1000), 0, (224, 224, 3))["params"]
    grads = random_like(params)

    def step_of(tx: Any, mask: Callable[..., Tree]) -> Callable[[], Tree]:
        arguments = [jax.tree.map(jnp.array, params), tx.init(params), grads]
        program = jax.jit(functools.partial(_step, tx, mask), donate_argnums=(0, 1) * donate)

        def run() -> Tree:
            arguments[0], arguments[1] = program(*arguments)
            return arguments[0]

        return run

    what = f"ordinary step of the optimizer{', donated' * donate}, ResNet-50, s"
    return _in_turns(what, "" if donate else "<= 1.5", step_of, rounds)


def _step(tx: Any, mask: Callable[..., Tree], params: Tree, state: Tree, grads: Tree) -> Tree:
    updates, state = tx.update(grads, state, params)
    return mask(optax.apply_updates(params, updates), state), state


def network_line(rounds: int, batch_size: int) -> dict[str, Any]:
    """A whole training step of ResNet-18 on 32x32 images."""
    model = models.create("resnet34", 10).clone(stage_sizes=(2, 2, 2, 2), block=resnet.BasicBlock)
    images = jax.random.normal(jax.random.key(0), (batch_size, 32, 32, 3))
    labels = jnp.arange(batch_size) % 10
    variables = models.init(model, 0, (32, 32, 3))

    def loss(params: Tree, stats: Tree) -> tuple[jax.Array, Tree]:
        logits, mutated = model.apply(
            {"params": params, "batch_stats": stats}, images, train=True, mutable=["batch_stats"]
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), mutated["batch_stats"]

    def step_of(tx: Any, mask: Callable[..., Tree]) -> Callable[[], Tree]:
        @jax.jit
        def program(params: Tree, stats: Tree, state: Tree) -> tuple[Tree, Tree, Tree]:
            grads, stats = jax.grad(loss, has_aux=True)(params, stats)
            params, state = _step(tx, mask, params, state, grads)
            return params, stats, state

        state = [(variables["params"], variables["batch_stats"], tx.init(variables["params"]))]

        def run() -> Tree:
            state[0] = program(*state[0])
            return state[0][0]

        return run

    what = f"training step, ResNet-18, {batch_size} images of 32x32, s"
    return _in_turns(what, "<= 1.03", step_of, rounds)


def _in_turns(
    what: str, aim: str, step_of: Callable[..., Callable[[], Tree]], rounds: int
) -> dict[str, Any]:
    updater = updater_of("rigl", start=FIRST_UPDATE)
    inner = optax.sgd(0.1, momentum=0.9)
    sparse = step_of(updater.wrap_optax(inner), updater.post_gradient_update)
    plain = step_of(inner, lambda params, state: params)
    figures = timing.in_turns(
        {
            "ours": lambda: timing.seconds(sparse),
            "plain": lambda: timing.seconds(plain),
        },
        rounds,
    )
    ratio = timing.ratios(figures["ours"], figures["plain"])
    return {"what": what, "alternative": "plain optax", "aim": aim, "ours": figures["ours"],
            "other": figures["plain"], "ratio": ratio}  # fmt: skip


def markdown(record: dict[str, Any]) -> str:
    """The record as a table, with what it depends on."""
    rows = ["| what | alternative | ours | alternative | ratio (min..max) | aim |",
            "|---|---|---|---|---|---|"]  # fmt: skip
    for entry in record["lines"]:
        ours, other = (statistics.median(entry[side]) for side in ("ours", "other"))
        ratio = entry["ratio"]
        spread = f"{ratio['median']:.3g} ({ratio['min']:.3g}..{ratio['max']:.3g})" if ratio else ""
        rows.append(
            f"| {entry['what']} | {entry['alternative']} | {ours:.4g} | {other:.4g} | {spread} |"
            f" {entry['aim']} |"
        )
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return "\n".join(rows) + (
        f"\n\n{record['hardware']}, {record['processor']}; {record['date']}; {versions};"
        f" load before {record['load']}, after {record['load_after']}; {record['rounds']} rounds;"
        f" `{record['command']}`\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="figures a measure")
    parser.add_argument("--batch_size", type=int, default=32, help="images of a training step")
    parser.add_argument("--json", type=Path, help="where to write the figures; a .md beside it")
    options = parser.parse_args()

    circumstances, load = timing.circumstances(), os.getloadavg()[0]
    lines = update_lines(options.rounds)
    lines += [optimizer_line(4 * options.rounds, donate) for donate in (False, True)]
    lines.append(network_line(4 * options.rounds, options.batch_size))
    record = {
        "command": " ".join(["python -m benchmarks.mask_update", *sys.argv[1:]]),
        **circumstances,
        "load": round(load, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "rounds": options.rounds,
        "lines": lines,
    }
    table = markdown(record)
    print(table)
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
        options.json.with_suffix(".md").write_text(table)


if __name__ == "__main__":
    main()
