"""What of a lowered program should not go to an accelerator: `complaints` about its `Facts`.

Called by `lowering_cases` and by `tests/test_lowering.py`, which also shows that each check can
fail.
"""

import dataclasses
import re

from benchmarks.stablehlo import Facts

# The targets of custom calls that a program may hold: none is needed. A callback to Python would be
# one, and so are the linear algebra libraries and kernels of a platform. Lowering itself refuses a
# callback where the platform is not there ("the platform for the specified backend cpu is ...").
ALLOWED_CALLS: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a program is to hold, besides what no program may hold.

    Attributes:
      products: element type of the operands of all products; "": any.
      exact: whether all products ask for the highest precision, as the default of GPUs and TPUs is
        lower.
      exact_input: whether products of float32 in the highest precision may come on top: those of
        the augmentation, which work on grey levels.
      convolutions: number of convolution layers; None: not looked at.
      is_trained: whether there are the two convolutions that `jax.grad` writes for each of them.
      networks: number of networks in the program; the first layer of each needs no gradient of its
        input.
      devices: number of devices that the program is for; None: not looked at.
      donated: number of leaves of the states, which come first; all that the program reads are to
        be donated, and nothing else; None: not looked at.
      reductions: least number of sums over devices that are written out; 0: none is asked for.
      rows: whether the rows of the batch are to be laid over the devices.
    """

    products: str = ""
    exact: bool = False
    exact_input: bool = False
    convolutions: int | None = None
    is_trained: bool = True
    networks: int = 1
    devices: int | None = None
    donated: int | None = None
    reductions: int = 0
    rows: bool = False

    def checked(self) -> list[str]:
        """What is checked, in words."""
        found = ["no callback", "no float64"]
        if self.products:
            more = ", those of the augmentation in exact f32" * self.exact_input
            found.append(f"products in {self.products}{more}")
        if self.exact:
            found.append("products in full precision")
        if self.convolutions is not None:
            form = "with the gradients of `jax.grad`" if self.is_trained else "of `lax`"
            found.append(f"{self.convolutions} convolutions {form}")
        if self.donated is not None:
            found.append("states donated")
        if self.reductions:
            found.append("sums over devices")
        if self.rows:
            found.append("rows over devices")
        return found


def complaints(facts: Facts, expected: Expected) -> list[str]:
    """What of a module should not go to an accelerator; empty if nothing."""
    found = [
        f"calls {target} {number} times"
        for target, number in facts.custom_calls.items()
        if target not in ALLOWED_CALLS
    ]
    found += [f"{name} {number} times" for name, number in facts.refused.items()]
    found += [f"float64 in {name} {number} times" for name, number in facts.wide.items()]
    for product, number in facts.products.items():
        input_ = expected.exact_input and product.is_exact and product.kind == "dot_general"
        if expected.products and set(product.operands) != {expected.products} and not input_:
            found.append(f"{product.kind} of {product.operands} {number} times")
        if expected.exact and not product.is_exact:
            found.append(f"{product.kind} in the default precision {number} times")
    if expected.convolutions is not None:
        found += _of_forms(facts, expected, expected.convolutions)
    if expected.devices is not None and facts.devices != expected.devices:
        found.append(f"for {facts.devices} devices, not {expected.devices}")
    if expected.donated is not None:
        found += _of_donation(facts, expected.donated)
    if (sums := facts.collectives["all_reduce"]) < expected.reductions:
        found.append(f"{sums} sums over devices, at least {expected.reductions} expected")
    if expected.rows and not facts.row_constraints:
        found.append("no rows laid over the devices")
    return found


def _of_donation(facts: Facts, leaves: int) -> list[str]:
    """Complaints about which arguments are donated.

    A leaf that is not read (SNIP replaces the first masks, an update its own step) is no argument
    of the compiled program: JAX leaves it out.
    """

    def is_state(name: str) -> bool:
        place = re.match(r"flat_args\[(\d+)\]", name)
        return int(place[1]) < leaves if place else name.startswith("states[")

    read = [name for name in facts.donated if is_state(name)]
    found = [f"{name} is not donated" for name in read if not facts.donated[name]]
    found += [f"{name} is donated" for name in facts.donated.keys() - read if facts.donated[name]]
    found += [f"no result takes {number} {what}" for what, number in facts.untaken.items()]
    if not leaves // 2 < len(read) <= leaves:
        found.append(f"of {leaves} leaves of the states, {len(read)} are arguments")
    return found


def _of_forms(facts: Facts, expected: Expected, layers: int) -> list[str]:
    """Complaints about convolutions that are not those of `lax` and `jax.grad`.

    Channels come last in a forward convolution, input and output channels change places in the
    gradient of the input, and space comes first in that of the kernel.
    """
    kinds = {
        "forward": r"i, o\]->\[b, ",
        "input gradient": r"o, i\]->\[b, ",
        "kernel gradient": r"->\[0, ",
    }
    counts = {kind: facts.convolutions(layout) for kind, layout in kinds.items()}
    found = []
    if facts.not_inlined:
        found.append(f"the CPU form of a convolution {facts.not_inlined} times")
    for kind, number in counts.items():
        most = layers if expected.is_trained or kind == "forward" else 0
        least = max(0, most - expected.networks * (kind == "input gradient"))
        if not least <= number <= most:
            found.append(f"{number} convolutions of the form {kind} for {layers} layers")
    return found
