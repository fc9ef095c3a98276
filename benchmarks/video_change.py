"""How much each perturbation of video changes the frames that a network sees.

    python -m benchmarks.video_change --data_dir=TFDS [--side 112] [--out FILE]

Twenty videos of 30 to 300 frames, made by moving a window across photographs (ImageNet's test
images: no real videos are needed), and of each the clip of `ucf101`, 8 frames out of 64. Prints the
mean absolute change of the clip's values in grey levels, for each perturbation and severity, and
how many clips of 20 stay as they are. Perturbations along time are also shown as they were up to
version 0.1.0: of the eight frames alone.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from PIL import Image

from benchmarks import timing
from dst_jax import data
from dst_jax.corruptions import video
from dst_jax.data.perturbed_clips import central_frames

VIDEOS = 20
SEVERITIES = range(1, 6)
CLIP = data.Clip(frames=8, stride=8, side=256)  # that of ucf101
Frames = Callable[[np.ndarray], np.ndarray]


def a_video(photograph: np.ndarray, number: int, side: int) -> tuple[int, Frames]:
    """Its length, and what gives frames [n, side, side, 3] by their numbers."""
    generator = np.random.default_rng(number)
    length = 30 + round(270 * number / (VIDEOS - 1))
    # Windows of 112 to 168 of 224 pixels; the camera crosses some pixels a frame and turns round.
    (top, left), (speed_y, speed_x) = generator.uniform(0, 1, 2), generator.uniform(0.5, 3, 2)
    period = generator.uniform(60, 150)

    def frame(t: int) -> np.ndarray:
        width = 140 + 28 * np.sin(2 * np.pi * t / period)
        room = 224 - width
        # To and fro between the edges.
        place = [(a + s * t / 60) % 2 for a, s in ((top, speed_y), (left, speed_x))]
        y, x = (room * (1 - abs(1 - part)) for part in place)
        box = (x, y, x + width, y + width)
        picture = Image.fromarray(photograph)
        return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR, box=box))

    return length, lambda numbers: np.stack([frame(int(t)) for t in numbers])


def of_whole_video(
    name: str, number: int, length: int, frames: Frames, severity: int
) -> np.ndarray:
    """The clip of a video that was perturbed along time."""
    order = video.frame_order(name, length, number, severity)
    return frames(order[central_frames(len(order), CLIP)])


def of_clip(name: str, number: int, clip: np.ndarray, severity: int) -> np.ndarray:
    """The perturbed clip."""
    ids = jnp.asarray([number])
    return np.asarray(video.perturb_batch(name, jnp.asarray(clip[None]), ids, severity)[0])


def change(found: np.ndarray, clip: np.ndarray) -> float:
    """Mean absolute change in grey levels; of a crop against the middle of the clip."""
    edge = (clip.shape[1] - found.shape[1]) // 2
    clean = clip[:, edge : edge + found.shape[1], edge : edge + found.shape[2]]
    return float(np.abs(found.astype(int) - clean).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True, help="directory of TFDS, for photographs")
    parser.add_argument("--side", type=int, default=112, help="of the frames, in pixels")
    parser.add_argument("--out", type=Path, help="write the table to this file as well")
    options = parser.parse_args()
    batches = data.stream_eval_batches(
        data.get("imagenet2012"), options.data_dir, VIDEOS, limit=VIDEOS
    )
    photographs = next(iter(batches))["image"]
    videos = [a_video(picture, i, options.side) for i, picture in enumerate(photographs)]
    clips = [frames(central_frames(length, CLIP)) for length, frames in videos]

    rows = ["| perturbation | 1 | 2 | 3 | 4 | 5 | clips unchanged |", "|---" * 7 + "|"]
    print("\n".join(rows), flush=True)
    for name in video.PERTURBATIONS:
        along_time = name in video.ALONG_TIME
        for way in ("whole video", "8 frames, up to 0.1.0") if along_time else ("",):
            changes = np.array(
                [
                    [
                        change(
                            of_whole_video(name, i, *videos[i], severity)
                            if way == "whole video"
                            else of_clip(name, i, clips[i], severity),
                            clips[i],
                        )
                        for i in range(VIDEOS)
                    ]
                    for severity in SEVERITIES
                ]
            )
            means = " | ".join(f"{mean:.1f}" for mean in changes.mean(axis=1))
            unchanged = ", ".join(str(count) for count in (changes == 0).sum(axis=1))
            rows.append(f"| `{name}`{', ' * bool(way)}{way} | {means} | {unchanged} |")
            print(rows[-1], flush=True)
    lengths = ", ".join(str(length) for length, _ in videos)
    found = timing.circumstances()
    versions = ", ".join(f"{package} {version}" for package, version in found["versions"].items())
    rows += [
        "",
        f"Mean absolute change in grey levels over {VIDEOS} synthetic videos of {lengths} frames of"
        f" {options.side} pixels (a window that moves across a photograph), in the 8 frames of the"
        " clip; the last column has the clips that stay as they are, of 20, at severities 1 to 5."
        " `translation` shows a corner of the frames and is compared with their middle, from which"
        " it is farthest at severity 1.",
        "",
        f"{found['hardware']}; {found['date']}; {versions};"
        f" `{' '.join(['python -m benchmarks.video_change', *sys.argv[1:]])}`",
        "",
    ]
    print("\n".join(rows[-5:]))
    if options.out:
        options.out.write_text("\n".join(rows))


if __name__ == "__main__":
    main()
