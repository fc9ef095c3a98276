"""The TFDS builder of `digits`: the real dataset that needs no download.

scikit-learn carries 1,797 handwritten digits (the test set of UCI's "Optical Recognition of
Handwritten Digits", 8x8 pixels, values 0..16). Imported by `prepared` alone, as it imports TFDS.
"""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from dst_jax.data.digit_images import SIDE, load, rows
from dst_jax.errors import UserError


def _png(image: np.ndarray) -> io.BytesIO:
    """Encodes uint8 [32, 32, 3] as a PNG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    file.seek(0)
    return file


# Unregistered: the name is looked up by our own code only and could become a dataset of TFDS's.
class Digits(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """8x8 greyscale digits, scaled from 0..16 to 0..255 and enlarged to 32x32x3.

    The test split is 360 images drawn once (`RandomState(0)`, whose stream NumPy has frozen), the
    other 1,437 are for training. PNG coding is Pillow's, so TensorFlow is never imported.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="The 8x8 handwritten digits of scikit-learn, enlarged to 32x32.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 3), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        del dl_manager  # nothing to download
        return {split: self._generate_examples(split) for split in ("train", "test")}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        for row, image, label in zip(rows(split).tolist(), *load(split), strict=True):
            yield row, {"image": _png(image), "label": int(label)}


def prepare(data_dir: str) -> None:
    """Writes the dataset below `data_dir` unless it is there.

    TFDS writes into a temporary directory and renames it, so of several processes that start
    together one wins and the others use its files.

    Raises:
      UserError: the directory cannot be written.
    """
    builder = Digits(data_dir=data_dir, file_format="array_record")
    if builder.data_path.exists():
        return
    # TFDS announces a download on standard output and draws progress bars on standard error.
    silent = io.StringIO()
    try:
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            builder.download_and_prepare()
    except OSError as error:
        if not builder.data_path.exists():
            raise UserError(
                "cache_dir", f"{data_dir} ({error})", "a directory that can be written"
            ) from error
