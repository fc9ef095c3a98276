"""CIFAR-10, multilayer perceptron: sparse training where it began, without convolutions.

    python run.py --config=configs/cifar10_mlp.py        # RigL, sparsity 0.5
    python run.py --config=configs/cifar10_mlp.py:algorithm=set,sparsity=0.8
    python run.py --config=configs/cifar10_mlp.py --sweep=figure2
    python run.py --config=configs/cifar10_mlp.py:tiny   # smoke test on digits

Reproduces: an experiment that the submission of Wu et al. 2025 had and its final text names no
more; neither its network nor its recipe nor a number of it is public. Network: LeNet-300-100 on the
flattened image, on which RigL (Evci et al. 2020, appendix on MNIST) and SNIP study sparse
perceptrons. Recipe: that of `cifar100_resnet34`, GraNet's published CIFAR scripts, at a learning
rate of 0.01, as there is no BatchNorm; ours to choose, and chosen before any run.

CIFAR-10 must be prepared for TFDS: python -c "import tensorflow_datasets as tfds;
tfds.load('cifar10')"

Expected time: not yet run. Expected result: not yet run; the paper has none to compare with.
"""

from ml_collections import ConfigDict

from dst_jax import config as config_lib
from dst_jax.config import cards

EXPECTED = (cards.Expected("CIFAR10-C", 0.5, {}, note="no number of it is public"),)

SWEEPS = {
    "figure2": cards.figure2(),
    "ablation": cards.ablation(("100", "4000"), None),
}


def get_config(argument: str = "") -> ConfigDict:
    """The card's config; `argument` as in `dst_jax.config.cards.with_argument`."""
    config = config_lib.default()
    config.data.name = "cifar10"
    config.eval.suite = "CIFAR10-C"
    config.data.augment = "crop_flip"
    config.model.name = "mlp"
    cards.granet_recipe(config)
    config.sparsity.algorithm = "rigl"
    config.train.learning_rate = 0.01
    return cards.with_argument(config, argument, {"model.width": 32})
