"""Arithmetic of a training over that of dense training, for every method, added up step by step.

Counting follows Evci et al. 2020 (appendix on FLOPs): with f the forward pass of the current masks
over a dense one, a step costs f forward, f for the gradient of the activations and another f for
that of the weights, or more where the method wants it of inactive weights; a dense step costs 3.
Choosing and drawing weights is not counted. Called by `describe`; the passes themselves are counted
in `flops`.
"""

import numpy as np

from dst_jax import sparsity
from dst_jax.sparsity import algorithms
from dst_jax.sparsity.algorithms import IterativeNMPruning, mest_granet
from dst_jax.sparsity.sparsity_types import NByM

_MEST = (algorithms.MESTRandom, algorithms.MESTGradient)
_GRADUAL = (
    algorithms.GraNetRandom,
    algorithms.GraNetGradient,
    algorithms.GradualMagnitudePruning,
)
# Whose masks have the same number of active weights all along.
_CONSTANT = (algorithms.StaticRandomSparse, algorithms.TopKAST, sparsity.NoPruning)
# Which optimizers see gradients of all weights, at every step.
_DENSE_GRADIENT = (algorithms.SNFS, algorithms.SteMixin)
_DENSE_GRADIENT_AT_UPDATES = (algorithms.RigL, algorithms.SaliencyPruning)


def training_flops_ratio(
    updater: sparsity.BaseUpdater,
    steps: int,
    first: float,
    last: float,
    *,
    backward: float | None = None,
    snip: bool = False,
) -> float:
    """Cost of a training over that of dense training with as many steps.

    In terms of f_D and f_S, a dense and a sparse forward pass, this comes to 3 f_S a step for
    static masks and SET; 3 f_S + (f_D - f_S) / N for RigL during its updates, N steps apart;
    2 f_S + f_D for SNFS and straight-through pruning; the mean of 3 f(t) for methods whose density
    changes, with (f_D - f(t)) / N on top where they grow by gradients; f_D and f_S in turn for
    AC/DC; and 2 f_A + f_B for Top-KAST.

    Args:
      updater: the run's updater.
      steps: steps of the training.
      first: forward pass with the first masks over a dense one.
      last: the same with the last masks. Between the two the cost is taken to follow the density
        (exact where all layers move alike; GraNet's layers do not quite).
      backward: the same with the weights that Top-KAST trains; ignored for others.
      snip: whether the first masks took a dense forward and backward pass of one batch.

    Returns:
      The ratio: 1 for dense training.
    """
    step = np.arange(steps)
    is_update = np.broadcast_to(updater.scheduler.is_mask_update_iter(step), step.shape)
    # A step is taken with the masks of the latest update before it.
    updated = np.maximum.accumulate(np.where(is_update, step, -1))
    latest = np.concatenate([[-1], updated[:-1]])
    forward = first + (last - first) * _progress(updater, step, latest)
    weights = forward
    if isinstance(updater, _DENSE_GRADIENT):
        weights = np.ones(steps)
    elif isinstance(updater, _DENSE_GRADIENT_AT_UPDATES):
        weights = np.where(is_update, 1.0, forward)
    elif isinstance(updater, algorithms.TopKAST) and backward is not None:
        weights = np.full(steps, backward)
    return float(np.mean((2 * forward + weights) / 3)) + (1 / steps if snip else 0.0)


def _progress(updater: sparsity.BaseUpdater, step: np.ndarray, latest: np.ndarray) -> np.ndarray:
    """How far the density has gone from the first to the last, in [0, 1].

    Args:
      updater: the updater.
      step: [steps], the steps.
      latest: [steps], the latest update before each, -1 if there is none.
    """
    if isinstance(updater, _MEST):
        end, _ = mest_granet.update_steps(updater)[1:]
        beyond = np.where(4 * latest < 3 * end, 1.0, np.where(latest < end, 0.5, 0.0))
        return 1 - (beyond if updater.memory_bound == "soft" else np.zeros_like(beyond))
    if isinstance(updater, _GRADUAL):
        start, end, freq = mest_granet.update_steps(updater, updater.prune_end_step)
        events = (end - start) // freq + 1
        event = np.clip((latest - start) // freq + 1, 0, events)
        return 1 - (1 - event / events) ** 3
    if isinstance(updater, _CONSTANT):
        return np.ones(step.shape)
    # Pruners: what the schedule says of a target of 1. Straight-through ones prune at every step.
    when = step if isinstance(updater, algorithms.SteMixin) else latest
    reached = np.array([updater.scheduler.get_sparsity_at_step(1.0, int(t)) for t in when], float)
    if isinstance(updater.sparsity_type, NByM) and not isinstance(updater, IterativeNMPruning):
        reached = (reached > 0).astype(float)  # the pattern is whole from the first update on
    return np.where(when < 0, 0.0, reached)
