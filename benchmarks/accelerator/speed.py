"""Stage b, speed of training steps: dense, RigL, a mask update, and the same networks in PyTorch.

A network is a part, PyTorch's turn against it another (`speed_pytorch`), so that each is recorded
by itself; `speed_training` has the networks. Called by `command`.
"""

import functools
import statistics
import time
from collections.abc import Mapping

from benchmarks.accelerator import speed_counts, speed_pytorch
from benchmarks.accelerator.speed_training import (
    NETWORKS,
    TOY,
    UPDATE_FREQ,
    Network,
    milliseconds_text,
    missing,
    steps_of,
)
from benchmarks.accelerator.stages import Context, Outcome, Part

STAGE = "b"


# --- a network: dense, RigL, one and many steps a program


def _estimate(network: Network, context: Context) -> float:
    if context.options.tiny:
        return context.toy_s(f"speed_{network.name}")
    known = [
        context.figure(f"speed_{other.name}", "seconds", 0.0) / other.work for other in NETWORKS
    ]
    return network.work * (max(known) or 75.0) * 1.2


def _run(network: Network, context: Context) -> Outcome:
    import jax

    from benchmarks import timing

    began = time.monotonic()
    steps = steps_of(network, context)
    for method in ("dense", "rigl"):
        steps.run(method)
    programs, many = steps.dispatches("dense"), steps.many
    ms = timing.in_turns(
        {
            "dense": steps.milliseconds("dense", programs, many),
            "rigl": steps.milliseconds("rigl", programs, many),
            "dense_single": steps.milliseconds("dense", programs * many, 1),
            "rigl_single": steps.milliseconds("rigl", programs * many, 1),
        },
        steps.rounds,
        discard_first=False,
    )
    steps.check()
    rates = {name: 1e3 * steps.batch / statistics.median(times) for name, times in ms.items()}
    macs = speed_counts.macs(steps.config)
    reached = speed_counts.tflops(rates["dense"], macs, steps.devices)
    measured = context.figure("ceilings", "matmul_bf16_tflops", 0.0)
    published = speed_counts.published_peak(jax.devices()[0].device_kind)
    shares = speed_counts.shares(reached, measured, published)
    ratios = {
        "rigl_over_dense": timing.ratios(ms["rigl"], ms["dense"]),
        "dense_many_over_single": timing.ratios(ms["dense"], ms["dense_single"]),
        "rigl_many_over_single": timing.ratios(ms["rigl"], ms["rigl_single"]),
    }
    figures = {
        "batch": steps.batch,
        "timings": steps.rounds,
        "side": steps.side,
        "steps_in_one_program": many,
        "macs": macs,
        "training_flops_per_image": speed_counts.training_flops(macs),
        "ms_per_step": ms,
        **{f"{name}_images_per_s": rate for name, rate in rates.items()},
        "dense_tflops": reached,
        **shares,
        **ratios,
        "first_call_s": dict(steps.compile_s),
        # Not `compile_s`: later parts would expect it of their own, much smaller, programs.
        "longest_first_call_s": max(steps.compile_s.values()),
        "seconds": time.monotonic() - began,
    }
    programs_text = f"{many} steps in one program"
    rows = [
        [
            f"{steps.title}: dense training, {programs_text}",
            f"{timing.figure(rates['dense'])} images/s at {milliseconds_text(ms['dense'])}",
            f"{timing.figure(reached)} TFLOP/s on a device at {macs / 1e9:.3g} GMACs an image",
            _shares_text(shares),
        ],
        [
            f"{steps.name}: RigL's ordinary step, {programs_text}",
            f"{timing.figure(rates['rigl'])} images/s at {milliseconds_text(ms['rigl'])}",
            "the dense step",
            f"{timing.spread(ratios['rigl_over_dense'])} of the time",
        ],
    ]
    rows += [
        [
            f"{steps.name}: {method} step, {programs_text}",
            milliseconds_text(ms[name]),
            f"one dispatch a step: {milliseconds_text(ms[f'{name}_single'])}",
            f"{timing.spread(ratios[f'{name}_many_over_single'])} of the time",
        ]
        for name, method in (("dense", "dense"), ("rigl", "RigL"))
    ]
    return {"figures": figures, "rows": rows}


def _shares_text(shares: Mapping[str, float | None]) -> str:
    words = {
        "of_measured_peak": "of the measured bfloat16 peak",
        "of_published_peak": "of the published one",
    }
    found = [f"{100 * share:.3g} % {words[name]}" for name, share in shares.items() if share]
    return ", ".join(found) or "no peak is known"


# --- the update step


def _update_estimate(network: Network, context: Context) -> float:
    if context.options.tiny:
        return context.toy_s(f"update_{network.name}")
    return 10 + 1.2 * network.work * context.figure(
        f"speed_{network.name}", "longest_first_call_s", 30.0
    )


def _update_run(network: Network, context: Context) -> Outcome:
    asked, network = network, TOY if context.options.tiny else network
    import jax

    from benchmarks import timing

    steps = steps_of(network, context)
    run = steps.run("rigl")
    began = time.perf_counter()
    jax.block_until_ready(run.advance(1, update=True))
    compile_s = time.perf_counter() - began
    count = 1 if context.options.tiny else 5
    ms = timing.in_turns(
        {
            "ordinary": steps.milliseconds("rigl", count, 1),
            "update": steps.milliseconds("rigl", count, 1, update=True),
        },
        steps.rounds,
        discard_first=False,
    )
    steps.check()
    ratio = timing.ratios(ms["update"], ms["ordinary"])
    mean = speed_counts.amortised(ratio["median"], UPDATE_FREQ)
    instead = "" if network is asked else f"in place of {asked.title}, "
    difference = statistics.median(ms["update"]) - statistics.median(ms["ordinary"])
    return {
        "figures": {
            "timings": steps.rounds,
            "ms_per_step": ms,
            "update_over_ordinary": ratio,
            "update_minus_ordinary_ms": difference,
            "amortised": mean,
            "update_freq": UPDATE_FREQ,
            "first_call_s": compile_s,
        },
        "rows": [
            [
                f"{instead}{steps.title}: RigL step that updates the masks, compiled",
                milliseconds_text(ms["update"]),
                f"RigL's ordinary step, one dispatch: {milliseconds_text(ms['ordinary'])}",
                f"{timing.spread(ratio)} of the time; an update every {UPDATE_FREQ} steps changes "
                f"the time of all by {100 * (mean - 1):+.2g} %",
            ]
        ],
        "notes": [
            "an update step takes no optimizer step (update_timing `replace`), so it may be the "
            "quicker one"
        ],
    }


def _parts() -> list[Part]:
    found = []
    for network in NETWORKS:
        bound = functools.partial
        found.append(
            Part(
                f"speed_{network.name}",
                STAGE,
                f"training steps of {network.title}, dense and RigL",
                bound(_estimate, network),
                bound(_run, network),
                missing=bound(missing, network),
            )
        )
        if network.name == "resnet50":
            found.append(
                Part(
                    f"update_{network.name}",
                    STAGE,
                    f"mask update of {network.title}",
                    bound(_update_estimate, network),
                    bound(_update_run, network),
                )
            )
        found.append(
            Part(
                f"torch_{network.name}",
                STAGE,
                f"training steps of {network.title}, ours and PyTorch's",
                bound(speed_pytorch.estimate, network),
                bound(speed_pytorch.run, network),
                settings=speed_pytorch.settings,
                missing=bound(missing, network),
            )
        )
    return found


PARTS = tuple(_parts())
