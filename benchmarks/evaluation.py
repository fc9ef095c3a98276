"""Where the time of an evaluation goes: rendering, the network, the host, a corruption at a time.

    python -m benchmarks.evaluation --data_dir=DIR --frost_dir=DIR [--images 1000] [--json FILE]

ResNet-20 with random weights (speed does not depend on them) on the first test images of CIFAR-10,
all 19 corruptions at five severities, on the programs of `dst_jax.robustness` as `evaluate` runs
them. Seconds are sums over the batches of one pass: `render` and `predict` each wait for their
result, `host` is the rest of `Engine.score`: a pass as it really runs less the two, so below 0
where stages overlap, at severity 5. The first two are medians of five severities; compilation is
left out and told apart. A ratio below 1: rendering costs less than the network's forward pass.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import timing
from dst_jax import data, models
from dst_jax.data.benchmarks import SEVERITIES
from dst_jax.robustness import images, suites
from dst_jax.robustness.engine import Engine, Network
from dst_jax.robustness.records import Condition
from dst_jax.runtime.devices import Devices


def network(
    dataset: data.Dataset, name: str = "resnet20", dtype: str = "float32", **options: Any
) -> jax.tree_util.Partial:
    """A network with random weights, from uint8 images to logits; options as `models.create`'s."""
    model = models.create(name, dataset.num_classes, dtype=jnp.dtype(dtype), **options)
    variables = models.init(model, 0, dataset.image_shape)

    def logits(variables: Any, batch: jax.Array) -> Any:
        normal = data.normalise(batch, dataset, jnp.dtype(dtype))
        return model.apply(variables, normal, train=False)

    return jax.tree_util.Partial(logits, variables)


def measure(
    engine: Engine, model: Network, batches: list[images.Batch], name: str
) -> dict[str, Any]:
    """Seconds of the stages of one corruption: medians over its severities."""
    start = time.perf_counter()
    jax.block_until_ready(engine.render(Condition(name, 1), batches[0]))
    first = time.perf_counter() - start
    figures: dict[str, list[float]] = {"render": [], "predict": []}
    for severity in SEVERITIES:
        condition = Condition(name, severity)
        render = predict = 0.0
        for batch in batches:
            start = time.perf_counter()
            rendered = jax.block_until_ready(engine.render(condition, batch))
            middle = time.perf_counter()
            jax.block_until_ready(model.predict(rendered))
            render += middle - start
            predict += time.perf_counter() - middle
        figures["render"].append(render)
        figures["predict"].append(predict)
    start = time.perf_counter()
    engine.score([model], batches, [condition])
    figures["host"] = [time.perf_counter() - start - render - predict]
    medians = {stage: statistics.median(values) for stage, values in figures.items()}
    return {"corruption": name, "first_call": first, **medians}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", help="where TFDS has prepared CIFAR-10")
    parser.add_argument("--cache_dir", help="where decoded images are kept")
    parser.add_argument("--frost_dir", help="directory of the photographs of frost")
    parser.add_argument("--images", type=int, default=1000, help="test images, the first ones")
    parser.add_argument("--batch_size", type=int, default=500, help="images on each device")
    parser.add_argument("--json", type=Path, help="file for the figures and their circumstances")
    options = parser.parse_args()

    circumstances = {**timing.circumstances(), "load": round(os.getloadavg()[0], 2)}
    devices = Devices()
    source = images.open_source(
        "cifar10", "", options.images, options.data_dir, options.cache_dir, "--"
    )
    plan = suites.plan("common", None, "cifar32", frost_dir=options.frost_dir, prefix="--")
    size = min(options.batch_size, source.total or options.batch_size)
    batches = list(images.CleanImages(source, devices, size)())
    assert source.dataset is not None
    engine = Engine(plan, devices)
    model = engine.network(network(source.dataset))
    jax.block_until_ready(model.predict(batches[0].rows["image"]))  # compiles

    print(f"{circumstances['processor']}, {circumstances['hardware']}, jax {jax.__version__},")
    print(f"load {circumstances['load']}, {source.total:,} images, {size} a batch and device\n")
    print("| corruption | render, s | ResNet-20, s | host, s | render / ResNet-20 |")
    print("|---|---|---|---|---|")
    lines = []
    for name in dict.fromkeys(c.corruption for c in plan.conditions[1:]):
        line = measure(engine, model, batches, name)
        line["ratio"] = line["render"] / line["predict"]
        print(f"| {name} | {line['render']:.3f} | {line['predict']:.3f} |", end="")
        print(f" {line['host']:.3f} | {line['ratio']:.2f} |", flush=True)
        lines.append(line)
    total = {
        stage: 5 * sum(line[stage] for line in lines) for stage in ("render", "predict", "host")
    }
    print(f"| all, 5 severities | {total['render']:.1f} | {total['predict']:.1f} |", end="")
    print(f" {total['host']:.1f} | {total['render'] / total['predict']:.2f} |")
    cheaper = sum(line["ratio"] < 1 for line in lines)
    print(f"\nRendering costs less than the network for {cheaper} of {len(lines)} corruptions.")
    print(f"First calls, compilation with them: {sum(line['first_call'] for line in lines):.0f} s.")
    for note in plan.notes:
        print(note)
    if options.json:
        after = {"load_after": round(os.getloadavg()[0], 2), "images": source.total, "batch": size}
        options.json.write_text(json.dumps({**circumstances, **after, "lines": lines}, indent=1))


if __name__ == "__main__":
    main()
