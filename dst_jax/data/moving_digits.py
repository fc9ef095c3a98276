"""The digits as clips: what video models are tried on where no video is prepared.

Each image of `digits` slides across the frame, an even one to the right, an odd one to the left. It
is for the toy form of the video cards; nobody should report its accuracy. Called by `arrays` and
`perturbed_clips`.
"""

import numpy as np

_REACH = 8  # pixels between the middle of the frame and the digit in the first and last frame
# Frames of a whole video; the clip shows 8 at equal distances, which are those of `clips_of`.
LENGTH = 64


def clips_of(images: np.ndarray, frames: int) -> np.ndarray:
    """Clips of sliding images.

    Args:
      images: uint8 [N, H, W, 3].
      frames: T, frames of a clip.

    Returns:
      uint8 [N, T, H, W, 3]; what slides in is black.
    """
    count, height, width, channels = images.shape
    clips = np.zeros((count, frames, height, width, channels), np.uint8)
    offsets = np.rint(np.linspace(-_REACH, _REACH, frames)).astype(int)
    for first, direction in ((0, 1), (1, -1)):
        for frame, offset in enumerate(direction * offsets):
            shifted = np.s_[max(offset, 0) : width + min(offset, 0)]
            source = np.s_[max(-offset, 0) : width - max(offset, 0)]
            clips[first::2, frame, :, shifted] = images[first::2, :, source]
    return clips


def frames_of(image: np.ndarray, number: int, frames: np.ndarray) -> np.ndarray:
    """Some frames of the whole video of one image.

    Args:
      image: uint8 [H, W, 3].
      number: of the image in its split: an even one slides to the right, an odd one to the left.
      frames: their numbers [..], 0 to `LENGTH` - 1.

    Returns:
      uint8 [.., H, W, 3].
    """
    video = clips_of(np.stack([image, image]), LENGTH)[number % 2]
    return video[frames]
