"""VGG-16 for small images and its training step in PyTorch: the rival in `benchmarks.models`.

Configuration D of Simonyan and Zisserman 2015 with BatchNorm and two linear layers of 512 units, as
`dst_jax.models.vgg`. The step is that of `dst_jax`: cross-entropy, SGD with Nesterov momentum.
"""

import os
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import nn

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def network(num_classes: int = 10) -> nn.Module:
    """The network, for images [B, 3, 32, 32]."""
    layers: list[nn.Module] = []
    before = 3
    for width, count in _STAGES:
        for _ in range(count):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    for _ in range(2):
        layers += [nn.Linear(512, 512), nn.ReLU(), nn.BatchNorm1d(512)]
    return nn.Sequential(*layers, nn.Linear(512, num_classes))


def training(images: np.ndarray, labels: np.ndarray, learning_rate: float) -> Callable[[], None]:
    """A training that sees one batch again and again.

    Args:
      images: normalised, float32 [B, H, W, 3].
      labels: int [B].
      learning_rate: of every step.

    Returns:
      A function that takes one step.
    """
    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    model = network().train()
    batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    targets = torch.from_numpy(labels.astype(np.int64))
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9, nesterov=True)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(batch), targets).backward()
        optimizer.step()

    return step
