"""What is the same, bit by bit, with different versions of JAX, and by how much the rest differs.

    python -m benchmarks.versions --json A.json [--only PARTS] [--frost_dir DIR]
    python -m benchmarks.versions --compare A.json B.json C.json [--names]

    python -m benchmarks.versions --begin RUN                   # a run directory, stopped half-way
    python -m benchmarks.versions --json A.json --state RUN     # what this version reads there

The first records one version: digests in the JSON file, the arrays in an .npz file beside it. The
second prints a table in Markdown of what differs from the first file; with `--json` its cells go to
a file too. Only an earlier file of the same kind is ever replaced. XLA_FLAGS are the caller's.
`docs/versions.md` says what was found. What is recorded is in the other `versions_*` files.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dst_jax.errors import UserError
from dst_jax.runtime import run_dir

Recorded = Iterator[tuple[str, np.ndarray]]
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "pillow", "scikit-learn")


def digest(array: np.ndarray) -> str:
    """SHA-256 of an array: its type, its shape and its bytes."""
    array = np.ascontiguousarray(array)
    head = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()


def parts(options: argparse.Namespace) -> dict[str, Callable[[], Recorded]]:
    """Name of a part -> what records it."""
    from benchmarks import versions_corruptions as images
    from benchmarks import versions_exact as exact
    from benchmarks import versions_rounded as rounded

    return {
        "draws": exact.draws,
        "initial": exact.initial,
        "masks_compiled": lambda: exact.masks(True),
        "masks": lambda: exact.masks(False),
        "order": exact.order,
        "promotion": exact.promotion,
        "operations": rounded.operations,
        "one_step": rounded.one_step,
        "images": lambda: images.images((32,), options.frost_dir),
        "larger": lambda: images.images((64, 224), options.frost_dir),
        "clips": images.clips,
        "trainings": lambda: rounded.trainings(options.networks, options.algorithms),
        "packages": packages,
    }


def packages() -> Recorded:
    """Results of the packages beside JAX that ours depend on."""
    import io

    from PIL import Image
    from scipy import stats
    from sklearn import datasets

    for name, law in {
        "standard_normal": lambda g: g.standard_normal(1000, dtype=np.float32),
        "random": lambda g: g.random(1000, dtype=np.float32),
        "permutation": lambda g: g.permutation(1000),
    }.items():
        yield f"numpy/{name}", law(np.random.Generator(np.random.Philox(5)))
    yield "numpy/random_state", np.random.RandomState(0).permutation(1797)
    x = np.random.Generator(np.random.Philox(6)).integers(-(2**23), 2**23, 4096) / 2**21
    for kind in (np.float32, np.float64):
        for function in (np.exp, np.sin, np.cos, np.tanh, np.sqrt, np.log1p, np.sum, np.cumsum):
            argument = np.abs(x) if function in (np.sqrt, np.log1p) else x
            yield f"numpy/{function.__name__}_{kind.__name__}", function(argument.astype(kind))
    matrix = x.reshape(64, 64)
    yield "numpy/product", matrix.astype(np.float32) @ matrix.T.astype(np.float32)
    yield "numpy/fft", np.fft.fft2(matrix)
    yield "scipy/t_quantile", stats.t.ppf([0.9, 0.975], [[2.0], [4.0], [30.0]])
    yield "scikit-learn/digits", datasets.load_digits().images
    photograph = datasets.load_sample_images().images[0]
    yield "pillow/jpeg_read", photograph
    image = Image.fromarray(photograph)
    for name, method in (("bilinear", 2), ("bicubic", 3), ("lanczos", 1)):
        resample = Image.Resampling(method)
        yield f"pillow/resize_{name}", np.asarray(image.resize((100, 60), resample))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    yield "pillow/jpeg_written", np.frombuffer(file.getvalue(), np.uint8)


def state(run: Path) -> Recorded:
    """The state in the latest checkpoint of a run directory."""
    from benchmarks.versions_exact import leaves
    from dst_jax.runtime import checkpoint

    yield from leaves(checkpoint.read(run / "checkpoints"), "state")


def run_of(run: Path) -> str:
    """Which run a state is of, and when: its config without seed and places, its seed, its step.

    Raises:
      UserError: it is no run directory, or has no checkpoint.
    """
    config = run_dir.read_config(run)
    steps = run_dir.checkpoint_steps(run)
    if not steps:
        raise UserError("--state", f"{run} without a checkpoint", "a run directory with one")
    text = json.dumps(_without_places({**config, "seed": None}), sort_keys=True)
    named = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"config {named}, seed {config['seed']}, step {steps[-1]}"


def _without_places(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {k: _without_places(part) for k, part in value.items() if not k.endswith("_dir")}


def check_place(path: Path, kind: str) -> None:
    """Refuses a place for a JSON file that cannot be written or would cost something else.

    Args:
      path: `--json`.
      kind: "record" or "summary"; an earlier one of the same kind may be replaced.

    Raises:
      UserError: no name in .json, no directory, or a file that is no earlier one.
    """
    if path.suffix != ".json":
        raise UserError("--json", str(path), "a name that ends in .json")
    if not path.parent.is_dir():
        raise UserError("--json", str(path), "a file in a directory that is there")
    field = {"record": "digests", "summary": "groups"}[kind]
    expected = f"a new file, or an earlier {kind}"
    if os.path.lexists(path):
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            found = None
        if not (isinstance(found, dict) and field in found):
            raise UserError("--json", f"{path}, which is no {kind}", expected)
    elif kind == "record" and os.path.lexists(path.with_suffix(".npz")):
        raise UserError("--json", f"{path.with_suffix('.npz')} without {path.name}", expected)


def write(path: Path, content: Any, arrays: dict[str, np.ndarray] | None = None) -> None:
    """Writes the JSON file, and before it the arrays; raises UserError where that fails."""
    try:
        if arrays is not None:
            run_dir.write_arrays(path.with_suffix(".npz"), arrays)
        run_dir.write_json(path, content)
    except OSError as error:
        expected = "a place that can be written"
        raise UserError("--json", f"{path} ({error.strerror})", expected) from None


def record(options: argparse.Namespace) -> None:
    """Writes the JSON file and the arrays beside it."""
    check_place(options.json, "record")
    chosen = parts(options)
    if options.state:
        chosen = {"state": lambda: state(options.state)}
    run = run_of(options.state) if options.state else ""
    if unknown := set(options.only) - set(chosen):
        raise UserError("--only", ", ".join(unknown), f"some of {', '.join(chosen)}")
    arrays: dict[str, np.ndarray] = {}
    for name in options.only or chosen:
        before = len(arrays)
        arrays.update(chosen[name]())
        print(f"{name}: {len(arrays) - before} arrays", file=sys.stderr, flush=True)
    about = {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "processor": _processor(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "--only": " ".join(options.only),
        "--algorithms": " ".join(options.algorithms),
        "--networks": " ".join(options.networks),
        "--frost_dir": _digest_of_files(options.frost_dir),
        "--state": run,
        "digests": {name: digest(array) for name, array in arrays.items()},
    }
    write(options.json, about, arrays)


def _digest_of_files(directory: str | None) -> str:
    """The first 8 digits of the SHA-256 of a directory's files; "" without one.

    Its place differs from machine to machine, the photographs in it should not.
    """
    if directory is None or not os.path.isdir(directory):
        return ""
    found = hashlib.sha256()
    for path in sorted(path for path in Path(directory).iterdir() if path.is_file()):
        found.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:8]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main(arguments: list[str] | None = None) -> Any:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--json", type=Path, help="where to record, with an .npz beside; of --compare: a summary"
    )
    parser.add_argument("--only", nargs="*", default=[], help="parts to record; default: all")
    parser.add_argument("--algorithms", nargs="*", default=[], help="to train; default: all")
    networks = ["mlp", "conv"]
    parser.add_argument(
        "--networks", nargs="*", default=networks, choices=networks, help="to train"
    )
    parser.add_argument("--frost_dir", help="photographs of frost; without them frost is left out")
    parser.add_argument("--begin", type=Path, help="new run directory, to be stopped half-way")
    parser.add_argument("--state", type=Path, help="record the latest checkpoint of a run instead")
    parser.add_argument("--compare", type=Path, nargs="+", help="records; the first is the measure")
    parser.add_argument("--names", action="store_true", help="list every array that differs")
    options = parser.parse_args(arguments)
    if not (options.compare or options.begin or options.json):
        parser.error("expected --json, --begin or --compare")
    try:
        _run(options)
    except UserError as error:
        parser.exit(2, f"benchmarks.versions: {error}\n")


def _run(options: argparse.Namespace) -> None:
    if options.compare:
        from benchmarks import versions_compare

        if options.json:
            check_place(options.json, "summary")
        print(versions_compare.table(options.compare, options.names, options.json))
    elif options.begin:
        from benchmarks import versions_rounded

        versions_rounded.begin(options.begin)
    else:
        record(options)


if __name__ == "__main__":
    main()
