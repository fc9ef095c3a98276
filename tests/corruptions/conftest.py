"""What the tests of corruptions share."""

import numpy as np
import pytest
from PIL import Image

from dst_jax.corruptions.weather import FROST_FILES


@pytest.fixture(scope="session")
def frost_dir(tmp_path_factory):
    """Photographs of the wrong subject but of a possible size."""
    directory = tmp_path_factory.mktemp("frost")
    generator = np.random.default_rng(0)
    for name in FROST_FILES:
        photograph = generator.integers(0, 256, (320, 400, 3), dtype=np.uint8)
        Image.fromarray(photograph).save(directory / name)
    return directory
