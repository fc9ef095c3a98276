"""The images of `digits` as arrays, made from those that scikit-learn carries; TFDS is not needed.

Called by `digits`, which gives them to TFDS, and by `benchmarks.accelerator` where there is none.
"""

import numpy as np
from PIL import Image

SIDE = 32
_COUNT, _NUM_TEST = 1797, 360


def rows(split: str) -> np.ndarray:
    """Which of scikit-learn's images a split has, in rising order: int64 [N].

    Args:
      split: train or test; the test split was drawn once (`RandomState(0)`, whose stream NumPy has
        frozen).
    """
    order = np.random.RandomState(0).permutation(_COUNT)
    return np.sort(order[:_NUM_TEST] if split == "test" else order[_NUM_TEST:])


def load(split: str) -> tuple[np.ndarray, np.ndarray]:
    """A split in the order of `rows`.

    Returns:
      (images uint8 [N, 32, 32, 3], 8x8 greyscale enlarged by bilinear interpolation, labels
      int32 [N]).
    """
    from sklearn import datasets  # 0.7 s, and only on the first use of the dataset

    source = datasets.load_digits()
    grey = np.rint(source.images * (255 / 16)).astype(np.uint8)
    chosen = rows(split)
    return np.stack([_enlarged(grey[row]) for row in chosen]), source.target[chosen].astype(
        np.int32
    )


def _enlarged(image: np.ndarray) -> np.ndarray:
    enlarged = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(enlarged.convert("RGB"))
