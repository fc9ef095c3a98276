"""ImageNet, ResNet-50: the paper's headline setting, with growth by gradient.

    python run.py --config=configs/imagenet_resnet50.py        # RigL, sparsity 0.1
    python run.py --config=configs/imagenet_resnet50.py:algorithm=dense
    python run.py --config=configs/imagenet_resnet50.py --sweep=table1
    python run.py --config=configs/imagenet_resnet50.py:tiny   # smoke test on digits

Reproduces: Wu et al. 2025, table 1 and figures 3 and 4 (ImageNet-C, ImageNet-C-bar,
ImageNet-3DCC). The paper's appendix with its hyper-parameters is not public. Recipe: GraNet's
published ImageNet script, on whose code the paper builds: SGD 0.1 for a batch of 256, momentum 0.9
without Nesterov, weight decay 1e-4 on kernels, label smoothing 0.1, warm-up 5 epochs, rate divided
by 10 at 30, 60 and 90 of 100 epochs; ERK, an update every 4,000 steps, drop fraction 0.5; GraNet
prunes for 30 epochs. (The script divides the batch of 256 among GPUs, whose BatchNorm then sees
less: `parallelism`.)

GraNet's initial density is 0.95 here: the paper's 0.8 lies below the target of 0.9
(`checks.granet_initial_density`).

ImageNet must be prepared for TFDS: https://www.tensorflow.org/datasets/catalog/imagenet2012

Expected time: not yet run. Expected result: not yet run; theirs is in `EXPECTED`.
"""

from ml_collections import ConfigDict

from dst_jax import config as config_lib
from dst_jax.config import cards

EXPECTED = (
    cards.Expected(
        "ImageNet-C", 0.1, {"dense": 38.38, "rigl": 38.70, "mest_g": 38.64, "granet_g": 38.72}
    ),
    cards.Expected(
        "ImageNet-C-bar", 0.1, {"dense": 40.38, "rigl": 41.44, "mest_g": 40.50, "granet_g": 41.07}
    ),
    cards.Expected(
        "ImageNet-3DCC", 0.1, {"dense": 43.62, "rigl": 44.08, "mest_g": 43.87, "granet_g": 44.46}
    ),
)

SWEEPS = {
    "table1": cards.table1(),
    # Width 61 has as many parameters as nine tenths of width 64.
    "ablation": cards.ablation(("400", "16000"), {"model.width": 61}),
}


def get_config(argument: str = "") -> ConfigDict:
    """The card's config; `argument` as in `dst_jax.config.cards.with_argument`."""
    config = config_lib.default()
    config.data.name = "imagenet2012"
    config.eval.suite = "ImageNet-C"
    config.data.augment = "resized_crop_flip"
    config.model.name = "resnet50"
    config.model.dtype = "bfloat16"
    config.train.batch_size = 256
    config.train.epochs = 100.0
    config.train.learning_rate = 0.1
    config.train.schedule = "step"
    config.train.warmup = "5%"
    config.train.milestones = ("30%", "60%", "90%")
    config.train.weight_decay = 1e-4
    config.train.nesterov = False
    config.train.label_smoothing = 0.1
    config.sparsity.algorithm = "rigl"
    config.sparsity.sparsity = 0.1
    config.sparsity.update_freq = "4000"
    config.sparsity.drop_fraction = 0.5
    config.sparsity.prune_end_step = "30%"
    config.checkpoint.every = "1 epochs"
    config.log.every = "500"
    config.log.tensorboard = True
    # With a third of 12 steps for GraNet's pruning there must be an update before it ends.
    tiny = {"model.width": 4, "model.depth": 1, "sparsity.update_freq": "3"}
    return cards.with_argument(config, argument, tiny)
