"""Which images of a test set are scored: the numbers or names of a list, as RobustBench's.

RobustBench scores 5,000 of ImageNet's validation images, those that PyTorch's shuffling with seed 0
puts first; `ROBUSTBENCH` stands for them, and they are computed here from that fact. Called by
`images`.
"""

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dst_jax.data import image_files, image_names, matching
from dst_jax.data.image_names import Names
from dst_jax.errors import UserError

ImageIds = Sequence[int] | Sequence[str] | str | os.PathLike
ROBUSTBENCH = "robustbench"
_IMAGENET = 50_000
_EXPECTED = "numbers or file names, a list or a file with one a line; or robustbench"


def robustbench_numbers() -> np.ndarray:
    """The 5,000 images of ImageNet that RobustBench scores, in its order: int64 [5000].

    Numbers count from 0 through the validation images in the order of their wnids and, within one,
    of their file names. RobustBench's loader (`robustbench/loaders.py`, MIT licence) takes the
    first batch of PyTorch's shuffled `DataLoader` over them after `torch.manual_seed(0)`: a
    Mersenne Twister, of which four numbers were spent before, drives a Fisher-Yates shuffle.
    """
    twister = np.random.MT19937()
    # PyTorch seeds it as the old generator of NumPy does.
    twister.state = np.random.RandomState(0).get_state(legacy=False)  # type: ignore[assignment]
    twister.random_raw(4)
    draws = twister.random_raw(5000).astype(np.int64)
    numbers = np.arange(_IMAGENET)
    for place, draw in enumerate(draws):
        other = place + draw % (_IMAGENET - place)
        numbers[[place, other]] = numbers[[other, place]]
    return numbers[:5000]


class Wanted(NamedTuple):
    """Which images of a test set: the first so many, those of a list, those of some labels.

    Attributes:
      limit: the first so many; None: all.
      ids: see `chosen_rows`; empty: all.
      labels: None: all.
      where: what an error calls the list.
    """

    limit: int | None
    ids: Any
    labels: Collection[int] | None
    where: str

    def rows(
        self,
        count: int,
        names: Callable[[], Names | None],
        labels: np.ndarray | None = None,
    ) -> np.ndarray | None:
        """The rows among `count` images, ascending; None: all.

        Those of `labels` only where the labels of the images are given.
        """
        rows = None
        if is_given(self.ids):
            rows = chosen_rows(self.ids, count, names, labels, self.limit, self.where)
        elif self.limit and self.limit < count:
            rows = np.arange(self.limit)
        if self.labels is not None and labels is not None:
            rows = np.arange(count) if rows is None else rows
            rows = rows[np.isin(labels[rows], list(self.labels))]
            if not len(rows):
                raise UserError("classes", "labels of no image", "labels of the dataset")
        return rows


def is_given(image_ids: Any) -> bool:
    """Whether a list of images was given at all."""
    return not (image_ids is None or (isinstance(image_ids, str | tuple | list) and not image_ids))


def chosen_rows(
    image_ids: ImageIds,
    count: int,
    names: Callable[[], Names | None],
    labels: np.ndarray | None,
    limit: int | None,
    where: str,
) -> np.ndarray:
    """The rows of the chosen images, ascending: int64 [M].

    Args:
      image_ids: numbers from 0 in the published order of the test set, or names of files, with or
        without their folders and endings; a file with one a line; or `ROBUSTBENCH`.
      count: images in the set.
      names: gives their identity; None: nothing but the row identifies them.
      labels: theirs, int [N], by row, where they are known.
      limit: the first so many of the list only.
      where: what an error calls the argument.

    Raises:
      UserError: it is none of these, names an image twice, or one that is not there.
    """
    entries = entries_of(image_ids, where)[:limit]
    known = names()
    if isinstance(entries[0], str):
        if known is None:
            raise UserError(where, "names", "numbers: the images of this dataset have no names")
        wanted = [str(entry) for entry in entries]
        rows = np.array(matching.rows(wanted, known.names.tolist(), where))
        for entry, name in zip(wanted, known.names[rows].tolist(), strict=True):
            folders = entry.split("/")[:-1], name.split("/")[:-1]
            if all(folders) and folders[0][-1] != folders[1][-1]:
                raise UserError(where, f"{entry}, of which there is {name}", "names of its images")
    else:
        numbers = known.numbers if known is not None else np.arange(count)
        if isinstance(image_ids, str) and image_ids == ROBUSTBENCH:
            _check_imagenet(labels, numbers, where)
        row_of = dict(zip(numbers.tolist(), range(count), strict=True))
        missing = [number for number in entries if number not in row_of]
        if missing:
            raise UserError(where, f"image {missing[0]}", f"numbers from 0 to {count - 1}")
        rows = np.array([row_of[number] for number in entries])
        if known is not None and _are_texts(image_ids):
            _check_not_names(entries, rows, known, where)
    return np.sort(rows)


def _are_texts(image_ids: ImageIds) -> bool:
    """Whether numbers were given as text, so that they may be meant as names."""
    if isinstance(image_ids, str | os.PathLike):
        return image_ids != ROBUSTBENCH
    return isinstance(next(iter(image_ids)), str)


def _check_not_names(entries: Sequence[Any], rows: np.ndarray, known: Names, where: str) -> None:
    """Refuses numbers that are names of other files, as of `cat/3.png`, which is not the third."""
    named = {image_names.stem(name): row for row, name in enumerate(known.names.tolist())}
    for entry, row in zip(entries, rows, strict=True):
        if (other := named.get(str(entry), row)) != row:
            found = (
                f"{entry}, the number of {known.names[row]} and the name of {known.names[other]}"
            )
            raise UserError(where, found, "names with their endings, or whole numbers in Python")


def _check_imagenet(labels: np.ndarray | None, numbers: np.ndarray, where: str) -> None:
    whole = len(numbers) == _IMAGENET
    if whole and labels is not None:
        whole = np.array_equal(labels[np.argsort(numbers)], np.arange(_IMAGENET) // 50)
    if not whole:
        expected = "a list of images, or ImageNet's 50,000, class after class, for robustbench"
        raise UserError(where, f"robustbench for {len(numbers):,} images", expected)


def entries_of(image_ids: ImageIds, where: str) -> list[int] | list[str]:
    """The numbers or names of a list, each once.

    Raises:
      UserError: it is empty, mixed, or has one twice.
    """
    if isinstance(image_ids, str) and image_ids == ROBUSTBENCH:
        return robustbench_numbers().tolist()
    if isinstance(image_ids, str | os.PathLike):
        where = str(image_ids)
        lines = image_files.lines_of(Path(image_ids).expanduser())
        given: list[Any] = [line for _, line in lines]
    else:
        given = [each.item() if isinstance(each, np.generic) else each for each in image_ids]
    # 0003 is a name.
    if all(isinstance(entry, str) and _is_number(entry) for entry in given):
        given = [int(entry) for entry in given]
    kinds = {type(entry) for entry in given}
    if len(kinds) != 1 or not kinds <= {int, str}:
        found = "nothing" if not given else f"{given[0]!r} ..."
        raise UserError(where, found, _EXPECTED)
    if len(set(given)) != len(given):
        twice = next(entry for entry in given if given.count(entry) > 1)
        raise UserError(where, f"{twice} twice", "each image once")
    return given


def _is_number(text: str) -> bool:
    return text.isdecimal() and str(int(text)) == text
