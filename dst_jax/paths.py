"""Where an experiment reads and writes, and what JAX is told before it starts.

Called by `cli`, `experiment` and benchmarks; importing it does not import JAX.
"""

import contextlib
import dataclasses
import hashlib
import inspect
import json
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dst_jax import config as config_lib
from dst_jax.config import cards
from dst_jax.config.checks import DENSE

CACHE_BYTES = 2 << 30  # of compiled programs, at the start of a call


@dataclasses.dataclass(frozen=True)
class RunPaths:
    """Where an experiment reads and writes.

    Attributes:
      workdir: the run directory, or the parent of a sweep's.
      data_dir: where TFDS datasets are prepared; None: TFDS's own default.
      cache_dir: decoded arrays, compiled programs, and the prepared digits.
      multihost: how the processes of the run find each other; see `devices.connect`.
    """

    workdir: Path
    data_dir: str | None
    cache_dir: Path
    multihost: str = ""


def default_workdir(card: str, config: ConfigDict, sweep: str) -> Path:
    """`runs/CARD/...`, named after the sweep or after what most runs differ in.

    What else differs from the card as it stands, and changes the trained network, is in six
    hexadecimal digits at the end, so that other runs get other directories.

    Args:
      card: path of the card.
      config: the card's config with its argument string and the command line's changes.
      sweep: name of the sweep, or "".
    """
    options = config.sparsity
    dense = options.algorithm in DENSE
    name = options.algorithm if dense else f"{options.algorithm}-{options.sparsity:g}"
    seeds = f"seed{config.seed}" if config.num_seeds == 1 else f"{config.num_seeds}seeds"
    told = () if sweep else ("sparsity.algorithm", "sparsity.sparsity", "seed", "num_seeds")
    parts = [sweep or f"{name}-{seeds}", _changes(config, _own_config(card), told)]
    return Path("runs") / Path(card).stem / "-".join(filter(None, parts))


def _changes(config: ConfigDict, own: ConfigDict, told: tuple[str, ...]) -> str:
    """Six digits of what differs between two configs besides `told`; "" if nothing does."""
    before = dict(config_lib.flatten(own))
    changed = {
        name: value
        for name, value in config_lib.flatten(config)
        if name not in told
        and not name.startswith(config_lib.NOT_PART_OF_TRAINING)
        and before.get(name) != value
    }
    text = json.dumps(changed, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:6] if changed else ""


def _own_config(card: str) -> ConfigDict:
    """The card's config as its file has it, without an argument string."""
    module = cards.load(card)
    takes_argument = inspect.signature(module.get_config).parameters
    return module.get_config("") if takes_argument else module.get_config()


def _shrink(cache: Path, limit: int) -> None:
    """Deletes the programs that were used longest ago until the others take `limit` bytes at most.

    JAX's own limit (`jax_compilation_cache_max_size`) needs another package, filelock, and reads a
    file for every program in the cache each time it adds one: 400 small programs took 29 s instead
    of 16 s, and it grows as the square.
    """
    try:
        found = [(entry, entry.stat()) for entry in os.scandir(cache) if entry.is_file()]
    except OSError:  # there is none yet, or another process is at it
        return
    left = sum(stat.st_size for _, stat in found)
    for entry, stat in sorted(found, key=lambda pair: max(pair[1].st_atime, pair[1].st_mtime)):
        if left <= limit:
            break
        with contextlib.suppress(OSError):
            os.unlink(entry.path)
        left -= stat.st_size


def prepare_jax(run_paths: RunPaths) -> None:
    """Joins the processes and turns on JAX's cache of programs, unless the user has chosen one."""
    import jax

    from dst_jax.runtime import devices

    config: Any = jax.config  # not every version declares its options
    if config.jax_compilation_cache_dir is None:
        cache = run_paths.cache_dir / "xla"
        if config.jax_compilation_cache_max_size == -1:
            _shrink(cache, CACHE_BYTES)
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    devices.connect(run_paths.multihost)


def is_main_process(run_paths: RunPaths) -> bool:
    """Whether this process writes the files and prints."""
    if not run_paths.multihost:  # so that a report alone does not import JAX
        return True
    from dst_jax.runtime.devices import is_main_process

    return is_main_process()
