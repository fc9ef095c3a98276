"""Every corruption against the recorded outputs of the scripts that made the published data sets.

`apply` runs on the recorded random draws; float32 may differ from their float64 by one grey level
where a value lies on the edge between two.
"""

import pytest

from tests.corruptions import golden

# Largest share of values that may differ by one level: three times what float32 was measured to
# give (`ties`: exact results in numpy lie on whole levels, where its own rounding decides).
SHARES = {
    "gaussian_noise": 9e-4,
    "gaussian_blur": 6e-3,
    "brightness": 0.15,
    "contrast": 1e-4,
}


@pytest.mark.parametrize("size", [32, 64, 224])
@pytest.mark.parametrize("name", SHARES)
def test_golden(shared_dir, name, size):
    worst, share = golden.compare(golden.load(shared_dir, size), name, size)
    assert worst <= 1
    assert share <= SHARES[name]
