"""Every corruption against the recorded outputs of the scripts that made the published data sets.

`apply` runs on the recorded random draws; float32 may differ from their float64 by one grey level
where a value lies on the edge between two.
"""

import pytest

from tests.corruptions import golden

# Largest share of values that may differ by one level. Large ones are ties: numpy's float64 results
# lie within 1e-13 of a whole level there, and the order of its operations decides the truncation.
SHARES = {
    "gaussian_noise": 9e-4,
    "shot_noise": 0,
    "speckle_noise": 9e-4,
    "gaussian_blur": 0.015,  # 0.006 but for flat patches at 32 pixels, which are ties
    "brightness": 0.15,
    "contrast": 1e-4,
    "pixelate": 0,
    "jpeg_compression": 0,
    "saturate": 0.2,
}


@pytest.mark.parametrize("size", [32, 64, 224])
@pytest.mark.parametrize("name", SHARES)
def test_golden(shared_dir, name, size):
    worst, share = golden.compare(golden.load(shared_dir, size), name, size)
    assert worst <= 1
    assert share <= SHARES[name]
