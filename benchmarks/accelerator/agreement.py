"""Stage a, agreement: the accelerator against the CPU of the same machine, in one process.

Masks must be the same bits from the same scores, weights and gradients. Corruptions and training
steps are compared in numbers: random draws are the same, sums and functions are rounded otherwise.
Called by `command`.
"""

import contextlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.accelerator import trainer
from benchmarks.accelerator.speed_training import shrunk
from benchmarks.accelerator.stages import Context, Outcome, Part

SEVERITY = 3
STEPS, UPDATE_AT = 10, 5  # training steps compared, and the one that updates the masks
METHODS = ("static", "set", "rigl", "mest_r", "mest_g", "granet_r", "granet_g")


def _cpu() -> Any:
    """The CPU as a device; raises where JAX was told to leave it alone."""
    import jax

    return jax.devices("cpu")[0]


def _both() -> tuple[Any, Any]:
    import jax

    return jax.devices()[0], _cpu()


def _against(context: Context) -> str:
    device, cpu = _both()
    if device.platform == cpu.platform:
        return "the same CPU: nothing is compared but the way"
    return "the CPU of the machine"


# --- masks


def _scores(shapes: Sequence[tuple[int, ...]], kind: str, seed: int) -> list[Any]:
    """Scores made by NumPy, so that both devices get the same bits: float32 a layer."""
    import numpy as np

    generator = np.random.default_rng(seed)
    found = []
    for shape in shapes:
        scores: Any = generator.normal(size=shape).astype(np.float32)
        if kind == "ties":
            scores = np.round(scores * 4) / 4
        if kind == "denormals and NaN":
            scores = scores * np.float32(1e-39)
            scores[generator.random(shape) < 0.01] = np.nan
        found.append(scores)
    return found


def _mask_estimate(context: Context) -> float:
    if context.options.tiny:
        return context.toy_s("masks")
    return 20 + 3 * context.longest_compile(20.0)


def _mask_run(context: Context) -> Outcome:
    import jax
    import numpy as np

    from dst_jax import models
    from dst_jax.sparsity import topk
    from dst_jax.training import build

    tiny = context.options.tiny
    network: dict[str, Any] = {"width": 4, "depth": 1} if tiny else {}
    name = "resnet20" if tiny else "resnet18"
    title = shrunk("ResNet-20", 4, 1) if tiny else "ResNet-18"
    methods = METHODS[:3] if tiny else METHODS
    module = models.create(name, 10, **network)
    params = models.init(module, context.options.seed, (32, 32, 3))["params"]
    generator = np.random.default_rng(context.options.seed)
    dense = jax.tree.map(lambda w: generator.normal(size=w.shape).astype(np.float32), params)
    shapes = [leaf.shape for leaf in jax.tree.leaves(params) if len(leaf.shape) > 1]
    device, cpu = _both()
    wrong: list[str] = []
    counted = 0
    compile_s = 0.0

    def compare(what: str, program: Any, *arguments: Any) -> None:
        nonlocal counted, compile_s
        began = time.perf_counter()
        one, two = (
            jax.tree.map(np.asarray, program(*jax.device_put(arguments, where)))
            for where in (device, cpu)
        )
        compile_s = max(compile_s, time.perf_counter() - began)
        pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
        differing = sum(int((a != b).sum()) for a, b in pairs)
        counted += sum(mask.size for mask in jax.tree.leaves(one))
        if differing:
            wrong.append(f"{what}: {differing} of {sum(m.size for m in jax.tree.leaves(one))}")

    counts = [int(np.prod(shape)) // 2 for shape in shapes]
    key = jax.random.key(context.options.seed)
    for kind in ("normal", "ties", "denormals and NaN"):
        scores = _scores(shapes, kind, context.options.seed)
        compare(
            f"top k, {kind}", jax.jit(lambda s: topk.topk_masks(s, counts, tie_key=key)), scores
        )
    options: dict[str, Any] = {"train.epochs": 1.0, "sparsity.update_freq": "5"}
    options |= {"model.name": name}
    options |= {f"model.{name}": value for name, value in network.items()}
    for method in methods:
        config = trainer.resolved({**options, "sparsity.algorithm": method}, 12_800)
        updater = build.updater(config)
        first = jax.jit(updater.init_state)
        compare(f"{method}, first masks", lambda p, first=first: first(p).masks, params)
        if method == "static":
            continue
        state = jax.tree.map(np.asarray, first(params))
        state = state._replace(count=np.int32(5))
        masked = updater.apply_masks(params, state.masks)
        update = jax.jit(lambda s, p, g, updater=updater: updater.update_state(s, p, g).masks)
        compare(f"{method}, an update", update, state, masked, dense)
    text = "all bits are equal" if not wrong else "; ".join(wrong)
    return {
        "figures": {"entries": counted, "differing": wrong, "compile_s": compile_s},
        "rows": [
            [
                f"masks of {title} from given scores, weights and gradients: {len(methods)} "
                "methods, 3 kinds of scores",
                f"{counted:,} entries",
                _against(context),
                text,
            ]
        ],
    }


# --- corruptions


def _corruption_estimate(context: Context) -> float:
    if context.options.tiny:
        return context.toy_s("corruptions")
    return 40 + 2 * context.longest_compile(20.0)


def _corruption_run(context: Context) -> Outcome:
    import jax
    import numpy as np

    from dst_jax import corruptions
    from dst_jax.data.benchmarks import SUITES

    names = list(dict.fromkeys((*SUITES["common"], *SUITES["c_bar_cifar"])))
    frost = context.options.frost_dir
    skipped = ["frost"] if not frost else []
    names = [name for name in names if name not in skipped]
    if context.options.tiny:
        names = names[::8]
    count = 8 if context.options.tiny else 200
    images = np.asarray(context.test_images[0][:count])
    ids = np.arange(count, dtype=np.int32)
    device, cpu = _both()

    # Several at a time for the accelerator, one for the CPU (`Context.workers`).
    on_cpu = threading.Lock()

    def render(name: str) -> tuple[dict[str, Any], float]:
        @jax.jit
        def program(images: Any, ids: Any) -> Any:
            keys = corruptions.example_keys(context.options.seed, name, SEVERITY, ids)
            return corruptions.corrupt(
                name, images, keys, SEVERITY, "cifar32", frost_dir=frost or None
            )

        found, seconds = [], []
        for where in (device, cpu):
            with on_cpu if where.platform == "cpu" else contextlib.nullcontext():
                began = time.perf_counter()
                found.append(np.asarray(program(*jax.device_put((images, ids), where))))
                seconds.append(time.perf_counter() - began)
        apart = np.abs(found[0].astype(int) - found[1].astype(int))
        share = float((apart.max(-1) > 0).mean())
        return {"pixels": share, "levels": int(apart.max())}, seconds[0]

    with ThreadPoolExecutor(context.workers) as pool:
        results = dict(zip(names, pool.map(render, names), strict=True))
    found = {name: result for name, (result, _) in results.items()}
    equal = [name for name, result in found.items() if not result["levels"]]
    differing = {name: result for name, result in found.items() if result["levels"]}
    rows = [
        [
            f"{len(names)} corruptions at severity {SEVERITY}, {count} test images",
            f"{len(equal)} equal in every pixel",
            _against(context),
            "of the others the share of pixels that differ and the greatest difference"
            if differing
            else "",
        ]
    ]
    rows += [
        [f"corruption {name}", f"{100 * result['pixels']:.3g} % of pixels", "",
         f"at most {result['levels']} of 255 levels"]
        for name, result in sorted(differing.items(), key=lambda item: -item[1]["pixels"])
    ]  # fmt: skip
    notes = ["frost is left out: no photographs"] if skipped else []
    longest = max(seconds for _, seconds in results.values())
    figures = {"by_corruption": found, "images": count, "compile_s": longest}
    return {"figures": figures, "rows": rows, "notes": notes}


# --- training steps


def _step_estimate(context: Context) -> float:
    if context.options.tiny:
        return context.toy_s("steps")
    return 40 + 2 * context.longest_compile(30.0)


def _step_run(context: Context) -> Outcome:
    import jax
    import numpy as np

    images, labels = (np.asarray(part[:512]) for part in context.train_images)
    config = trainer.resolved(
        {
            "data.name": context.options.data,
            "data.augment": context.dataset.augment,
            # A toy takes what compiles in a second.
            "model.name": "mlp" if context.options.tiny else "resnet20",
            "model.depth": 1,
            "model.width": 16,
            "train.batch_size": 64,
            "train.steps": "100",
            "train.learning_rate": 0.05,
            "sparsity.algorithm": "rigl",
            "sparsity.update_freq": str(UPDATE_AT),
            "seed": context.options.seed,
        },
        len(labels),
    )
    title = shrunk("an MLP" if context.options.tiny else "ResNet-20", 16, 1)
    device, cpu = _both()

    def train(where: Any, precision: str) -> dict[str, Any]:
        with jax.default_matmul_precision(precision):
            run = trainer.Trainer(config, images, labels, [where])
            began = time.perf_counter()
            losses, total = [], 0.0
            for step in range(STEPS):
                run.advance(1, update=step == UPDATE_AT)
                now = run.loss() * (step + 1)
                losses.append(now - total)
                total = now
            params, masks = (
                [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
                for tree in (run.state.params, run.state.sparse.masks)
            )
            run.close()
        seconds = time.perf_counter() - began
        return {"losses": losses, "params": params, "masks": masks, "seconds": seconds}

    cases = {
        "cpu": (cpu, "highest"),
        "highest": (device, "highest"),
        "default": (device, "default"),
    }
    if device.platform == "cpu":  # it has one precision only
        del cases["default"]
    with ThreadPoolExecutor(min(context.workers, len(cases))) as pool:
        done = dict(zip(cases, pool.map(lambda case: train(*case), cases.values()), strict=True))
    reference = done.pop("cpu")
    figures: dict[str, Any] = {"compile_s": max(run["seconds"] for run in done.values())}
    rows = []
    for precision, run in done.items():
        found = {
            "loss": max(
                abs(a - b) / abs(b) for a, b in zip(run["losses"], reference["losses"], strict=True)
            ),
            "params": max(
                float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-12))
                for a, b in zip(run["params"], reference["params"], strict=True)
            ),
            "masks": sum(
                int((a != b).sum()) for a, b in zip(run["masks"], reference["masks"], strict=True)
            ),
            "mask_entries": sum(mask.size for mask in run["masks"]),
        }
        figures[precision] = found
        rows.append(
            [
                f"{STEPS} RigL steps of {title} in float32, precision {precision}: loss of a "
                "step, weights of a layer",
                f"{found['masks']} of {found['mask_entries']:,} mask entries differ",
                _against(context),
                f"relative at most {found['loss']:.2g} and {found['params']:.2g}",
            ]
        )
    return {"figures": figures, "rows": rows}


PARTS = (
    Part("masks", "a", "masks on the accelerator and on the CPU", _mask_estimate, _mask_run),
    Part(
        "corruptions",
        "a",
        "corruptions on the accelerator and on the CPU",
        _corruption_estimate,
        _corruption_run,
        settings=lambda context: {"frost": context.frost_digest},
    ),
    Part(
        "steps", "a", "training steps on the accelerator and on the CPU", _step_estimate, _step_run
    ),
)
