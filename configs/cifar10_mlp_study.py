"""Study: multilayer perceptrons on real CIFAR-10, small enough for two CPU cores, with five seeds.

    python run.py --config=configs/cifar10_mlp_study.py --sweep=tune --mode=train
    python run.py --config=configs/cifar10_mlp_study.py --sweep=study --mode=train
    python run.py --mode=evaluate --workdir=runs/cifar10_mlp_study/study

Reproduces: no number of the paper; it asks the paper's question, with the controls that the paper
lacks, of a network that can be trained often here. results/cifar10_mlp.md has the protocol, which
was written down before the first run, all commands, and what came of it. Network and recipe are
those of `cifar10_mlp` (LeNet-300-100; GraNet's published CIFAR scripts) in 80 epochs instead of
160, with as many mask updates in them; learning rate and weight decay come from the sweep `tune`.

CIFAR-10 must be prepared for TFDS: python -c "import tensorflow_datasets as tfds;
tfds.load('cifar10')"

Expected time: results/cifar10_mlp.md. Expected result: there.
"""

from ml_collections import ConfigDict

from dst_jax.config import cards

SEEDS = (0, 1, 2, 3, 4)
SPARSITIES = (0.5, 0.1, 0.3, 0.7)  # the one that the study is about first
METHODS = ("static", *cards.SIX_METHODS)
# Dense networks with as many weights and biases as the sparse ones keep, to within 0.4 %.
SMALL = {0.5: 148, 0.1: 257, 0.3: 203, 0.7: 90}

EXPECTED: tuple[cards.Expected, ...] = ()  # nothing of the paper


def _runs_at(sparsity: float) -> list[cards.Member]:
    """Every sparse method at a sparsity, and the small dense network of its size."""
    changes: list[cards.Member] = [
        {"sparsity.algorithm": method, "sparsity.sparsity": sparsity} for method in METHODS
    ]
    changes.append({"sparsity.algorithm": "dense", "model.width": SMALL[sparsity]})
    return [{**change, "seed": seed} for seed in SEEDS for change in changes]


SWEEPS = {
    "study": [
        *({"sparsity.algorithm": "dense", "seed": seed} for seed in SEEDS),
        *(member for sparsity in SPARSITIES for member in _runs_at(sparsity)),
    ],
    # Learning rate and weight decay of dense and of a sparse method, by held-out training images.
    "tune": [
        {
            "sparsity.algorithm": algorithm,
            "train.learning_rate": rate,
            "train.weight_decay": decay,
            "data.validation": 0.1,
            "seed": 100,
        }
        for algorithm in ("dense", "rigl")
        for rate in (0.01, 0.03, 0.1)
        for decay in (1e-4, 5e-4, 2e-3)
    ],
}


def get_config(argument: str = "") -> ConfigDict:
    """The card's config; `argument` as in `dst_jax.config.cards.with_argument`."""
    config = cards.load("cifar10_mlp").get_config()
    config.train.epochs = 80.0
    config.train.learning_rate = 0.03  # these two by `tune`, as dense has its best there
    config.train.weight_decay = 2e-3
    config.sparsity.update_freq = "1.6%"  # 1,000 steps of 160 epochs
    config.eval.batch_size = 1000
    config.analysis.parts = ("attenuation",)
    config.analysis.images = 1000
    return cards.with_argument(config, argument, {"model.width": 32, "analysis.images": 64})
