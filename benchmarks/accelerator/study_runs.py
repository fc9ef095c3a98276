"""The runs of the study: what each is, and the report over those that are finished.

The network, the recipe and their sources are here; nothing of them was chosen by a test set, and
they are the same for all methods. Called by `study`.
"""

import contextlib
import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accelerator import trainer
from benchmarks.accelerator.speed_training import shrunk
from benchmarks.accelerator.stages import Context
from dst_jax.runtime.run_dir import write_bytes

METHODS = ("dense", "static", "set", "rigl", "granet_g")
SPARSITY = 0.5
ARCHIVE = "report.tar.gz"
_OF_A_RUN = (
    *("config.json", "metrics.jsonl", "model.json", "summary.json", "environment.json"),
    *("robustness.csv", "robustness.json"),
)


def card(context: Context, method: str, seed: int, epochs: int) -> Any:
    """The config of one run.

    Recipe: ResNet-18 for 32 pixels (He et al. 2016), bfloat16; SGD with Nesterov momentum 0.9,
    weight decay 5e-4, pad-4 crops and flips, as GraNet's CIFAR scripts (Liu et al. 2021); a batch
    of 512 and four times their rate for it, with a warm-up and a cosine (Goyal et al. 2017;
    Loshchilov and Hutter 2017), as the training is short. Masks as RigL (Evci et al. 2020): ERK,
    drop fraction 0.3 with a cosine, last update at 75 %; an update every 3 % of the training.
    """
    options, dataset = context.options, context.dataset
    on_cpu = _is_cpu()
    changes: dict[str, Any] = {
        "data.name": options.data,
        "data.augment": dataset.augment,
        "model.name": "resnet18",
        "model.dtype": "float32" if on_cpu else "bfloat16",
        "train.batch_size": 512,
        "train.epochs": float(epochs),
        "train.learning_rate": 0.4,
        "train.schedule": "cosine",
        "train.warmup": "15%",
        "train.weight_decay": 5e-4,
        "train.steps_per_dispatch": 64,
        "sparsity.algorithm": method,
        "sparsity.sparsity": SPARSITY,
        "sparsity.update_freq": "3%",
        "checkpoint.every": "50%",
        "checkpoint.keep": 1,
        "log.every": "10%",
        "eval.suite": suite(context),
        "eval.source": "rendered",
        "eval.batch_size": 1000,
        "eval.frost_dir": options.frost_dir,
        "seed": seed,
    }
    if options.tiny:
        changes |= {
            "data.stand_in_for": f"{options.data} at full size",
            "model.name": "resnet20",
            "model.width": 4,
            "model.depth": 1,
            "train.batch_size": 32,
            "train.steps": "24",
            "train.learning_rate": 0.1,
            "sparsity.update_freq": "4",
            "eval.batch_size": 64,
            "eval.max_images": 64,
            "eval.corruptions": ("gaussian_noise", "contrast"),
            "eval.severities": (1, 4),
        }
    return trainer.card(changes)


def network(context: Context) -> str:
    """The network of all runs, for the table."""
    return shrunk("ResNet-20", 4, 1) if context.options.tiny else "ResNet-18"


def suite(context: Context) -> str:
    """The benchmark of the dataset, or the 19 common corruptions where it has none."""
    from dst_jax.data.benchmarks import BENCHMARKS

    own = [b.name for b in BENCHMARKS if b.dataset == context.options.data]
    return own[0] if own else "common"


def _is_cpu() -> bool:
    import jax

    return jax.default_backend() == "cpu"


def directory(context: Context, epochs: int) -> Path:
    """Where the run directories of so many epochs are."""
    length = "toy" if context.options.tiny else f"{epochs}epochs"
    # Runs of other code, images or hardware are not gone on with.
    name = "-".join(filter(None, (context.options.data, length, context.identity)))
    return context.options.work / "study" / name


def path(context: Context, method: str, seed: int, epochs: int) -> Path:
    """The run directory of a method and seed."""
    name = method if method == "dense" else f"{method}-{SPARSITY:g}"
    return directory(context, epochs) / f"{name}-{seed}"


def do(context: Context, method: str, seed: int, epochs: int) -> dict[str, float]:
    """Trains and scores one run with the library's own machinery; what is done is kept.

    Returns:
      Clean and robust accuracy in [0, 1], the share of removed weights that was asked for, the
      seconds that the training took.
    """
    from dst_jax import evaluate, run_configs, stages
    from dst_jax.paths import RunPaths
    from dst_jax.runtime.run_dir import read_json

    options, where = context.options, path(context, method, seed, epochs)
    run_paths = RunPaths(where, options.data_dir, context.cache_dir)
    run = run_configs.of_call(card(context, method, seed, epochs), where, run_paths, {})
    where.parent.mkdir(parents=True, exist_ok=True)
    # Tables of layers go to a file; the lines of progress stay on standard error.
    with open(where.parent / "output.txt", "a") as log, contextlib.redirect_stdout(log):
        stages.do({where: run}, run_paths, "all", several=True)
    result = evaluate.complete(run.for_evaluation, where, options.data_dir, context.cache_dir)
    assert result is not None
    return {
        "clean": float(result.clean_accuracy or 0.0),
        "robust": float(result.robust_accuracy or 0.0),
        "sparsity": 0.0 if method == "dense" else SPARSITY,
        "train_s": float(read_json(where / "summary.json")["seconds"]),
    }


def report(context: Context, seeds: Sequence[int], epochs: int) -> str:
    """Writes the report over all methods and the given seeds, and the archive to take home.

    Returns:
      The report in Markdown.
    """
    from dst_jax import report as report_lib

    runs = [path(context, method, seed, epochs) for seed in seeds for method in METHODS]
    out = directory(context, epochs) / "report"
    written = report_lib.write(runs, out)
    files = {f"report/{p.relative_to(out)}": p for p in sorted(out.rglob("*")) if p.is_file()}
    files |= {f"runs/{run.name}/{name}": run / name for run in runs for name in _OF_A_RUN}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, file in files.items():
            if file.exists():
                archive.add(file, name, recursive=False)
    write_bytes(context.options.out / ARCHIVE, content.getvalue())
    return written.markdown_path.read_text()


def all_there(context: Context, seeds: Sequence[int], epochs: int) -> bool:
    """Whether the report over these rounds can be written without training anything."""
    return all(
        (path(context, method, seed, epochs) / name).exists()
        for seed in seeds
        for method in METHODS
        for name in ("summary.json", "robustness.csv")
    )


def archive_digest(out: Path) -> str:
    """SHA-256 of the archive in `--out`; "" where there is none."""
    try:
        return hashlib.sha256((out / ARCHIVE).read_bytes()).hexdigest()
    except OSError:
        return ""


def archive_remark(out: Path, records: Sequence[Mapping[str, Any]], no_round: str) -> str:
    """What is to be told where the archive in `--out` is not that of the last round's record.

    Args:
      out: `--out`.
      records: of the table.
      no_round: why no round of the study is done; "" where one is.
    """
    found = [r["figures"]["archive_sha256"] for r in records if "archive_sha256" in r["figures"]]
    wanted, there = (found[-1] if found else ""), archive_digest(out)
    if there and there != wanted:
        return f"{ARCHIVE} in --out is of another call and not of this table"
    if there or not (wanted or no_round):
        return ""
    why = "its run directories are not below --work" if wanted else f"no study yet, {no_round}"
    return f"{ARCHIVE} is absent from --out: {why}"
