"""The loop of an evaluation: clean images, then condition after condition, written as it comes.

A model that gives what cannot be scored does not stop the others. Called by `evaluation`, which
says what is scored.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dst_jax.errors import RunError, UserError
from dst_jax.robustness.arguments import name_of
from dst_jax.robustness.engine import Predictions
from dst_jax.robustness.images import Source
from dst_jax.robustness.networks import Network
from dst_jax.robustness.predict_functions import Checked
from dst_jax.robustness.records import CLEAN, Condition
from dst_jax.robustness.result import Result
from dst_jax.robustness.result_writer import ResultWriter
from dst_jax.robustness.scorer import Scorer
from dst_jax.robustness.suites import Plan
from dst_jax.runtime.devices import any_process, is_main_process
from dst_jax.runtime.interrupt import Interrupt, InterruptedRunError
from dst_jax.runtime.progress import Progress
from dst_jax.runtime.run_dir import locked, make


def score(
    networks: Mapping[str, Network],
    checked: Mapping[str, Checked],
    scorer: Scorer,
    plan: Plan,
    opened: Source,
    batch: int,
    *,
    path: str | os.PathLike | None,
    outputs: str,
    keep: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    quiet: bool,
    prefix: str,
) -> dict[str, Result]:
    """Scores networks on the conditions of a plan; the result of each, by its name.

    Args:
      networks: name -> what is asked.
      checked: name -> its function.
      scorer: gives the outcomes.
      plan: the conditions.
      opened: the clean images.
      batch: images in a batch over all devices.
      path: see `evaluation.evaluate_models`, as of the following.
      outputs: of the functions.
      keep: of each prediction.
      data_dir: of TFDS.
      cache_dir: of decoded arrays.
      quiet: show no progress.
      prefix: what stands before an argument's name in the text of an error.
    """
    with contextlib.ExitStack() as stack:
        interrupt = None
        writers: dict[str, ResultWriter] = {}
        for model, network in networks.items():
            where = Path(path) / model if path is not None else None
            if where is not None:
                interrupt = interrupt or stack.enter_context(Interrupt())
                if is_main_process():
                    make(where)
                    stack.enter_context(locked(where, ".evaluation.lock"))
            fingerprint = network.fingerprint((*opened.side, 3), batch)
            writers[model] = ResultWriter(opened.name, plan, where, fingerprint, keep)
            stack.callback(writers[model].save)  # whatever ends this
        outcomes = dict(zip(networks, scorer.clean([*networks.values()]), strict=True))
        failed: dict[str, str] = {}
        for model, outcome in outcomes.items():
            if np.isnan(outcome.confidence).any():
                failed[model] = _problem(model, CLEAN, outcome)
                continue
            scorer.check_outputs(networks[model], checked[model], outcome, outputs)
            count = checked[model].classes
            if outcome.label.max() >= count or outcome.label.min() < 0:
                found = f"labels from {outcome.label.min()} to {outcome.label.max()}"
                raise UserError(
                    name_of(prefix, model),
                    f"logits of {count} classes for {found}",
                    "as many logits at least",
                )
            writers[model].begin(outcome, scorer.pixels)
        if len(failed) == len(networks):
            raise RunError("; ".join(failed.values()))
        missing = {
            model: set(() if model in failed else writer.missing())
            for model, writer in writers.items()
        }
        done = sum(not any(c in left for left in missing.values()) for c in plan.conditions)
        total = len(plan.conditions)
        progress = Progress(total, done, quiet=quiet)
        progress.show(done, f"clean  {_accuracies(outcomes)}", now=True)
        for condition, outcomes in scorer.conditions(networks, missing, data_dir, cache_dir):
            for model, outcome in outcomes.items():
                if model in failed:
                    continue
                if problem := _problem(model, condition, outcome):
                    failed[model] = problem  # the others do not wait for it
                else:
                    writers[model].add(condition, outcome)
            if len(failed) == len(networks):
                break
            done += 1
            text = f"{condition.corruption} {condition.severity}  {_accuracies(outcomes)}"
            progress.show(done, text, now=done == total)
            if interrupt is not None and any_process(bool(interrupt.requested)):
                break
        if interrupt is not None and any_process(bool(interrupt.requested)):
            raise InterruptedRunError(interrupt.requested, f"{done} of {total} conditions scored")
    progress.end()
    if failed:
        raise RunError("; ".join(failed.values()))
    return {model: writer.result() for model, writer in writers.items()}


def _problem(model: str, condition: Condition, outcome: Predictions) -> str:
    """Says that a network gives what cannot be scored; "" where it does not."""
    if not outcome.problem:
        return ""
    where = f"{condition.corruption} {condition.severity}"
    return f"{name_of('', model)} gives {outcome.problem} of {where}"


def _accuracies(outcomes: Mapping[str, Predictions]) -> str:
    """For the line of progress: the accuracy, or between which those of several models lie."""
    found = sorted(outcome.correct.mean() for outcome in outcomes.values())
    if len(found) == 1:
        return f"accuracy {found[0]:.3f}"
    return f"{len(found)} models, accuracy {found[0]:.3f} to {found[-1]:.3f}"
