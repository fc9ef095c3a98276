"""Dynamic sparse training and corruption robustness on JAX and Flax.

`dst_jax.sparsity`, `dst_jax.corruptions` and `dst_jax.robustness` stand alone; `dst_jax.cli`, the
command `dst-jax`, drives all of it. Importing this package imports nothing heavy.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dst_jax import corruptions as corruptions
    from dst_jax import models as models
    from dst_jax import robustness as robustness
    from dst_jax import sparsity as sparsity
    from dst_jax.saved_run import load_run as load_run

__version__ = "0.2.0"  # the only place that says so; pyproject.toml reads it here


_PARTS = ("sparsity", "corruptions", "robustness", "models")


def __getattr__(name: str) -> Any:  # each part when it is first asked for
    if name == "load_run":
        from dst_jax.saved_run import load_run

        return load_run
    if name in _PARTS:
        return importlib.import_module(f"dst_jax.{name}")
    raise AttributeError(f"module 'dst_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_PARTS, "__version__", "load_run"])
