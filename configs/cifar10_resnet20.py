"""CIFAR-10, ResNet-20: small enough to try a method on one GPU in minutes.

    python run.py --config=configs/cifar10_resnet20.py   # RigL, sparsity 0.5
    python run.py --config=configs/cifar10_resnet20.py:algorithm=dense
    python run.py --config=configs/cifar10_resnet20.py --sweep=methods

Reproduces: the protocol of Wu et al. 2025 (clean training, then 19 corruptions x 5 severities) on a
network that is not in the paper. Recipe: He et al. 2016, section 4.2 (SGD, batch 128, weight decay
1e-4, rate 0.1 divided by 10 at 1/2 and 3/4 of the training, pad-4 crops and flips) over 160 epochs;
the sparse training of GraNet's published CIFAR scripts (ERK, an update every 1,000 steps, drop
fraction 0.5) with RigL's end of updates at 75 %.

CIFAR-10 must be prepared for TFDS: python -c "import tensorflow_datasets as tfds;
tfds.load('cifar10')"

Expected time: not yet run at full length. 3 epochs (RigL, `--config.train.epochs=3`) take 17 min on
2 busy CPU cores, the 19 corruptions 23 min more.
Expected result: dense 91.25 % clean (He et al. 2016, table 6); ours not yet run at full length.
Those 3 epochs: 70.75 % clean, 59.4 % robust (frost included, by `--config.eval.frost_dir`).
"""

from ml_collections import ConfigDict

from dst_jax import config as config_lib
from dst_jax.config import cards

EXPECTED: tuple[cards.Expected, ...] = ()  # the network is not in the paper

SWEEPS = {
    "methods": [
        {"sparsity.algorithm": algorithm, "seed": seed}
        for algorithm in ("dense", "static", "set", "rigl")
        for seed in range(3)
    ],
}


def get_config(argument: str = "") -> ConfigDict:
    """The card's config; `argument` as in `dst_jax.config.cards.with_argument`."""
    config = config_lib.default()
    config.data.name = "cifar10"
    config.eval.suite = "CIFAR10-C"
    config.data.augment = "crop_flip"
    config.model.name = "resnet20"
    config.train.batch_size = 128
    config.train.epochs = 160.0
    config.train.learning_rate = 0.1
    config.train.schedule = "step"
    config.train.milestones = ("50%", "75%")
    config.train.weight_decay = 1e-4
    config.train.nesterov = True
    config.sparsity.algorithm = "rigl"
    config.sparsity.sparsity = 0.5
    config.sparsity.update_freq = "1000"
    config.sparsity.drop_fraction = 0.5
    return cards.with_argument(config, argument, {"model.width": 4, "model.depth": 1})
