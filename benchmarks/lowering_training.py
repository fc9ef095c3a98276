"""The programs of a training, as `dst_jax.training.loop` builds them, of shapes and no arrays.

They are made for devices of this machine's CPU that pass for accelerators, so that everything that
asks what the devices are (whether states are donated) answers as it would there. Called by
`lowering_cases`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import lowering_checks
from dst_jax import config as config_lib
from dst_jax import data
from dst_jax.runtime.devices import Devices
from dst_jax.training import build, compiled_steps, step

Tree = Any
Built = tuple[Callable[..., Any], tuple[Any, ...], lowering_checks.Expected]
DTYPES = {"float32": "f32", "bfloat16": "bf16"}
BATCH = 16  # images over all devices; a program lowers as fast for any size
# The data that a model of the registry is lowered with, where it is not CIFAR-10.
DATASETS = {
    "resnet18_imagenet": "imagenet2012",
    "resnet34_imagenet": "imagenet2012",
    "resnet50": "imagenet2012",
    "deit_small": "imagenet2012",
    "deit_base": "imagenet2012",
    "efficientnet_b0": "tiny_imagenet",
    "resnet3d50": "ucf101",
    "i3d_r50": "ucf101",
}
WIDTHS = {"deit_small": 64, "deit_base": 128}  # the others: 16


class Accelerators(Devices):
    """Devices of a CPU that pass for accelerators where a program asks what they are."""

    platform = "gpu"


class Training:
    """The programs of a training as `loop.train` builds them, with shapes in place of arrays."""

    def __init__(self, dtype: str, parallelism: str, count: int, options: dict[str, Any]):
        card = config_lib.default()
        model = options.get("model.name", "resnet20")
        dataset = DATASETS.get(model, "cifar10")
        changes = {
            "model.name": model,
            "model.depth": 1,
            "model.width": WIDTHS.get(model, 16),
            "model.dtype": dtype,
            "data.name": dataset,
            "data.augment": data.get(dataset).augment,
            "train.batch_size": BATCH,
            "train.steps": "100",
            "sparsity.update_freq": "10",
            **options,
        }
        for name, value in changes.items():
            config_lib.set_option(card, name, value)
        self.config = config_lib.resolve(card, BATCH)
        self.dtype = dtype
        self.parallelism = parallelism
        self.devices = Accelerators(parallelism, jax.devices()[:count])
        self.dataset = data.get(self.config["data"]["name"])
        self.recipe = build.recipe(self.config)
        self.variables = build.shapes(self.config)
        first = functools.partial(step.init_state, self.recipe)
        self.state = jax.eval_shape(first, self.variables)

    def program(self, kind: str) -> Built:
        """(program, its arguments, what is expected): "ordinary", "update" or "snip"."""
        draw, feed = self._input()
        ordinary, update = compiled_steps.whole_steps(self.recipe, draw)
        snip = compiled_steps.snip_step(self.recipe, draw)
        chosen = {"ordinary": ordinary, "update": update, "snip": snip}[kind]
        seeds = self.config["num_seeds"]
        arguments = (
            (self._replicated(self.state),) * seeds,
            (feed,) * seeds,
            (np.uint32(0),) * seeds,
            np.int32(1),
        )
        # What is averaged over devices at least: all gradients, of which SNIP reads a part.
        averaged = self.state.sparse.masks if kind == "snip" else self.variables["params"]
        sums = seeds * len(jax.tree.leaves(averaged))
        expected = lowering_checks.Expected(
            products=DTYPES[self.dtype],
            convolutions=seeds * layers(self.variables["params"]),
            networks=seeds,
            devices=self.devices.count,
            donated=len(jax.tree.leaves(arguments[0])),
            reductions=sums if self.parallelism == "pmap" else 0,
            rows=self.parallelism == "jit",
        )
        return self.devices.compile(chosen), arguments, expected

    def _input(self) -> tuple[Callable[..., Tree], Tree]:
        """The pure half of the pipeline, and the shapes of its feed."""
        options = {
            "batch_size": BATCH,
            "augment": self.config["data"]["augment"],
            "train_augmentation": data.TrainAugmentation.from_config(self.config),
            "dtype": jnp.dtype(self.dtype),
        }
        images = np.zeros((BATCH, *self.dataset.image_shape), np.uint8)
        labels = np.zeros(BATCH, np.int32)
        if data.is_resident(self.dataset, self.config["data"]["input"]):
            pipeline: Any = data.ResidentPipeline(
                self.dataset, images, labels, seed=0, put=lambda tree: tree, **options
            )
            return pipeline.batch, self._replicated(pipeline.host_inputs(0))
        pipeline = _Stream(self.dataset, **options)
        return pipeline.batch, self._rows({"image": images, "label": labels})

    def _replicated(self, tree: Tree) -> Tree:
        """Shapes of what `Devices.replicate` makes."""
        if self.parallelism == "jit":
            return self.devices.abstract(tree)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((self.devices.count, *leaf.shape), leaf.dtype), tree
        )

    def _rows(self, tree: Tree) -> Tree:
        """Shapes of what `Devices.shard` makes."""
        if self.parallelism == "jit":
            return over_devices(self.devices, tree)
        count = self.devices.count
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                (count, len(leaf) // count, *leaf.shape[1:]), leaf.dtype
            ),
            tree,
        )


class _Stream(data.StreamPipeline):
    """The half of a stream that runs on the devices; no dataset need be prepared."""

    def __init__(
        self, dataset: data.Dataset, *, batch_size: int, train_augmentation: Any, **options: Any
    ):
        self.batch_size, self._seed = batch_size, 0
        self._augment_and_normalise = functools.partial(
            train_augmentation.apply, dataset=dataset, **options
        )


def layers(params: Tree) -> int:
    """The number of convolution layers; patches are embedded by a product of matrices."""
    return sum(
        leaf.ndim > 3 and "patch_embed" not in jax.tree_util.keystr(path)
        for path, leaf in jax.tree.leaves_with_path(params)
    )


def over_devices(devices: Devices, tree: Tree) -> Tree:
    """Shapes of what `Devices.shard_rows` makes."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=devices._rows), tree
    )
