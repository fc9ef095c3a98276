"""How much of each corruption is of high frequency: the order of the relative gains in the report.

Measured on rendered images, for it depends on the photographs as well as on the corruption. Called
by `measurements`.
"""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax import corruptions, user_files
from dst_jax.analysis import spectral
from dst_jax.corruptions.registry import REGISTERED_IN
from dst_jax.data import Dataset

_SEED = 0
_FOUND: dict[tuple[object, ...], dict[str, np.ndarray]] = {}


def marks(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """{"own": {name: digits of its file}} of a user's corruptions among names; {} without any.

    An edited one is another corruption, and what was measured of it does not hold any more.
    """
    own = {name: user_files.mark_of_corruption(name) for name in names if name in REGISTERED_IN}
    return {"own": own} if own else {}


def renderer(name: str, preset: str, frost_dir: str | None) -> Callable[..., jax.Array]:
    """Returns `corrupt(images uint8 [B, N, N, 3], keys [B], severity) -> uint8`, compiled."""
    return lambda images, keys, severity: corruptions.corrupt(
        name, images, keys, severity, preset, frost_dir=frost_dir
    )


def high_shares(
    dataset: Dataset,
    images: jax.Array,
    ids: jax.Array,
    conditions: tuple[tuple[str, ...], tuple[int, ...]],
    frost_dir: str | None,
    on_progress: Callable[[], None],
) -> dict[str, np.ndarray]:
    """Energy beyond a quarter of a period a pixel over all energy, of corrupted minus clean images.

    A property of the dataset's images: measured once for all runs of a process.

    Args:
      dataset: whose images these are.
      images: uint8 [B, N, N, 3].
      ids: int32 [B], their numbers, which the draws depend on.
      conditions: (names of corruptions, severities).
      frost_dir: directory of the photographs of frost.
      on_progress: called before each condition is rendered.

    Returns:
      "names", "severities", "n" and "high_share" [corruptions, severities], in [0, 1]; NaN for a
      corruption that is not rendered here.
    """
    own = repr(marks(conditions[0]))
    key = (dataset.name, conditions, own, frost_dir, tuple(np.asarray(ids).tolist()))
    if key in _FOUND:
        return _FOUND[key]
    names, severities = conditions
    share = np.full((len(names), len(severities)), np.nan)
    for row, name in enumerate(names):
        render = renderer(name, dataset.preset, frost_dir)
        for column, severity in enumerate(severities):
            on_progress()
            keys = corruptions.example_keys(_SEED, name, severity, ids)
            try:
                corrupted = render(images, keys, severity)
            except ValueError:  # one that is not rendered here, or lacks its photographs
                break
            high, total = spectral.band_energies(
                corrupted.astype(jnp.float32) - images.astype(jnp.float32)
            )
            share[row, column] = float(high) / float(total) if float(total) else np.nan
    _FOUND[key] = {
        "names": np.array(names),
        "severities": np.array(severities),
        "high_share": share,
        "n": np.array(len(images)),
    }
    return _FOUND[key]
