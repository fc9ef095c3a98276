"""JaxPruner's module of summaries under its name there; they live in `summaries`.

Its integrations and public code import `utils`, and nothing else should.
"""

from dst_jax.sparsity.summaries import summarize_intersection, summarize_sparsity

__all__ = ["summarize_intersection", "summarize_sparsity"]
