"""One network in PyTorch, Flax linen, Flax NNX and ONNX: the same scores, and what the host costs.

    python -m benchmarks.any_framework --data_dir=DIR --frost_dir=DIR [--images 1000] [--json FILE]

A small convolutional network is trained in PyTorch on CIFAR-10 for a few hundred steps, so that it
is right more often than chance; its weights go into the others, and all are scored on the first
test images under the 19 corruptions at five severities, rendered once for all. Then each is timed
on one severity of every corruption, in turns: a whole pass as `evaluate` makes it, rendering alone,
and the network alone on images that are there. The host path costs what the linen network takes
more as a function of the host (compiled by JAX, called with NumPy) than on the devices; and a pass
over rendering and the network one after the other is below 1 where they overlap. Needs torch; the
row of ONNX needs onnx, onnxscript and onnxruntime as well.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from benchmarks import timing
from dst_jax import data, robustness
from dst_jax.robustness import images, suites
from dst_jax.robustness.engine import Engine
from dst_jax.robustness.networks import Network
from dst_jax.robustness.predict_functions import check_predict
from dst_jax.robustness.records import Condition
from dst_jax.runtime.devices import Devices

WIDTHS, STRIDES, EPSILON = (16, 32, 64), (1, 2, 2), 1e-5
ONNX = ("onnx", "onnxscript", "onnxruntime")
HOST = "Flax linen, on the host"


def decode(data_dir: str | None, cache_dir: str | None) -> None:
    """Leaves the decoded images in the cache."""
    dataset = data.get("cifar10")
    for split in (dataset.train_split, dataset.test_split):
        data.load_arrays(dataset, split, data_dir, cache_dir)


def in_torch(dataset: data.Dataset, options: argparse.Namespace) -> Any:
    """The trained network, a `torch.nn.Module`."""
    import torch

    torch.manual_seed(0)
    layers: list[Any] = []
    channels = 3
    for width, stride in zip(WIDTHS, STRIDES, strict=True):
        layers += [
            torch.nn.Conv2d(channels, width, 3, stride, padding=1),
            torch.nn.BatchNorm2d(width, eps=EPSILON),
            torch.nn.ReLU(),
        ]
        channels = width
    layers += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(channels, 10)]
    module = torch.nn.Sequential(*layers)
    pixels, labels = data.load_arrays(
        dataset, dataset.train_split, options.data_dir, options.cache_dir
    )
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (dataset.mean, dataset.std))
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    random = np.random.default_rng(0)
    for _ in range(options.steps):
        chosen = np.sort(random.choice(len(labels), 128, replace=False))
        x = torch.tensor(pixels[chosen]).permute(0, 3, 1, 2).float().div(255).sub(mean).div(std)
        loss = torch.nn.functional.cross_entropy(module(x), torch.tensor(labels[chosen]).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module.eval()


class Linen(nn.Module):
    """The network in Flax linen, on normalised images."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, 10] of float32 [B, 32, 32, 3]."""
        for width, stride in zip(WIDTHS, STRIDES, strict=True):
            x = nn.Conv(width, (3, 3), stride, padding=1)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=True, epsilon=EPSILON)(x))
        return nn.Dense(10)(x.mean((1, 2)))


class OfNnx(nnx.Module):
    """The network in Flax NNX, from uint8 images."""

    def __init__(self, dataset: data.Dataset):
        rngs = nnx.Rngs(0)
        self.mean, self.std = dataset.mean, dataset.std
        inputs = (3, *WIDTHS[:-1])
        self.convolutions = nnx.List(
            nnx.Conv(channels, width, (3, 3), strides=stride, padding=1, rngs=rngs)
            for channels, width, stride in zip(inputs, WIDTHS, STRIDES, strict=True)
        )
        self.norms = nnx.List(nnx.BatchNorm(w, epsilon=EPSILON, rngs=rngs) for w in WIDTHS)
        self.head = nnx.Linear(WIDTHS[-1], 10, rngs=rngs)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Logits [B, 10] of uint8 [B, 32, 32, 3]."""
        x = normalised(pixels, self.mean, self.std)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = nnx.relu(norm(convolution(x)))
        return self.head(x.mean((1, 2)))


def normalised(pixels: jax.Array, mean: Any, std: Any) -> jax.Array:
    """As the adapters do it."""
    return (pixels.astype(jnp.float32) / 255 - jnp.asarray(mean)) / jnp.asarray(std)


def networks(dataset: data.Dataset, module: Any, path: Path) -> dict[str, Callable]:
    """Name -> predict function, all of the same weights."""
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    params: dict[str, Any] = {}
    statistics: dict[str, Any] = {}
    of_nnx = OfNnx(dataset)
    for index in range(len(WIDTHS)):
        conv, norm = f"{3 * index}", f"{3 * index + 1}"
        kernel, bias = state[f"{conv}.weight"].transpose(2, 3, 1, 0), state[f"{conv}.bias"]
        scale, shift = state[f"{norm}.weight"], state[f"{norm}.bias"]
        mean, var = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        params[f"Conv_{index}"] = {"kernel": kernel, "bias": bias}
        params[f"BatchNorm_{index}"] = {"scale": scale, "bias": shift}
        statistics[f"BatchNorm_{index}"] = {"mean": mean, "var": var}
        layer, layer_norm = of_nnx.convolutions[index], of_nnx.norms[index]
        pairs: Iterable[tuple[Any, Any]] = (
            (layer.kernel, kernel),
            (layer.bias, bias),
            (layer_norm.scale, scale),
            (layer_norm.bias, shift),
            (layer_norm.mean, mean),
            (layer_norm.var, var),
        )
        for variable, value in pairs:
            variable[...] = jnp.asarray(value)
    head = f"{3 * len(WIDTHS) + 2}"
    kernel, bias = state[f"{head}.weight"].T, state[f"{head}.bias"]
    params["Dense_0"] = {"kernel": kernel, "bias": bias}
    last: Any = of_nnx.head
    last.kernel[...], last.bias[...] = jnp.asarray(kernel), jnp.asarray(bias)
    of_nnx.eval()
    variables = {"params": params, "batch_stats": statistics}

    def logits(variables: Any, pixels: jax.Array) -> Any:
        return Linen().apply(variables, normalised(pixels, dataset.mean, dataset.std))

    compiled = jax.jit(logits)
    found: dict[str, Callable] = {
        "PyTorch": robustness.torch_predict(module, dataset.mean, dataset.std),
        "Flax linen": jax.tree_util.Partial(logits, variables),
        "Flax NNX": of_nnx,
        HOST: robustness.HostFunction(lambda pixels: np.asarray(compiled(variables, pixels))),
    }
    if all(importlib.util.find_spec(name) for name in ONNX):
        import torch

        batch = torch.export.Dim("batch")
        torch.onnx.export(
            module, (torch.zeros(2, 3, 32, 32),), str(path), dynamic_shapes=({0: batch},),
            dynamo=True, verbose=False,
        )  # fmt: skip
        found["ONNX"] = robustness.onnx_predict(path, dataset.mean, dataset.std)
    else:
        print(f"ONNX is left out: it needs {', '.join(ONNX)}.")
    return found


def compare(results: Mapping[str, robustness.Result]) -> dict[str, dict[str, Any]]:
    """Prints the scores, and how they differ from PyTorch's."""
    theirs = results["PyTorch"]
    total = theirs.n * len(theirs.scores)
    print(
        "| network | clean, % | robust, % | ECE clean, % | largest difference of an accuracy, pp |"
    )
    print("|---|---|---|---|---|")
    lines = {}
    for name, ours in results.items():
        pairs = list(zip(ours.scores, theirs.scores, strict=True))
        gap = max(abs(one.accuracy - other.accuracy) for one, other in pairs)
        flips = sum(
            int((hits.unpack(ours.n) != theirs.hits[c].unpack(ours.n)).sum())
            for c, hits in ours.hits.items()
        )
        clean, robust = ours.clean_accuracy, np.mean([row.accuracy for row in ours.scores[1:]])
        ece = next(row.ece for row in ours.scores if row.severity == 0)
        print(f"| {name} | {clean:.2%} | {robust:.2%} | {ece:.3%} | {100 * gap:.2f}", end="")
        print(f" ({flips} of {total:,} answers) |")
        lines[name] = {"clean": clean, "robust": float(robust), "ece": ece, "flips": flips}
    return lines


def measure(
    engine: Engine,
    models: Mapping[str, Network],
    batches: list[images.Batch],
    wanted: list[Condition],
    rounds: int,
) -> dict[str, Any]:
    """Prints the seconds of a pass, of rendering and of each network alone, taken in turns."""
    rendered = [[engine.render(c, b) for c in wanted] for b in batches]

    def alone(model: Network) -> None:
        for of_batch in rendered:
            jax.block_until_ready([model.predict(pixels) for pixels in of_batch])

    def render() -> None:
        for batch in batches:
            jax.block_until_ready([engine.render(c, batch) for c in wanted])

    measures: dict[str, Callable[[], float]] = {"render": lambda: timing.seconds(render)}
    for name, model in models.items():
        measures[f"{name}: pass"] = lambda m=model: timing.seconds(  # type: ignore[misc]
            lambda: engine.score([m], batches, wanted) and None
        )
        measures[f"{name}: alone"] = lambda m=model: timing.seconds(lambda: alone(m))  # type: ignore[misc]
    figures = timing.in_turns(measures, rounds)
    print("\n| network | pass, s | rendering, s | network alone, s | pass / (the other two) |")
    print("|---|---|---|---|---|")
    middle = {name: float(np.median(values)) for name, values in figures.items()}
    for name in models:
        whole, one, render_s = middle[f"{name}: pass"], middle[f"{name}: alone"], middle["render"]
        print(f"| {name} | {whole:.2f} | {render_s:.2f} | {one:.2f} |", end="")
        print(f" {whole / (one + render_s):.2f} |")
    host = timing.ratios(figures[f"{HOST}: pass"], figures["Flax linen: pass"])
    print(f"\nThe host path, the same network on the host and on the devices: {host['median']:.2f}")
    print(f"of the time of a pass ({host['min']:.2f} to {host['max']:.2f}, {rounds} rounds).")
    return {"seconds": figures, "host_path": host}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", help="where TFDS has prepared CIFAR-10")
    parser.add_argument("--cache_dir", help="where decoded images are kept")
    parser.add_argument("--frost_dir", help="directory of the photographs of frost")
    parser.add_argument("--images", type=int, default=1000, help="test images, the first ones")
    parser.add_argument("--batch_size", type=int, default=250, help="images on each device")
    parser.add_argument("--steps", type=int, default=300, help="of the training, 128 images each")
    parser.add_argument("--severities", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--rounds", type=int, default=5, help="of the timing; 0: none")
    parser.add_argument("--json", type=Path, help="file for the figures and their circumstances")
    options = parser.parse_args()

    circumstances = {**timing.circumstances(), "load": round(os.getloadavg()[0], 2)}
    print(f"{circumstances['processor']}, {circumstances['hardware']}, jax {jax.__version__},")
    print(
        f"load {circumstances['load']}, {options.images:,} images, {options.batch_size} a batch\n"
    )
    dataset = data.get("cifar10")
    # TensorFlow, which may decode them, beside PyTorch in one process ended in a crash.
    child = multiprocessing.get_context("spawn").Process(
        target=decode, args=(options.data_dir, options.cache_dir)
    )
    child.start()
    child.join()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        module = in_torch(dataset, options)
        print(f"{options.steps} steps of training: {time.perf_counter() - start:.0f} s\n")
        predicts = networks(dataset, module, Path(folder) / "network.onnx")
        common: dict[str, Any] = {"data_dir": options.data_dir, "cache_dir": options.cache_dir}
        results = robustness.evaluate_models(
            predicts,
            "cifar10",
            "common",
            source="rendered",
            severities=options.severities,
            frost_dir=options.frost_dir,
            batch_size=options.batch_size,
            max_images=options.images,
            **common,
        )
        lines = compare(results)
        figures = {}
        if options.rounds:
            devices = Devices()
            source = images.open_source("cifar10", "", options.images, **common)
            plan = suites.plan("common", None, "cifar32", frost_dir=options.frost_dir)
            batches = list(images.CleanImages(source, devices, options.batch_size)())
            engine = Engine(plan, devices)
            shape = (options.batch_size, *source.side, 3)
            models = {
                name: engine.network(check_predict(predict, shape, devices=devices.count))
                for name, predict in predicts.items()
            }
            wanted = [c for c in plan.conditions if c.severity == 3]
            figures = measure(engine, models, batches, wanted, options.rounds)
    for note in results["PyTorch"].notes:
        print(note)
    if options.json:
        text = json.dumps({**circumstances, "scores": lines, **figures}, indent=1)
        options.json.write_text(text)


if __name__ == "__main__":
    main()
