"""Stage a, ceilings: what the device gives at best, for the other figures to be held against.

Products of bfloat16 matrices and copies inside the device's memory, each many times in one program
so that the host's part does not count, and transfers from the host. Called by `command`.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.accelerator.stages import Context, Outcome, Part

ROUNDS = 5  # figures of each; the median counts


def _estimate(context: Context) -> float:
    return context.toy_s("ceilings") if context.options.tiny else 40.0


def _run(context: Context) -> Outcome:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from benchmarks import timing

    tiny = context.options.tiny
    size, products = (512, 4) if tiny else (8192, 40)
    megabytes, copies = (16, 4) if tiny else (2048, 40)
    compile_s: list[float] = []

    def timed(program: Any, *arguments: Any) -> list[float]:
        began = time.perf_counter()
        jax.block_until_ready(program(*arguments))
        compile_s.append(time.perf_counter() - began)
        return _seconds(lambda: program(*arguments))

    figures: dict[str, Any] = {"matrix": size, "copy_bytes": megabytes << 20}
    for name, dtype in (("bf16", "bfloat16"), ("fp32", "float32")):
        left = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))
        right = left / size**0.5

        def multiply(left: Any, right: Any) -> Any:
            return jax.lax.fori_loop(0, products, lambda _, x: x @ right, left)

        seconds = timed(jax.jit(multiply), left, right)
        rates = [2 * size**3 * products / s / 1e12 for s in seconds]
        figures[f"matmul_{name}_tflops"] = statistics.median(rates)
        figures[f"matmul_{name}_tflops_all"] = rates
        del left, right

    array = jnp.zeros(((megabytes << 20) // 4,), jnp.float32)

    def copy(array: Any) -> Any:
        # Each pass reads and writes the array once; it depends on the last, so none is left out.
        return jax.lax.fori_loop(0, copies, lambda i, x: x + i.astype(x.dtype), array)

    seconds = timed(jax.jit(copy), array)
    rates = [2 * array.nbytes * copies / s / 1e9 for s in seconds]
    figures |= {"copy_gb_s": statistics.median(rates), "copy_gb_s_all": rates}
    host = np.ones(array.nbytes // (1 if tiny else 8), np.uint8)
    rates = [host.nbytes / s / 1e9 for s in _seconds(lambda: jax.device_put(host))]
    figures |= {"host_to_device_gb_s": statistics.median(rates), "host_to_device_gb_s_all": rates}
    figures |= {"compile_s": max(compile_s), "timings": ROUNDS}
    ratio = figures["matmul_bf16_tflops"] / figures["matmul_fp32_tflops"]
    spread = {name: timing.median(found) for name, found in figures.items() if name[-4:] == "_all"}
    return {
        "figures": figures,
        "rows": [
            [
                f"product of {size} x {size} matrices, bfloat16",
                f"{spread['matmul_bf16_tflops_all']} TFLOP/s",
                f"float32 (JAX's default precision): {spread['matmul_fp32_tflops_all']} TFLOP/s",
                f"bfloat16 over float32: {timing.figure(ratio)}",
            ],
            [
                f"pass over {megabytes} MiB in device memory, read and written",
                f"{spread['copy_gb_s_all']} GB/s",
                f"host to device: {spread['host_to_device_gb_s_all']} GB/s",
                "",
            ],
        ],
    }


def _seconds(run: Callable[[], Any]) -> list[float]:
    """Wall seconds of each of `ROUNDS` calls, until the result is there."""
    import jax

    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        jax.block_until_ready(run())
        found.append(time.perf_counter() - began)
    return found


PARTS = (Part("ceilings", "a", "speed of matrix products, copies and transfers", _estimate, _run),)
