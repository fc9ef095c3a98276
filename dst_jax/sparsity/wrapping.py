"""An optax optimizer wrapped by an updater: what a step of `BaseUpdater.wrap_optax` does.

Whether a step updates the masks is decided inside the compiled step, so everything here is about
keeping ordinary steps cheap. Called by `base_updater`; knows updaters by their methods alone.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dst_jax.sparsity import optimizer_state
from dst_jax.sparsity.mask_trees import map_masks, zero_weights


def wrap(updater: Any, inner: optax.GradientTransformation) -> Any:
    """Returns an optax transformation whose state is the updater's around the inner one.

    Args:
      updater: a `BaseUpdater`.
      inner: any optimizer.
    """

    def init_fn(params: Any) -> Any:
        return updater.init_state(params)._replace(inner_state=inner.init(params))

    def update_fn(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        is_update = updater.is_mask_update(state.count)
        if not isinstance(is_update, jax.core.Tracer):
            is_update = bool(is_update)
        state, reinit_masks = _update_when(updater, is_update, state, params, updates, extra)
        updates = updater.mask_gradients(updates, state, params)
        inner_before = state.inner_state
        seen = zero_weights(params, reinit_masks)
        if updater.is_sparse_gradients and not updater.skip_gradients and is_update is not False:
            # Weight decay must not feed the momentum of a weight that was just dropped.
            seen = updater.apply_masks(seen, state.masks, is_packed=None)
        updates, inner_state = inner.update(updates, inner_before, seen)
        updates = updater.mask_updates(updates, state)
        if updater.skip_gradients and is_update is not False:
            inner_state = optimizer_state.freeze_moments(
                is_update, inner_before, inner_state, params
            )
            updates = jax.tree.map(lambda u: jnp.where(is_update, jnp.zeros_like(u), u), updates)
        if reinit_masks is not None:
            updates = map_masks(
                lambda r, u, p: u if r is None else jnp.where(r, u - p, u),
                reinit_masks,
                updates,
                params,
            )
        count = optax.safe_increment(state.count)
        return updates, state._replace(count=count, inner_state=inner_state)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _update_when(
    updater: Any, is_update: Any, state: Any, params: Any, grads: Any, extra: dict[str, Any]
) -> tuple[Any, Any]:
    """Updates the masks if `is_update`, which may be traced; also returns the reinit masks.

    Only the choice of masks is under a branch: what a branch returns is copied on every step,
    and returning the momentum from it costs more than all else in an ordinary step.
    """
    if is_update is False:
        return state, None
    if is_update is True:
        return updater._updated(state, params, grads, **extra)
    if not updater.is_two_phase():

        def update_all() -> Any:
            return updater.update_state(state, params, grads, **extra)

        return jax.lax.cond(is_update, update_all, lambda: state), None

    def choose() -> tuple[Any, Any]:
        chosen, reinit_masks = updater._choose_masks(state, params, grads, **extra)
        return without_others(chosen), reinit_masks

    def keep() -> tuple[Any, Any]:
        return without_others(state), updater._no_reinit(state, params)

    def without_others(state: Any) -> Any:
        return state._replace(inner_state=None, target_sparsities=None, count=None)

    chosen, reinit_masks = jax.lax.cond(is_update, choose, keep)
    chosen = state._replace(masks=chosen.masks, backward_masks=chosen.backward_masks)
    return updater._reset_moments(state, chosen, reinit_masks, params, is_update), reinit_masks
