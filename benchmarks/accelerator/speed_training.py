"""Stage b's trainings: the networks, and our programs that train them on random images.

Random images lie on the device and go through the library's own programs (`trainer`), in bfloat16.
Parts of one network that follow each other share its compiled programs. Called by `speed` and
`speed_pytorch`.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.accelerator import trainer
from benchmarks.accelerator.stages import Context

SPARSITY, UPDATE_FREQ = 0.5, 100
LEARNING_RATE, WEIGHT_DECAY = 0.01, 5e-4
ROUNDS = 4  # figures of each measure, in turns
FIGURE_S = 0.3  # how long one takes at least


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and how it is trained here.

    Attributes:
      name: in `dst_jax.models` and in `pytorch_networks`.
      title: for the table.
      data: the dataset whose size of image, normalisation and classes are taken.
      batch: images per step, on a device of 80 GB or more.
      steps: steps in one program.
      work: how long it takes to compile, over ResNet-50; from its number of layers.
      toy: of `--tiny`: (our options, PyTorch's); None: no toy of it.
    """

    name: str
    title: str
    data: str
    batch: int
    steps: int
    work: float
    toy: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None


NETWORKS = (
    Network("resnet50", "ResNet-50", "imagenet2012", 256, 8, 1.0),
    Network("resnet18", "ResNet-18", "cifar10", 1024, 16, 0.4),
    Network(
        *("deit_small", "DeiT-S", "imagenet2012", 256, 8, 0.5),
        toy=(
            {"model.width": 64, "model.depth": 1, "model.stem": "small"},
            {"width": 64, "depth": 1, "side": 32, "patch": 4},
        ),
    ),
    Network("vgg16", "VGG-16", "cifar10", 1024, 16, 0.35),
    Network("resnet34", "ResNet-34", "cifar10", 1024, 16, 0.7),
    Network("deit_base", "DeiT-B", "imagenet2012", 256, 8, 0.6),
)
TOY = next(network for network in NETWORKS if network.toy)  # what compiles in the least time


class Steps:
    """One network's trainings, dense and RigL, made when they are asked for.

    Attributes:
      name: of the network, for the table.
      config: of the dense one, resolved.
      batch: images per step, over all devices.
      many: steps in one program.
      compile_s: seconds of the first call of each program, by method.
    """

    def __init__(self, network: Network, context: Context):
        import jax
        import numpy as np

        from dst_jax import data

        tiny, seed = context.options.tiny, context.options.seed
        self.network, self.seed = network, seed
        self.name = title(network, context)
        dataset = data.get("digits" if tiny else network.data)
        self.devices = jax.device_count()
        self.batch = (8 if tiny else _batch(network.batch)) * self.devices
        self.many, self._figure_s = (2, 0.0) if tiny else (network.steps, FIGURE_S)
        self.rounds = 2 if tiny else ROUNDS
        self._changes = {
            "data.name": dataset.name,
            "data.input": "resident",
            # Crops of large images are taken on the host, before they come here.
            "data.augment": dataset.augment if dataset.resident else "none",
            "model.name": network.name,
            "model.dtype": "bfloat16",
            "train.batch_size": self.batch,
            "train.steps": "100000",
            "train.learning_rate": LEARNING_RATE,
            "train.weight_decay": WEIGHT_DECAY,
            "sparsity.sparsity": SPARSITY,
            "sparsity.update_freq": str(UPDATE_FREQ),
            "seed": seed,
            **({"model.drop_path": 0.0} if network.name.startswith("deit") else {}),
            **(network.toy[0] if tiny and network.toy else {}),
        }
        generator = np.random.default_rng(seed)
        count = 2 * self.batch
        self._images = generator.integers(0, 256, (count, *dataset.image_shape), np.uint8)
        self._labels = generator.integers(0, dataset.num_classes, count, np.int32)
        self.config = self._resolved("dense")
        self.classes, self.side = dataset.num_classes, dataset.image_shape[0]
        self.compile_s: dict[str, float] = {}
        self._runs: dict[str, trainer.Trainer] = {}

    def _resolved(self, method: str) -> dict[str, Any]:
        changes = {**self._changes, "sparsity.algorithm": method}
        return trainer.resolved(changes, len(self._labels))

    @property
    def title(self) -> str:
        """The network and how it is trained, for the table."""
        return f"{self.name}, {self.side} px, batch {self.batch:,}, bfloat16"

    def run(self, method: str) -> trainer.Trainer:
        """The training by a method, its ordinary program compiled."""
        import jax

        if method not in self._runs:
            run = trainer.Trainer(self._resolved(method), self._images, self._labels)
            began = time.perf_counter()
            jax.block_until_ready(run.advance(1))
            self.compile_s[method] = time.perf_counter() - began
            self._runs[method] = run
        return self._runs[method]

    def advance(self, method: str, programs: int, steps: int, *, update: bool = False) -> Any:
        """Takes `programs` times `steps` steps, as the loop of `dst_jax.training.loop` does."""
        import jax

        run = self.run(method)
        for _ in range(programs):
            run.step = 0  # the order of the first epoch does for all
            jax.block_until_ready(run.state.step)
            run.advance(steps, update=update)
        return run.state

    def dispatches(self, method: str) -> int:
        """How many programs of `many` steps make a figure."""
        from benchmarks import timing

        one = timing.seconds(functools.partial(self.advance, method, 1, self.many))
        return min(20, max(1, math.ceil(self._figure_s / one)))

    def milliseconds(
        self, method: str, programs: int, steps: int, *, update: bool = False
    ) -> Callable[[], float]:
        """A measure: milliseconds per step."""
        from benchmarks import timing

        take = functools.partial(self.advance, method, programs, steps, update=update)
        return lambda: 1e3 * timing.seconds(take) / (programs * steps)

    def check(self) -> None:
        """Raises unless every loss was finite: arithmetic on NaN may be quicker or slower."""
        for method, run in self._runs.items():
            if not math.isfinite(run.loss()):
                raise ArithmeticError(f"{self.network.name}, {method}: the loss is not finite")

    def close(self) -> None:
        """Lets go of what lies on the devices."""
        for run in self._runs.values():
            run.close()
        self._runs.clear()


_held: list[Steps] = []  # at most one: parts of one network that follow each other share it


def steps_of(network: Network, context: Context) -> Steps:
    """The network's trainings; those of another network are let go."""
    if not _held or _held[0].network is not network:
        let_go()
        _held.append(Steps(network, context))
    return _held[0]


def let_go() -> None:
    """Frees the memory of the network that was measured last."""
    while _held:
        _held.pop().close()


def _batch(wanted: int) -> int:
    """Images per step on one device of this memory."""
    import jax

    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 60e9)
    # A GPU of 80 GB says 60 here: JAX leaves a quarter to others.
    return max(8, wanted // (1 if limit >= 50e9 else 2 if limit >= 25e9 else 4))


def title(network: Network, context: Context) -> str:
    """The network's name for the table; of a toy what it was shrunk to."""
    if not (context.options.tiny and network.toy):
        return network.title
    return shrunk(network.title, network.toy[0]["model.width"], network.toy[0]["model.depth"])


def shrunk(network: str, width: int, depth: int) -> str:
    """A toy's network, for the table."""
    return f"{network} shrunk to width {width} and depth {depth}"


def missing(network: Network, context: Context) -> str:
    """Why a part of this network is left out: a toy has few networks."""
    return "not in a toy" if context.options.tiny and not network.toy else ""


def milliseconds_text(times: Sequence[float]) -> str:
    """The median of milliseconds per step, with the smallest and the largest."""
    from benchmarks import timing

    return f"{timing.median(times)} ms"
