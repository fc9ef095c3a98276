"""Dynamic sparse training and corruption robustness on JAX and Flax.

`dst_jax.sparsity`, `dst_jax.corruptions` and `dst_jax.robustness` stand alone; `run.py` at the root
of the repository drives all of it. Importing this package imports nothing heavy.
"""

__version__ = "0.1.0"
