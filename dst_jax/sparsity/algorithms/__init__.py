"""The algorithms, one family a file; `api.ALGORITHM_REGISTRY` gives them their config names."""

from dst_jax.sparsity.algorithms.extensions import (
    ACDC,
    AdamBasedFisherPruning,
    IterativeNMPruning,
)
from dst_jax.sparsity.algorithms.global_pruners import (
    GlobalMagnitudePruning,
    GlobalPruningMixin,
    GlobalSaliencyPruning,
)
from dst_jax.sparsity.algorithms.mest_granet import (
    GradualMagnitudePruning,
    GraNetGradient,
    GraNetRandom,
    MESTGradient,
    MESTRandom,
)
from dst_jax.sparsity.algorithms.pruners import (
    MagnitudePruning,
    NoPruning,
    RandomPruning,
    SaliencyPruning,
    generate_random_scores,
)
from dst_jax.sparsity.algorithms.random_masks import StaticRandomSparse
from dst_jax.sparsity.algorithms.snfs_topkast import SNFS, TopKAST, snip_masks
from dst_jax.sparsity.algorithms.sparse_trainers import SET, RigL
from dst_jax.sparsity.algorithms.ste import SteMagnitudePruning, SteMixin, SteRandomPruning

__all__ = [
    "ACDC",
    "SET",
    "SNFS",
    "AdamBasedFisherPruning",
    "GlobalMagnitudePruning",
    "GlobalPruningMixin",
    "GlobalSaliencyPruning",
    "GraNetGradient",
    "GraNetRandom",
    "GradualMagnitudePruning",
    "IterativeNMPruning",
    "MESTGradient",
    "MESTRandom",
    "MagnitudePruning",
    "NoPruning",
    "RandomPruning",
    "RigL",
    "SaliencyPruning",
    "StaticRandomSparse",
    "SteMagnitudePruning",
    "SteMixin",
    "SteRandomPruning",
    "TopKAST",
    "generate_random_scores",
    "snip_masks",
]
