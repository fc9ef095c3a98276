"""Which images of two sets are the same: by class and file name, or by number; labels compared.

The order of files says nothing. Called by `corrupted_files`, `corrupted` and
`robustness.selection`.
"""

from collections.abc import Sequence

import numpy as np

from dst_jax.data.image_names import stem
from dst_jax.errors import UserError


def without_zeros(
    wanted: Sequence[str], there: Sequence[str]
) -> tuple[Sequence[str], Sequence[str]]:
    """Both as they are; or without leading zeros, where rows are wanted and files are numbers."""
    stems = [stem(name) for name in there]
    if not all(name.isdecimal() for name in (*wanted, *stems)):
        return wanted, there
    return [str(int(name)) for name in wanted], [str(int(name)) for name in stems]


def rows(wanted: Sequence[str], there: Sequence[str], where: str) -> list[int]:
    """Where images lie in another list, by class and file name or, if that is not it, file name.

    Endings do not count: the published copies of a PNG may be JPEGs.

    Args:
      wanted: paths of files, N.
      there: paths of files, M.
      where: what an error calls the list.

    Returns:
      N indices into `there`.

    Raises:
      UserError: one is missing, or a name is there twice.
    """
    problem = ""
    for depth in (2, 1):
        asked, found = ([_key(name, depth) for name in list_] for list_ in (wanted, there))
        row_of = {key: row for row, key in enumerate(found)}
        missing = [name for name, key in zip(wanted, asked, strict=True) if key not in row_of]
        if not missing and len(row_of) == len(found) and len(set(asked)) == len(asked):
            return [row_of[key] for key in asked]
        problem = f"{len(wanted) - len(missing)} of {len(wanted)} images"
        problem += f", not {missing[0]}" if missing else ", and several of the same name"
    raise UserError(where, problem, "the counterpart of every clean image, by the name of its file")


def _key(name: str, depth: int) -> str:
    parts = name.split("/")
    return "/".join([*parts[-depth:-1], stem(parts[-1])] if depth > 1 else [stem(parts[-1])])


def check_labels(clean: np.ndarray, corrupted: np.ndarray, where: str) -> None:
    """Raises UserError unless the labels of matched images agree."""
    agree = int(np.sum(np.asarray(clean) == np.asarray(corrupted)))
    if agree != len(clean):
        raise UserError(
            where,
            f"images of which {agree} of {len(clean)} have the label of the clean image",
            "the images of the clean set, in its published order",
        )
