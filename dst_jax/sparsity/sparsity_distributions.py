"""How sparse each layer becomes: uniform, Erdos-Renyi-Kernel, and exact integer counts.

A `Distribution` is one of the rules with the sparsity that it is to reach; an updater holds one.
Everything here runs on the host in float64 and only reads shapes, so it works while a program is
traced. Used by the updaters; nothing here knows scores or masks.
"""

import contextlib
import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import flax.core
import flax.traverse_util
import jax
import numpy as np

FilterFnType = Callable[[tuple[str, ...], Any], bool]
CustomSparsityMapType = Mapping[tuple[str, ...], float]


def KERNEL_FILTER_FN(key: tuple[str, ...], param: Any) -> bool:  # noqa: N802  JaxPruner's name
    """Selects the parameters named `kernel`."""
    del param
    return key[-1] == "kernel"


def NOT_DIM_ONE_FILTER_FN(key: tuple[str, ...], param: Any) -> bool:  # noqa: N802
    """Selects the parameters with two or more dimensions; the default everywhere."""
    del key
    return param.ndim > 1


def unflatten_like(tree: Any, flat: dict[tuple[str, ...], Any]) -> Any:
    """Unflattens path -> value into the kind of nested dict that `tree` is."""
    result = flax.traverse_util.unflatten_dict(flat)
    return flax.core.freeze(result) if isinstance(tree, flax.core.FrozenDict) else result


def uniform(
    params: Any,
    sparsity: float,
    filter_fn: FilterFnType = NOT_DIM_ONE_FILTER_FN,
    custom_sparsity_map: CustomSparsityMapType | None = None,
) -> Any:
    """Gives every selected layer the same sparsity.

    Args:
      params: a nested dict of arrays, a list of arrays, or one array.
      sparsity: share of weights to remove, in [0, 1].
      filter_fn: called with the path (a tuple of names) and the array; False leaves a layer dense
        and without a mask.
      custom_sparsity_map: path -> sparsity for layers that differ.

    Returns:
      The tree with a float for every selected layer and None for the others.
    """

    def of(key: tuple[str, ...], param: Any) -> float | None:
        if custom_sparsity_map and key in custom_sparsity_map:
            return custom_sparsity_map[key]
        return sparsity if filter_fn(key, param) else None

    if hasattr(params, "shape"):
        return of(("kernel",), params)
    if isinstance(params, list):
        return [of((str(index),), param) for index, param in enumerate(params)]
    flat = flax.traverse_util.flatten_dict(params)
    return unflatten_like(params, {key: of(key, param) for key, param in flat.items()})


def erk(
    param_tree: Any,
    sparsity: float,
    filter_fn: FilterFnType = NOT_DIM_ONE_FILTER_FN,
    custom_sparsity_map: CustomSparsityMapType | None = None,
) -> Any:
    """Spreads the sparsity by the Erdos-Renyi-Kernel rule (Evci et al. 2020, section 3).

    Args and result as `uniform`, but only for nested dicts.

    Raises:
      ValueError: for a single array, when no layer is selected, or for an impossible sparsity.
    """
    if hasattr(param_tree, "shape"):
        # JaxPruner's wording, spelling included: tests match it.
        raise ValueError("Single parameter is provided. Please provide a paramater tree.")
    flat = flax.traverse_util.flatten_dict(param_tree)
    shapes = {key: tuple(param.shape) for key, param in flat.items() if filter_fn(key, param)}
    sparsities = get_sparsities_erdos_renyi(shapes, sparsity, custom_sparsity_map)
    return unflatten_like(param_tree, {key: sparsities.get(key) for key in flat})


def get_n_zeros(size: int, sparsity: float) -> int:
    """Returns how many of `size` weights a sparsity removes, rounded down."""
    return math.floor(sparsity * size)


def _raw_probability(shape: tuple[int, ...], include_kernel: bool, power: float) -> float:
    if include_kernel:
        return float(np.float64(sum(shape) / math.prod(shape)) ** power)
    n_in, n_out = shape[-2:]
    return (n_in + n_out) / (n_in * n_out)


def get_sparsities_erdos_renyi(
    var_shape_dict: Mapping[Any, tuple[int, ...]],
    default_sparsity: float,
    custom_sparsity_map: Mapping[Any, float] | None = None,
    include_kernel: bool = True,
    erk_power_scale: float = 1.0,
) -> dict[Any, float]:
    """Returns the sparsity of each layer under the Erdos-Renyi(-Kernel) rule.

    A layer's density is proportional to (sum of its dimensions) / (product of its dimensions).
    Layers for which that exceeds 1 are made dense, and the rest is scaled so that all layers
    together keep as many weights as with a uniform sparsity.

    Args:
      var_shape_dict: layer -> shape.
      default_sparsity: overall sparsity of the layers that are not in `custom_sparsity_map`.
      custom_sparsity_map: layers with a sparsity of their own; they take no part in the budget.
      include_kernel: False uses the last two dimensions only (plain Erdos-Renyi).
      erk_power_scale: exponent of the ratio; below 1 flattens the distribution.

    Returns:
      layer -> sparsity, for every layer of `var_shape_dict`.

    Raises:
      ValueError: for an empty dict, a sparsity outside [0, 1], or a budget that the dense layers
        already exceed.
    """
    if not var_shape_dict:
        raise ValueError("Variable shape dictionary should not be empty")
    if default_sparsity is None or not 0 <= default_sparsity <= 1:
        raise ValueError(
            f"Default sparsity should be a value between 0 and 1, found {default_sparsity}"
        )
    custom = custom_sparsity_map or {}
    sizes = {name: math.prod(shape) for name, shape in var_shape_dict.items()}
    zeros = {name: get_n_zeros(size, default_sparsity) for name, size in sizes.items()}
    raw = {
        name: _raw_probability(shape, include_kernel, erk_power_scale)
        for name, shape in var_shape_dict.items()
        if name not in custom
    }
    # Layers leave `raw` for `dense` until no density exceeds 1. With nothing to remove all are
    # dense; saying so here spares the loop its 0/0.
    dense: set[Hashable] = set()
    if default_sparsity == 0:
        dense, raw = set(raw), {}
    scale = 0.0
    while raw:
        budget = sum(sizes[name] - zeros[name] for name in raw) - sum(zeros[n] for n in dense)
        scale = budget / sum(raw[name] * sizes[name] for name in raw)
        highest = max(raw.values())
        if highest * scale <= 1:
            break
        full = {name for name, value in raw.items() if value == highest}
        dense |= full
        raw = {name: value for name, value in raw.items() if name not in full}
    if scale < 0:
        raise ValueError(
            f"Default sparsity {default_sparsity} cannot be reached: the layers that this rule "
            "keeps dense hold more weights than the budget"
        )
    return {
        name: custom[name]
        if name in custom
        else (0.0 if name in dense else 1.0 - scale * raw[name])
        for name in var_shape_dict
    }


def active_counts(params: Any, sparsities: Any, sparsity: float | None = None) -> Any:
    """Turns layer sparsities into exact numbers of active weights that add up.

    Each layer gets its share rounded to the nearest integer, at least 1; then single weights are
    given or taken, largest rounding remainder first, until the sum is the requested total. Dense
    layers stay dense and no layer is emptied.

    Args:
      params: a tree of arrays; only shapes are read.
      sparsities: the same tree with a Python float or None (no mask) per layer.
      sparsity: overall sparsity that the sum must meet to the nearest weight. None, or a value
        that the layers do not add up to (a custom map, say), uses the sum of the layers.

    Returns:
      The tree of Python integers, None where the sparsity is None.

    Example:
      Three layers of 5 weights at sparsity 0.5 get 3, 3 and 2 (8 = round(7.5)), not 2, 2 and 2.
    """
    treedef: Any
    targets, treedef = jax.tree.flatten(sparsities, is_leaf=lambda x: x is None)
    layers = treedef.flatten_up_to(params)
    sizes = [math.prod(p.shape) for p, s in zip(layers, targets, strict=True) if s is not None]
    exact = [
        (1.0 - s) * n for n, s in zip(sizes, (t for t in targets if t is not None), strict=True)
    ]
    total = round(math.fsum(exact))
    if sparsity is not None:
        wanted = round((1.0 - sparsity) * sum(sizes))
        # ERK rounds each layer's zeros down, so its layers miss the total by less than one weight
        # a layer; a larger gap means that these targets follow another rule.
        total = wanted if abs(wanted - total) <= len(sizes) else total
    counts = iter(_repaired(exact, sizes, total))
    return treedef.unflatten([None if t is None else next(counts) for t in targets])


def _repaired(exact: list[float], sizes: list[int], total: int) -> list[int]:
    """Rounds `exact` to integers in [1, size] that sum to `total`, where that is possible."""
    counts = [min(max(round(e), 1), n) for e, n in zip(exact, sizes, strict=True)]
    while (missing := total - sum(counts)) != 0:
        step = 1 if missing > 0 else -1
        free: Iterable[int] = (
            index
            for index, (count, size) in enumerate(zip(counts, sizes, strict=True))
            # A layer that is dense on request gives nothing; one that rounding filled may.
            if exact[index] < size and 1 <= count + step <= size
        )
        order = sorted(free, key=lambda index: step * (counts[index] - exact[index]))
        if not order:
            break
        for index in order[: abs(missing)]:
            counts[index] += step
    return counts


@dataclasses.dataclass(frozen=True)
class Distribution:
    """A rule bound to a sparsity: what `sparsity_distribution_fn` of an updater holds.

    A call is JaxPruner's: params, and keywords that take the place of its own.

    Attributes:
      rule: `uniform`, `erk`, or another function of params and keywords -> tree of sparsities.
      sparsity: overall share of weights to remove; None: the rule has one of its own, or none.
      filter_fn: see `uniform`; None: the rule's default.
      custom_sparsity_map: see `uniform`.
    """

    rule: Callable[..., Any]
    sparsity: Any = None
    filter_fn: FilterFnType | None = None
    custom_sparsity_map: CustomSparsityMapType | None = None

    def __post_init__(self):
        # What `inspect.signature` finds is that of a `functools.partial`, as in JaxPruner.
        with contextlib.suppress(TypeError, ValueError):
            signature = inspect.signature(functools.partial(self.rule, **self._bound))
            object.__setattr__(self, "__signature__", signature)

    @classmethod
    def of(cls, function: Any) -> "Distribution":
        """Returns the distribution that a function is: itself, a `functools.partial`, or any."""
        if isinstance(function, cls):
            return function
        bound = function.keywords if isinstance(function, functools.partial) else {}
        return cls(
            function,
            sparsity=bound.get("sparsity"),
            custom_sparsity_map=bound.get("custom_sparsity_map"),
        )

    @property
    def _bound(self) -> dict[str, Any]:
        fields = ("sparsity", "filter_fn", "custom_sparsity_map")
        return {name: value for name in fields if (value := getattr(self, name)) is not None}

    def __call__(self, params: Any, **keywords: Any) -> Any:
        """Returns the sparsities, with keywords of the rule in place of this object's."""
        return self.rule(params, **{**self._bound, **keywords})

    def sparsities(self, params: Any) -> Any:
        """Returns the tree of floats, None for layers without a mask."""
        return self(params)

    def counts(self, params: Any) -> Any:
        """Returns the tree of exact numbers of active weights, None for layers without a mask."""
        return active_counts(params, self.sparsities(params), self.requested)

    @property
    def requested(self) -> float | None:
        """The one sparsity of all layers together; None if there is no such number."""
        if self.custom_sparsity_map or not isinstance(self.sparsity, (int, float)):
            return None
        return float(self.sparsity)


def requested_sparsity(distribution_fn: Any) -> float | None:
    """Returns the one overall sparsity that a distribution was bound to, if any."""
    return Distribution.of(distribution_fn).requested
