"""What every test shares: four CPU devices, a compilation cache, strict shapes, the shared data."""

import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Most of a test is spent compiling small programs. Without optimisations, with XLA's older way to
# write out a fused loop and in one part, 14 cases of test_contract.py took a quarter of the time.
# Runs that the tests start as programs of their own (`runs.environment`) are compiled as a user's
# are. Here, `compiled_in_full` turns the optimisations on, and `XLA_FLAGS= pytest` the newer way.
_FLAGS = ("--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1")


def _known_to_xla(flags: tuple[str, ...]) -> str:
    """Those of the flags that this XLA has: it ends a process that is given any other."""
    ask = [sys.executable, "-c", "import jax; jax.devices()"]
    for kept in (flags, *((flag,) for flag in flags)):
        environment = {**os.environ, "XLA_FLAGS": " ".join(kept)}
        if subprocess.run(ask, env=environment, capture_output=True).returncode == 0:
            return " ".join(kept)
    return ""


if "XLA_FLAGS" not in os.environ:  # the workers of pytest-xdist inherit it
    os.environ["XLA_FLAGS"] = _known_to_xla(_FLAGS)

import jax  # noqa: E402 - it reads XLA_FLAGS

_CACHE = pathlib.Path(
    os.environ.get("DST_JAX_TEST_CACHE", pathlib.Path(tempfile.gettempdir()) / "dst_jax_test_cache")
)
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_compilation_cache_dir", str(_CACHE / "xla"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_disable_most_optimizations", True)

_ENOUGH = 3 << 30  # bytes of one process of the tests
_SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs come first: a long file that starts last would leave the other cores idle."""
    root = pathlib.Path(__file__).parent
    items.sort(key=lambda item: item.path.parent != root)  # stable


@pytest.fixture(scope="module", autouse=True)
def _forget_programs() -> Iterator[None]:
    """What one file compiled is of little use to the next, and takes gigabytes in the end."""
    yield
    if _resident_bytes() > _ENOUGH:
        jax.clear_caches()


def _resident_bytes() -> float:
    """Memory of this process; unlimited where the system does not tell."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return float("inf")
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def compiled_in_full() -> Iterator[None]:
    """The compiler's optimisations are on: for files about which programs give the same bits.

    Until the end of the file, and without a program from before: JAX would mix the two.
    """
    jax.clear_caches()
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
    jax.clear_caches()


@pytest.fixture(scope="module")
def on_one_device() -> Iterator[None]:
    """Only the first device is to be had: where devices are not the subject, four cost more."""
    first = jax.devices()[:1]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("devices", "local_devices"):
            patch.setattr(jax, name, lambda: first)
        yield


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
