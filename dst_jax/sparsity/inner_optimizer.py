"""What an optimizer will do, read from its program: leaves it never moves, copies of the weights.

The program is traced with shapes alone, so nothing is computed. Called by `wrapping`; knows two
optimizers by name, where the program does not say enough.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend import core as jax_core

from dst_jax.sparsity import param_paths
from dst_jax.sparsity.param_paths import PyTree

# 0 in, 0 out.
_KEEP_ZERO = {
    *("abs", "broadcast_in_dim", "convert_element_type", "copy", "copy_p", "cumsum", "expand_dims"),
    *(
        "neg",
        "real",
        "reduce_max",
        "reduce_min",
        "reduce_precision",
        "reduce_sum",
        "reshape",
        "rev",
    ),
    *("sign", "sin", "slice", "sqrt", "squeeze", "stop_gradient", "tanh", "transpose", "pad"),
    *("add", "add_any", "sub", "max", "min", "concatenate", "optimization_barrier", "device_put"),
}
_COPIES = {"copy", "copy_p", "convert_element_type", "device_put", "optimization_barrier"}
_CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def _is_literal(var: Any) -> bool:
    return isinstance(var, jax_core.Literal)


def _is_zero(value: Any) -> bool:
    if isinstance(value, jax.core.Tracer) or not hasattr(value, "dtype"):
        return isinstance(value, (int, float)) and value == 0
    if not jnp.issubdtype(value.dtype, jnp.number):
        return False
    return bool((np.asarray(value) == 0).all())


def _inside(equation: Any) -> Any:
    """Returns the program that an equation calls, closed or open, or None."""
    for name in _CALLS:
        if name in equation.params and equation.primitive.name not in ("scan", "while"):
            return equation.params[name]
    return None


def _zeros_out(program: Any, zero_in: list[bool]) -> list[bool]:
    """Returns which outputs of a program are 0 whatever its inputs are.

    Args:
      program: a jaxpr, closed or open.
      zero_in: which inputs are known to be 0.
    """
    jaxpr, consts = getattr(program, "jaxpr", program), getattr(program, "consts", ())
    zero = dict(zip(jaxpr.constvars, map(_is_zero, consts), strict=False))
    zero |= dict(zip(jaxpr.invars, zero_in, strict=True))

    def known(var: Any) -> bool:
        return _is_zero(var.val) if _is_literal(var) else zero.get(var, False)

    for equation in jaxpr.eqns:
        name, ins = equation.primitive.name, list(map(known, equation.invars))
        outs = [False] * len(equation.outvars)
        if name == "mul":
            outs = [any(ins)]
        elif name in ("div", "integer_pow"):
            outs = [ins[0] and equation.params.get("y", 1) > 0]
        elif name == "select_n":
            outs = [all(ins[1:])]
        elif name == "cond":
            branches = [_zeros_out(branch, ins[1:]) for branch in equation.params["branches"]]
            outs = [all(column) for column in zip(*branches, strict=True)]
        elif name in _KEEP_ZERO:
            outs = ins if len(ins) == len(outs) else [all(ins)] * len(outs)
        elif (inside := _inside(equation)) is not None:
            outs = _zeros_out(inside, ins)
        zero |= dict(zip(equation.outvars, outs, strict=True))
    return list(map(known, jaxpr.outvars))


def _copied(program: Any, sources: list[Any]) -> list[Any]:
    """Returns for each output the entry in `sources` of the input that it copies, or None."""
    jaxpr = getattr(program, "jaxpr", program)
    of = dict(zip(jaxpr.invars, sources, strict=True))

    def known(var: Any) -> Any:
        return None if _is_literal(var) else of.get(var)

    for equation in jaxpr.eqns:
        ins = list(map(known, equation.invars))
        outs = [None] * len(equation.outvars)
        if equation.primitive.name in _COPIES and len(ins) == len(outs):
            outs = ins
        elif (inside := _inside(equation)) is not None:
            outs = _copied(inside, ins)
        of |= dict(zip(equation.outvars, outs, strict=True))
    return list(map(known, jaxpr.outvars))


def _functions(node: Any, seen: set[int], depth: int = 0) -> list[Any]:
    """Returns the functions that a function has closed over, itself included."""
    if depth > 12 or id(node) in seen:
        return []
    seen.add(id(node))
    if isinstance(node, dict):
        return [f for value in node.values() for f in _functions(value, seen, depth + 1)]
    if isinstance(node, (tuple, list)):
        return [f for value in node for f in _functions(value, seen, depth + 1)]
    bound = getattr(node, "__self__", None)
    found = _functions(vars(bound), seen, depth + 1) if hasattr(bound, "__dict__") else []
    if not hasattr(node, "__qualname__"):
        return found
    for cell in getattr(node, "__closure__", None) or ():
        try:
            found += _functions(cell.cell_contents, seen, depth + 1)
        except ValueError:  # a cell that is still empty
            continue
    return [node, *found]


def names(inner: Any) -> set[str]:
    """Returns the names of the functions that an optimizer is made of, such as `scale_by_adam`."""
    found = _functions(inner.update, set())
    return {str(function.__qualname__).split(".")[0] for function in found}


@dataclasses.dataclass(frozen=True)
class Facts:
    """What `read` finds.

    Attributes:
      frozen: paths of leaves whose update is 0 by construction, as of `optax.set_to_zero`.
      copies: index of a leaf of the inner state -> index of the leaf of the params that it starts
        as a copy of, as schedule-free optimizers keep one.
      needs_history: a weight whose second moment is 0 takes a step without bounds.
      accumulates: it is an `optax.MultiSteps`.
      per_example: it takes a gradient for each example, as differentially private ones do.
    """

    frozen: frozenset[Any] = frozenset()
    copies: tuple[tuple[int, int], ...] = ()
    needs_history: bool = False
    accumulates: bool = False
    per_example: bool = False


def _frozen(inner: Any, shapes: PyTree, state: Any) -> frozenset[Any]:
    extra = {"value": jnp.float32(0), "grad": shapes, "value_fn": lambda params: jnp.float32(0)}
    traced = None
    for more in ({}, extra):
        # Those that need an argument say so by TypeError; what cannot be traced is not judged.
        try:
            rest = {name: more[name] for name in ("value", "value_fn") if name in more}
            grad = {"grad": more["grad"]} if more else {}
            traced, out = jax.make_jaxpr(
                lambda u, s, p, g, r=rest: inner.update(u, s, p, **r, **g)[0], return_shape=True
            )(shapes, state, shapes, grad)
            break
        except Exception:
            continue
    if traced is None:
        return frozenset()
    paths, _, treedef = param_paths.flatten(shapes)
    if jax.tree.structure(out) != treedef:
        return frozenset()
    zero = _zeros_out(traced, [False] * len(traced.jaxpr.invars))
    # Where nothing moves at all there is nothing to leave alone.
    return frozenset() if all(zero) else frozenset(p for p, z in zip(paths, zero, strict=True) if z)


def read(inner: Any, params: PyTree) -> Facts:
    """Reads an optimizer's program.

    Args:
      inner: an optimizer that takes extra arguments.
      params: the params, or their shapes.
    """
    if not all(hasattr(leaf, "dtype") for leaf in jax.tree.leaves(params)):
        return Facts()
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    try:
        started, state = jax.make_jaxpr(inner.init, return_shape=True)(shapes)
    except Exception:  # the same call in earnest will say it
        return Facts()
    indices = list(range(len(started.jaxpr.invars)))
    copies = tuple(
        (index, source)
        for index, source in enumerate(_copied(started, indices))
        if source is not None
    )
    parts = names(inner)
    steps = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, optax.MultiStepsState))
    return Facts(
        frozen=_frozen(inner, shapes, state),
        copies=copies,
        needs_history="scale_by_acprop" in parts,
        per_example="differentially_private_aggregate" in parts,
        accumulates=any(isinstance(step, optax.MultiStepsState) for step in steps),
    )
