"""A dataset as NumPy files, for machines without TFDS and for images that TFDS does not have.

    DATA_DIR/NAME/SPLIT.images.npy   uint8 [N, H, W, 3]
    DATA_DIR/NAME/SPLIT.labels.npy   whole numbers [N], 0 to classes - 1

NAME and SPLIT are those of `datasets.DATASETS`, such as cifar10 and train, test. Where a split lies
like that it is read from there, memory-mapped, and neither TFDS nor TensorFlow is imported. Called
by `arrays` and `robustness`.
"""

import os
import pathlib
import uuid

import numpy as np

from dst_jax.data.datasets import Dataset
from dst_jax.errors import UserError

_KINDS = ("images", "labels")


def directory(dataset: Dataset, data_dir: os.PathLike | str | None) -> pathlib.Path | None:
    """Where the files of a dataset are, or None where there are none.

    Args:
      dataset: which; one that is streamed has none.
      data_dir: as everywhere; None: TFDS's default.
    """
    root = os.fspath(data_dir or default_data_dir())
    if not dataset.resident or "://" in root:
        return None
    folder = pathlib.Path(root).expanduser() / dataset.name
    splits = (dataset.train_split, dataset.test_split)
    found = any((folder / f"{split}.images.npy").is_file() for split in splits)
    return folder if found else None


def has_whole_videos(dataset: Dataset | None, data_dir: os.PathLike | str | None) -> bool:
    """Whether whole videos lie behind a dataset's clips; clips given as arrays are their own."""
    if dataset is None or dataset.clip is None or dataset.read is not None:
        return False
    return directory(dataset, data_dir) is None


def default_data_dir() -> str:
    """The directory that TFDS takes where none is given, without importing it."""
    return os.environ.get("TFDS_DATA_DIR") or os.path.expanduser("~/tensorflow_datasets")


def read(dataset: Dataset, split: str, folder: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """A split, memory-mapped.

    Args:
      dataset: which.
      split: its training or test split, whole.
      folder: as `directory` gives it.

    Returns:
      (images uint8 [N, H, W, 3], labels int32 [N]).

    Raises:
      UserError: a file is missing or damaged, or does not fit the dataset.
    """
    first, second = (folder / f"{split}.{kind}.npy" for kind in _KINDS)
    return check(dataset, _open(first), _open(second), str(first), str(second))


def check(
    dataset: Dataset, images: np.ndarray, labels: np.ndarray, images_field: str, labels_field: str
) -> tuple[np.ndarray, np.ndarray]:
    """Checks that arrays are images and labels of a dataset.

    Args:
      dataset: which.
      images: uint8 [N, H, W, 3].
      labels: whole numbers [N].
      images_field: what the images are called in an error, such as their file.
      labels_field: the same of the labels.

    Returns:
      (images, labels int32 [N]).

    Raises:
      UserError: type, shape or labels are not the dataset's, or there is no image.
    """
    shape = ("N", *dataset.image_shape)
    if images.dtype == np.uint8 and images.ndim > 1 and not len(images):
        raise UserError(images_field, "no image in it", "at least one")
    if images.dtype != np.uint8 or images.shape[1:] != shape[1:]:
        raise UserError(
            images_field,
            f"{images.dtype} {list(images.shape)}",
            f"uint8 [{', '.join(map(str, shape))}], the images of {dataset.name}",
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        expected = f"whole numbers [{len(images)}], one per image"
        raise UserError(labels_field, f"{labels.dtype} {list(labels.shape)}", expected)
    if labels.min() < 0 or labels.max() >= dataset.num_classes:
        found = f"labels from {labels.min()} to {labels.max()}"
        expected = f"0 to {dataset.num_classes - 1}, those of {dataset.name}"
        raise UserError(labels_field, found, expected)
    return images, labels if labels.dtype == np.int32 else labels.astype(np.int32)


def write(
    dataset: Dataset,
    split: str,
    images: np.ndarray,
    labels: np.ndarray,
    data_dir: os.PathLike | str,
) -> pathlib.Path:
    """Writes a split so that `load_arrays` and every command find it below `data_dir`.

    Args:
      dataset: which.
      split: its training or test split.
      images: uint8 [N, H, W, 3], of the dataset's size.
      labels: whole numbers [N].
      data_dir: the directory that is given as `--data_dir` later.

    Returns:
      The folder with the files.

    Raises:
      UserError: the arrays do not fit the dataset; nothing is written then.
    """
    folder = pathlib.Path(data_dir).expanduser() / dataset.name
    folder.mkdir(parents=True, exist_ok=True)
    unique = f".{uuid.uuid4().hex[:8]}"  # until both files are found to be good
    parts = {kind: folder / f"{unique}.{kind}.npy" for kind in _KINDS}
    try:
        for kind, array in zip(_KINDS, (images, labels), strict=True):
            with parts[kind].open("wb") as file:
                np.save(file, np.asarray(array), allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        read(dataset, unique, folder)
        # The images last: their file says that the split is there.
        for kind in reversed(_KINDS):
            parts[kind].replace(folder / f"{split}.{kind}.npy")
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return folder


def _open(path: pathlib.Path) -> np.ndarray:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise ValueError("an archive of several arrays")
        return found
    except FileNotFoundError:
        raise UserError(str(path), "no such file", "images and labels of the split") from None
    except (OSError, ValueError, EOFError) as error:
        text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(str(path), f"an unreadable file ({text})", "a NumPy file") from None
