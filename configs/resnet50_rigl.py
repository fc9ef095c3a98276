"""ImageNet, ResNet-50, RigL at 10 % sparsity: `imagenet_resnet50` under the name of its method.

    python run.py --config=configs/resnet50_rigl.py
    python run.py --config=configs/resnet50_rigl.py:tiny   # smoke test on digits

Reproduces: Wu et al. 2025, table 1 and figure 3 (ImageNet-C, ResNet-50: dense 38.38, RigL 38.70
robust accuracy, in percent, theirs). The recipe and its source are those of
`configs/imagenet_resnet50.py`.

Expected time: not yet run. Expected result: not yet run; theirs is in `EXPECTED`.
"""

from pathlib import Path

from ml_collections import ConfigDict

from dst_jax.config import cards

imagenet_resnet50 = cards.load(Path(__file__).with_name("imagenet_resnet50.py"))
EXPECTED = imagenet_resnet50.EXPECTED
SWEEPS = imagenet_resnet50.SWEEPS


def get_config(argument: str = "") -> ConfigDict:
    """The card's config; `argument` as in `dst_jax.config.cards.with_argument`."""
    return imagenet_resnet50.get_config(f"algorithm=rigl,{argument}")
