"""ImageNet, ResNet-50, RigL at 10 % sparsity: the paper's headline setting.

    python run.py --config=configs/resnet50_rigl.py
    python run.py --config=configs/resnet50_rigl.py:algorithm=dense

Reproduces: Wu et al. 2025, table 1 and figure 3 (ImageNet-C, ResNet-50: dense 38.38, RigL 38.70
robust accuracy, in percent, theirs). The paper's own hyper-parameters are not public; these are of
GraNet's published ImageNet recipe, on which it builds: SGD 0.1 for a batch of 256, momentum 0.9
without Nesterov, weight decay 1e-4 on kernels, label smoothing 0.1, warm-up 5 epochs, rate divided
by 10 at 30, 60 and 90 of 100 epochs; ERK, an update every 4,000 steps, drop fraction 0.5, growth by
gradient.

ImageNet must be prepared for TFDS: https://www.tensorflow.org/datasets/catalog/imagenet2012

Expected time: not yet run. Expected result: not yet run.
"""

from ml_collections import ConfigDict

from dst_jax import config as config_lib

SWEEPS = {
    "table1": [
        {"sparsity.algorithm": algorithm, "seed": seed}
        for algorithm in ("dense", "rigl")
        for seed in range(3)
    ],
}


def get_config(argument: str = "") -> ConfigDict:
    """The card's config; `argument` as in `dst_jax.config.with_argument`."""
    config = config_lib.default()
    config.data.name = "imagenet2012"
    config.data.augment = "resized_crop_flip"
    config.model.name = "resnet50"
    config.model.dtype = "bfloat16"
    config.train.batch_size = 256
    config.train.epochs = 100.0
    config.train.learning_rate = 0.1
    config.train.schedule = "step"
    config.train.warmup = "5 epochs"
    config.train.milestones = ("30 epochs", "60 epochs", "90 epochs")
    config.train.weight_decay = 1e-4
    config.train.nesterov = False
    config.train.label_smoothing = 0.1
    config.sparsity.algorithm = "rigl"
    config.sparsity.sparsity = 0.1
    config.sparsity.update_freq = "4000"
    config.sparsity.drop_fraction = 0.5
    config.checkpoint.every = "1 epochs"
    config.log.every = "500"
    config.log.tensorboard = True
    return config_lib.with_argument(config, argument)
