"""Networks for small images as `torch.nn` modules, with the names of layers of published code.

What is loaded from their state dicts is compared with them. The residual network names its layers
as the usual ResNets for CIFAR do (`shortcut.0`, `linear`), VGG-16 as the code of SNIP and GraNet.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != width:
            projection = nn.Conv2d(inputs, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(width))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, width, blocks, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for stage, count in enumerate(blocks):
            layers = []
            for index in range(count):
                layers.append(Block(inputs, width * 2**stage, 2 if stage and not index else 1))
                inputs = width * 2**stage
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.stages = len(blocks)
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.linear(x.mean((2, 3)))


class VGG(nn.Module):
    def __init__(self, width, sizes, classes, positions=1):
        super().__init__()
        layers, inputs = [], 3
        for stage, size in enumerate(sizes):
            for _ in range(size):
                outputs = width * 2 ** min(stage, 3)
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
                layers.append(nn.ReLU())
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        wide = 8 * width
        self.classifier = nn.Sequential(
            *(nn.Linear(inputs * positions, wide), nn.ReLU(), nn.BatchNorm1d(wide)),
            *(nn.Linear(wide, wide), nn.ReLU(), nn.BatchNorm1d(wide)),
            nn.Linear(wide, classes),
        )

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def with_statistics(network, size, seed=0):
    """The network with random BatchNorm parameters, and statistics of random images."""
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if getattr(layer, "running_var", None) is not None:
            layer.momentum = None  # the plain mean over batches: here of one
            layer.weight.data.uniform_(0.8, 1.2, generator=generator)
            layer.bias.data.normal_(0, 0.1, generator=generator)
    network.train()
    with torch.no_grad():
        network(torch.randn(32, 3, size, size, generator=generator))
    return network.eval()


def logits(network, images):
    """Logits of images [B, H, W, 3]."""
    with torch.no_grad():
        return network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
