"""The embedded default: the 1,797 real digits of scikit-learn, in minutes on a laptop.

    python run.py --config=configs/digits_rigl.py                   # RigL at 50 % sparsity
    python run.py --config=configs/digits_rigl.py --sweep=demo      # dense, SET, RigL and a report
    python run.py --config=configs/digits_rigl.py --sweep=paper     # seeds, sparsities, all figures
    python run.py --config=configs/digits_rigl.py:algorithm=set,sparsity=0.8,seed=1

Reproduces: nothing of the paper; it shows every part of the system on real images that need no
download. 1,437 training and 360 test images of 8x8 pixels, served at 32x32x3; ResNet-20 at half
width. Recipe: SGD, cosine learning rate; masks as RigL's (Evci et al. 2020): ERK, drop fraction 0.3
with cosine decay, last update at 75 % of the training.

Expected time: the sweep `demo` takes 2 min 40 s on 2 CPU cores (AMD EPYC) with nothing compiled
before, `paper` (21 runs) 16 min; the analysis of all runs included.
Expected result, clean and robust accuracy in percent over 8 corruptions x 5 severities of 360
images, means and standard deviations over three seeds at 50 % sparsity: dense 97.5 +- 0.6 and
87.3 +- 3.0, SET 98.4 +- 0.4 and 87.8 +- 1.3, RigL 98.5 +- 0.4 and 88.5 +- 0.5, GraNet_g 97.9 +- 1.1
and 88.4 +- 1.4.
"""

from ml_collections import ConfigDict

from dst_jax import cards
from dst_jax import config as config_lib
from dst_jax.options import ANALYSES

EXPECTED: tuple[cards.Expected, ...] = ()  # nothing of the paper

SWEEPS = {
    "demo": [
        {"sparsity.algorithm": "dense"},
        {"sparsity.algorithm": "set"},
        {"sparsity.algorithm": "rigl"},
    ],
    # Every figure and table of the paper, small: with seeds as bands and two sparsities.
    "paper": cards.compare(("set", "rigl", "granet_g"), (0.5, 0.8)),
}


def get_config(argument: str = "") -> ConfigDict:
    """The card's config; `argument` as in `dst_jax.cards.with_argument`."""
    config = config_lib.default()
    config.data.name = "digits"
    config.data.augment = "crop"
    config.model.name = "resnet20"
    config.model.width = 8
    config.train.batch_size = 128
    config.train.epochs = 10.0
    config.train.learning_rate = 0.1
    config.train.warmup = "2 epochs"
    config.sparsity.algorithm = "rigl"
    config.sparsity.sparsity = 0.5
    config.sparsity.update_freq = "20"
    config.eval.corruptions = (
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "gaussian_blur",
        "brightness",
        "contrast",
        "pixelate",
        "jpeg_compression",
    )
    config.analysis.parts = ANALYSES
    config.analysis.images = 128  # and few frequencies: seconds a run, not minutes
    config.analysis.radii = (0, 4, 8, 12, 16, 20, 24, 28, 32)
    config.analysis.heat_map_step = 3
    tiny = {"model.width": 4, "model.depth": 1, "train.warmup": "10%", "analysis.parts": ()}
    return cards.with_argument(config, argument, tiny)
