"""Study: narrow ResNet-20 on real CIFAR-10, short enough for two CPU cores, with three seeds.

    python run.py --config=configs/cifar10_resnet20_study.py --sweep=study --mode=train
    python run.py --mode=evaluate --workdir=runs/cifar10_resnet20_study/study

Reproduces: no number of the paper; it asks the paper's question, with the controls that the paper
lacks, of a convolutional network. results/cifar10_resnet20.md has the protocol, which was written
down before the first run, all commands, and what came of it. Recipe: that of `cifar10_resnet20` (He
et al. 2016; masks as in GraNet's published CIFAR scripts) at half width in 15 epochs instead of
160, with as many mask updates in them.

CIFAR-10 must be prepared for TFDS: python -c "import tensorflow_datasets as tfds;
tfds.load('cifar10')"

Expected time: results/cifar10_resnet20.md. Expected result: there.
"""

from ml_collections import ConfigDict

from dst_jax.config import cards

SEEDS = (0, 1, 2)
METHODS = ("static", "set", "rigl", "mest_g", "granet_g")

EXPECTED: tuple[cards.Expected, ...] = ()  # the network is not in the paper

_CHANGES: list[cards.Member] = [
    {"sparsity.algorithm": "dense"},
    *({"sparsity.algorithm": method, "sparsity.sparsity": 0.5} for method in METHODS),
    # Width 6 has 56 % of the weights of width 8: more than the sparse networks keep.
    {"sparsity.algorithm": "dense", "model.width": 6},
    *({"sparsity.algorithm": method, "sparsity.sparsity": 0.1} for method in ("rigl", "granet_g")),
]
SWEEPS = {"study": [{**change, "seed": seed} for seed in SEEDS for change in _CHANGES]}


def get_config(argument: str = "") -> ConfigDict:
    """The card's config; `argument` as in `dst_jax.config.cards.with_argument`."""
    config = cards.load("cifar10_resnet20").get_config()
    config.model.width = 8
    config.train.epochs = 15.0
    config.sparsity.update_freq = "1.6%"  # 1,000 steps of 160 epochs
    config.eval.batch_size = 500
    config.analysis.parts = ("attenuation", "weights")
    config.analysis.images = 1000
    tiny = {"model.width": 4, "model.depth": 1, "analysis.images": 64}
    return cards.with_argument(config, argument, tiny)
