"""ResNet-20 and its training step in PyTorch: the rival of ours in `benchmarks.train_step`.

He et al. 2016, section 4.2, with identity shortcuts (their option A). As in `dst_jax`:
cross-entropy, SGD with Nesterov momentum, weight decay on the weights of convolutions and of the
classifier only.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import nn


def _conv(before: int, after: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, padding=1, bias=False)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut that subsamples and pads channels with zeros."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = _conv(before, after, stride), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = _conv(after, after, 1), nn.BatchNorm2d(after)
        self.stride, self.missing = stride, after - before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, H, W] to [B, C', H / stride, W / stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.missing:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.missing))
        return F.relu(y + x)


class ResNet20(nn.Module):
    """Stem, three stages of three blocks of 16, 32 and 64 channels, mean, classifier."""

    def __init__(self, num_classes: int = 10):
        super().__init__()
        self.conv1, self.bn1 = _conv(3, 16, 1), nn.BatchNorm2d(16)
        shapes = [(16, 16, 1)] * 3 + [(16, 32, 2), (32, 32, 1), (32, 32, 1)]
        shapes += [(32, 64, 2), (64, 64, 1), (64, 64, 1)]
        self.blocks = nn.Sequential(*(Block(*shape) for shape in shapes))
        self.classifier = nn.Linear(64, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images [B, 3, 32, 32] to logits [B, num_classes]."""
        x = F.relu(self.bn1(self.conv1(images)))
        return self.classifier(self.blocks(x).mean((2, 3)))


def parameter_count() -> int:
    """Weights of the network; ours must have as many."""
    return sum(parameter.numel() for parameter in ResNet20().parameters())


def training(
    images: np.ndarray, labels: np.ndarray, *, learning_rate: float, weight_decay: float
) -> Callable[[int], None]:
    """A training that sees one batch again and again, from memory.

    Args:
      images: normalised, float32 [B, H, W, 3].
      labels: int [B].
      learning_rate: of every step.
      weight_decay: added to the gradient of the weights of convolutions and classifier.

    Returns:
      `advance(steps)`, which takes that many steps, on a GPU if there is one.
    """
    torch.set_num_threads(os.cpu_count() or 1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = ResNet20().to(device).train()
    batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(device)
    targets = torch.from_numpy(labels.astype(np.int64)).to(device)
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": weight_decay},
        {"params": others},
    ]
    optimizer = torch.optim.SGD(
        groups,
        lr=learning_rate,
        momentum=0.9,
        nesterov=True,
    )

    def advance(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(model(batch), targets).backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return advance
