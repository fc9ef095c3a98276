"""Corruptions that a video codec makes: written and read back by the program `ffmpeg`.

    clip = codecs.render("h265_crf", frames, severity)  # NumPy uint8 [T, H, W, 3], on the host

Nothing is imitated: without ffmpeg one line says so. The published frames of 3DCC come from videos
of a camera that moves through the scene: here is the same operation on the clip that you give, not
those files.

| name | what ffmpeg does, severities 1..5 |
|---|---|
| bit_error | damages about one byte in 100000, 50000, 30000, 20000, 10000 of the H.264 stream |
| h265_crf | H.265 at constant rate factor 24, 26, 32, 39, 41 |
| h265_abr | H.265 at 1/2, 1/4, 1/8, 1/16, 1/32 of the bit rate of the H.264 stream |
| mpeg1 | `mpeg2video` with quantiser 20 s: no coarser from 31 on |
| mpeg2 | `mpeg4` with quantiser 15 s: no coarser from 31 on |

The H.264 stream is libx264's of the clip, at ffmpeg's defaults; that of a short or small clip may
have fewer bytes than one error needs. Constants: 3DCC (Kar et al. 2022) and the generator of
UCF101-P (Schiappa et al. 2023). Called by users only.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

# Name -> encoder and the constant of each severity.
CODECS: dict[str, tuple[str, tuple[int, int, int, int, int]]] = {
    "bit_error": ("libx264", (100000, 50000, 30000, 20000, 10000)),
    "h265_crf": ("libx265", (24, 26, 32, 39, 41)),
    "h265_abr": ("libx265", (2, 4, 8, 16, 32)),
    "mpeg1": ("mpeg2video", (20, 40, 60, 80, 100)),
    "mpeg2": ("mpeg4", (15, 30, 45, 60, 75)),
}
_LOSSY_PIXELS = "yuv420p"  # what the published videos have


def render(name: str, frames: np.ndarray, severity: int, *, fps: int = 25) -> np.ndarray:
    """Codes a clip, damages it where the corruption says so, and decodes it.

    Frames that a damaged stream loses repeat the one before.

    Args:
      name: a name in `CODECS`.
      frames: [T, H, W, 3] uint8, RGB; H and W even, as 4:2:0 chroma needs.
      severity: 1..5.
      fps: frames per second, which the bit rate counts.

    Returns:
      [T, H, W, 3] uint8.

    Raises:
      ValueError: an argument is not one of those, ffmpeg or its encoder is absent, or nothing of
        the damaged stream can be decoded.
    """
    if name not in CODECS:
        raise ValueError(f"codec: found {name!r}; expected one of {', '.join(CODECS)}")
    if severity not in (1, 2, 3, 4, 5):
        raise ValueError(f"severity: found {severity}; expected 1, 2, 3, 4 or 5")
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(
            f"frames: found {frames.dtype} {list(frames.shape)}; expected uint8 [T, H, W, 3]"
        )
    if frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ValueError(
            f"frames: found {frames.shape[1]} x {frames.shape[2]} pixels; expected even sides"
        )
    encoder, constants = CODECS[name]
    constant = constants[severity - 1]
    with tempfile.TemporaryDirectory() as directory:
        coded = Path(directory) / "coded.mp4"
        if name == "bit_error":
            whole = Path(directory) / "whole.mp4"
            _encode(frames, fps, whole, [encoder])
            damage = ["-c", "copy", "-bsf:v", f"noise=amount={constant}"]
            _ffmpeg(["-i", str(whole), *damage, str(coded)])
        elif name == "h265_crf":
            _encode(frames, fps, coded, [encoder, "-crf", str(constant)])
        elif name == "h265_abr":
            _encode(frames, fps, coded, ["libx264"])
            rate = 8 * coded.stat().st_size * fps / len(frames)  # bits per second
            _encode(frames, fps, coded, [encoder, "-b:v", str(max(round(rate / constant), 1000))])
        else:
            _encode(frames, fps, coded, [encoder, "-q:v", str(constant)])
        raw = _ffmpeg(["-i", str(coded), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
    decoded = np.frombuffer(raw, np.uint8)
    decoded = decoded[: decoded.size // frames[0].size * frames[0].size]
    decoded = decoded.reshape(-1, *frames.shape[1:])
    if not len(decoded):
        raise ValueError(f"{name}: ffmpeg could decode no frame of the {len(frames)}")
    return decoded[np.minimum(np.arange(len(frames)), len(decoded) - 1)]


def _encode(frames: np.ndarray, fps: int, path: Path, encoder: list[str]) -> None:
    """Writes [T, H, W, 3] uint8 to an MP4 file; `encoder` is its name and its options."""
    H, W = frames.shape[1:3]
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{W}x{H}", "-r", str(fps), "-i", "-"]
    target = ["-c:v", *encoder, "-pix_fmt", _LOSSY_PIXELS, str(path)]
    _ffmpeg([*source, *target], np.ascontiguousarray(frames).tobytes())


def _ffmpeg(arguments: list[str], given: bytes | None = None) -> bytes:
    """Runs ffmpeg; returns what it writes to its standard output."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise ValueError(
            "ffmpeg: found no such program; expected it on the PATH, with libx264 and libx265 (for "
            "example apt-get install ffmpeg). Codecs are never imitated"
        )
    command = [program, "-hide_banner", "-loglevel", "error", "-y", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    # A damaged stream is reported, and decoded as far as possible, with exit code 0 or not.
    if done.returncode and not done.stdout:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise ValueError(f"ffmpeg: found exit code {done.returncode}: {lines[-1]}")
    return done.stdout
