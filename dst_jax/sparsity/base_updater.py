"""What all sparse-training algorithms share: the state, the base updater, wrapping an optimizer.

An updater owns a schedule, a distribution of sparsity over layers and a rule that scores weights.
The algorithms in `algorithms` override the rule; training code calls the methods of `BaseUpdater`
from inside its compiled step, or lets `wrap_optax` do that.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dst_jax.sparsity import (
    mask_calculator,
    mask_trees,
    sparsity_distributions,
    sparsity_schedules,
    sparsity_types,
    told,
    wrapping,
)
from dst_jax.sparsity import sparse_state as sparse_state_lib
from dst_jax.sparsity.mask_making import MaskMaking
from dst_jax.sparsity.mask_trees import apply_mask
from dst_jax.sparsity.param_paths import PyTree
from dst_jax.sparsity.sparse_state import SparseState
from dst_jax.sparsity.traits import Traits

__all__ = ["BaseUpdater", "SparseState", "apply_mask"]

FilterFnType = sparsity_distributions.FilterFnType
SparsityDistributionFnType = Callable[..., Any]

# JaxPruner's key, for updaters that were given none.
_DEFAULT_SEED = 8
_NO_UPDATES = sparsity_schedules.NoUpdateSchedule()
_UNSTRUCTURED = sparsity_types.Unstructured()
_NOTHING_REMOVED = sparsity_distributions.Distribution(sparsity_distributions.uniform, sparsity=0.0)


def __getattr__(name: str) -> Any:  # JaxPruner has it here, and its integrations ask for it here
    if name == "NoPruning":
        from dst_jax.sparsity.algorithms import pruners

        return pruners.NoPruning
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclasses.dataclass
class BaseUpdater(MaskMaking, Traits):
    """Base of all algorithms: an ordinary mutable dataclass whose methods are pure.

    Attributes:
      scheduler: when masks change, and how sparse they are at a step.
      skip_gradients: whether a mask update replaces the optimizer's step on that batch.
      is_sparse_gradients: whether the optimizer sees masked gradients.
      sparsity_type: the pattern of the masks.
      sparsity_distribution_fn: params -> tree of sparsities, such as a
        `sparsity_distributions.Distribution`; None for algorithms without one.
      rng_seed: a PRNG key or an integer. Pass one that differs between runs: None is JaxPruner's
        fixed PRNGKey(8), which makes the random choices of all runs the same.
      use_packed_masks: whether masks are stored as bits (1/8 of the memory).
      topk_fn: (scores, sparsity) -> mask; None takes the one of `sparsity_type`.
    """

    scheduler: Any = _NO_UPDATES
    skip_gradients: bool = False
    is_sparse_gradients: bool = False
    sparsity_type: sparsity_types.SparsityType = _UNSTRUCTURED
    sparsity_distribution_fn: SparsityDistributionFnType | None = _NOTHING_REMOVED
    rng_seed: Any = None
    use_packed_masks: bool = False
    topk_fn: mask_calculator.TopKFnType | None = None

    # What `wrap_optax` binds; no field, since it is no option.
    _inner_init: ClassVar[Any] = None

    def __post_init__(self):
        if self.topk_fn is None:
            self.topk_fn = mask_calculator.get_topk_fn(self.sparsity_type)
        if self.rng_seed is None:
            self.rng_seed = _DEFAULT_SEED
        if isinstance(self.rng_seed, (int, np.integer)):
            self.rng_seed = jax.random.PRNGKey(self.rng_seed)

    def with_seed(self, seed: Any) -> "BaseUpdater":
        """Returns a copy whose random choices follow another integer, which may be traced."""
        seeded = copy.copy(self)
        seeded.rng_seed = jax.random.PRNGKey(seed)
        return seeded

    def leaving_dense(self, paths: Iterable[Any]) -> "BaseUpdater":
        """Returns a copy that leaves the layers at these paths (tuples of names) without a mask."""
        other = copy.copy(self)
        if self.sparsity_distribution_fn is not None:
            other.sparsity_distribution_fn = self._distribution().leaving_dense(paths)
        return other

    def _with_inner(self, init: Callable[[Any], Any]) -> "BaseUpdater":
        """Returns a copy that starts moments from what an optimizer's `init` gives."""
        bound = copy.copy(self)
        vars(bound)["_inner_init"] = init
        return bound

    def _masks_weights(self) -> bool:
        """Whether weights are 0 where the masks are, as `post_gradient_update` here has it."""
        ours = getattr(self.post_gradient_update, "__func__", None)
        return ours is BaseUpdater.post_gradient_update

    def _restarts_moments(self) -> bool:
        """Whether a mask update starts moments anew."""
        return type(self)._reset_moments is not BaseUpdater._reset_moments

    def _initial_moments(self, sparse_state: SparseState, params: PyTree, reinit: PyTree) -> Any:
        """Returns the inner state that new weights start from, or None: zeros."""
        if self._inner_init is None:
            return None
        params = mask_trees.zero_weights(params, reinit)
        return self._inner_init(self.post_gradient_update(params, sparse_state))

    def calculate_scores(
        self, params: PyTree, sparse_state: Any = None, grads: PyTree = None, **kwargs: Any
    ) -> PyTree:
        """Returns the tree of scores; the weights with the lowest are removed.

        Args:
          params: the params.
          sparse_state: the state, if there is one.
          grads: the dense gradients, if the algorithm needs them.
          **kwargs: what was passed on by `update_state` or `wrap_optax`.

        Raises:
          NotImplementedError: in the base class.
        """
        raise NotImplementedError

    def init_state(self, params: PyTree) -> SparseState:
        """Returns the first state; works under `jax.jit` and `jax.eval_shape`."""
        targets = None
        if self.sparsity_distribution_fn is not None:
            targets = self._sparsities(params)
            unmasked = targets is not None and not jax.tree.leaves(targets)
            if unmasked and not self.is_dense and jax.tree.leaves(params):
                told.once(
                    f"{type(self).__name__}: found no layer to mask, so the training is dense; "
                    "expected one that filter_fn selects (sparsity.layer_table lists them)"
                )
        masks = self._store(self.get_initial_masks(params, targets))
        return SparseState(masks=masks, target_sparsities=targets, count=jnp.zeros([], jnp.int32))

    def update_state(
        self, sparse_state: SparseState, params: PyTree, grads: PyTree, **kwargs: Any
    ) -> SparseState:
        """Returns the state with new masks for these params and gradients, and moments to match.

        Args:
          sparse_state: the state; `count` is the step.
          params: the params before this batch's optimizer step.
          grads: the dense (unmasked) gradients, averaged over devices.
          **kwargs: passed on to `calculate_scores`.
        """
        chosen, reinit_masks = self._choose_masks(sparse_state, params, grads, **kwargs)
        return self._reset_moments(sparse_state, chosen, reinit_masks, params)

    def _choose_masks(
        self, sparse_state: SparseState, params: PyTree, grads: PyTree, **kwargs: Any
    ) -> tuple[SparseState, Any]:
        """The first half of an update: which weights are active.

        Returns:
          The state with new masks but the old inner state, and masks of the weights that stay
          active but restart from zero (None: none do).
        """
        sparsities = self.scheduler.get_sparsity_at_step(
            sparse_state.target_sparsities, sparse_state.count
        )
        scores = self.calculate_scores(params, sparse_state=sparse_state, grads=grads, **kwargs)
        masks = self._store(self.create_masks(scores, sparsities))
        return sparse_state._replace(masks=masks), None

    def _no_reinit(self, sparse_state: SparseState, params: PyTree) -> Any:
        """The second result of `_choose_masks` on a step without an update."""
        del sparse_state, params

    def _reset_moments(
        self,
        before: SparseState,
        chosen: SparseState,
        reinit_masks: PyTree,
        params: PyTree,
        is_update: Any = True,
    ) -> SparseState:
        """The second half of an update: what the new masks do to the optimizer's moments.

        Elementwise, so that a compiled step can fuse it with the optimizer's arithmetic.

        Args:
          before: the state before the update.
          chosen: the first result of `_choose_masks`.
          reinit_masks: its second result.
          params: the params.
          is_update: bool scalar, may be traced; where it is False nothing may change.

        Returns:
          `chosen` with the new inner state; here, unchanged.
        """
        del before, reinit_masks, params, is_update
        return chosen

    def update_params_and_state(
        self, sparse_state: SparseState, params: PyTree, grads: PyTree, **kwargs: Any
    ) -> tuple[PyTree, SparseState]:
        """One whole mask update: new masks and what they do to the weights.

        `update_state` followed by `post_gradient_update`. Only this method can also set weights to
        zero that were dropped and regrown at once (`regrow_same="zero"`).

        Args:
          sparse_state: the state.
          params: the params before this batch's optimizer step.
          grads: the dense gradients.
          **kwargs: passed on to `calculate_scores`.

        Returns:
          The params, masked by the new masks, and the new state.
        """
        state, reinit_masks = self._updated(sparse_state, params, grads, **kwargs)
        params = mask_trees.zero_weights(params, reinit_masks)
        return self.post_gradient_update(params, state), state

    def is_two_phase(self) -> bool:
        """Whether `update_state` is the two halves; a subclass may have one of its own."""
        return type(self).update_state is BaseUpdater.update_state

    def _updated(
        self, sparse_state: SparseState, params: PyTree, grads: PyTree, **kwargs: Any
    ) -> tuple[SparseState, Any]:
        """`update_state`, and the reinit masks of `_choose_masks`."""
        if not self.is_two_phase():
            return self.update_state(sparse_state, params, grads, **kwargs), None
        chosen, reinit_masks = self._choose_masks(sparse_state, params, grads, **kwargs)
        return self._reset_moments(sparse_state, chosen, reinit_masks, params), reinit_masks

    def wrap_optax(
        self,
        inner: optax.GradientTransformation,
        mask_update: str = "before",
        apply_masks: bool = True,
    ) -> optax.GradientTransformationExtraArgs:
        """Returns an optax transformation that also keeps masks.

        Its state is a `SparseState` around the inner state, and its updates bring inactive weights
        to 0: `optax.apply_updates` is all that a loop needs. It has to be the last part of a chain.
        The first step sees dense weights, unless `post_gradient_update(params, state)` comes first.

        On an update step the masks change, by the params and the raw gradients, if these are
        finite; gradients are masked if `is_sparse_gradients`; the inner optimizer runs, outside any
        branch. With `skip_gradients` an update step discards its result, while learning-rate
        schedules inside it move on with the batches. Layers that it never moves
        (`optax.set_to_zero`) get no mask. Extra arguments go to it and to `calculate_scores`.

        Args:
          inner: any optimizer; `optax.MultiSteps` belongs around the result, not inside.
          mask_update: without `skip_gradients`, whether masks change "before" the optimizer's step,
            in which new weights then take part, or "after" it.
          apply_masks: whether the updates bring inactive weights to 0. False: they are JaxPruner's,
            and `post_gradient_update` has to be called after every `optax.apply_updates`.

        Raises:
          ValueError: the inner optimizer cannot work with this algorithm.
        """
        return wrapping.wrap(self, inner, mask_update, apply_masks)

    def instant_sparsify(
        self, params: PyTree, grads: PyTree = None, **kwargs: Any
    ) -> tuple[PyTree, PyTree]:
        """Sparsifies the params at once, without a state.

        Args:
          params: the params.
          grads: gradients, for algorithms that score with them.
          **kwargs: passed on to `calculate_scores`.

        Returns:
          The masked params and the masks (packed if `use_packed_masks`).

        Raises:
          ValueError: if there is no distribution function.
        """
        if self.sparsity_distribution_fn is None:
            raise ValueError("sparsity_distribution_fn needs to be provided for sparsification")
        sparsities = self._sparsities(params)
        scores = self.calculate_scores(params, grads=grads, **kwargs)
        masks = self.create_masks(scores, sparsities)
        return self.apply_masks(params, masks, is_packed=False), self._store(masks)

    def mask_gradients(self, grads: PyTree, sparse_state: SparseState, params: PyTree) -> PyTree:
        """Returns what the optimizer sees of the dense gradients: the active part, or all."""
        del params
        if not self.is_sparse_gradients:
            return grads
        return self.apply_masks(grads, sparse_state.masks, is_packed=None)

    def mask_updates(self, updates: PyTree, sparse_state: SparseState) -> PyTree:
        """Returns what of the optimizer's updates reaches the weights; here, all of it."""
        del sparse_state
        return updates

    def is_mask_update(self, step: sparsity_schedules.Step) -> sparsity_schedules.Truth:
        """Returns whether the masks of the state change at `step` (completed batches)."""
        return self.scheduler.is_mask_update_iter(step)

    def pre_forward_update(self, params: PyTree, opt_state: Any) -> PyTree:
        """Returns the params to use in the forward pass; here, the params themselves.

        They are also what is evaluated. A subclass that overrides this sets `keeps_dense_weights`
        and, unless the masks are those of the state, overrides `forward_masks` to match.

        Args:
          params: the params as they are trained.
          opt_state: the state; `count` is the step of the forward pass.
        """
        del opt_state
        return params

    def forward_masks(self, params: PyTree, sparse_state: SparseState) -> PyTree:
        """Returns the masks of `pre_forward_update(params, sparse_state)`, unpacked.

        Args:
          params: the params as they are trained.
          sparse_state: the state; `count` is the step of the forward pass.

        Returns:
          A tree like the params of uint8 0/1 [shape of the param], None for layers without a mask.
        """
        return self._unpacked(sparse_state.masks, params)

    def post_gradient_update(self, params: PyTree, sparse_state: Any) -> PyTree:
        """Returns the params masked by the state's masks; call it before the first forward too.

        Args:
          params: the params.
          sparse_state: the state, or a state that holds it, as that of `optax.chain`.
        """
        masks = sparse_state_lib.of(sparse_state).masks
        return self.apply_masks(params, masks, is_packed=self.use_packed_masks)
