"""Dynamic sparse training and corruption robustness on JAX and Flax.

`dst_jax.sparsity`, `dst_jax.corruptions` and `dst_jax.robustness` stand alone; `dst_jax.cli`, the
command `dst-jax`, drives all of it. Importing this package imports nothing heavy.
"""

__version__ = "0.2.0"  # the only place that says so; pyproject.toml reads it here


def __getattr__(name: str):  # load_run, when it is first asked for
    if name == "load_run":
        from dst_jax.saved_run import load_run

        return load_run
    raise AttributeError(f"module 'dst_jax' has no attribute {name!r}")
