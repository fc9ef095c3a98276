"""Every option once, and what a config resolves to; nothing here imports JAX.

`options` lists the options, `resolve` checks values and makes steps of durations, `checks` what
options make wrong together, `cards` is what experiment cards share. Called by everything that
starts from a config.
"""

from dst_jax.config.options import OPTIONS
from dst_jax.config.resolve import (
    NOT_PART_OF_TRAINING,
    check_values,
    completed,
    default,
    differences,
    evaluation_of_call,
    evaluation_options,
    flatten,
    resolve,
    set_option,
    steps_of,
    with_new_names,
)

__all__ = [
    "NOT_PART_OF_TRAINING",
    "OPTIONS",
    "check_values",
    "completed",
    "default",
    "differences",
    "evaluation_of_call",
    "evaluation_options",
    "flatten",
    "resolve",
    "set_option",
    "steps_of",
    "with_new_names",
]
