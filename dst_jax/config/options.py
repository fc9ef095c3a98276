"""The table of all options: default, meaning, and which values each may take by itself.

How options are checked against each other and turned into steps is in `config`, which is what
cards and the rest of the library use. Nothing here imports JAX, so `dst-jax --help` stays quick.
"""

import dataclasses
from typing import Any

ANALYSES = ("weights", "attenuation", "heat_map", "noise", "corruptions", "saliency")
DURATION = "a duration: `300` or `300 steps`, `5 epochs`, `75%` of the training"


@dataclasses.dataclass(frozen=True)
class Option:
    """One option: its default, what it means, and which values it may take."""

    default: Any
    meaning: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    duration: bool = False

    def expected(self) -> str:
        """Says in words which values are accepted."""
        if self.duration:
            return DURATION
        if self.choices:
            return "one of " + ", ".join(choice or '""' for choice in self.choices)
        kind = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}
        text = kind.get(type(self.default), "a tuple")
        if self.low is not None and self.high is not None:
            return f"{text} from {self.low:.10g} to {self.high:.10g}"
        return text if self.low is None else f"{text}, at least {self.low:g}"


OPTIONS: dict[str, Option] = {
    "seed": Option(0, "seed of weights, data order, augmentation and masks", low=0, high=2**32 - 1),
    "num_seeds": Option(
        1,
        "runs trained together in one program, with seed, seed + 1, ...; each gets a directory of "
        "its own; for resident datasets",
        low=1,
    ),
    "parallelism": Option(
        "jit",
        "jit: one program over a mesh, BatchNorm over the global batch; pmap: BatchNorm per device",
        choices=("jit", "pmap"),
    ),
    "model.name": Option("resnet20", "a name in dst_jax.models.MODELS"),
    "model.dtype": Option(
        "float32",
        "type of the computation; weights, optimizer and BatchNorm statistics stay float32",
        choices=("float32", "bfloat16"),
    ),
    "model.width": Option(
        0,
        "channels of the stem (units of each hidden layer of mlp, size of a token of deit); "
        "0: as published",
        low=0,
    ),
    "model.depth": Option(
        0,
        "blocks in each stage (hidden layers of mlp, convolutions in each stage of vgg, all blocks "
        "of deit); 0: as published",
        low=0,
    ),
    "model.stem": Option(
        "published",
        "small: for images of 64 pixels or less, 3x3 without stride or pooling, patches of 4",
        choices=("published", "small"),
    ),
    "model.dropout": Option(
        -1.0, "dropout of the models that have it; below 0: as published", low=-1, high=1
    ),
    "model.drop_path": Option(
        -1.0,
        "highest probability of stochastic depth, for efficientnet and deit; below 0: as published",
        low=-1,
        high=1,
    ),
    "model.zero_init_residual": Option(
        "published",
        "yes: the last BatchNorm scale of each residual block starts at 0 (Goyal et al. 2017); "
        "no: at 1; for resnet, resnet3d and efficientnet",
        choices=("published", "yes", "no"),
    ),
    "model.init_from": Option(
        "",
        "weights to start from: a file .safetensors, of `dst-jax export` or of a PyTorch network, "
        "or the directory of a finished run",
    ),
    "model.init_fresh": Option(
        "",
        "regular expression over parameter paths: what matches is not taken from init_from but "
        "drawn, as '^classifier/' for other classes",
    ),
    "model.init_sha256": Option(
        "",
        "SHA-256 of the weights of init_from, filled in; if given, other weights are refused",
    ),
    "data.name": Option("digits", "a name in dst_jax.data.DATASETS"),
    "data.input": Option(
        "auto",
        "resident: all images on the device; stream: tf.data; auto: what the dataset suggests",
        choices=("auto", "resident", "stream"),
    ),
    "data.augment": Option(
        "none",
        "augmentation of the training images",
        choices=(
            *("none", "crop", "crop_flip", "reflect_crop_flip"),
            *("resized_crop_flip", "clip_crop_flip"),
        ),
    ),
    "data.validation": Option(
        0.0,
        "share of the training images held out and scored at every log line; never the test set",
        low=0,
        high=0.5,
    ),
    "data.stand_in_for": Option(
        "", "toy runs: the dataset in whose place data.name is; only shown"
    ),
    "data.randaugment_layers": Option(
        0, "operations of RandAugment that an image may get; 0: no RandAugment", low=0
    ),
    "data.randaugment_magnitude": Option(
        9.0, "mean strength of RandAugment's operations, of 10", low=0, high=10
    ),
    "data.augmix": Option(
        0.0, "severity of AugMix, 0.1 to 10, in the paper 3; 0: no AugMix", low=0, high=10
    ),
    "data.erasing": Option(
        0.0, "probability that a rectangle of an image becomes noise", low=0, high=1
    ),
    "train.batch_size": Option(128, "images per step, over all devices", low=1),
    "train.epochs": Option(10.0, "length of the training in passes over the data", low=0),
    "train.steps": Option(
        "", "length of the training in steps; if given, it overrides train.epochs"
    ),
    "train.steps_per_dispatch": Option(
        16, "most steps in one compiled call, for resident datasets; changes speed only", low=1
    ),
    "train.optimizer": Option(
        "sgd", "sgd: momentum and L2 decay; adamw: decoupled decay", choices=("sgd", "adamw")
    ),
    "train.learning_rate": Option(0.1, "highest learning rate", low=0),
    "train.schedule": Option(
        "cosine",
        "learning-rate schedule",
        choices=("constant", "cosine", "step", "exponential"),
    ),
    "train.warmup": Option("0", "linear warm-up of the learning rate from 0", duration=True),
    "train.milestones": Option(("50%", "75%"), "where schedule `step` decays, each a duration"),
    "train.decay_factor": Option(
        0.1, "factor of each decay of schedules `step` and `exponential`", low=0, high=1
    ),
    "train.decay_every": Option(
        "2.4 epochs", "time between two decays of schedule `exponential`", duration=True
    ),
    "train.learning_rate_floor": Option(
        0.0, "what schedule `cosine` falls to, a learning rate", low=0
    ),
    "train.momentum": Option(0.9, "momentum of sgd, first moment of adamw", low=0, high=1),
    "train.adam_b2": Option(0.999, "decay of adamw's second moment", low=0, high=1),
    "train.adam_eps": Option(1e-8, "added to the root of adamw's second moment", low=0),
    "train.nesterov": Option(True, "Nesterov momentum for sgd"),
    "train.weight_decay": Option(5e-4, "weight decay, on kernels only", low=0),
    "train.label_smoothing": Option(
        0.0, "label smoothing: share of the label given to all classes", low=0, high=1
    ),
    "train.mixup": Option(
        0.0, "mixup: alpha of the Beta distribution of its lambda; 0: no mixup", low=0
    ),
    "train.cutmix": Option(
        0.0, "CutMix: alpha of the Beta distribution of its lambda; 0: no CutMix", low=0
    ),
    "train.mix_probability": Option(
        1.0, "share of the batches that mixup or CutMix changes", low=0, high=1
    ),
    "train.cutmix_share": Option(
        0.5, "probability of CutMix rather than mixup where both are on", low=0, high=1
    ),
    "train.clip_norm": Option(0.0, "largest norm of the masked gradient; 0: no clipping", low=0),
    "train.grad_accum_steps": Option(
        1, "gradient accumulation: micro-batches per optimizer step, to save memory", low=1
    ),
    "train.ema": Option(
        0.0,
        "EMA: decay per step of the average of weights and BatchNorm statistics; the averaged "
        "network is then evaluated; 0: no average",
        low=0,
        high=1,
    ),
    "sparsity.library": Option(
        "dst_jax",
        "whose updater: ours, or that of the original package, if it is installed",
        choices=("dst_jax", "jaxpruner"),
    ),
    "sparsity.algorithm": Option("dense", "a name in dst_jax.sparsity.all_algorithm_names()"),
    "sparsity.sparsity": Option(
        0.5, "share of the maskable weights that is removed", low=0, high=1
    ),
    "sparsity.dist_type": Option(
        "erk", "how the sparsity is distributed over the layers", choices=("erk", "uniform")
    ),
    "sparsity.sparsity_type": Option(
        "",
        "pattern of the masks: empty or unstructured; nm_N,M: of M weights in a row along a "
        "kernel's last axis N stay; block_H,W: rectangles over its first two axes; channel_AXIS: "
        "whole slices, as channel_-1 for outputs",
    ),
    "sparsity.exclude": Option(
        "", "regular expression over parameter paths; matching kernels stay dense and uncounted"
    ),
    "sparsity.initial_mask": Option(
        "random",
        "random; snip: the largest |weight x gradient| of the first batch; magnitude: the largest "
        "weights of each layer, as for model.init_from; for algorithms that are sparse from the "
        "start",
        choices=("random", "snip", "magnitude"),
    ),
    "sparsity.update_freq": Option("100", "time between mask updates", duration=True),
    "sparsity.update_start_step": Option("1", "first step with a mask update", duration=True),
    "sparsity.update_end_step": Option("75%", "last step with a mask update", duration=True),
    "sparsity.drop_fraction": Option(
        0.3, "share of a layer's active weights dropped by the first update", low=0, high=1
    ),
    "sparsity.drop_fraction_schedule": Option(
        "cosine",
        "cosine: it falls to drop_fraction_floor at update_end_step; constant",
        choices=("cosine", "constant"),
    ),
    "sparsity.drop_fraction_floor": Option(
        0.0, "what drop_fraction falls to along the cosine", low=0, high=1
    ),
    "sparsity.update_timing": Option(
        "replace",
        "replace: an update step takes no optimizer step; after: it takes one first",
        choices=("replace", "after"),
    ),
    "sparsity.regrow_same": Option(
        "keep",
        "value of a weight that one update drops and regrows: its own, or zero",
        choices=("keep", "zero"),
    ),
    "sparsity.adam_fresh": Option(
        "zero",
        "initial second moment (adamw) of a new weight: zero, or its layer's mean",
        choices=("zero", "mean_v"),
    ),
    "sparsity.initial_density": Option(
        0.0,
        "granet_*: density before the first pruning, above the target density; 0: 0.8, or half way "
        "from a target of 0.8 and more to 1",
        low=0,
        high=1,
    ),
    "sparsity.prune_end_step": Option(
        "50%",
        "granet_* and gmp: last step of pruning; the target density holds from then on",
        duration=True,
    ),
    "sparsity.soft_bound": Option(
        0.1,
        "mest_*: extra active weights during the training, as a share of the target",
        low=0,
        high=1,
    ),
    "sparsity.memory_bound": Option(
        "soft",
        "mest_*: soft (EM&S): beyond the target until the last update; hard (EM): never beyond it",
        choices=("soft", "hard"),
    ),
    "checkpoint.every": Option("10%", "time between checkpoints", duration=True),
    "checkpoint.keep": Option(2, "checkpoints kept", low=1),
    "log.every": Option("1 epochs", "time between two lines of metrics.jsonl", duration=True),
    "log.tensorboard": Option(
        False, "also write TensorBoard events (imports TensorFlow; needs the extra `tf`)"
    ),
    "eval.suite": Option(
        "common",
        "what is scored: a benchmark of the dataset, as CIFAR10-C or ImageNet-C; a list in "
        "dst_jax.robustness.SUITES; names of corruptions; or a prepared corrupted dataset",
    ),
    "eval.batch_size": Option(500, "batch size per device", low=1),
    "eval.max_images": Option(0, "use the first N test images; 0: all", low=0),
    "eval.image_ids": Option(
        "",
        "these test images only: a file with numbers or file names, one a line; or robustbench, "
        "the 5,000 of ImageNet; empty: all",
    ),
    "eval.source": Option(
        "auto",
        "rendered: corrupted here, on the device; the name of a prepared corrupted dataset, as "
        "imagenet_c; the folder of a published one; auto: the first prepared dataset, published "
        "files before TFDS's own, that has every condition asked for, else rendered",
    ),
    "eval.corruptions": Option(
        (), "corruptions of the suite; empty: all, frost only if its photographs are there"
    ),
    "eval.frost_dir": Option("", "directory of ImageNet-C's photographs of frost, frost1.png ..."),
    "eval.severities": Option((), "severities, 1 to 5; empty: those of the benchmark"),
    "eval.preset": Option(
        "", "constants of the rendered corruptions; empty: those that fit the dataset's images"
    ),
    "eval.seed": Option(0, "seed of the rendered corruptions", low=0),
    "eval.keep": Option(
        "",
        "what is kept of each prediction besides whether it is right: top5 (for top-5 accuracy, "
        "confusion, likelihood, Brier score, reliability), logits (all of them), or nothing",
        choices=("", "top5", "logits"),
    ),
    "analysis.parts": Option(
        (),
        "what mode `all` analyses after the evaluation, among " + ", ".join(ANALYSES) + "; mode "
        "`analyze` does these, or all of them if none is named",
    ),
    "analysis.images": Option(256, "use the first N clean test images; 0: all", low=0),
    "analysis.radii": Option(
        (), "radii of the frequency attenuation, in periods per image; empty: 17 from 0 to the side"
    ),
    "analysis.heat_map_step": Option(
        1, "1: a Fourier heat map of every frequency; 2: of every second along both axes", low=1
    ),
    "analysis.layer": Option(
        "",
        "layer whose kernels are mapped, as layer3_3/conv2; empty: the last with larger than 1x1",
    ),
}
