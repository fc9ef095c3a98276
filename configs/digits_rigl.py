"""The embedded default: the 1,797 real digits of scikit-learn, in minutes on a laptop.

    python run.py --config=configs/digits_rigl.py                   # RigL at 50 % sparsity
    python run.py --config=configs/digits_rigl.py --sweep=demo      # 5 seeds of dense and of RigL
    python run.py --config=configs/digits_rigl.py --sweep=paper     # sparsities, all figures
    python run.py --config=configs/digits_rigl.py:algorithm=set,sparsity=0.8,seed=1

Reproduces: nothing of the paper; it shows every part of the system on real images that need no
download. 1,437 training and 360 test images of 8x8 pixels, served at 32x32x3; a ResNet for CIFAR of
8 layers at half width. Recipe: SGD, cosine learning rate; masks as RigL's (Evci et al. 2020): ERK,
drop fraction 0.3 with cosine decay, last update at 75 % of the training. Length, batch size and
network were chosen by the time that `demo` takes and by the training loss, in that order.

Expected time: the sweep `demo` (10 runs) takes 2 min 7 s (JAX 0.10) to 2 min 15 s (JAX 0.12) on 2
CPU cores with nothing compiled before, and 2 min 50 s where others use them too; `paper` (21 runs)
5 min 30 s; the analysis of all runs included.
Expected result, clean and robust accuracy in percent over 8 corruptions x 5 severities of 360
images, means and standard deviations over the five seeds of `demo`, which round otherwise from one
JAX to the next: with JAX 0.10 dense 99.3 +- 0.2 and 86.1 +- 2.7, RigL 98.7 +- 0.5 and 87.0 +- 2.2;
with JAX 0.12 dense 98.9 +- 0.5 and 87.6 +- 2.2, RigL 98.7 +- 0.7 and 86.5 +- 2.6. No difference
between the methods is resolved in either.
"""

from ml_collections import ConfigDict

from dst_jax import config as config_lib
from dst_jax.config import cards
from dst_jax.config.options import ANALYSES

EXPECTED: tuple[cards.Expected, ...] = ()  # nothing of the paper

SWEEPS = {
    "demo": [
        {"sparsity.algorithm": "dense", "num_seeds": 5},
        {"sparsity.algorithm": "rigl", "num_seeds": 5},
    ],
    # Every figure and table of the paper, small: with seeds as bands and two sparsities.
    "paper": cards.compare(("set", "rigl", "granet_g"), (0.5, 0.8)),
    # What the sign of `demo` is worth: results/digits.md.
    "study": [
        {"sparsity.algorithm": algorithm, "seed": seed, "num_seeds": 5}
        for seed in (0, 5, 10, 15)
        for algorithm in ("dense", "static", "set", "rigl", "granet_g")
    ],
}


def get_config(argument: str = "") -> ConfigDict:
    """The card's config; `argument` as in `dst_jax.config.cards.with_argument`."""
    config = config_lib.default()
    config.data.name = "digits"
    config.eval.suite = "Digits-C"
    config.data.augment = "crop"
    config.model.name = "resnet20"
    config.model.width = 8
    config.model.depth = 1
    config.train.batch_size = 32
    config.train.epochs = 10.0
    config.train.learning_rate = 0.1
    config.train.warmup = "2 epochs"
    config.sparsity.algorithm = "rigl"
    config.sparsity.sparsity = 0.5
    config.sparsity.update_freq = "40"
    config.analysis.parts = ANALYSES
    config.analysis.images = 128  # and few frequencies: seconds per run, not minutes
    config.analysis.radii = (0, 4, 8, 12, 16, 20, 24, 28, 32)
    config.analysis.heat_map_step = 3
    tiny = {"model.width": 4, "train.warmup": "10%", "analysis.parts": ()}
    return cards.with_argument(config, argument, tiny)
