"""Which parameters may be masked: the rules that `filter_fn` chooses from, by name.

The default looks at a parameter's name, dtype and dimensions. Used by the distributions; a
training of ours passes a rule of its own, the model's.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np

FilterFnType: TypeAlias = Callable[[tuple[str, ...], Any], bool]

# Last names that are never masked, alone or as a part: `bias`, `in_proj_bias`, `bias_ih`.
_NEVER = re.compile(
    r"(^|_)(bias|biases|scale|offset|beta|gamma|mean|var|token|alpha|slope)\d*($|_)"
    r"|^(cls|mask|dist|register|prefix)_?tokens?$|bias$"
)
_NORM = re.compile(r"(batch|layer|group|instance|rms)_?norm|(^|_)(norm|bn|ln)\d*(_|$)", re.I)
_EMBEDDING = re.compile(r"embed|^(wte|wpe|pos|posemb)$", re.I)


def _is_matrix(param: Any) -> bool:
    dtype = getattr(param, "dtype", np.float32)
    return np.ndim(param) > 1 and bool(jnp.issubdtype(dtype, jnp.inexact))


def _is_embedding(key: tuple[str, ...], param: Any) -> bool:
    """A table by its own name, or a plain matrix in a layer that is called an embedding."""
    name, parent = str(key[-1]), str(key[-2]) if len(key) > 1 else ""
    if name == "kernel":
        return False
    in_table = bool(_EMBEDDING.search(parent)) and "patch" not in parent.lower()
    return bool(_EMBEDDING.search(name)) or (in_table and np.ndim(param) == 2)


def why_dense(key: tuple[str, ...], param: Any, embeddings: bool = False) -> str:
    """Returns why the default rule leaves a parameter without a mask; "" where it may have one.

    Args:
      key: its path.
      param: an array, or its shape and dtype.
      embeddings: whether embedding tables may be masked.
    """
    if np.ndim(param) < 2:
        return "fewer than two dimensions"
    if not _is_matrix(param):
        return "no floating-point numbers"
    name, parent = str(key[-1]), str(key[-2]) if len(key) > 1 else ""
    # Haiku's bias; a matrix that stands by itself may well be called so.
    is_bias = name == "b" and len(key) > 1
    if is_bias or (name != "kernel" and _NEVER.search(name)):
        return f"called {name}"
    if name != "kernel" and _NORM.search(parent):
        return "of a normalisation"
    return "an embedding" if not embeddings and _is_embedding(key, param) else ""


def MASKABLE_FILTER_FN(key: tuple[str, ...], param: Any) -> bool:  # noqa: N802
    """Selects weights: the default.

    A weight has two or more dimensions and floating-point numbers, is not named as a bias, scale,
    offset, running statistic or token, belongs to no normalisation, and is no embedding table.
    """
    return not why_dense(key, param)


def EMBEDDINGS_TOO_FILTER_FN(key: tuple[str, ...], param: Any) -> bool:  # noqa: N802
    """Selects what the default does, and embedding tables."""
    return not why_dense(key, param, embeddings=True)


def KERNEL_FILTER_FN(key: tuple[str, ...], param: Any) -> bool:  # noqa: N802  JaxPruner's name
    """Selects the parameters named `kernel`."""
    del param
    return key[-1] == "kernel"


def NOT_DIM_ONE_FILTER_FN(key: tuple[str, ...], param: Any) -> bool:  # noqa: N802
    """Selects the parameters with two or more dimensions: JaxPruner's default."""
    del key
    return np.ndim(param) > 1


def without(rule: FilterFnType, paths: Iterable[tuple[Any, ...]]) -> FilterFnType:
    """Returns a rule that also leaves the parameters at these paths without a mask."""
    out = set(paths)
    return lambda path, param: path not in out and rule(path, param)


RULES: dict[str, FilterFnType] = {
    "default": MASKABLE_FILTER_FN,
    "embeddings_too": EMBEDDINGS_TOO_FILTER_FN,
    "kernel": KERNEL_FILTER_FN,
    "not_dim_one": NOT_DIM_ONE_FILTER_FN,
}
