"""One training step, loss to masks: pure functions from (state, batch) to state.

One step, in order (t = completed batches before it):

  1. forward and backward on the masked weights. Weights stay masked between steps, so `jax.grad`
     is the dense gradient g, also of inactive weights; it is averaged over the global batch first,
     which may be taken in several micro-batches, one after the other.
  2. unless this is an update step with timing `replace`: g is masked, clipped, given to the
     optimizer, the weights move by -learning_rate(t) times its direction and are masked again.
  3. on an update step: the updater chooses the new masks from the current weights and the
     dense g of 1; those dropped become 0. What new weights and their moments start from is
     in the updater (`SET._reset_moments`): 0, unless an option says otherwise.
  4. the running average of the weights (`ema`), where there is one, takes in the new weights after
     2, and is masked by the new masks after 3: a weight dropped and grown again starts from 0.
  5. t becomes t + 1.

The host knows which steps update masks, so ordinary steps are compiled without any trace of 3.
Called by `compiled_steps`; knows nothing of files, datasets or devices (`Axis` stands for those).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from dst_jax import random_keys, sparsity
from dst_jax.runtime.devices import Axis
from dst_jax.training import ema, gradient_accumulation
from dst_jax.training.train_metrics import TrainMetrics

Tree = Any


@flax.struct.dataclass
class TrainState:
    """Everything that a run is, between two steps.

    Attributes:
      step: int32 [], completed batches.
      params: float32 weights, masked.
      batch_stats: BatchNorm's running statistics, {} for models without.
      sparse: masks (uint8 like params, None where a leaf is never masked), optimizer state
        (`inner_state`), target sparsities, count.
      union: uint8, 1 where a weight has been active so far; None as in the masks.
      newest: uint8, 1 where the last mask update activated a weight; None as in the masks.
      metrics: the sums since the last log line.
      ema: running averages of params (masked) and batch_stats, {} without averaging.
    """

    step: jax.Array
    params: Tree
    batch_stats: Tree
    sparse: sparsity.SparseState
    union: Tree
    newest: Tree
    metrics: TrainMetrics
    ema: Tree = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a step needs besides state and batch; constant over a run.

    `grad_accum_steps` is the number of micro-batches of a step, `ema` the decay of the running
    average of the weights, 0 for none; the others are what their names say.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    updater: sparsity.BaseUpdater
    learning_rate: Callable[[jax.Array], jax.Array]
    label_smoothing: float
    seed: int | jax.Array
    grad_accum_steps: int = 1
    ema: float = 0.0

    def with_seed(self, seed: int | jax.Array) -> "Recipe":
        """The same recipe with other randomness; a traced seed makes it an argument."""
        return dataclasses.replace(self, seed=seed, updater=self.updater.with_seed(seed))


def init_state(recipe: Recipe, variables: Tree) -> TrainState:
    """The state before the first step; the weights are masked already.

    Args:
      recipe: the run's recipe.
      variables: {"params": ..., "batch_stats": ...} of the model.
    """
    params = variables["params"]
    sparse = recipe.updater.init_state(params)
    sparse = sparse._replace(inner_state=recipe.optimizer.init(params), count=jnp.int32(0))
    masked = recipe.updater.post_gradient_update(params, sparse)
    batch_stats = variables.get("batch_stats", {})
    return TrainState(
        step=jnp.int32(0),
        params=masked,
        batch_stats=batch_stats,
        sparse=sparse,
        union=jax.tree.map(jnp.asarray, sparse.masks),
        newest=jax.tree.map(jnp.zeros_like, sparse.masks),
        metrics=TrainMetrics.empty(),
        ema=ema.init(recipe.ema, masked, batch_stats, _zeros(recipe.updater, sparse)),
    )


def _zeros(updater: sparsity.BaseUpdater, sparse: sparsity.SparseState) -> Tree:
    """The masks that hold between steps: none where the weights stay dense, as in Top-KAST."""
    if not updater.keeps_dense_weights:
        return sparse.masks
    return sparsity.mask_trees.map_masks(lambda mask: None, sparse.masks)


def mean_loss(
    logits: jax.Array,
    labels: jax.Array,
    label_smoothing: float,
    mixture: tuple[jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """Mean cross-entropy, float32 [].

    Args:
      logits: float32 [B, K].
      labels: int32 [B].
      label_smoothing: share of the label given to all classes.
      mixture: of mixed images, the other labels, int32 [B], and the shares of the first ones,
        float32 [B].
    """
    targets = jax.nn.one_hot(labels, logits.shape[-1])
    if mixture is not None:
        others, share = mixture
        others = jax.nn.one_hot(others, logits.shape[-1])
        targets = share[:, None] * targets + (1 - share[:, None]) * others
    targets = optax.smooth_labels(targets, label_smoothing)
    return optax.softmax_cross_entropy(logits, targets).mean()


def is_correct(logits: jax.Array, batch: Tree) -> jax.Array:
    """Whether the class is the label, bool [B]; of a mixed image, the label of the larger share."""
    labels = batch["label"]
    if "other" in batch:
        labels = jnp.where(batch["share"] >= 0.5, labels, batch["other"])
    return jnp.argmax(logits, -1) == labels


def train_step(
    state: TrainState, batch: Tree, recipe: Recipe, axis: Axis, *, update: bool
) -> TrainState:
    """One step (see the head of this file).

    Args:
      state: the state at step t.
      batch: {"image": float [B, H, W, C], "label": int32 [B]}, and of mixed images "other" and
        "share", see `mean_loss`.
      recipe: the run's recipe.
      axis: the devices that share the global batch.
      update: whether t updates the masks; static, so that ordinary steps hold no update code.
    """
    state, dense = gradient_step(state, batch, recipe, axis, update=update)
    return change_masks(state, dense, recipe) if update else state


def _gradients(state: TrainState, batch: Tree, recipe: Recipe, axis: Axis) -> tuple[Any, ...]:
    """Mean loss, correct classes, new batch statistics and dense gradient (part 1)."""
    dropout = jax.random.fold_in(random_keys.for_purpose(recipe.seed, "train/dropout"), state.step)
    dropout = jax.random.fold_in(dropout, axis.shard[0])  # devices under pmap draw their own
    # The count of the state stands at the latest mask update; a forward pass belongs to its step.
    now = state.sparse._replace(count=state.step)
    forward = recipe.updater.pre_forward_update(state.params, now)

    def gradients_of(part: Tree, batch_stats: Tree, dropout: jax.Array) -> tuple[Any, ...]:
        def loss_of(params: Tree) -> tuple[jax.Array, tuple[jax.Array, Tree]]:
            logits, mutated = recipe.model.apply(
                {"params": params, "batch_stats": batch_stats},
                part["image"],
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": dropout},
            )
            mixture = (part["other"], part["share"]) if "other" in part else None
            loss = mean_loss(logits, part["label"], recipe.label_smoothing, mixture)
            return loss, (logits, mutated.get("batch_stats", {}))

        (loss, (logits, new_stats)), dense = jax.value_and_grad(loss_of, has_aux=True)(forward)
        return loss, jnp.sum(is_correct(logits, part), dtype=jnp.int32), new_stats, dense

    loss, correct, batch_stats, dense = gradient_accumulation.accumulate(
        gradients_of, batch, state.batch_stats, dropout, recipe.grad_accum_steps
    )
    loss, dense, batch_stats = axis.mean((loss, dense, batch_stats))
    return loss, axis.sum(correct), batch_stats, dense


def gradient_step(
    state: TrainState, batch: Tree, recipe: Recipe, axis: Axis, *, update: bool
) -> tuple[TrainState, Tree]:
    """A step without its mask update: parts 1, 2, 4 and 5; also returns the dense gradient."""
    updater, sparse, params = recipe.updater, state.sparse, state.params
    loss, correct, batch_stats, dense = _gradients(state, batch, recipe, axis)
    examples = axis.sum(jnp.int32(batch["label"].shape[0]))

    grads = updater.mask_gradients(dense, sparse, params)
    if not (update and updater.skip_gradients):
        direction, inner = recipe.optimizer.update(grads, sparse.inner_state, params)
        direction = updater.mask_updates(direction, sparse)
        rate = recipe.learning_rate(state.step)
        params = jax.tree.map(lambda w, d: w - rate * d, params, direction)
        sparse = sparse._replace(inner_state=inner)
        params = updater.post_gradient_update(params, sparse)

    norm = optax.tree.norm(grads)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    metrics = state.metrics
    metrics = dataclasses.replace(
        metrics,
        steps=metrics.steps + 1,
        loss=metrics.loss + loss,
        correct=metrics.correct + correct,
        examples=metrics.examples + examples,
        gradient_norm=metrics.gradient_norm + norm,
        bad_step=jnp.where(finite | (metrics.bad_step >= 0), metrics.bad_step, state.step),
    )
    if update:  # only here: the gradient of inactive weights costs an ordinary step a pass over it
        active, inactive = _norms(dense, state.sparse.masks)
        metrics = dataclasses.replace(
            metrics,
            gradient_active=metrics.gradient_active + active,
            gradient_inactive=metrics.gradient_inactive + inactive,
        )
    current = ema.init(recipe.ema, params, batch_stats, _zeros(updater, sparse))
    state = dataclasses.replace(
        state,
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        sparse=sparse,
        metrics=metrics,
        ema=ema.update(recipe.ema, state.ema, current, state.step),
    )
    return state, dense


def _norms(grads: Tree, masks: Tree) -> tuple[jax.Array, jax.Array]:
    """Norms of the gradient of the maskable weights that are active, and of those that are not."""

    def norm(chosen: Callable[[jax.Array], jax.Array]) -> jax.Array:
        return optax.tree.norm(
            sparsity.mask_trees.map_masks(
                lambda mask, grad: None if mask is None else grad * chosen(mask), masks, grads
            )
        )

    return norm(lambda mask: mask), norm(lambda mask: 1 - mask)


def change_masks(state: TrainState, dense: Tree, recipe: Recipe) -> TrainState:
    """The mask update of the step that `gradient_step` has just taken (part 3).

    Args:
      state: from `gradient_step`.
      dense: its dense gradient.
      recipe: the run's recipe.
    """
    old, updater, metrics = state.sparse.masks, recipe.updater, state.metrics
    sparse = state.sparse._replace(count=state.step - 1)
    params, sparse = updater.update_params_and_state(sparse, state.params, dense)
    newest = jax.tree.map(lambda mask, before: mask & (1 - before), sparse.masks, old)
    surviving = jax.tree.map(lambda before, mask: before & mask, state.newest, sparse.masks)
    grown = jnp.int32(0)
    if hasattr(updater, "count_grown"):
        grown = updater.count_grown(sparse, params)
    metrics = dataclasses.replace(
        metrics,
        num_activated=metrics.num_activated + _count(newest),
        updates=metrics.updates + 1,
        num_grown=metrics.num_grown + grown,
        num_recent=metrics.num_recent + _count(state.newest),
        num_surviving=metrics.num_surviving + _count(surviving),
    )
    return dataclasses.replace(
        state,
        params=params,
        sparse=sparse,
        union=jax.tree.map(lambda seen, mask: seen | mask, state.union, sparse.masks),
        newest=newest,
        metrics=metrics,
        ema=ema.apply_mask(state.ema, _zeros(updater, sparse)),
    )


def snip(state: TrainState, batch: Tree, recipe: Recipe, axis: Axis) -> TrainState:
    """Replaces the first masks by those of SNIP (Lee et al. 2019), on the gradient of one batch.

    Args:
      state: the state before the first step, but with dense weights.
      batch: the first batch; the batch statistics of its forward pass are not kept.
      recipe: the run's recipe.
      axis: the devices that share the global batch.
    """
    dense = _gradients(state, batch, recipe, axis)[-1]
    masks = sparsity.snip_masks(state.params, dense, state.sparse.masks)
    sparse = state.sparse._replace(masks=masks)
    params = recipe.updater.post_gradient_update(state.params, sparse)
    average = ema.init(recipe.ema, params, state.batch_stats, masks)
    return dataclasses.replace(state, params=params, sparse=sparse, union=masks, ema=average)


def _count(masks: Tree) -> jax.Array:
    """Ones in all masks, int32: exact where a float32 or uint8 sum is not."""
    return sum((mask.sum(dtype=jnp.int32) for mask in jax.tree.leaves(masks)), start=jnp.int32(0))


def forward_network(
    updater: sparsity.BaseUpdater, params: Any, sparse: sparsity.SparseState, step: Any
) -> tuple[Any, Any]:
    """What is evaluated of a state, and described: the network of the next forward pass.

    Algorithms whose params stay dense mask them for each pass. Those that draw masks anew at every
    step (`random_ste`) are evaluated with the masks of the step that would come next: a function of
    seed and step, so every evaluation of a checkpoint sees the same network.

    Args:
      updater: the run's updater, with the run's seed.
      params: the weights as they are trained, or their running average.
      sparse: the run's state.
      step: completed batches; int32 [] or Python integer.

    Returns:
      (params, masks): the masked weights, and uint8 masks like them, None where there is no mask.
    """
    now = sparse._replace(count=jnp.asarray(step, jnp.int32))
    return updater.pre_forward_update(params, now), updater.forward_masks(params, now)
