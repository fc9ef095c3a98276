"""A dataset of the user's own in words: `folder:PATH`, `arrays:FILE.npz`.

Names of datasets are left as they are. Called by `images`, and by `experiment` for the command.
"""

from pathlib import Path
from typing import Any

import numpy as np

from dst_jax.errors import UserError
from dst_jax.robustness.folders import folder

FOLDER, ARRAYS = "folder:", "arrays:"
_FILES = "arrays:IMAGES.npy,LABELS.npy, or arrays:FILE.npz with images and labels"


def opened(text: str, where: str = "dataset", **options: Any) -> Any:
    """What `evaluate` takes for a text.

    Args:
      text: "folder:PATH", "arrays:IMAGES.npy,LABELS.npy", "arrays:FILE.npz", or a name.
      where: what an error calls it.
      **options: further arguments of `folders.folder`; those that are not given are empty.

    Returns:
      The images, or the text where it is a name.

    Raises:
      UserError: a file is not there or not what it should be, or an option is for folders only.
    """
    if text.startswith(FOLDER):
        return folder(text.removeprefix(FOLDER), **options)
    if used := [name for name, value in options.items() if value]:
        raise UserError(f"--{used[0]}", f"{where}={text}", f"{where}=folder:PATH with it")
    if not text.startswith(ARRAYS):
        return text
    paths = [Path(part).expanduser() for part in text.removeprefix(ARRAYS).split(",")]
    if len(paths) == 1 and paths[0].suffix == ".npz":
        found = _loaded(paths[0])
        if not hasattr(found, "files") or not {"images", "labels"} <= set(found.files):
            raise UserError(where, f"{paths[0]} without images and labels", _FILES)
        return found["images"], found["labels"]
    if len(paths) != 2:
        raise UserError(where, text, _FILES)
    images, labels = map(_loaded, paths)
    if not isinstance(images, np.ndarray) or not isinstance(labels, np.ndarray):
        raise UserError(where, text, _FILES)
    return images, labels


def _loaded(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise UserError(str(path), f"what cannot be read ({reason})", _FILES) from None
