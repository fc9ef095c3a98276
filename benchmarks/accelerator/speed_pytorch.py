"""Stage b, PyTorch: our dense step against that of the same network in PyTorch, in turns.

What PyTorch cannot do here is told with its reason. Called by `speed`.
"""

import functools
import importlib.metadata
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.accelerator.records import one_line
from benchmarks.accelerator.speed_training import (
    LEARNING_RATE,
    NETWORKS,
    WEIGHT_DECAY,
    Network,
    Steps,
    milliseconds_text,
    steps_of,
    title,
)
from benchmarks.accelerator.stages import Context, Outcome

FORMS = {  # PyTorch's ways, the quick one first
    "eager": "PyTorch, eager, channels_last",
    "compiled": "PyTorch, torch.compile, channels_last",
}
COMPILED_ON_CPU = False


def pytorch() -> Any:
    """The PyTorch networks; a reason as text where they would be no rival on this device."""
    import jax

    try:
        from benchmarks import pytorch_networks
    except ImportError as error:
        return f"no PyTorch here ({one_line(error)})"
    import torch

    ours, theirs = jax.default_backend(), "gpu" if torch.cuda.is_available() else "cpu"
    if ours != theirs:
        return f"PyTorch would run on the {theirs}, JAX runs on the {ours}"
    if jax.device_count() > 1:
        return f"PyTorch's step takes one device, ours {jax.device_count()}"
    return pytorch_networks


def estimate(network: Network, context: Context) -> float:
    """Seconds of `run`."""
    if context.options.tiny:
        return context.toy_s(f"torch_{network.name}")
    known = [
        context.figure(f"torch_{other.name}", "seconds", 0.0) / other.work for other in NETWORKS
    ]
    return 5 + network.work * (max(known) * 1.2 or 50.0)


def run(network: Network, context: Context) -> Outcome:
    """Our dense step and PyTorch's, in turns."""
    from benchmarks import timing

    began = time.monotonic()
    networks = pytorch()
    if isinstance(networks, str):
        rows = [[f"{title(network, context)}: our dense step", "missing", "PyTorch", networks]]
        return {"figures": {"missing": networks}, "rows": rows}
    steps = steps_of(network, context)
    programs = steps.dispatches("dense")
    count = programs * steps.many
    rivals, first_s, missing = _rivals(networks, steps, context)
    measures = {"ours": steps.milliseconds("dense", programs, steps.many)}
    for form, advance in rivals.items():
        take = functools.partial(advance, count)
        measures[form] = lambda take=take: 1e3 * timing.seconds(take) / count  # type: ignore[misc]
    ms = timing.in_turns(measures, steps.rounds, discard_first=False)
    steps.check()
    rivals.clear()
    _freepytorch()
    ratios = {form: timing.ratios(ms["ours"], ms[form]) for form in ms if form != "ours"}
    what = f"{steps.title}: our dense step, {steps.many} in one program"
    rows = []
    for form, rival in FORMS.items():
        if form in missing:
            rows.append([what, "missing", rival, missing[form]])
        else:
            text = f"{timing.spread(ratios[form])} of the time"
            rows.append(
                [
                    what,
                    milliseconds_text(ms["ours"]),
                    f"{rival}: {milliseconds_text(ms[form])}",
                    text,
                ]
            )
    figures = {
        "batch": steps.batch,
        "timings": steps.rounds,
        "ms_per_step": ms,
        "ours_over": ratios,
        "missing": missing,
        "first_calls_s": first_s,
        "seconds": time.monotonic() - began,
    }
    return {"figures": figures, "rows": rows}


def _rivals(
    networks: Any, steps: Steps, context: Context
) -> tuple[dict[str, Callable[[int], None]], dict[str, float], dict[str, str]]:
    """PyTorch's trainings, warm: (form -> advance, form -> seconds so far, form -> why not)."""
    import jax
    import numpy as np

    options = steps.network.toy[1] if context.options.tiny and steps.network.toy else {}
    ours = sum(leaf.size for leaf in jax.tree.leaves(steps.run("dense").state.params))
    theirs = networks.parameter_count(steps.network.name, steps.classes, **options)
    if ours != theirs:
        raise ValueError(f"{ours:,} weights against PyTorch's {theirs:,}")
    generator = np.random.default_rng(steps.seed)
    shape = (steps.batch, steps.side, steps.side, 3)
    images = generator.standard_normal(shape, np.float32)
    labels = generator.integers(0, steps.classes, steps.batch)
    rivals, first_s, missing = {}, {}, {}
    for form in FORMS:
        if form == "compiled" and jax.default_backend() == "cpu" and not COMPILED_ON_CPU:
            missing[form] = "left out on a CPU, where it takes minutes"
            continue
        began = time.perf_counter()
        try:
            advance = networks.training(
                *(steps.network.name, images, labels, steps.classes),
                learning_rate=LEARNING_RATE,
                weight_decay=WEIGHT_DECAY,
                channels_last=True,
                bfloat16=True,
                compiled=form == "compiled",
                **options,
            )
            advance(3)
        except Exception as error:  # no compiler, no memory: told, and the other form goes on
            missing[form] = one_line(error)
            continue
        first_s[form] = time.perf_counter() - began
        rivals[form] = advance
    return rivals, first_s, missing


def _freepytorch() -> None:
    """Gives PyTorch's memory back, which JAX could not use otherwise."""
    import gc
    import sys

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch._dynamo.reset()
        torch.cuda.empty_cache()


def settings(context: Context) -> Mapping[str, Any]:
    """PyTorch's version."""
    try:
        return {"torch": importlib.metadata.version("torch")}
    except importlib.metadata.PackageNotFoundError:
        return {"torch": ""}
