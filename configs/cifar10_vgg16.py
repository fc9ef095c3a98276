"""CIFAR-10, VGG-16: the paper's first setting, where the gain is smallest.

    python run.py --config=configs/cifar10_vgg16.py        # RigL, sparsity 0.4
    python run.py --config=configs/cifar10_vgg16.py:algorithm=dense
    python run.py --config=configs/cifar10_vgg16.py --sweep=figure2
    python run.py --config=configs/cifar10_vgg16.py:tiny   # smoke test on digits

Reproduces: Wu et al. 2025, figure 2 and table 2 (CIFAR10-C, 19 corruptions). The paper's appendix
with its hyper-parameters is not public. Recipe: the published CIFAR scripts of GraNet (Liu et al.
2021), on whose code the paper builds, as in `cifar100_resnet34`, with the crops padded by
reflection, as that code does on CIFAR-10. (It also holds a tenth of the training images out and
then chooses the checkpoint by the test set; here nothing is chosen and all images are trained on.)

CIFAR-10 must be prepared for TFDS: python -c "import tensorflow_datasets as tfds;
tfds.load('cifar10')"

Expected time: not yet run. Expected result: not yet run; theirs is in `EXPECTED`.
"""

from ml_collections import ConfigDict

from dst_jax import config as config_lib
from dst_jax.config import cards

EXPECTED = (
    cards.Expected(
        "CIFAR10-C",
        0.4,
        {"dense": 73.2, "rigl": 73.6},
        note="read from a damaged scan of table 2: the order of magnitude only",
    ),
)

SWEEPS = {
    "figure2": cards.figure2(),
    # Width 50 has about as many parameters as 60 % of width 64.
    "ablation": cards.ablation(("100", "4000"), {"model.width": 50}),
}


def get_config(argument: str = "") -> ConfigDict:
    """The card's config; `argument` as in `dst_jax.config.cards.with_argument`."""
    config = config_lib.default()
    config.data.name = "cifar10"
    config.eval.suite = "CIFAR10-C"
    config.data.augment = "reflect_crop_flip"
    config.model.name = "vgg16"
    cards.granet_recipe(config)
    config.sparsity.algorithm = "rigl"
    config.sparsity.sparsity = 0.4  # where the paper's number is read
    return cards.with_argument(config, argument, {"model.width": 4, "model.depth": 1})
