"""ResNet-50, EfficientNet-B0 and DeiT in PyTorch's functions: what ours are compared with.

Written from the papers, in PyTorch's layout (channels first) and with its operations; the
hyper-parameters stand here once more, so that a wrong one of ours shows. Each function takes the
variables of our module, as nested dicts of NumPy arrays, and images [B, H, W, 3].
"""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the customary name


def tensor(array):
    return torch.from_numpy(np.array(array, np.float32))


def conv(x, layer, stride=1, padding=0, groups=1):
    kernel = tensor(layer["kernel"]).permute(3, 2, 0, 1)
    bias = tensor(layer["bias"]) if "bias" in layer else None
    return F.conv2d(x, kernel, bias, stride, padding, groups=groups)


def batch_norm(x, layer, statistics, epsilon=1e-5):
    mean, var, scale, bias = (
        tensor(part[name])
        for part, name in (
            (statistics, "mean"),
            (statistics, "var"),
            (layer, "scale"),
            (layer, "bias"),
        )
    )
    return F.batch_norm(x, mean, var, scale, bias, eps=epsilon)


def linear(x, layer):
    return F.linear(x, tensor(layer["kernel"]).T, tensor(layer["bias"]))


def layer_norm(x, layer):
    return F.layer_norm(x, x.shape[-1:], tensor(layer["scale"]), tensor(layer["bias"]), eps=1e-6)


def channels_first(images):
    return tensor(images).permute(0, 3, 1, 2)


def resnet50(variables, images, blocks=(3, 4, 6, 3)):
    params, stats = variables["params"], variables["batch_stats"]
    x = conv(channels_first(images), params["conv1"], stride=2, padding=3)
    x = F.relu(batch_norm(x, params["bn1"], stats["bn1"]))
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    for stage, count in enumerate(blocks, start=1):
        for index in range(count):
            layers, means = (tree[f"layer{stage}_{index}"] for tree in (params, stats))
            stride = 2 if stage > 1 and index == 0 else 1
            y = F.relu(batch_norm(conv(x, layers["conv1"]), layers["bn1"], means["bn1"]))
            y = conv(y, layers["conv2"], stride, padding=1)
            y = F.relu(batch_norm(y, layers["bn2"], means["bn2"]))
            y = batch_norm(conv(y, layers["conv3"]), layers["bn3"], means["bn3"])
            if index == 0:
                x = conv(x, layers["shortcut_conv"], stride)
                x = batch_norm(x, layers["shortcut_bn"], means["shortcut_bn"])
            x = F.relu(x + y)
    return linear(x.mean((2, 3)), params["classifier"]).numpy()


# expansion, window, stride, blocks: table 1 of Tan and Le 2019.
_MBCONV = (
    *((1, 3, 1, 1), (6, 3, 2, 2), (6, 5, 2, 2), (6, 3, 2, 3)),
    *((6, 5, 1, 3), (6, 5, 2, 4), (6, 3, 1, 1)),
)


def efficientnet_b0(variables, images, depth=0):
    params, stats = variables["params"], variables["batch_stats"]

    def norm(x, layers, means, name):
        return batch_norm(x, layers[name], means[name], epsilon=1e-3)

    x = conv(channels_first(images), params["stem_conv"], stride=2, padding=1)
    x = F.silu(norm(x, params, stats, "stem_bn"))
    number = 0
    for expand, window, first_stride, blocks in _MBCONV:
        for index in range(depth or blocks):
            layers, means = (tree[f"blocks_{number}"] for tree in (params, stats))
            number += 1
            stride = first_stride if index == 0 else 1
            y = x
            if expand > 1:
                y = F.silu(norm(conv(y, layers["expand_conv"]), layers, means, "expand_bn"))
            y = conv(y, layers["depthwise_conv"], stride, window // 2, groups=y.shape[1])
            y = F.silu(norm(y, layers, means, "depthwise_bn"))
            gate = F.adaptive_avg_pool2d(y, 1)
            gate = conv(F.silu(conv(gate, layers["se_reduce"])), layers["se_expand"])
            y = conv(y * torch.sigmoid(gate), layers["project_conv"])
            y = norm(y, layers, means, "project_bn")
            x = x + y if stride == 1 and x.shape[1] == y.shape[1] else y
    x = F.silu(norm(conv(x, params["head_conv"]), params, stats, "head_bn"))
    return linear(x.mean((2, 3)), params["classifier"]).numpy()


def deit(variables, images, patch=16, head_size=64, blocks=12):
    params = variables["params"]
    x = conv(channels_first(images), params["patch_embed"], stride=patch)
    x = x.flatten(2).transpose(1, 2)
    token = tensor(params["cls_token"]).expand(x.shape[0], -1, -1)
    x = torch.cat([token, x], dim=1) + tensor(params["pos_embed"])
    batch, count, width = x.shape
    for index in range(blocks):
        layers = params[f"blocks_{index}"]
        qkv = linear(layer_norm(x, layers["norm1"]), layers["attn"]["qkv"])
        parts = [
            part.reshape(batch, count, -1, head_size).transpose(1, 2)
            for part in qkv.split(width, dim=-1)
        ]
        y = F.scaled_dot_product_attention(*parts).transpose(1, 2).reshape(batch, count, width)
        x = x + linear(y, layers["attn"]["proj"])
        y = F.gelu(linear(layer_norm(x, layers["norm2"]), layers["mlp"]["fc1"]))
        x = x + linear(y, layers["mlp"]["fc2"])
    return linear(layer_norm(x, params["norm"])[:, 0], params["classifier"]).numpy()
