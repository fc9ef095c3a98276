"""The patterns a mask can be restricted to: unstructured, n:m, blocks, channels.

Plain descriptions without behaviour; `mask_calculator.get_topk_fn` turns one into the function
that draws such masks. Used by the updaters and by `api.create_updater_from_config`.
"""

from typing import NamedTuple


class Unstructured(NamedTuple):
    """Every weight of a layer is kept or dropped on its own."""


class NByM(NamedTuple):
    """Of every `m` consecutive weights along `axis`, the `n` with the highest scores are kept."""

    n: int
    m: int
    axis: int = -1


class Block(NamedTuple):
    """Rectangles over the first two dimensions are kept or dropped as one.

    All later dimensions belong to the block: an HWIO kernel is pruned by spatial position. The
    score of a block is the mean of its entries, or their maximum.
    """

    block_shape: tuple[int, int]
    use_avg_pooling: bool = True


class Channel(NamedTuple):
    """All weights that share an index along `axis` are kept or dropped as one."""

    axis: int = -1


SparsityType = Unstructured | NByM | Block | Channel


def is_sparsity_type(instance_to_check: object) -> bool:
    """Returns whether the object describes a sparsity pattern."""
    return isinstance(instance_to_check, SparsityType)
