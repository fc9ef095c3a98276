"""What a program is after JAX lowered it for a platform that this machine need not have.

Lowering writes StableHLO, the compiler's input; nothing is compiled or run. `lower` does it and
`Facts` reads the module; `lowering_checks` says what in it should not go to an accelerator. Called
by `lowering_cases` and by tests.
"""

import collections
import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
from jaxlib.mlir import ir

PLATFORMS = ("cuda", "tpu")

# Operations that meet the host, or draw random bits that differ from platform to platform.
_REFUSED = ("send", "recv", "infeed", "outfeed", "rng", "rng_bit_generator")
_PRODUCTS = (
    *("stablehlo.convolution", "stablehlo.dynamic_conv", "stablehlo.dot_general", "stablehlo.dot"),
    "chlo.ragged_dot",
)
# What JAX writes that is not StableHLO itself: calls, shardings, and of CHLO, which a compiler
# writes out as StableHLO, what computes number by number or sorts, and scans (JAX 0.12: a sum of
# all before on cuda), whose bodies are read. The rest was not looked at.
_DIALECTS = ("stablehlo", "func", "sdy")
_KNOWN = {
    *("acos", "acosh", "asin", "asinh", "atan", "atanh", "bessel_i1e", "conj", "constant"),
    *("constant_like", "cosh", "digamma", "erf", "erf_inv", "erfc", "is_inf", "is_neg_inf"),
    *("is_pos_inf", "lgamma", "mulhi", "next_after", "polygamma", "ragged_dot", "scan", "sinh"),
    *("square", "tan", "top_k", "zeta"),
}
_COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "collective_permute", "all_to_all")
_DONATED = ("jax.buffer_donor", "tf.aliasing_output")


def lower(program: Callable[..., Any], arguments: tuple[Any, ...], platform: str) -> Any:
    """The StableHLO module of a jitted or pmapped program for a platform.

    Args:
      program: what `jax.jit` or `jax.pmap` returned.
      arguments: arrays or `jax.ShapeDtypeStruct`s.
      platform: "cuda", "tpu" or "cpu".
    """
    plain = jax.stages.Traced.lower

    def elsewhere(traced: Any, **options: Any) -> Any:
        return plain(traced, **{**options, "lowering_platforms": (platform,)})

    # `lower` of a pmapped program takes no platform, and hands over to that of the traced program.
    with mock.patch.object(jax.stages.Traced, "lower", elsewhere):
        return program.lower(*arguments).compiler_ir("stablehlo")  # type: ignore[attr-defined]


@dataclasses.dataclass(frozen=True)
class Product:
    """A convolution or a product of matrices.

    Attributes:
      kind: "convolution", "dynamic_conv", "dot_general", "dot" or "ragged_dot".
      operands: element types, such as ("bf16", "bf16").
      layout: dimension numbers of a convolution, such as "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]".
      is_exact: whether both operands ask for the highest precision.
    """

    kind: str
    operands: tuple[str, ...]
    layout: str
    is_exact: bool


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the checks need to know of a module. A function called twice counts twice.

    A function counts as called wherever an operation names it: also the decomposition of a
    composite, which a compiler may replace by a kernel of its own.

    Attributes:
      custom_calls: target -> how often.
      refused: operations that meet the host, draw a platform's own random bits or are unknown here.
      wide: operations with a 64-bit floating-point operand or result.
      products: how often each kind is there, where its result is used.
      not_inlined: operations with the mark that only the CPU form of a convolution has.
      collectives: such as "all_reduce" -> how often.
      row_constraints: how often rows are said to lie over the devices.
      donated: name of each argument that is read -> whether results may take its memory.
      untaken: types and shardings of donated arguments that no result has: their memory is lost.
      devices: number of devices that the program is for.
    """

    custom_calls: collections.Counter[str]
    refused: collections.Counter[str]
    wide: collections.Counter[str]
    products: collections.Counter[Product]
    not_inlined: int
    collectives: collections.Counter[str]
    row_constraints: int
    donated: dict[str, bool]
    untaken: collections.Counter[str]
    devices: int

    @classmethod
    def of(cls, module: Any) -> "Facts":
        """Reads a module."""
        functions = {
            ir.StringAttr(op.attributes["sym_name"]).value: op
            for op in module.body.operations
            if op.operation.name == "func.func"
        }
        counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
        for name, times in _calls("main", functions).items():
            for key, found in _read(functions[name]).items():
                for what, number in found.items():
                    counts[key][what] += times * number
        main = functions["main"]
        arguments = main.regions[0].blocks[0].arguments
        attributes = main.attributes.get("arg_attrs", [{}] * len(arguments))
        donated, untaken = {}, collections.Counter[str]()
        for argument, of_one in zip(arguments, attributes, strict=True):
            donated[_name(argument)] = any(kind in of_one for kind in _DONATED)
            untaken[_placed(argument.type, of_one)] += donated[_name(argument)]
        results = ir.FunctionType(ir.TypeAttr(main.attributes["function_type"]).value).results
        attributes = main.attributes.get("res_attrs", [{}] * len(results))
        for kind, of_one in zip(results, attributes, strict=True):
            untaken[_placed(kind, of_one)] -= 1
        return cls(
            custom_calls=counts["custom_calls"],
            refused=counts["refused"],
            wide=counts["wide"],
            products=counts["products"],
            not_inlined=counts["not_inlined"].total(),
            collectives=counts["collectives"],
            row_constraints=counts["row_constraints"].total(),
            donated=donated,
            untaken=+untaken,
            devices=_number(module, "mhlo.num_partitions") * _number(module, "mhlo.num_replicas"),
        )

    def convolutions(self, layout: str) -> int:
        """How many convolutions have a layout that matches a regular expression."""
        return sum(
            number for product, number in self.products.items() if re.search(layout, product.layout)
        )


def _name(argument: Any) -> str:
    """An argument's name in Python: "states[0].step"; of a pmapped program "flat_args[3]"."""
    return str(argument.location).removeprefix('loc("').removesuffix('")')


def _placed(kind: Any, attributes: Any) -> str:
    """The type of an argument or result, and how it lies over the devices."""
    # `get` of an MLIR dictionary is no look-up.
    sharding = attributes["sdy.sharding"] if "sdy.sharding" in attributes else ""  # noqa: SIM401
    return f"{kind} {sharding}"


def _number(module: Any, name: str) -> int:
    return ir.IntegerAttr(module.operation.attributes[name]).value


def _operations(top: Any) -> Iterator[Any]:
    """All operations below one, in order."""
    for region in top.operation.regions:
        for block in region.blocks:
            for op in block.operations:
                yield op.operation
                yield from _operations(op)


def _calls(main: str, functions: dict[str, Any]) -> collections.Counter[str]:
    """How often each function runs in one pass through the text of `main`; loops count once."""

    @functools.cache
    def called(name: str) -> collections.Counter[str]:
        found = collections.Counter({name: 1})
        for op in _operations(functions[name]):
            for target in _symbols(op.attributes, op.attributes):
                # Meshes have names, too.
                for inner, number in called(target).items() if target in functions else ():
                    found[inner] += number
        return found

    return called(main)


def _symbols(attribute: Any, keys: Any = ()) -> Iterator[str]:
    """The names that an attribute refers to; of a list or dictionary, those at its keys."""
    if isinstance(attribute, ir.FlatSymbolRefAttr):
        yield attribute.value
    elif isinstance(attribute, ir.ArrayAttr):
        keys = range(len(attribute))
    elif isinstance(attribute, ir.DictAttr):
        keys = [attribute[number].name for number in range(len(attribute))]
    for key in keys:
        # Python has no class for some constants, as complex ones; they name nothing.
        with contextlib.suppress(TypeError):
            yield from _symbols(attribute[key])


def _read(function: Any) -> dict[str, collections.Counter]:
    found: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for op in _operations(function):
        name, kind = op.name, op.name.rpartition(".")[2]
        types = [_element(value.type) for value in (*op.operands, *op.results)]
        if "f64" in types or "complex<f64>" in types:
            found["wide"][name] += 1
        if name == "stablehlo.custom_call":
            target = ir.StringAttr(op.attributes["call_target_name"]).value
            found["custom_calls"][target] += 1
        dialect = name.partition(".")[0]
        is_known = dialect in _DIALECTS or (
            dialect == "chlo" and kind.removeprefix("broadcast_") in _KNOWN
        )
        if not is_known or (dialect == "stablehlo" and kind in _REFUSED):
            found["refused"][name] += 1
        if kind in _COLLECTIVES:
            found["collectives"][kind] += 1
        if name == "sdy.sharding_constraint" and '{"' in str(op.attributes["sharding"]):
            found["row_constraints"][name] += 1
        if "inlineable" in str(op.attributes.get("mhlo.frontend_attributes", "")):
            found["not_inlined"][name] += 1
        if name in _PRODUCTS and any(True for result in op.results for _ in result.uses):
            precision = str(op.attributes.get("precision_config", ""))
            layout = str(op.attributes.get("dimension_numbers", "")).partition("<")[2][:-1]
            # What comes after the factors are counts and paddings, in integers.
            operands = tuple(_element(value.type) for value in list(op.operands)[:2])
            found["products"][Product(kind, operands, layout, precision.count("HIGHEST") == 2)] += 1
    return found


def _element(kind: Any) -> str:
    """The element type of a tensor: "tensor<4x3xbf16>" -> "bf16"; "" for other types."""
    found = re.fullmatch(r"tensor<(?:[\d?]+x)*([^,]+?)(?:, .*)?>", str(kind))
    return found[1] if found else ""
