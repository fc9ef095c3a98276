"""UCF101, I3D with a ResNet-50 from scratch: `ucf101_resnet3d50` with the other network.

    python run.py --config=configs/ucf101_i3d.py        # RigL, sparsity 0.1
    python run.py --config=configs/ucf101_i3d.py:algorithm=mest_g
    python run.py --config=configs/ucf101_i3d.py --sweep=table1
    python run.py --config=configs/ucf101_i3d.py:tiny   # smoke test on sliding digits

Reproduces: Wu et al. 2025, table 1 (corrupted UCF101, 16 perturbations x 4 severities, I3D). The
recipe and its source are those of `configs/ucf101_resnet3d50.py`.

The 16 perturbations are rendered on the device, on whole frames. UCF101 must be prepared for TFDS
(6.5 GB, ffmpeg): python -c "import tensorflow_datasets as tfds; tfds.load('ucf101/ucf101_1_256')"

Expected time: not yet run. Expected result: not yet run; theirs is in `EXPECTED`.
"""

from pathlib import Path

from ml_collections import ConfigDict

from dst_jax.config import cards

ucf101_resnet3d50 = cards.load(Path(__file__).with_name("ucf101_resnet3d50.py"))
EXPECTED = (
    cards.Expected(
        "UCF101-P", 0.1, {"dense": 53.58, "rigl": 55.00, "mest_g": 56.30, "granet_g": 55.21}
    ),
)
SWEEPS = ucf101_resnet3d50.SWEEPS


def get_config(argument: str = "") -> ConfigDict:
    """The card's config; `argument` as in `dst_jax.config.cards.with_argument`."""
    return ucf101_resnet3d50.get_config(f"model=i3d_r50,{argument}")
