"""Where an experiment reads and writes, and what JAX is told before it starts.

Called by `run.py`, `experiment` and benchmarks; importing it does not import JAX.
"""

import dataclasses
import os
from pathlib import Path

from ml_collections import ConfigDict

from dst_jax.consistency import DENSE


@dataclasses.dataclass(frozen=True)
class Places:
    """Where an experiment reads and writes.

    Attributes:
      workdir: the run directory, or the parent of a sweep's.
      data_dir: where TFDS datasets are prepared; None: TFDS's own default.
      cache_dir: decoded arrays, compiled programs, and the prepared digits.
      multihost: how the processes of the run find each other; see `parallel.connect`.
    """

    workdir: Path
    data_dir: str | None
    cache_dir: Path
    multihost: str = ""


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/dst_jax`, by default `~/.cache/dst_jax`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dst_jax"


def default_workdir(card: str, config: ConfigDict, sweep: str) -> Path:
    """`runs/CARD/...`, named after the sweep or after what most runs differ in."""
    options = config.sparsity
    dense = options.algorithm in DENSE
    name = options.algorithm if dense else f"{options.algorithm}-{options.sparsity:g}"
    seeds = f"seed{config.seed}" if config.num_seeds == 1 else f"{config.num_seeds}seeds"
    return Path("runs") / Path(card).stem / (sweep or f"{name}-{seeds}")


def prepare_jax(places: Places) -> None:
    """Joins the processes and turns on JAX's cache of programs, unless the user has chosen one."""
    import jax

    from dst_jax import parallel

    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(places.cache_dir / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    parallel.connect(places.multihost)


def is_main_process(places: Places) -> bool:
    """Whether this process writes the files and prints."""
    if not places.multihost:  # so that a report alone does not import JAX
        return True
    from dst_jax.parallel import is_main_process

    return is_main_process()
