"""Sparse training in JAX: JaxPruner's public API on current JAX.

Change `import jaxpruner` to `from dst_jax import sparsity as jaxpruner` and code written for it
runs. Stands alone: nothing here imports the rest of dst_jax. To add an algorithm, subclass an
updater in `algorithms` and give it a name in `api`.
"""

from dst_jax.sparsity import (
    algorithms,
    api,
    base_updater,
    config_keys,
    jaxpruner_bridge,
    mask_calculator,
    mask_trees,
    maskable,
    optimizer_state,
    param_paths,
    sparsity_distributions,
    sparsity_schedules,
    sparsity_types,
    summaries,
    topk,
    utils,
    wrapping,
)
from dst_jax.sparsity.algorithms import *  # noqa: F403  every class of `algorithms`
from dst_jax.sparsity.algorithms import __all__ as _algorithm_names
from dst_jax.sparsity.api import (
    ALGORITHM_REGISTRY,
    all_algorithm_names,
    create_updater_from_config,
    fields_of,
    register_algorithm,
)
from dst_jax.sparsity.base_updater import BaseUpdater, apply_mask
from dst_jax.sparsity.sparse_state import (
    SparseState,
    check,
    find_state,
    find_states,
    masked,
    unmasked_weights,
)
from dst_jax.sparsity.sparsity_schedules import (
    AlternatingSchedule,
    NoUpdateSchedule,
    OneShotSchedule,
    PeriodicSchedule,
    PolynomialSchedule,
)
from dst_jax.sparsity.sparsity_types import SparsityType
from dst_jax.sparsity.summaries import layer_table, summarize_intersection, summarize_sparsity

__all__ = [
    "ALGORITHM_REGISTRY",
    "AlternatingSchedule",
    "BaseUpdater",
    "NoUpdateSchedule",
    "OneShotSchedule",
    "PeriodicSchedule",
    "PolynomialSchedule",
    "SparseState",
    "SparsityType",
    "algorithms",
    "all_algorithm_names",
    "api",
    "apply_mask",
    "base_updater",
    "check",
    "config_keys",
    "create_updater_from_config",
    "fields_of",
    "find_state",
    "find_states",
    "layer_table",
    "mask_calculator",
    "mask_trees",
    "maskable",
    "masked",
    "optimizer_state",
    "jaxpruner_bridge",
    "param_paths",
    "topk",
    "register_algorithm",
    "sparsity_distributions",
    "sparsity_schedules",
    "sparsity_types",
    "summaries",
    "summarize_intersection",
    "summarize_sparsity",
    "unmasked_weights",
    "utils",
    "wrapping",
    *_algorithm_names,
]
