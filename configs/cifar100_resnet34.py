"""CIFAR-100, ResNet-34: the paper's second setting, with its clearest gains.

    python run.py --config=configs/cifar100_resnet34.py        # RigL, sparsity 0.4
    python run.py --config=configs/cifar100_resnet34.py:algorithm=set,sparsity=0.5
    python run.py --config=configs/cifar100_resnet34.py --sweep=figure2
    python run.py --config=configs/cifar100_resnet34.py:tiny   # smoke test on digits

Reproduces: Wu et al. 2025, figures 1, 2, 5 and 7 (CIFAR100-C, 19 corruptions). The paper's appendix
with its hyper-parameters is not public. Recipe: the published CIFAR scripts of GraNet (Liu et al.
2021), on whose code the paper builds: SGD 0.1 with Nesterov momentum 0.9, weight decay 5e-4, batch
128, 160 epochs, rate divided by 10 at 1/2 and 3/4, pad-4 crops and flips; ERK, a mask update every
1,000 steps to the end of the training, drop fraction 0.5 with a cosine to 0.005; GraNet prunes
until half of the training. GraNet's initial density 0.8 and MEST's bound of 10 % of the target
density are the paper's, by a review of it.

CIFAR-100 must be prepared for TFDS: python -c "import tensorflow_datasets as tfds;
tfds.load('cifar100')"

Expected time: not yet run. Expected result: not yet run; theirs is in `EXPECTED`.
"""

from ml_collections import ConfigDict

from dst_jax import config as config_lib
from dst_jax.config import cards

EXPECTED = (
    cards.Expected(
        "CIFAR100-C",
        0.4,
        {"dense": 51.6, "rigl": 55.6},
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
    config.data.name = "cifar100"
    config.eval.suite = "CIFAR100-C"
    config.data.augment = "crop_flip"
    config.model.name = "resnet34"
    cards.granet_recipe(config)
    config.sparsity.algorithm = "rigl"
    config.sparsity.sparsity = 0.4  # where the paper's number is read
    return cards.with_argument(config, argument, {"model.width": 4, "model.depth": 1})
