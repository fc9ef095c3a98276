"""What PyTorch networks call our layers: a function for each way in which one is named.

torchvision's names, timm's, and those of the published code of sparse training on small images. How
tensors become leaves is in `torch_weights`, which calls this.
"""

import re
from collections.abc import Callable
from typing import Any

from dst_jax.errors import UserError

Naming = Callable[[Any, str], str]  # (module, our layer) -> PyTorch's name of it


def _resnet(module: Any, layer: str) -> str:
    del module
    for ours, theirs in (
        (r"layer(\d+)_(\d+)", r"layer\1.\2"),
        ("shortcut_conv", "downsample.0"),
        ("shortcut_bn", "downsample.1"),
        ("classifier", "fc"),
        ("/", "."),
    ):
        layer = re.sub(ours, theirs, layer)
    return layer


_VGG_TAIL = {"fc1": 0, "bn_fc1": 2, "fc2": 3, "bn_fc2": 5, "classifier": 6}


def _vgg(module: Any, layer: str) -> str:
    if layer in _VGG_TAIL:
        return f"classifier.{_VGG_TAIL[layer]}"
    kind, stage, index = re.fullmatch(r"(conv|bn)(\d+)_(\d+)", layer).groups()  # type: ignore[union-attr]
    # Three entries for a convolution (itself, BatchNorm, ReLU) and one for each maximum before it.
    before = sum(module.stage_sizes[: int(stage) - 1]) + int(index) - 1
    return f"features.{3 * before + int(stage) - 1 + (kind == 'bn')}"


def _stage_of(module: Any, block: int) -> tuple[int, int]:
    """The stage of an EfficientNet's block and its place there, both from 0."""
    for stage, row in enumerate(module.stages):
        if block < row.blocks:
            return stage, block
        block -= row.blocks
    raise ValueError(block)


def _efficientnet_torchvision(module: Any, layer: str) -> str:
    head = f"features.{len(module.stages) + 1}"
    ends = {
        **{"stem_conv": "features.0.0", "stem_bn": "features.0.1"},
        **{"head_conv": f"{head}.0", "head_bn": f"{head}.1", "classifier": "classifier.1"},
    }
    if layer in ends:
        return ends[layer]
    block, part = re.fullmatch(r"blocks_(\d+)/(\w+)", layer).groups()  # type: ignore[union-attr]
    stage, place = _stage_of(module, int(block))
    expands = module.stages[stage].expand > 1
    parts = ("expand", "depthwise", "se", "project")
    name, _, kind = part.partition("_")
    index = parts.index(name) - (not expands)
    inner = {"conv": "0", "bn": "1", "reduce": "fc1", "expand": "fc2"}[kind]
    return f"features.{stage + 1}.{place}.block.{index}.{inner}"


def _efficientnet_timm(module: Any, layer: str) -> str:
    ends = {
        **{"stem_conv": "conv_stem", "stem_bn": "bn1", "head_conv": "conv_head"},
        **{"head_bn": "bn2", "classifier": "classifier"},
    }
    if layer in ends:
        return ends[layer]
    block, part = re.fullmatch(r"blocks_(\d+)/(\w+)", layer).groups()  # type: ignore[union-attr]
    stage, place = _stage_of(module, int(block))
    parts = {"depthwise_conv": "conv_dw", "se_reduce": "se.conv_reduce"}
    parts["se_expand"] = "se.conv_expand"
    if module.stages[stage].expand > 1:
        parts |= {"expand_conv": "conv_pw", "project_conv": "conv_pwl"}
        parts |= {"expand_bn": "bn1", "depthwise_bn": "bn2", "project_bn": "bn3"}
    else:
        parts |= {"project_conv": "conv_pw", "depthwise_bn": "bn1", "project_bn": "bn2"}
    return f"blocks.{stage}.{place}.{parts[part]}"


def _deit(module: Any, layer: str) -> str:
    del module
    ends = {
        **{"patch_embed": "patch_embed.proj", "classifier": "head"},
        "dist_classifier": "head_dist",
    }
    return ends.get(layer) or re.sub(r"blocks_(\d+)", r"blocks.\1", layer).replace("/", ".")


# Ours -> whose network it is, and the ways its layers are named; the first is what we write.
NETWORKS: dict[str, tuple[str, tuple[Naming, ...]]] = {
    "resnet18": ("a ResNet-18 with a 3x3 stem", (_resnet,)),
    "resnet34": ("a ResNet-34 with a 3x3 stem", (_resnet,)),
    "resnet18_imagenet": ("torchvision's resnet18", (_resnet,)),
    "resnet34_imagenet": ("torchvision's resnet34", (_resnet,)),
    "resnet50": ("torchvision's resnet50", (_resnet,)),
    "vgg16": ("a VGG-16 with BatchNorm and 512-512 linear units", (_vgg,)),
    "vgg16_imagenet": ("torchvision's vgg16_bn", (_vgg,)),
    "efficientnet_b0": (
        "torchvision's or timm's efficientnet_b0",
        (_efficientnet_torchvision, _efficientnet_timm),
    ),
    "deit_small": ("timm's deit_small_patch16_224", (_deit,)),
    "deit_base": ("timm's deit_base_patch16_224", (_deit,)),
}
NAMES = tuple(NETWORKS)
# Other names that the same layers have: of wrapped networks, and in code for small images.
SYNONYMS = ((r"^(module|_orig_mod|model)\.", ""),)
RESNET_SYNONYMS = ((r"\.shortcut\.(\d)", r".downsample.\1"), (r"^linear\.", "fc."))
# Where a network is taken for its sister: what the text of the error adds.
MEANT = {
    "resnet18": "torchvision's resnet18 is resnet18_imagenet here",
    "resnet34": "torchvision's resnet34 is resnet34_imagenet here",
    "vgg16": "torchvision's vgg16_bn is vgg16_imagenet here",
}


def check_name(name: str, field: str) -> None:
    """Raises UserError unless weights of PyTorch can become those of a model, or the reverse."""
    if name not in NETWORKS:
        raise UserError(field, name, f"one of {', '.join(NAMES)}, whose PyTorch names are known")
