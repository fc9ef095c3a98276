"""Arithmetic of a training over that of dense training, for every method, added up step by step.

Counting follows Evci et al. 2020 (appendix on FLOPs): with f the forward pass of the current masks
over a dense one, a step costs f forward, f for the gradient of the activations and another f for
that of the weights, or more where the method wants it of inactive weights; a dense step costs 3.
Choosing and drawing weights is not counted. Called by `network_facts`; the passes themselves are
counted in `flops`.
"""

import numpy as np

from dst_jax import sparsity


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
    progress = updater.density_progress(latest if updater.changes_masks else step)
    forward = first + (last - first) * progress
    weights = forward
    if updater.dense_gradients == "always":
        weights = np.ones(steps)
    elif updater.dense_gradients == "updates":
        weights = np.where(is_update, 1.0, forward)
    elif updater.backward_ratio > 1 and backward is not None:
        weights = np.full(steps, backward)
    return float(np.mean((2 * forward + weights) / 3)) + (1 / steps if snip else 0.0)
