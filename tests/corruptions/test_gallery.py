"""The figure of the README: its layout, with the corruptions stubbed out for their time."""

import numpy as np
from PIL import Image

from dst_jax.corruptions import gallery


def test_layout(tmp_path, monkeypatch):
    calls = []

    def severities(name, image, frost_dir=None):
        calls.append(name)
        return [np.full_like(image, 20 * s) for s in range(1, 6)]

    monkeypatch.setattr(gallery, "severities", severities)
    gallery.main([f"--out={tmp_path / 'docs' / 'gallery.png'}"])
    figure = np.asarray(Image.open(tmp_path / "docs" / "gallery.png"))
    # 18 rows of five and the original; frost says what it needs.
    assert len(calls) == 18
    assert "frost" not in calls
    for s in range(1, 6):
        area = (figure == 20 * s).all(-1).sum() / gallery._SHOWN**2
        assert 18 <= area < 19
    assert [p.name for p in (tmp_path / "docs").iterdir()] == ["gallery.png"]


def test_photograph():
    image = gallery.photograph()
    assert (image.shape, image.dtype) == ((224, 224, 3), np.uint8)
    assert image.std() > 30


def test_severities():
    image = gallery.photograph()
    found = gallery.severities("contrast", image)
    spread = [picture.std() for picture in found]
    assert spread == sorted(spread, reverse=True)
