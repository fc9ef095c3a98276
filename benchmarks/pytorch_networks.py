"""The networks of the benchmarks in PyTorch, and their training step: the rivals of ours.

Written from the papers, with the parameters that ours have (the tests count them): ResNets (He et
al. 2016), VGG-16 with BatchNorm (Simonyan and Zisserman 2015), DeiT (Touvron et al. 2021). The only
file of the benchmarks that imports PyTorch; called by `train_step` and `accelerator`.
"""

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import nn

_VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def _conv(before: int, after: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)


class Block(nn.Module):
    """Convolutions with BatchNorm and a shortcut: two of 3x3, or 1x1, 3x3, 1x1 ("bottleneck").

    Where the shape changes, the shortcut is a 1x1 convolution ("projection"), or subsamples and
    pads channels with zeros.
    """

    def __init__(self, before: int, width: int, stride: int, bottleneck: bool, projection: bool):
        super().__init__()
        if bottleneck:
            shapes = [(before, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1)]
        else:
            shapes = [(before, width, 3, stride), (width, width, 3, 1)]
        self.after = shapes[-1][1]
        layers: list[nn.Module] = []
        for shape in shapes:
            layers += [_conv(*shape), nn.BatchNorm2d(shape[1]), nn.ReLU(inplace=True)]
        self.residual = nn.Sequential(*layers[:-1])
        self.stride, self.missing = stride, self.after - before
        self.shortcut: nn.Module | None = None
        if projection and (stride > 1 or self.missing):
            conv = _conv(before, self.after, 1, stride)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(self.after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, H, W] to [B, C', H / stride, W / stride]."""
        y = self.residual(x)
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.missing:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.missing))
        return F.relu(y + x, inplace=True)


class ResNet(nn.Module):
    """Stem, stages of blocks, mean over positions, classifier; `small`: a 3x3 stem, no pooling."""

    def __init__(
        self,
        sizes: tuple[int, ...],
        num_classes: int,
        width: int = 64,
        bottleneck: bool = False,
        projection: bool = True,
        small: bool = True,
    ):
        super().__init__()
        stem = _conv(3, width, 3) if small else _conv(3, width, 7, 2)
        layers: list[nn.Module] = [stem, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        if not small:
            layers.append(nn.MaxPool2d(3, 2, padding=1))
        before = width
        for stage, count in enumerate(sizes):
            for index in range(count):
                stride = 2 if stage and not index else 1
                block = Block(before, width * 2**stage, stride, bottleneck, projection)
                layers.append(block)
                before = block.after
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(before, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images [B, 3, H, W] to logits [B, num_classes]."""
        return self.classifier(self.features(images).mean((2, 3)))


def vgg16(num_classes: int) -> nn.Module:
    """Configuration D with BatchNorm and two linear layers of 512, for images [B, 3, 32, 32]."""
    layers: list[nn.Module] = []
    before = 3
    for width, count in _VGG16:
        for _ in range(count):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    for _ in range(2):
        layers += [nn.Linear(512, 512), nn.ReLU(), nn.BatchNorm1d(512)]
    return nn.Sequential(*layers, nn.Linear(512, num_classes))


class TransformerBlock(nn.Module):
    """Attention and MLP, each behind a LayerNorm and beside a shortcut."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, N, D] to [B, N, D]."""
        batch, count, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, count, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(query, key, value)  # the fastest kernel that fits
        x = x + self.proj(y.transpose(1, 2).reshape(batch, count, width))
        return x + self.mlp(self.norm2(x))


class DeiT(nn.Module):
    """Vision transformer with a class token, for images [B, 3, side, side]."""

    def __init__(
        self, num_classes: int, width: int, side: int = 224, depth: int = 12, patch: int = 16
    ):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, (side // patch) ** 2 + 1, width))
        blocks = (TransformerBlock(width, max(1, width // 64)) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width, 1e-6)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images [B, 3, H, W] to logits [B, num_classes]."""
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.position
        return self.classifier(self.norm(self.blocks(x))[:, 0])


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "resnet20": functools.partial(ResNet, (3, 3, 3), width=16, projection=False),
    "resnet18": functools.partial(ResNet, (2, 2, 2, 2)),
    "resnet34": functools.partial(ResNet, (3, 4, 6, 3)),
    "resnet50": functools.partial(ResNet, (3, 4, 6, 3), bottleneck=True, small=False),
    "vgg16": vgg16,
    "deit_small": functools.partial(DeiT, width=384),
    "deit_base": functools.partial(DeiT, width=768),
}


def parameter_count(name: str, num_classes: int, **options: Any) -> int:
    """Weights of a network; ours must have as many. `options`: see `training`."""
    with torch.device("meta"):  # shapes only
        network: Any = NETWORKS[name](num_classes, **options)
    return sum(parameter.numel() for parameter in network.parameters())


def training(
    name: str,
    images: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
    channels_last: bool = True,
    bfloat16: bool = False,
    compiled: bool = False,
    **options: Any,
) -> Callable[[int], None]:
    """A training that sees one batch again and again, from memory.

    Cross-entropy, SGD with Nesterov momentum 0.9, weight decay on the weights of convolutions and
    linear layers only, as in `dst_jax`.

    Args:
      name: a network of `NETWORKS`.
      images: normalised, float32 [B, H, W, 3].
      labels: int [B].
      num_classes: number of logits.
      learning_rate: of every step.
      weight_decay: added to the gradient of those weights.
      channels_last: PyTorch's memory format for convolutions; else its default, NCHW.
      bfloat16: whether the forward pass is under autocast to bfloat16.
      compiled: whether the network goes through `torch.compile`.
      **options: of the network, such as `width`, where it is not the published one.

    Returns:
      `advance(steps)`, which takes that many steps, on a GPU if there is one, and waits for them.
    """
    torch.set_num_threads(os.cpu_count() or 1)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high" if bfloat16 else "highest")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network: Any = NETWORKS[name](num_classes, **options)
    model = network.to(device, memory_format=layout).train()
    batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    batch = batch.to(device).contiguous(memory_format=layout)
    targets = torch.from_numpy(labels.astype(np.int64)).to(device)
    decayed = [parameter for parameter in model.parameters() if parameter.ndim in (2, 4)]
    others = [parameter for parameter in model.parameters() if parameter.ndim not in (2, 4)]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others},
    ]
    optimizer = torch.optim.SGD(groups, lr=learning_rate, momentum=0.9, nesterov=True)
    if compiled:
        model = torch.compile(model)

    def advance(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16) if bfloat16 else contextlib.nullcontext():
                loss = F.cross_entropy(model(batch), targets)
            loss.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return advance
