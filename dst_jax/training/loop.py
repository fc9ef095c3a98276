"""Training, in reading order: devices, data, model, optimizer, state, loop.

`train` writes `metrics.jsonl`, checkpoints and, at the end, `summary.json` into a run directory,
and picks up where the latest checkpoint there stands. Everything that changes the result is a
function of (config, step), so a run killed at any moment and restarted ends with the same bits.
Called by `stages`.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax import data, models, sparsity
from dst_jax.config import checks
from dst_jax.errors import RunError, UserError
from dst_jax.runtime.checkpoint import Checkpoints
from dst_jax.runtime.devices import Devices, is_main_process
from dst_jax.runtime.interrupt import Interrupt, InterruptedRunError
from dst_jax.runtime.run_dir import CHECKPOINTS, FAILURE, write_json, write_text
from dst_jax.training import algorithm_checks, build, compiled_steps, initial_weights, validation
from dst_jax.training import step as step_lib
from dst_jax.training.metrics_log import Log, bad_step, check_finite

Config = Mapping[str, Any]


def train(
    configs: Sequence[Config], workdirs: Sequence[Path], data_dir: str | None, cache_dir: Path
) -> None:
    """Trains one run, or several that differ in their seed only, in one compiled program.

    Each goes on from its latest checkpoint to its last step; runs trained together from the latest
    step that all of them have.

    Args:
      configs: as `dst_jax.config.resolve` returns them.
      workdirs: the run directories; `run_dir.claim` has accepted them.
      data_dir: where TFDS datasets are prepared; None: TFDS's own default.
      cache_dir: where decoded arrays are cached.

    Raises:
      UserError: config, data or checkpoint do not allow it.
      RunError: the loss or a gradient became infinite or NaN.
      InterruptedRunError: SIGTERM or Ctrl-C; a checkpoint has been saved.
    """
    unfinished = [not (workdir / "summary.json").exists() for workdir in workdirs]
    configs = list(itertools.compress(configs, unfinished))
    workdirs = list(itertools.compress(workdirs, unfinished))
    if not configs:
        return
    for workdir in workdirs:
        (workdir / FAILURE).unlink(missing_ok=True)  # of an earlier start
    config = configs[0]
    total = config["train"]["steps"]
    if not any((workdir / CHECKPOINTS).exists() for workdir in workdirs):
        algorithm_checks.check(config)

    # 1. Devices
    devices = Devices(config["parallelism"])
    parts = config["train"]["grad_accum_steps"]
    checks.rows_of_each(config["train"]["batch_size"], devices.count, parts)

    # 2. Data
    pipeline = build.pipeline(config, devices, data_dir, cache_dir)
    pipelines = [pipeline]
    if len(configs) > 1:
        if not isinstance(pipeline, data.ResidentPipeline):
            raise UserError(
                "config.num_seeds",
                f"{len(configs)} with a streamed dataset",
                "1, or a dataset that fits on the device",
                "Train the seeds one after another, or set --config.data.input=resident",
            )
        pipelines += [pipeline.with_seed(other["seed"]) for other in configs[1:]]

    # 3. Model, optimizer, sparsity
    dataset = data.get(config["data"]["name"])
    recipe = build.recipe(config)
    model, updater = recipe.model, recipe.updater
    ordinary, update = map(devices.compile, compiled_steps.whole_steps(recipe, pipeline.batch))
    snip = devices.compile(compiled_steps.snip_step(recipe, pipeline.batch))
    seeds = tuple(np.uint32(other["seed"]) for other in configs)

    # 4. States: fresh, or the latest checkpoints
    checkpoints = [
        Checkpoints(workdir / CHECKPOINTS, config["checkpoint"]["keep"]) for workdir in workdirs
    ]
    step = max(set.intersection(*(set(saved.steps()) for saved in checkpoints)), default=0)
    make_state = jax.jit(
        lambda variables, seed: step_lib.init_state(recipe.with_seed(seed), variables)
    )
    by_magnitude = jax.jit(
        lambda state, params, seed: initial_weights.by_magnitude(
            state, params, recipe.with_seed(seed)
        )
    )
    if step:
        image = jax.ShapeDtypeStruct((1, *dataset.image_shape), jnp.float32)
        shapes = jax.eval_shape(model.init, jax.random.key(0), image)
        abstract = devices.abstract(jax.eval_shape(make_state, shapes, seeds[0]))
        states = tuple(devices.replicate(saved.restore(abstract, step)) for saved in checkpoints)
    else:
        variables = [models.init(model, int(seed), dataset.image_shape) for seed in seeds]
        if config["model"]["init_from"]:
            loaded = [initial_weights.into(config, drawn) for drawn in variables]
            variables = [found for found, _ in loaded]
            if is_main_process():
                print(loaded[0][1], flush=True)
            del loaded
        fresh = map(make_state, variables, seeds)
        if config["sparsity"]["initial_mask"] == "magnitude":
            fresh = map(by_magnitude, fresh, (variable["params"] for variable in variables), seeds)
        states = tuple(map(devices.replicate, fresh))
        if config["sparsity"]["initial_mask"] == "snip":
            dense = tuple(
                dataclasses.replace(state, params=devices.replicate(variable["params"]))
                for state, variable in zip(states, variables, strict=True)
            )
            states = snip(dense, tuple(feeder.host_inputs(0) for feeder in pipelines), seeds, 1)
        if is_main_process():
            first = devices.canonical(states[0])
            for workdir in workdirs:
                _write_parameter_overview(workdir, first.params)
            masks = updater.forward_masks(first.params, first.sparse)
            print(sparsity.summaries.layer_table(first.params, masks), flush=True)
            del first
        del variables

    # 5. Loop
    is_update = updater.is_mask_update
    unchecked = config["sparsity"]["algorithm"] in sparsity.api.REGISTERED_IN
    validate = validation.create(config, recipe, devices, data_dir, cache_dir)
    forward_masks = validation.forward_masks(recipe, devices)
    logs = [
        Log(
            other,
            workdir,
            step,
            recipe.learning_rate,
            devices,
            bool(number),
            validate and functools.partial(validate, seed=seeds[number]),
            functools.partial(forward_masks, seed=seeds[number]) if forward_masks else None,
        )
        for number, (other, workdir) in enumerate(zip(configs, workdirs, strict=True))
    ]

    def save() -> None:
        for saved in checkpoints:
            saved.wait()  # so that two runs are never further apart than one checkpoint
        for saved, state in zip(checkpoints, states, strict=True):
            saved.save(step, devices.canonical(state))

    try:
        with Interrupt() as interrupt:
            while step < total:
                feeds = tuple(feeder.host_inputs(step) for feeder in pipelines)
                jax.block_until_ready(states[0].step)  # one program ahead of the host, not hundreds
                if logs[0].stop_requested(interrupt, step):
                    save()
                    for saved in checkpoints:
                        saved.wait()
                    raise InterruptedRunError(
                        interrupt.requested, f"checkpoint of step {step} of {total} saved"
                    )
                if is_update(step) and unchecked:  # the first update of a user's own algorithm
                    unchecked, first = False, devices.canonical(states[0])
                    active = algorithm_checks.active_of_own(
                        config, updater, first, f"before step {step}"
                    )
                    count, states = 1, update(states, feeds, seeds, 1)
                    first = devices.canonical(states[0])
                    algorithm_checks.check_own_update(config, updater, active, first, step)
                    del first
                elif is_update(step):
                    count, states = 1, update(states, feeds, seeds, 1)
                else:
                    count = _steps_until_event(
                        step, config, pipeline.steps_per_feed(step), is_update
                    )
                    states = ordinary(states, feeds, seeds, count)
                step += count
                if logs[0].due(step):
                    pairs = zip(logs, states, strict=True)
                    states = tuple(log.write(step, state) for log, state in pairs)
                if step % config["checkpoint"]["every"] == 0 or step == total:
                    for state in states:
                        check_finite(state)  # never save what a restart could not go on from
                    save()
    except RunError as error:
        for workdir, state in zip(workdirs, states, strict=True):
            if is_main_process():
                other = "training stopped: another seed of the same program diverged"
                reason = str(error) if bad_step(state) >= 0 else other
                write_json(workdir / FAILURE, {"step": step, "reason": reason})
        raise RunError(f"{error}; {_advice(checkpoints[0])}") from None
    finally:
        for saved in checkpoints:
            saved.close()
        pipeline.close()
        for log in logs:
            log.close()

    # 6. Done
    for workdir, log in zip(workdirs, logs, strict=True):
        if is_main_process():
            summary = {"step": step, "finished": True, "seconds": log.seconds_in_all()}
            write_json(workdir / "summary.json", summary)


def _steps_until_event(
    step: int, config: Config, chunk: int, is_update: Callable[[int], bool | jax.Array]
) -> int:
    """Ordinary steps from `step` to the next mask update, log line, checkpoint, end of feed."""
    limit = min(chunk, config["train"]["steps_per_dispatch"], config["train"]["steps"] - step)
    periods = (config["log"]["every"], config["checkpoint"]["every"])
    for count in range(1, limit):
        if is_update(step + count) or any((step + count) % period == 0 for period in periods):
            return count
    return limit


def _advice(checkpoints: Checkpoints) -> str:
    """What to do about a training that diverged."""
    checkpoints.wait()
    steps = checkpoints.steps()
    good = f"the last good checkpoint is of step {steps[-1]}" if steps else "there is no checkpoint"
    return f"{good}. Lower config.train.learning_rate or set config.train.clip_norm"


def _write_parameter_overview(workdir: Path, params: Any) -> None:
    """Writes clu's table of all parameters; clu.parameter_overview needs no TensorFlow."""
    from clu import parameter_overview

    table = parameter_overview.get_parameter_overview(params, include_stats="sharding")
    write_text(workdir / "parameters.txt", table + "\n")
