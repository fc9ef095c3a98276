"""What ffmpeg renders: severities, sizes, lost frames, and the line that says it is absent."""

import shutil
import subprocess

import numpy as np
import pytest

from dst_jax.corruptions import codecs


def has_codecs():
    if shutil.which("ffmpeg") is None:
        return False
    listed = subprocess.run(["ffmpeg", "-hide_banner", "-encoders"], capture_output=True, text=True)
    return all(encoder in listed.stdout for encoder, _ in codecs.CODECS.values())


needs_ffmpeg = pytest.mark.skipif(not has_codecs(), reason="no ffmpeg with libx264 and libx265")
# Squares of random colour: a stream with enough bytes for an error.
CLIP = np.kron(
    np.random.default_rng(0).integers(0, 256, (20, 24, 24, 3)), np.ones((1, 4, 4, 1), int)
).astype(np.uint8)


@needs_ffmpeg
@pytest.mark.parametrize("name", list(codecs.CODECS))
def test_codecs(name):
    changes = []
    clip = CLIP if name == "bit_error" else CLIP[:8]
    for severity in (1, 3, 5):
        found = codecs.render(name, clip, severity)
        assert (found.shape, found.dtype) == (clip.shape, np.uint8)
        changes.append(np.abs(found.astype(int) - clip).mean())
    assert changes[0] > 0
    # The quantisers of mpeg1 and mpeg2 end at 31.
    assert changes[0] < changes[1] <= changes[2] * 1.01
    np.testing.assert_array_equal(codecs.render(name, clip, 5), found)


@needs_ffmpeg
def test_one_frame():
    assert codecs.render("h265_crf", CLIP[:1], 1).shape == (1, 96, 96, 3)


def test_without_ffmpeg_one_line_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="ffmpeg: found no such program; expected it on the PATH"):
        codecs.render("h265_crf", CLIP, 1)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": "vp9"}, "codec: found 'vp9'; expected one of bit_error"),
        ({"severity": 0}, "severity: found 0"),
        ({"frames": CLIP[0]}, r"frames: found uint8 \[96, 96, 3\]"),
        ({"frames": CLIP[:, :63]}, "found 63 x 96 pixels; expected even sides"),
    ],
)
def test_mistakes_are_told(change, text):
    with pytest.raises(ValueError, match=text):
        codecs.render(**{"name": "mpeg1", "frames": CLIP, "severity": 1, **change})
