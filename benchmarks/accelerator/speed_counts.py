"""The arithmetic of stage b: operations of a training step, peaks of devices, shares of them.

Called by `speed`.
"""

from collections.abc import Mapping
from typing import Any

# Dense bfloat16 products with float32 sums, TFLOP/s of one device as JAX counts devices, from the
# makers' data sheets (without structured sparsity; SXM or HBM3 where a name tells no form). The
# first that the device's name holds counts.
PUBLISHED_BF16 = (
    ("H200 NVL", 835.0),
    ("H200", 989.0),
    ("H100 PCIe", 756.0),
    ("H100 NVL", 835.0),
    ("H100", 989.0),
    ("A100", 312.0),
    ("L40S", 362.0),
    ("L4", 121.0),
    ("TPU v6 lite", 918.0),
    ("TPU v5 lite", 197.0),
    ("TPU v5", 459.0),
    ("TPU v4", 275.0),
)


def published_peak(kind: str) -> float | None:
    """The published bfloat16 peak of a device in TFLOP/s, None where it is not listed here.

    Args:
      kind: its name, as `jax.Device.device_kind` has it.
    """
    return next((peak for name, peak in PUBLISHED_BF16 if name.lower() in kind.lower()), None)


def macs(config: Mapping[str, Any]) -> int:
    """Multiply-adds of a dense forward pass for one image.

    Of convolutions, linear layers and attention, as `dst_jax.analysis.flops` counts them.

    Args:
      config: as `dst_jax.config.resolve` returns it.
    """
    from dst_jax import data
    from dst_jax.analysis import flops
    from dst_jax.training import build

    shape = data.get(config["data"]["name"]).image_shape
    return sum(cost.macs for cost in flops.layer_costs(build.model(config), shape))


def training_flops(macs: int) -> int:
    """Operations of a training step for one image: two a multiply-add, and three passes.

    Forward, gradient of the activations, gradient of the weights. Masked weights are multiplied
    like any others, so this is what a sparse step does as well.
    """
    return 2 * 3 * macs


def tflops(images_per_second: float, macs: int, devices: int = 1) -> float:
    """TFLOP/s of training on each device."""
    return images_per_second * training_flops(macs) / devices / 1e12


def shares(rate: float, measured: float, published: float | None) -> dict[str, float | None]:
    """What share of the measured and of the published peak a rate is; None: no such peak.

    Args:
      rate: TFLOP/s on one device.
      measured: of matrix products on it, TFLOP/s; 0: not measured.
      published: TFLOP/s.
    """
    return {
        "of_measured_peak": rate / measured if measured else None,
        "of_published_peak": rate / published if published else None,
    }


def amortised(update_over_ordinary: float, frequency: int) -> float:
    """Mean time of a step over an ordinary one where one of `frequency` steps updates masks."""
    return (frequency - 1 + update_over_ordinary) / frequency
