"""Stage to be written; see stages."""

from benchmarks.accelerator.stages import Part

PARTS: tuple[Part, ...] = ()
