"""Vision models in Flax linen: a registry, which leaves may be masked, weights drawn and read.

One file per family, imported when one of its models is asked for: importing this package is cheap.
A new model is one factory in a family's file and one entry in `MODELS`, or outside of the package
`register_model`; its classifier layer is called `classifier` and its logits are float32. Called by
`training`, `analysis` and notebooks.
"""

import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dst_jax import registration
from dst_jax.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import flax.linen as nn
    import numpy as np


@dataclasses.dataclass(frozen=True)
class Entry:
    """What the registry knows of a model.

    Attributes:
      file: file of this package that has a factory of the model's name; "" with `factory`.
      rule: where the choice of maskable leaves comes from.
      dense: regular expression over parameter paths; kernels that match are never masked.
      factory: the factory of a model that a user registered.
    """

    file: str
    rule: str
    dense: str = ""
    factory: Callable[..., "nn.Module"] | None = None


# Every kernel of a convolution or linear layer, the first and the classifier too.
_ALL_KERNELS = (
    "GraNet and ITOP (Liu et al. 2021), published code: all weights but BatchNorm and biases"
)

MODELS: dict[str, Entry] = {
    "mlp": Entry("mlp", _ALL_KERNELS),
    "vgg16": Entry("vgg", _ALL_KERNELS),
    "vgg16_imagenet": Entry("vgg", _ALL_KERNELS),
    "resnet20": Entry("resnet", _ALL_KERNELS),
    "resnet18": Entry("resnet", _ALL_KERNELS),
    "resnet34": Entry("resnet", _ALL_KERNELS),
    "resnet18_imagenet": Entry("resnet", _ALL_KERNELS),
    "resnet34_imagenet": Entry("resnet", _ALL_KERNELS),
    "resnet50": Entry("resnet", _ALL_KERNELS),
    "wide_resnet22_2": Entry("wide_resnet", _ALL_KERNELS),
    # Together 3.5 % of the weights; squeeze and excitation, 12 %, is maskable as any 1x1 kernel.
    "efficientnet_b0": Entry(
        "efficientnet",
        "RigL on MobileNet (Evci et al. 2020): first and depthwise convolutions stay dense",
        dense=r"^stem_conv/|/depthwise_conv/",
    ),
    # Position embeddings and tokens are no kernels, so they need no exception.
    "deit_small": Entry(
        "deit", "SViTE (Chen et al. 2021), published code: all 2-D and 4-D weights"
    ),
    "deit_base": Entry("deit", "SViTE (Chen et al. 2021), published code: all 2-D and 4-D weights"),
    "resnet3d50": Entry("resnet3d", _ALL_KERNELS),
    "i3d_r50": Entry("resnet3d", _ALL_KERNELS),
}

REGISTERED_IN: dict[str, str] = {}  # name -> file, of the models that users registered


def register_model(name: str, factory: Callable[..., "nn.Module"], *, dense: str = "") -> None:
    """Makes a model of yours available to configs, as `model.name`.

    Args:
      name: its name: letters, digits, `_`, `.` and `-`.
      factory: `(num_classes, dtype, **options)` -> linen module, a module class or a function. The
        module is called with images float [B, H, W, C] and `train`, a bool, and returns logits
        float32 [B, num_classes]. It keeps statistics of BatchNorm in the collection `batch_stats`
        and draws dropout from the stream `dropout`. Its layers keep initialisers in attributes, as
        Flax's do. Options are those of `config.model` that it has parameters for (`width`, ...).
      dense: regular expression over parameter paths such as `Conv_0/kernel`; kernels that match
        are never masked. All other leaves called `kernel` with more than one dimension may be.

    Raises:
      UserError: the name is taken by a model of dst_jax or by another file.
    """
    registration.claim("model", name, MODELS, REGISTERED_IN)
    rule = f"all kernels{f' but those that match {dense}' if dense else ''}, as it was registered"
    MODELS[name] = Entry("", rule, dense, factory)


def _factory(name: str) -> Callable[..., "nn.Module"]:
    if name not in MODELS:
        raise UserError("model.name", name, f"one of {', '.join(MODELS)}")
    return MODELS[name].factory or getattr(
        importlib.import_module(f"{__name__}.{MODELS[name].file}"), name
    )


def options_of(name: str) -> list[str]:
    """The options of a model: what its factory takes besides the classes and the dtype.

    Raises:
      UserError: if the name is unknown.
    """
    return list(inspect.signature(_factory(name)).parameters)[2:]


def create(name: str, num_classes: int, dtype: Any = "float32", **options: Any) -> "nn.Module":
    """Builds a model.

    The module maps images float [B, H, W, C] (clips [B, T, H, W, C] for `resnet3d50` and `i3d_r50`)
    to logits float32 [B, num_classes]: `module.apply(variables, images, train=True,
    mutable=["batch_stats"], rngs={"dropout": key})`. Parameters and BatchNorm statistics are
    float32 whatever `dtype` is.

    Args:
      name: a name in `MODELS`.
      num_classes: number of logits, >= 1.
      dtype: dtype of the computation, such as "float32" or "bfloat16".
      **options: keyword arguments of the model's factory.

    Returns:
      The linen module, without parameters.

    Raises:
      UserError: if the name or an option is unknown.
    """
    factory, known = _factory(name), options_of(name)
    for option in options:
        if option not in known:
            raise UserError(
                "model options", option, f"options of {name}: {', '.join(known) or 'none'}"
            )
    return factory(num_classes, dtype, **options)


def maskable(name: str, exclude: str = "") -> Callable[[tuple[str, ...], Any], bool]:
    """The rule of which leaves of a model may be masked.

    Maskable is every leaf called `kernel` with more than one dimension, minus what the model's
    entry in `MODELS` keeps dense: no bias, no normalisation, no position embedding, no token.

    Args:
      name: one of `MODELS`.
      exclude: regular expression over parameter paths such as `layer1_0/conv1/kernel`; what matches
        stays dense as well.

    Returns:
      (path, leaf) -> whether the leaf is maskable, as updaters take it for `filter_fn`.
    """
    patterns = [re.compile(pattern) for pattern in (MODELS[name].dense, exclude) if pattern]

    def rule(path: tuple[str, ...], leaf: Any) -> bool:
        text = "/".join(map(str, path))
        is_kernel = str(path[-1]) == "kernel" and len(leaf.shape) > 1
        return is_kernel and not any(pattern.search(text) for pattern in patterns)

    return rule


def init(
    module: "nn.Module", seed: int, image_shape: tuple[int, ...]
) -> dict[str, dict[str, "np.ndarray"]]:
    """Draws all variables of a module on the host; see `initialization.init`."""
    from dst_jax.models import initialization

    return initialization.init(module, seed, image_shape)


def load_torch(
    name: str,
    source: "str | Path | Mapping[str, Any]",
    *,
    bn_epsilon: float | None = None,
    **options: Any,
) -> dict[str, Any]:
    """The variables of one of our networks from the weights of a PyTorch network.

    Args:
      name: resnet18_imagenet, resnet34_imagenet, resnet50, vgg16_imagenet (torchvision's names of
        layers, of its `vgg16_bn` for the last); efficientnet_b0 (torchvision's or timm's);
        deit_small, deit_base (timm's); resnet18, resnet34 with a 3x3 stem, vgg16 with two linear
        layers of 512 (the names of the published code for small images).
      source: the network's state dict, of tensors or NumPy arrays, or a file `*.safetensors` of it.
      bn_epsilon: what the PyTorch network adds to the variance in BatchNorm; None: what the file
        says, else PyTorch's 1e-5. Where ours adds another (EfficientNet, 1e-3 by default), the
        scales are changed so that the logits are the same in evaluation.
      **options: of the model, as for `create`, where they are not the defaults.

    Returns:
      {"params": ..., "batch_stats": ...} for `create(name, num_classes, **options).apply`, nested
      dicts of NumPy float32 arrays; `batch_stats` only where the network has BatchNorm. The number
      of classes is that of the weights.

    Raises:
      UserError: the file is a pickle or damaged, or a tensor is missing, unexpected or of another
        shape; the text names it.
    """
    from dst_jax.models import torch_weights

    return torch_weights.load(name, source, bn_epsilon, options)


def load_weights(path: "str | Path") -> dict[str, Any]:
    """Reads a file that `run.export` wrote, with format safetensors or compact.

    Returns:
      {"params", "batch_stats", "masks"}: nested dicts of NumPy arrays; masks, uint8 0/1, are {} in
      a file of format safetensors, which does not hold them.

    Raises:
      UserError: it is no such file.
    """
    from dst_jax.models import weight_files

    return weight_files.load(path)
