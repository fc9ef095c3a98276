"""An optax optimizer wrapped by an updater: what a step of `BaseUpdater.wrap_optax` does.

Whether a step updates the masks is decided inside the compiled step, so everything here is about
keeping ordinary steps cheap. Called by `base_updater`; knows updaters by their methods alone.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dst_jax.sparsity import inner_optimizer, optimizer_state, param_paths, told
from dst_jax.sparsity.mask_trees import map_masks, zero_weights
from dst_jax.sparsity.param_paths import PyTree

_WHEN = ("before", "after")


def wrap(
    updater: Any,
    inner: optax.GradientTransformation,
    mask_update: str = "before",
    apply_masks: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Returns an optax transformation whose state is the updater's around the inner one.

    Args:
      updater: a `BaseUpdater`.
      inner: any optimizer.
      mask_update: whether masks change "before" the optimizer's step or "after" it.
      apply_masks: whether the updates take inactive weights to 0.
    """
    if mask_update not in _WHEN:
        raise ValueError(f"mask_update: found {mask_update!r}; expected before or after")
    if isinstance(inner, optax.MultiSteps):
        inner = inner.gradient_transformation()
    inner = optax.with_extra_args_support(inner)
    read: dict[Any, inner_optimizer.Facts] = {}

    def facts_of(params: PyTree) -> inner_optimizer.Facts:
        leaves, treedef = jax.tree.flatten(params)
        key = treedef, *((jnp.shape(leaf), getattr(leaf, "dtype", None)) for leaf in leaves)
        try:
            known = read.get(key)
        except TypeError:  # a structure that cannot be hashed
            return inner_optimizer.read(inner, params)
        if known is None:
            known = read[key] = inner_optimizer.read(inner, params)
        return known

    def init_fn(params: PyTree) -> Any:
        if updater.is_dense or not jax.tree.leaves(params):
            state = updater.init_state(params)
            return state._replace(inner_state=inner.init(params))
        facts = facts_of(params)
        _check(updater, facts)
        state = (updater.leaving_dense(facts.frozen) if facts.frozen else updater).init_state(
            params
        )
        # Optimizers that keep a copy of the weights must keep the masked ones.
        return state._replace(inner_state=inner.init(updater.post_gradient_update(params, state)))

    def update_fn(
        updates: PyTree, state: Any, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, Any]:
        if params is None and not updater.is_dense:
            raise ValueError(
                "params: found none; expected tx.update(grads, state, params), since masks are "
                "chosen by the weights"
            )
        params = _like(updates, params, state)
        facts = inner_optimizer.Facts() if updater.is_dense else facts_of(params)
        bound = updater._with_inner(inner.init)
        if facts.needs_history and getattr(bound, "adam_fresh", "") == "zero":
            bound.adam_fresh = "mean_v"
        is_update = bound.is_mask_update(state.count)
        if not isinstance(is_update, jax.core.Tracer):
            is_update = bool(is_update)

        grads, reinit_masks = updates, None
        is_after = mask_update == "after" and not bound.skip_gradients
        if not is_after:
            state, reinit_masks = _update_when(bound, is_update, state, params, grads, extra)
        updates = bound.mask_gradients(grads, state, params)
        inner_before = state.inner_state
        seen = zero_weights(params, reinit_masks)
        if bound.is_sparse_gradients and not bound.skip_gradients and is_update is not False:
            # Weight decay must not feed the momentum of a weight that was just dropped.
            seen = bound.apply_masks(seen, state.masks, is_packed=None)
        updates, inner_state = inner.update(updates, inner_before, seen, **extra)
        updates = bound.mask_updates(updates, state)
        if is_after:
            updates = _to_zero(bound, updates, params, state)
            moved = optax.apply_updates(params, updates)
            state = state._replace(inner_state=inner_state)
            state, reinit_masks = _update_when(bound, is_update, state, moved, grads, extra)
            inner_state = state.inner_state
        if bound.skip_gradients and is_update is not False:
            inner_state = optimizer_state.freeze_moments(
                is_update, inner_before, inner_state, params
            )
            updates = jax.tree.map(lambda u: jnp.where(is_update, jnp.zeros_like(u), u), updates)
        if reinit_masks is not None:

            def restart(mark: Any, update: Any, param: Any) -> Any:
                if mark is None:
                    return update
                return jnp.where(mark, -param if is_after else update - param, update)

            updates = map_masks(restart, reinit_masks, updates, params)
        if apply_masks:
            updates = _to_zero(bound, updates, params, state)
        if facts.copies and bound._masks_weights():
            inner_state = _mask_copies(bound, inner_state, facts.copies, params, state)
        count = optax.safe_increment(state.count)
        return updates, state._replace(count=count, inner_state=inner_state)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _check(updater: Any, facts: inner_optimizer.Facts) -> None:
    """Refuses what cannot work, and warns of what loses something."""
    name = type(updater).__name__
    if facts.accumulates:
        told.once(
            "optax.MultiSteps: found inside wrap_optax, where a mask update falls into the middle "
            "of an accumulation and loses its micro-batches; expected it outside: "
            "optax.MultiSteps(updater.wrap_optax(optimizer), k)"
        )
    if facts.per_example:
        raise ValueError(
            "optimizer: found one that takes a gradient for each example, as optax.contrib.dpsgd; "
            "expected it outside: optax.chain(optax.contrib.differentially_"
            "private_aggregate(...), updater.wrap_optax(optax.sgd(...)))"
        )
    if facts.needs_history and updater._restarts_moments() and not hasattr(updater, "adam_fresh"):
        raise ValueError(
            f"optimizer: found optax.contrib.acprop with {name}, which restarts moments at 0, "
            "where its steps have no bounds; expected another optimizer, such as optax.adabelief"
        )


def _like(updates: PyTree, params: PyTree, state: Any) -> PyTree:
    """Hides the params that have no gradient, as an Equinox module's functions have none."""
    flatten = param_paths.leaves_and_structure
    if params is None or flatten(updates)[1] == flatten(params)[1]:
        return params
    missing = param_paths.is_missing
    try:
        seen = jax.tree.map(lambda u, p: u if missing(u) else p, updates, params, is_leaf=missing)
        masks = param_paths.parts(state.masks, params)
        paths, _, _ = param_paths.flatten(params)
        given = set(param_paths.flatten(seen)[0])
    except ValueError as error:
        raise ValueError(
            "gradients: found a tree of another structure than the params'; expected the same "
            f"({str(error).splitlines()[0][:200]})"
        ) from None
    for path, mask in zip(paths, masks, strict=True):
        if mask is not None and path not in given:
            raise ValueError(
                f"gradients: found none for {param_paths.text(path)}, which has a mask; expected "
                "one, or a filter_fn that leaves the layer dense"
            )
    return seen


def _to_zero(updater: Any, updates: PyTree, params: PyTree, state: Any) -> PyTree:
    """Returns updates that take the inactive weights to exactly 0."""
    if state.masks is None or not updater._masks_weights():
        return updates
    leaves, treedef = param_paths.leaves_and_structure(updates)
    masks = _leaves_of_masks(updater, state, params)
    return treedef.unflatten(
        [
            u if m is None else jnp.where(m != 0, u, -p)
            for u, p, m in zip(leaves, jax.tree.leaves(params), masks, strict=True)
        ]
    )


def _leaves_of_masks(updater: Any, state: Any, params: PyTree) -> list[Any]:
    """Returns the unpacked mask of each array of the params, None for none."""
    return param_paths.parts(updater._unpacked(state.masks, params), params)


def _mask_copies(
    updater: Any, inner_state: Any, copies: tuple[tuple[int, int], ...], params: PyTree, state: Any
) -> Any:
    """Masks the copies of the weights that an optimizer keeps."""
    leaves, treedef = param_paths.leaves_and_structure(inner_state)
    masks = _leaves_of_masks(updater, state, params)
    for index, source in copies:
        mask = masks[source]
        if mask is not None and leaves[index].shape == mask.shape:
            leaves[index] = jnp.where(mask != 0, leaves[index], jnp.zeros_like(leaves[index]))
    return treedef.unflatten(leaves)


def _are_finite(grads: PyTree) -> Any:
    """Returns whether all gradients are finite, bool []; they are where there are none."""
    found = [
        jnp.isfinite(leaf).all()
        for leaf in jax.tree.leaves(grads)
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    ]
    return jnp.stack(found).all() if found else jnp.bool_(True)


def _if(condition: Any, new: Any, old: Any) -> Any:
    """Returns the new state where the condition holds, but what never changes as it is."""

    def pick(new: PyTree, old: PyTree) -> PyTree:
        return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)

    return new._replace(
        masks=pick(new.masks, old.masks),
        backward_masks=pick(new.backward_masks, old.backward_masks),
        inner_state=pick(new.inner_state, old.inner_state),
    )


def _marks_if(condition: Any, marks: PyTree) -> PyTree:
    return jax.tree.map(lambda mark: mark * condition.astype(mark.dtype), marks)


def _update_when(
    updater: Any, is_update: Any, state: Any, params: PyTree, grads: PyTree, extra: dict[str, Any]
) -> tuple[Any, PyTree]:
    """Updates the masks if `is_update`, which may be traced; also returns the reinit masks.

    Gradients that are not all finite leave the masks alone. Only the choice of masks is under a
    branch: what a branch returns is copied on every step, and returning the momentum from it costs
    more than all else in an ordinary step.
    """
    if is_update is False:
        return state, None
    if is_update is True:
        finite = _are_finite(grads)
        if not isinstance(finite, jax.core.Tracer) and not finite:
            told.once("gradients: found NaN or infinity on an update step; its masks are kept")
            return state, None
        updated, reinit_masks = updater._updated(state, params, grads, **extra)
        if not isinstance(finite, jax.core.Tracer):
            return updated, reinit_masks
        return _if(finite, updated, state), _marks_if(finite, reinit_masks)
    if not updater.is_two_phase():

        def update_all() -> Any:
            updated = updater.update_state(state, params, grads, **extra)
            return _if(_are_finite(grads), updated, state)

        return jax.lax.cond(is_update, update_all, lambda: state), None

    def choose() -> tuple[Any, PyTree, Any]:
        chosen, reinit_masks = updater._choose_masks(state, params, grads, **extra)
        finite = _are_finite(grads)
        chosen = _if(finite, without_others(chosen), without_others(state))
        return chosen, _marks_if(finite, reinit_masks), finite

    def keep() -> tuple[Any, PyTree, Any]:
        return without_others(state), updater._no_reinit(state, params), jnp.bool_(False)

    def without_others(state: Any) -> Any:
        return state._replace(inner_state=None, target_sparsities=None, count=None)

    chosen, reinit_masks, changed = jax.lax.cond(is_update, choose, keep)
    chosen = state._replace(masks=chosen.masks, backward_masks=chosen.backward_masks)
    return updater._reset_moments(state, chosen, reinit_masks, params, changed), reinit_masks
