"""Vision models in Flax linen: a registry of names, and a fast initialisation.

One file a family, imported when one of its models is asked for: importing this package is cheap.
A new model is one factory in a family's file and one line in `MODELS`; its classifier layer is
called `classifier` and its logits are float32. Called by train, analysis and notebooks.
"""

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from dst_jax.errors import UserError

if TYPE_CHECKING:
    import flax.linen as nn
    import numpy as np

# Name of a model -> file of this package that has a factory of that name.
MODELS: dict[str, str] = {
    "mlp": "mlp",
    "resnet20": "resnet",
    "resnet34": "resnet",
    "resnet50": "resnet",
}


def create(name: str, num_classes: int, dtype: Any = "float32", **options: Any) -> "nn.Module":
    """Builds a model.

    The module maps images float [B, H, W, C] to logits float32 [B, num_classes]:
    `module.apply(variables, images, train=True, mutable=["batch_stats"])`. Parameters and
    BatchNorm statistics are float32 whatever `dtype` is.

    Args:
      name: one of `MODELS`.
      num_classes: number of logits, >= 1.
      dtype: dtype of the computation, such as "float32" or "bfloat16".
      **options: keyword arguments of the factory called `name` in the family's file.

    Returns:
      The linen module, without parameters.

    Raises:
      UserError: if the name or an option is unknown.
    """
    if name not in MODELS:
        raise UserError("model.name", name, f"one of {', '.join(MODELS)}")
    factory = getattr(importlib.import_module(f"{__name__}.{MODELS[name]}"), name)
    known = list(inspect.signature(factory).parameters)[2:]
    for option in options:
        if option not in known:
            raise UserError("model options", option, f"options of {name}: {', '.join(known)}")
    return factory(num_classes, dtype, **options)


def init(
    module: "nn.Module", seed: int, image_shape: tuple[int, ...]
) -> dict[str, dict[str, "np.ndarray"]]:
    """Draws all variables of a module on the host; see `initialization.init`."""
    from dst_jax.models import initialization

    return initialization.init(module, seed, image_shape)
