"""The arguments of `evaluate` that stand for themselves: checked, each with its one line.

What belongs to images, suites or functions is checked where those are. Called by `evaluation`.
"""

from collections.abc import Iterable, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

from dst_jax.errors import UserError
from dst_jax.robustness.images import Source
from dst_jax.robustness.kept import KEEP
from dst_jax.robustness.networks import OUTPUTS
from dst_jax.robustness.predict_functions import Checked, Predict, check_predict


def check(
    predicts: Any,
    severities: Any,
    *,
    batch_size: Any,
    max_images: Any,
    seed: Any,
    outputs: str,
    keep: str,
    prefix: str,
) -> tuple[int, ...]:
    """Checks arguments of `evaluate_models`, and gives the severities, each once.

    Raises:
      UserError: one of them is wrong.
    """
    for name, value, least in (("batch_size", batch_size, 1), ("max_images", max_images, 0)):
        if not isinstance(value, Integral) or value < least:
            raise UserError(f"{prefix}{name}", value, f"at least {least}, a whole number")
    if not isinstance(seed, Integral):
        raise UserError(f"{prefix}seed", seed, "a whole number from 0 to 2147483647")
    if not isinstance(severities, Iterable):
        raise UserError(f"{prefix}severities", severities, "several, as (1, 3, 5)")
    levels = tuple(severities)
    for level in levels:
        if not isinstance(level, Integral):
            raise UserError(f"{prefix}severities", level, "severities from 1 to 5")
    if outputs not in OUTPUTS:
        raise UserError(f"{prefix}outputs", outputs, " or ".join(OUTPUTS))
    if keep not in KEEP:
        raise UserError(f"{prefix}keep", keep, "top5 or logits")
    _check_names(predicts, prefix)
    return tuple(dict.fromkeys(map(int, levels)))


def _check_names(predicts: Any, prefix: str) -> None:
    """Refuses what is no mapping of names to functions, or a name that is no directory's."""
    where, expected = f"{prefix}predicts", "{name: predict function}, at least one"
    if not isinstance(predicts, Mapping):
        raise UserError(where, type(predicts).__name__, expected)
    if not predicts:
        raise UserError(where, "nothing", expected)
    for name in predicts:
        # "" is the directory itself: one model alone.
        if not isinstance(name, str) or name in (".", "..") or Path(name).name != name:
            raise UserError(f"{where}: a name", name, "a text that can name a directory, without /")
    if "" in predicts and len(predicts) > 1:
        raise UserError(f"{where}: a name", "", "a name for each, where there are several")


def name_of(prefix: str, model: str) -> str:
    """What an error calls a predict function: with its name where there are several."""
    return f"{prefix}predict" + (f" of {model}" if model else "")


def checked(
    predict: Predict,
    source: Source,
    size: int,
    argument: str,
    on_host: bool | None,
    devices: int,
) -> Checked:
    """A predict function whose kind is known, with classes that fit the images."""
    found = check_predict(predict, (size, *source.side, 3), argument, on_host, devices)
    if source.dataset and found.classes < source.dataset.num_classes:
        raise UserError(
            argument,
            f"logits of {found.classes} classes",
            f"at least {source.dataset.num_classes}, those of {source.name}",
        )
    return found
