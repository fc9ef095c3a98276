"""What `benchmarks.versions` records of arithmetic: single operations, one step, whole trainings.

Float32 results here may depend on how the compiler arranges them; the record keeps the arrays, so
that a comparison can say by how much. Yields (name, array).
"""

import contextlib
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from benchmarks.versions_exact import NETWORKS, leaves
from dst_jax import config as config_lib
from dst_jax import data, models, paths, sparsity
from dst_jax.errors import UserError
from dst_jax.models import convolution
from dst_jax.runtime import checkpoint
from dst_jax.runtime.interrupt import InterruptedRunError
from dst_jax.runtime.run_dir import write_json
from dst_jax.training import loop

Recorded = Iterator[tuple[str, np.ndarray]]
T = TypeVar("T")
STEPS, STOP = 50, 25
CHECKPOINTS = (1, 10, 20, 30, 50)  # masks change in steps 10, 20, 30 and 40
CONV = {"model.name": "resnet20", "model.width": 4, "model.depth": 1}
MLP = {"model.name": "mlp", "model.width": 16}
_NEEDS: dict[str, dict[str, Any]] = {
    "adam-fisher": {"train.optimizer": "adamw", "train.learning_rate": 0.01},
    "iterative_nm": {
        "sparsity.sparsity_type": "nm_2,4",
        "sparsity.sparsity": 0.5,
        "sparsity.dist_type": "uniform",
        "sparsity.exclude": "^classifier|conv1",
    },
}


def _numbers(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Float32 in [-4, 4) from NumPy's Philox bits."""
    bits = np.random.Generator(np.random.Philox(seed)).integers(-(2**23), 2**23, shape)
    return (bits / 2**21).astype(np.float32)


def operations() -> Recorded:
    """Single operations, each a program of its own, on the same 4096 or so numbers."""
    x, y, z = (jnp.asarray(_numbers((4096,), seed)) for seed in range(3))
    a, b = jnp.asarray(_numbers((64, 96), 3)), jnp.asarray(_numbers((96, 80), 4))
    images = jnp.asarray(_numbers((8, 16, 16, 8), 5))
    kernel = jnp.asarray(_numbers((3, 3, 8, 16), 6))
    positive, unit = jnp.abs(x) + 0.01, x / 4.001
    table: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "add": (jnp.add, (x, y)),
        "divide": (jnp.divide, (x, positive)),
        "divide_by_255": (lambda v: v / 255, (x,)),
        "multiply_add": (lambda u, v, w: u * v + w, (x, y, z)),
        "multiply_subtract": (lambda u, v, w: u * v - v * w, (x, y, z)),
        "lerp": (lambda u, v, w: u + w * (v - u), (x, y, z)),
        "sqrt": (jnp.sqrt, (positive,)),
        "rsqrt": (lax.rsqrt, (positive,)),
        "exp": (jnp.exp, (x,)),
        "log": (jnp.log, (positive,)),
        "log1p": (jnp.log1p, (positive,)),
        "expm1": (jnp.expm1, (x,)),
        "sin": (jnp.sin, (x,)),
        "cos": (jnp.cos, (x,)),
        "tanh": (jnp.tanh, (x,)),
        "logistic": (jax.nn.sigmoid, (x,)),
        "erf": (lax.erf, (x,)),
        "erf_inv": (lax.erf_inv, (unit,)),
        "arctan2": (jnp.arctan2, (x, y)),
        "exp_of_-80_to_0": (lambda v: jnp.exp(-20 * v), (positive,)),
        "hypotenuse": (lambda m: jnp.sqrt(m * m + m.T * m.T), (x.reshape(64, 64),)),
        "power": (jnp.power, (positive, y)),
        "power_of_constant": (lambda v: v**0.7, (positive,)),
        "cbrt": (jnp.cbrt, (x,)),
        "lgamma": (lax.lgamma, (positive,)),
        "sum_4096": (jnp.sum, (x,)),
        "mean_of_rows": (lambda m: m.mean(axis=1), (a,)),
        "mean_of_columns": (lambda m: m.mean(axis=0), (a,)),
        "mean_of_images": (lambda m: m.mean(axis=(0, 1, 2)), (images,)),
        "sum_of_squares": (lambda m: jnp.sum(m * m), (x,)),
        "variance_of_images": (
            lambda m: (m * m).mean((0, 1, 2)) - m.mean((0, 1, 2)) ** 2,
            (images,),
        ),
        "cumsum": (jnp.cumsum, (x,)),
        "softmax": (jax.nn.softmax, (a,)),
        "logsumexp": (lambda m: jax.nn.logsumexp(m, axis=1), (a,)),
        "product_64x96x80": (jnp.matmul, (a, b)),
        "product_64x96x8": (lambda m, n: m @ n[:, :8], (a, b)),
        "product_transposed": (lambda m, n: n.T @ m.T, (a, b)),
        "vector_product": (lambda m, n: m @ n, (a, b[:, 0])),
        "convolution": (_convolve, (images, kernel)),
        "convolution_stride_2": (lambda i, k: _convolve(i, k, 2), (images, kernel)),
        "convolution_ours": (
            lambda i, k: convolution.convolve(i, k, (1, 1), ((1, 1), (1, 1))),
            (images, kernel),
        ),
        "sort": (jnp.sort, (x,)),
        "round": (jnp.round, (x,)),
        "to_bfloat16": (lambda v: v.astype(jnp.bfloat16).astype(jnp.float32), (x,)),
        "fft": (lambda m: jnp.abs(jnp.fft.fft2(m)), (a,)),
    }
    for name, (function, arguments) in table.items():
        yield f"operations/{name}", np.asarray(jax.jit(function)(*arguments))


def _convolve(images: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        images, kernel, (stride, stride), "SAME", dimension_numbers=layout
    )


def one_step() -> Recorded:
    """Logits of every small network with given weights; loss, gradient and state of one step."""
    labels = jnp.arange(16) % 10
    for name, (options, shape) in NETWORKS.items():
        module = models.create(name, 10, **options)
        variables = models.init(module, 3, shape)
        batch = jnp.asarray(_numbers((16, *shape), 7))
        logits = jax.jit(lambda v, x, m=module: m.apply(v, x, train=False))(variables, batch)
        yield f"logits/{name}", np.asarray(logits)
        if name not in ("mlp", "resnet20"):
            continue

        def loss(params: Any, module=module, variables=variables, batch=batch) -> Any:
            out, _ = module.apply(
                {**variables, "params": params}, batch, train=True, mutable=["batch_stats"]
            )
            return optax.softmax_cross_entropy_with_integer_labels(out, labels).mean()

        params = variables["params"]
        value, grads = jax.jit(jax.value_and_grad(loss))(params)
        yield f"step/{name}/loss", np.asarray(value)
        yield from leaves(grads, f"step/{name}/gradient")
        given = jax.tree.map(lambda w: jnp.asarray(_numbers(w.shape, 8)), params)
        for optimizer in ("sgd", "adamw"):
            made = {
                "sgd": optax.chain(optax.add_decayed_weights(5e-4), optax.trace(0.9, True)),
                "adamw": optax.adamw(1e-3),
            }[optimizer]
            update = jax.jit(made.update)
            state = update(given, made.init(params), params)[1]
            yield from leaves(state, f"optimizer/{name}/{optimizer}")


def config_of(algorithm: str, network: dict[str, Any], augment: str = "crop") -> dict[str, Any]:
    """The resolved config of a training of 50 steps on the digits, four mask updates."""
    card = config_lib.default()
    options = {
        "data.name": "digits",
        "data.augment": augment,
        **network,
        "train.batch_size": 32,
        "train.steps": str(STEPS),
        "train.warmup": "5",
        "train.learning_rate": 0.05,
        "sparsity.algorithm": algorithm,
        "sparsity.sparsity": 0.8,
        "sparsity.update_freq": "10",
        "sparsity.update_end_step": "45",
        "sparsity.prune_end_step": "40",
        "checkpoint.every": "1",
        "checkpoint.keep": STEPS,
        "log.every": "10",
        **_NEEDS.get(algorithm, {}),
    }
    for name, value in options.items():
        config_lib.set_option(card, name, value)
    return config_lib.resolve(card, 1437)


def trainings(networks: Sequence[str], algorithms: Sequence[str]) -> Recorded:
    """Masks, weights and loss of trainings, by the program that the command runs.

    Names that stand for one class, as `dense` and `no_prune`, are trained once.
    """
    registry = sparsity.ALGORITHM_REGISTRY
    distinct = {algorithm: name for name, algorithm in reversed(registry.items())}
    paths.prepare_jax(paths.RunPaths(Path(), None, data.default_cache_dir()))
    for network_name in networks:
        network = {"mlp": MLP, "conv": CONV}[network_name]
        for algorithm in algorithms or sorted(distinct.values()):
            config = config_of(algorithm, network)
            with tempfile.TemporaryDirectory() as directory:
                workdir = Path(directory) / "run"
                workdir.mkdir()
                write_json(workdir / "config.json", config)
                with (
                    mock.patch.object(
                        checkpoint.Checkpoints, "save", _only_some(checkpoint.Checkpoints.save)
                    ),
                    mock.patch("builtins.print"),
                ):
                    loop.train([config], [workdir], None, data.default_cache_dir())
                prefix = f"{network_name}/{algorithm}"
                for step in CHECKPOINTS:
                    state = checkpoint.read(workdir / "checkpoints", step)
                    name = f"{prefix}/{step:02d}"
                    yield from leaves(state["sparse"].get("masks") or {}, f"train_masks/{name}")
                    yield from leaves(state["params"], f"train_weights/{name}")
                text = (workdir / "metrics.jsonl").read_text().splitlines()
                losses = [float(line.split('"loss": ')[1].split(",")[0]) for line in text]
                yield f"train_loss/{prefix}", np.array(losses, np.float32)


def _only_some(save: Callable[..., None]) -> Callable[..., None]:
    def chosen(self: Any, step: int, state: Any) -> None:
        if step in CHECKPOINTS:
            save(self, step, state)

    return chosen


def begin(workdir: Path) -> None:
    """Trains RigL on the convolutional network for half of its steps and stops, as at SIGTERM.

    Raises:
      UserError: the directory is there, or cannot be made.
    """
    try:
        workdir.mkdir(parents=True)
    except OSError as error:
        expected = "a run directory that is not there yet"
        raise UserError("--begin", f"{workdir} ({error.strerror})", expected) from None
    config = config_of("rigl", CONV)
    config["checkpoint"].update(every=10, keep=1)
    write_json(workdir / "config.json", config)

    def stop(log: Any, interrupt: Any, step: int) -> bool:
        if step >= STOP:
            interrupt.requested = signal.SIGTERM  # the error that ends the training names it
        return step >= STOP

    with (
        mock.patch.object(loop.Log, "stop_requested", stop),
        contextlib.suppress(InterruptedRunError),
    ):
        loop.train([config], [workdir], None, data.default_cache_dir())
