"""Which logits of a model stand for which labels of a dataset, where they are not the same numbers.

As for the 200 classes of ImageNet-A and -R, which models of 1,000 classes are scored on: the other
logits do not count. Called by `evaluation`.
"""

import dataclasses
import functools
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.data import image_files
from dst_jax.errors import UserError

Classes = Sequence[int] | Mapping[int, int | Sequence[int]] | str | os.PathLike
_NEVER = -1e30  # the logit of a label that is not in the map; its probability is exactly 0
_EXPECTED = (
    "the logit of each label, as [6, 11, 13], or {label: logit}, or {label: [logits]}; or a file "
    "with a logit, or a label and its logits, a line"
)


class ClassMap:
    """The logits of each label.

    Attributes:
      groups: label -> its logits; the largest of them is the label's.
      complete: whether images of other labels are refused; else they are left out.
    """

    def __init__(self, classes: Classes, prefix: str = ""):
        """Reads what the caller gave.

        Args:
          classes: the logit of label 0, 1 and so on: images of other labels are refused; or {label:
            logit} or {label: [logits]}: images of other labels are left out; or a text file.
          prefix: what stands before an argument's name in the text of an error.

        Raises:
          UserError: it is none of these, or a logit stands for two labels.
        """
        if isinstance(classes, str | os.PathLike):
            classes = _of_file(Path(classes).expanduser())
        self.complete = not isinstance(classes, Mapping)
        try:
            pairs = classes.items() if isinstance(classes, Mapping) else enumerate(classes)
            self.groups = {
                _whole(label): tuple(_whole(logit) for logit in np.atleast_1d(np.asarray(logits)))
                for label, logits in pairs
            }
        except (TypeError, ValueError):
            raise UserError(f"{prefix}classes", str(classes)[:100], _EXPECTED) from None
        used = [logit for logits in self.groups.values() for logit in logits]
        if not used or min(used) < 0 or min(self.groups) < 0:
            raise UserError(f"{prefix}classes", str(classes)[:100], _EXPECTED)
        if len(self.groups) == 1:
            found = "a single label, of which every image would be right"
            raise UserError(f"{prefix}classes", found, "two labels at least")
        if twice := [logit for logit in used if used.count(logit) > 1]:
            found = f"logit {twice[0]} for several labels"
            raise UserError(f"{prefix}classes", found, "each for one label")

    @property
    def labels(self) -> tuple[int, ...] | None:
        """The labels whose images are scored; None: all, and others are refused."""
        return None if self.complete else tuple(self.groups)

    @property
    def mark(self) -> str:
        """What tells scores with this map from others: 8 hexadecimal digits."""
        text = repr(sorted(self.groups.items()))
        return f"{zlib.crc32(text.encode()):08x}"

    def __call__(self, logits: Any, width: int) -> Any:
        """The logit of each label, [B, L], of logits [B, C] of JAX or NumPy.

        Args:
          logits: what the model gives.
          width: L at least, where images of other labels are left out.

        Raises:
          UserError: there are too few logits.
        """
        largest = max(logit for group in self.groups.values() for logit in group)
        if largest >= logits.shape[-1]:
            found = f"logits of {logits.shape[-1]} classes"
            raise UserError("predict", found, f"more than {largest}, which `classes` names")
        if self.complete and all(len(group) == 1 for group in self.groups.values()):
            return logits[:, np.array([group[0] for group in self.groups.values()])]
        library: Any = jnp if isinstance(logits, jax.Array) else np
        never = library.full(logits.shape[:1], _NEVER, logits.dtype)
        count = len(self.groups) if self.complete else max(width, max(self.groups) + 1)
        columns = [
            logits[:, np.array(self.groups[label])].max(-1) if label in self.groups else never
            for label in range(count)
        ]
        return library.stack(columns, -1)

    def applied(self, predict: Any, width: int) -> Any:
        """The function whose answers are the logits of the labels; as a `Partial` it stays one.

        Args:
          predict: gives logits [B, C]; or an object that wraps such a function as its `function`.
          width: see `__call__`.
        """
        if isinstance(predict, jax.tree_util.Partial):
            return jax.tree_util.Partial(_Mapped(self, width), predict)
        inner = getattr(predict, "function", None)
        if callable(inner) and dataclasses.is_dataclass(predict) and not isinstance(predict, type):
            return dataclasses.replace(predict, function=self.applied(inner, width))
        function = functools.partial(_Mapped(self, width), predict)
        # What identifies the model, see `predict_functions.digest_of_module`.
        function.variables = getattr(predict, "variables", predict)  # type: ignore[attr-defined]
        return function


class _Mapped:
    def __init__(self, mapping: ClassMap, width: int):
        self._mapping, self._width = mapping, width

    def __call__(self, predict: Callable[[Any], Any], images: Any) -> Any:
        logits = predict(images)
        return self._mapping(
            logits if isinstance(logits, jax.Array) else np.asarray(logits), self._width
        )


def _whole(number: Any) -> int:
    if int(number) != number:
        raise ValueError
    return int(number)


def _of_file(path: Path) -> list[int] | dict[int, list[int]]:
    lines = [
        (number, line.replace(",", " ").split()) for number, line in image_files.lines_of(path)
    ]
    for number, parts in lines:
        if not all(part.isdecimal() for part in parts):
            raise UserError(f"{path}, line {number}", " ".join(parts)[:100], _EXPECTED)
    if all(len(parts) == 1 for _, parts in lines):
        return [int(parts[0]) for _, parts in lines]
    return {int(parts[0]): [int(part) for part in parts[1:]] for _, parts in lines}
