"""Every corruption against the recorded outputs of the scripts that made the published data sets.

`apply` runs on the recorded random draws; float32 may differ from their float64 by one grey level
where a value lies on the edge between two. Impulse noise has no recorded draws: `test_noise.py`
tests its law.
"""

import pytest

from dst_jax.corruptions import BENCHMARK, EXTRA
from tests.corruptions import golden

# Largest share of values that may differ by one level. Large ones are ties: numpy's float64 results
# lie within 1e-13 of a whole level there, and the order of its operations decides the truncation.
SHARES = {
    "gaussian_noise": 9e-4,
    "shot_noise": 0,
    "defocus_blur": 0.09,
    "glass_blur": 0.07,  # 0.002 but for flat patches at 32 pixels
    "motion_blur": 9e-4,
    "zoom_blur": 6e-3,
    "snow": 9e-3,
    "frost": 0.065,
    "fog": 9e-4,
    "brightness": 0.15,
    "contrast": 1e-4,
    "elastic_transform": 2e-3,
    "pixelate": 0,
    "jpeg_compression": 0,
    "speckle_noise": 9e-4,
    "gaussian_blur": 0.015,  # 0.002 but for flat patches at 32 pixels
    "spatter": 3e-4,
    "saturate": 0.2,
}


def test_every_published_corruption_is_here():
    assert {*SHARES, "impulse_noise"} == {*BENCHMARK, *EXTRA}


@pytest.mark.parametrize("size", [32, 64, pytest.param(224, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SHARES)
def test_golden(shared_dir, name, size):
    options = {
        "frost": (("frost_dir", str(shared_dir / "frost")),),
        "elastic_transform": (("coords", "exact"),),
    }.get(name, ())
    worst, share = golden.compare(golden.load(shared_dir, size), name, size, options)
    assert worst <= 1
    assert share <= SHARES[name]
