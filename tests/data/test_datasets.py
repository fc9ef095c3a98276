"""The registry: every entry is complete and fits the rest of the project."""

import pytest

from dst_jax import data
from dst_jax.errors import UserError


@pytest.mark.parametrize("name", sorted(data.DATASETS))
def test_entry(name):
    corruptions = pytest.importorskip("dst_jax.corruptions")
    dataset = data.get(name)
    assert dataset.name == name
    assert dataset.image_shape[-3] == dataset.image_shape[-2]
    assert dataset.image_shape[-1] == len(dataset.mean) == len(dataset.std) == 3
    assert all(0 < value < 1 for value in (*dataset.mean, *dataset.std))
    assert dataset.augment in data.AUGMENTATIONS
    assert dataset.resident == (dataset.augment not in data.ON_HOST)
    if dataset.clip:
        assert dataset.preset == data.VIDEO
        assert dataset.image_shape[0] == dataset.clip.frames > 1
        assert dataset.clip.side >= dataset.image_shape[1]
        return
    assert len(dataset.image_shape) == 3
    assert dataset.preset in corruptions.PRESETS
    assert dataset.preset.endswith(str(dataset.image_shape[0]))


def test_unknown_name_lists_the_known():
    with pytest.raises(
        UserError, match=r"config\.data\.name: found mnist; expected one of cifar10, "
    ):
        data.get("mnist")
