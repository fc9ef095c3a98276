"""The algorithms, one family a file; `api.ALGORITHM_REGISTRY` gives them their config names."""

from dst_jax.sparsity.algorithms.pruners import (
    MagnitudePruning,
    RandomPruning,
    SaliencyPruning,
    generate_random_scores,
)
from dst_jax.sparsity.algorithms.sparse_trainers import SET, RigL, StaticRandomSparse

__all__ = [
    "SET",
    "MagnitudePruning",
    "RandomPruning",
    "RigL",
    "SaliencyPruning",
    "StaticRandomSparse",
    "generate_random_scores",
]
