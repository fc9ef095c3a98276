"""Which images a call takes: packed ones, a prepared dataset, or the embedded digits.

Chosen and checked before any device is touched: what no part could read is refused in one line.
Called by `loop`, and by `pack` for the photographs.
"""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np

from benchmarks.accelerator import unpack
from dst_jax import data
from dst_jax.corruptions.weather import FROST_FILES
from dst_jax.data import array_files, digit_images
from dst_jax.data.datasets import DATASETS, Dataset
from dst_jax.errors import UserError

SHAPE = (32, 32, 3)  # of the images that the parts take
DIGITS = "digits"


@dataclasses.dataclass(frozen=True)
class Source:
    """A dataset and where it is.

    Attributes:
      name: of the dataset.
      data_dir: where the parts find it, as `dst_jax` takes it; None: TFDS's default.
      packed: the packed folder that it is unpacked from; None: it is not packed.
      embedded: these are the digits that scikit-learn carries, written into `data_dir` first.
      remark: what is to be told of the choice; "" for nothing.
    """

    name: str
    data_dir: str | None
    packed: Path | None = None
    embedded: bool = False
    remark: str = ""

    def prepare(self) -> str:
        """Writes the images that are not yet where the parts look; says what was done.

        Raises:
          UserError: a packed file is damaged, or the directory cannot be written.
        """
        if self.packed:
            return unpack.unpack(self.packed, self.name, Path(str(self.data_dir)))
        if self.embedded:
            _write_digits(Path(str(self.data_dir)))
        return ""


def choose(name: str, data_dir: str | None, work: Path, packed: Path | None) -> Source:
    """The dataset of a call.

    What is packed comes first, then what is prepared in `data_dir`; the digits are made here where
    neither has them.

    Args:
      name: `--data`; "": the first packed one, else the digits.
      data_dir: `--data_dir`.
      work: `--work`; what is unpacked or made goes into its directory `data`.
      packed: the packed folder that the code runs from, or None.

    Raises:
      UserError: no part could read it; nothing has been written.
    """
    if data_dir and "://" not in data_dir and not Path(data_dir).expanduser().is_dir():
        raise UserError("--data_dir", f"{data_dir}, no directory", "an existing directory")
    there = unpack.names(packed) if packed else []
    chosen = name or (there[0] if there else DIGITS)
    if chosen not in DATASETS:
        raise UserError("--data", chosen, "one of " + ", ".join(sorted(DATASETS)))
    dataset = data.get(chosen)
    if dataset.image_shape != SHAPE:
        raise UserError("--data", f"{chosen}, {list(dataset.image_shape)}", "images of 32x32x3")
    own = str(work / "data")
    if chosen in there:
        remark = f"--data_dir is not looked at: {chosen} is packed" if data_dir else ""
        return Source(chosen, own, packed, remark=remark)
    if chosen == DIGITS and not _has_digits(dataset, data_dir):
        remark = "--data_dir has no digits: scikit-learn's are taken" if data_dir else ""
        return Source(chosen, own, embedded=True, remark=remark)
    if packed and not data_dir:
        unpack.choose(packed, chosen)  # says what is packed
    _check(dataset, data_dir, work / "cache")
    return Source(chosen, data_dir)


def check_frost(folder: Path) -> None:
    """Raises UserError unless all photographs of frost are there."""
    for name in FROST_FILES:
        if not (folder / name).is_file():
            raise UserError("--frost_dir", f"no {name} in {folder}", "frost1.png ...")


def _has_digits(dataset: Dataset, data_dir: str | None) -> bool:
    if not data_dir:
        return False
    if array_files.directory(dataset, data_dir):
        return True
    prepared = "://" not in data_dir and (Path(data_dir).expanduser() / DIGITS).is_dir()
    return prepared and _installed("tensorflow_datasets")


def _check(dataset: Dataset, data_dir: str | None, cache: Path) -> None:
    """Refuses what is not there, is damaged, or needs a package that is not installed."""
    tfds = not array_files.directory(dataset, data_dir)
    if tfds and not _installed("tensorflow_datasets"):
        expected = "NumPy files or a packed dataset, since tensorflow_datasets is not installed"
        where = array_files.default_data_dir() if data_dir is None else data_dir
        raise UserError("--data_dir", f"no NumPy files of {dataset.name} in {where}", expected)
    for split in (dataset.train_split, dataset.test_split):
        data.num_examples(dataset, split, data_dir, cache)
        if tfds and not _installed("tensorflow"):
            data.load_arrays(dataset, split, data_dir, cache)  # raises if it needs TensorFlow


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _write_digits(target: Path) -> None:
    """Writes the digits as NumPy files, unless the same ones are there."""
    dataset = data.get(DIGITS)
    for split in (dataset.train_split, dataset.test_split):
        try:
            wanted = digit_images.load(split)
        except ImportError:
            text = "no scikit-learn, which carries the digits"
            raise UserError("--data", text, "scikit-learn, or another dataset") from None
        try:
            found = array_files.read(dataset, split, target / DIGITS)
            if all(map(np.array_equal, found, wanted)):
                continue
        except UserError:
            pass  # not there or damaged
        try:
            array_files.write(dataset, split, *wanted, target)
        except OSError as error:
            raise UserError(str(target), error.strerror or "", "a directory") from None
