"""What every test shares: four CPU devices, a compilation cache, strict shapes, the shared data."""

import os
import pathlib
import tempfile

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax

_CACHE = pathlib.Path(
    os.environ.get("DST_JAX_TEST_CACHE", pathlib.Path(tempfile.gettempdir()) / "dst_jax_test_cache")
)
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_compilation_cache_dir", str(_CACHE / "xla"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
jax.config.update("jax_numpy_rank_promotion", "raise")

_SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def cache_dir() -> pathlib.Path:
    """A cache of datasets that outlives one run of the tests."""
    path = _CACHE / "data"
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """The development data beside the checkout; tests that need it skip where it is absent."""
    if not _SHARED.is_dir():
        pytest.skip("the development data (../shared) is not beside this checkout")
    return _SHARED
