"""`dst-jax corrupt IN OUT`, `compare A B`, `export RUN OUT`: commands with flags of their own.

`cli` hands over what follows the command's name, and turns errors into one line and an exit code.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from dst_jax import command_flags, paths
from dst_jax.errors import PROGRAMS, UserError

# --- corrupt ---

_CORRUPT = flags.FlagValues()
_FORMAT = flags.DEFINE_string(
    "format",
    "png",
    "How images are written: png (lossless); jpeg:QUALITY, as jpeg:85 for the files of ImageNet-C; "
    "npy, one file per corruption with the severities in blocks, the layout of CIFAR-10-C.",
    flag_values=_CORRUPT,
)
_CORRUPTIONS = flags.DEFINE_list(
    "corruptions",
    ["common"],
    "What is rendered: names, as fog,snow, or a list of dst_jax.robustness.SUITES: common (all 19 "
    "common corruptions), c (the 15 of mCE), c_extra, c_bar_imagenet, c_bar_cifar, 3dcc.",
    flag_values=_CORRUPT,
)
_SEVERITIES = command_flags.of_option(
    "eval.severities", "severities", "Severities, as 1,3,5. Default: 1,2,3,4,5.", _CORRUPT
)
_PRESET = command_flags.of_option(
    "eval.preset",
    "preset",
    "Constants: cifar32, tiny64, imagenet224 or inception299. Default: those for the images' size.",
    _CORRUPT,
)
_SEED = command_flags.of_option("eval.seed", "seed", "Of the random numbers. Default: 0.", _CORRUPT)
_FROST_DIR = command_flags.of_option(
    "eval.frost_dir",
    "frost_dir",
    "Directory of ImageNet-C's photographs of frost, without which frost is left out of a list.",
    _CORRUPT,
)
_SIDE = flags.DEFINE_integer(
    "side",
    0,
    "Height and width in pixels that a folder's images get before: the shorter side is resized to "
    "it, bilinear, and the central square taken. 0: each keeps its own size.",
    0,
    flag_values=_CORRUPT,
)
_RESIZE = flags.DEFINE_integer(
    "resize",
    0,
    "The shorter side before the crop, if it is not --side. ImageNet: --side=224 --resize=256.",
    0,
    flag_values=_CORRUPT,
)
_LABELS = flags.DEFINE_string(
    "labels",
    "",
    "For an array file: a .npy of its labels, which --format=npy writes again for all severities. "
    "Those of a folder are its folders.",
    flag_values=_CORRUPT,
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    0,
    "Images per device in one program. 0: 128 up to 64 pixels, else 32.",
    0,
    flag_values=_CORRUPT,
)
_WORKERS = flags.DEFINE_integer(
    "workers",
    0,
    "Threads that read and write files, and on CPUs as many devices. 0: one per core.",
    0,
    flag_values=_CORRUPT,
)
_IMPORT = command_flags.of_files(
    "Files or modules of yours that register corruptions or suites (docs/adding.md).", _CORRUPT
)
_CACHE_DIR = flags.DEFINE_string(
    "cache_dir", None, "Compiled programs. Default: ~/.cache/dst_jax.", flag_values=_CORRUPT
)


def _corrupt(source: str, out: str) -> str:
    """Writes corrupted images: `dst-jax corrupt IN OUT --corruptions=fog,snow --severities=1,3,5`.

    IN is a folder of images, of any tree, or a .npy of uint8 [N, H, W, 3]. OUT gets a file per
    image, OUT/CORRUPTION/SEVERITY/PATH, or with --format=npy one per corruption; manifest.json says
    how they were made. The same command goes on where one was stopped, and adds what is asked for
    and not there.
    """
    from dst_jax import rendering, user_files
    from dst_jax.data import default_cache_dir

    workers = _WORKERS.value or rendering.cores()
    _use_cores(workers)
    cache_dir = Path(_CACHE_DIR.value or default_cache_dir())
    paths.prepare_jax(paths.RunPaths(Path(out), None, cache_dir))

    for name in command_flags.files_of(_IMPORT):
        user_files.load(name, "--import")
    names = [name.strip() for name in _CORRUPTIONS.value]
    severities = [command_flags.number(text) for text in _SEVERITIES.value or ()]
    done = rendering.write_corrupted(
        source,
        out,
        names if len(names) > 1 else "".join(names),
        severities,  # type: ignore[arg-type]  # what is no number is told there
        preset=_PRESET.value or "",
        seed=_SEED.value or 0,
        frost_dir=_FROST_DIR.value or None,
        format=_FORMAT.value,
        side=_SIDE.value,
        resize=_RESIZE.value,
        labels=_LABELS.value,
        batch_size=_BATCH_SIZE.value,
        workers=workers,
        prefix="--",
    )
    corruptions = dict.fromkeys(condition.corruption for condition in done.conditions)
    text = f"{done.out}: {len(done.conditions)} conditions of {len(corruptions)} corruptions"
    return "\n".join([f"{text}, {done.written:,} images written now", *done.notes])


def _use_cores(count: int) -> None:
    """On CPUs, a device per core, unless XLA was told how many: each renders its own images."""
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    import jax

    with contextlib.suppress(RuntimeError):  # JAX has started in this process already
        jax.config.update("jax_num_cpu_devices", count)


# --- compare ---

_COMPARE = flags.FlagValues()
_SUITE = flags.DEFINE_string(
    "suite",
    "",
    "Of which suite the results are, where the directories hold several. Default: all they share.",
    flag_values=_COMPARE,
)


def _compare(ours: str, theirs: str) -> str:
    """Compares two results: `dst-jax compare A B`, by a paired bootstrap over the test images.

    A and B are run directories, or directories of an evaluation (`robustness.csv`, `.npz`). Prints
    A - B of clean accuracy, of each corruption and of the whole benchmark, with intervals.
    """
    from dst_jax.robustness import compare

    return compare.text(ours, theirs, _SUITE.value)


# --- export ---

_EXPORT = flags.FlagValues()
_EXPORT_FORMAT = flags.DEFINE_string(
    "format",
    "safetensors",
    "safetensors: all weights by our names, inactive ones zeros. compact: active weights and masks "
    "of a bit per weight. torch: the state dict of the PyTorch network. stablehlo: the function "
    "from uint8 images to logits, for any number of images.",
    flag_values=_EXPORT,
)
_STEP = flags.DEFINE_integer(
    "step", None, "The checkpoint. Default: the latest.", 0, flag_values=_EXPORT
)
_EXPORT_IMPORT = command_flags.of_files(
    "Files or modules of yours that register the run's model.", _EXPORT
)


def _export(run: str, out: str) -> str:
    """Writes a run's network to one file: `dst-jax export RUN OUT.safetensors --format=compact`.

    RUN is a run directory, OUT a file *.safetensors, or *.stablehlo for that format; it is replaced
    if it is there. docs/models.md says how each format is read.
    """
    from dst_jax import user_files
    from dst_jax.saved_run import load_run

    for name in command_flags.files_of(_EXPORT_IMPORT):
        user_files.load(name, "--import")
    user_files.check_model(Path(run))  # of StableHLO the code is a part
    return str(load_run(run, _STEP.value).export(out, _EXPORT_FORMAT.value))


# Name -> its flags, what its arguments are called, and what it does.
COMMANDS: dict[str, tuple[flags.FlagValues, tuple[str, ...], Callable[..., str]]] = {
    "corrupt": (_CORRUPT, ("IN", "OUT"), _corrupt),
    "compare": (_COMPARE, ("A", "B"), _compare),
    "export": (_EXPORT, ("RUN", "OUT"), _export),
}


def call(name: str, arguments: Sequence[str]) -> str:
    """Parses what follows the name of a command, and does it.

    Args:
      name: one of `COMMANDS`.
      arguments: the rest of the command line.

    Returns:
      What the command prints.

    Raises:
      UserError: the flags or arguments are wrong, or what the command raises.
      SystemExit: the help was asked for.
    """
    own, expected, function = COMMANDS[name]
    if {"--help", "-h", "--helpfull"} & set(arguments):
        lines = [line.strip() for line in (function.__doc__ or "").splitlines()]
        usage = f"{PROGRAMS[0]} {name} {' '.join(expected)} [flags]"
        print("\n".join([usage, "", *lines]) + own.module_help(__name__))
        raise SystemExit(0)
    try:
        given = own([name, *arguments])[1:]
    except (flags.Error, ValueError) as error:
        raise command_flags.usage_error(error) from None
    if len(given) != len(expected):
        found = " ".join(given) or "nothing"
        hint = f"{PROGRAMS[0]} {name} --help lists the flags"
        raise UserError(name, found, " ".join(expected), hint)
    return function(*given)
