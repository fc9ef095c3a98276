"""Trains, evaluates and reports: `dst-jax --config=digits_rigl`, or `python run.py` in a checkout.

Three more commands have flags of their own (`dst-jax corrupt --help`): `dst-jax corrupt IN OUT`
writes corrupted images to disk, `dst-jax compare A B` compares two results, `dst-jax export RUN
OUT` writes a network to one file.

Command-line flags in, one call into `dst_jax.experiment`, one line and an exit code out (0 done,
1 the run failed, 2 a usage error, 130/143 interrupted and saved).
"""

import sys

if sys.platform == "win32":  # before what needs fcntl
    print("dst-jax: found Windows; expected Linux or macOS, or Windows' WSL", file=sys.stderr)
    raise SystemExit(2)

import os
import re
import signal
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from dst_jax import command_flags, dataset_flags, experiment, paths, subcommands
from dst_jax.config import cards
from dst_jax.config.options import OPTIONS
from dst_jax.errors import PROGRAMS, RunError, UserError
from dst_jax.launcher import LAUNCHERS
from dst_jax.runtime.interrupt import InterruptedRunError
from dst_jax.sweep import Sweep, lists_of


class _CardParser(ConfigFileFlagParser):
    """Reads a card from its path or, where it comes with the package, by its name."""

    def parse(self, path: str) -> Any:
        card, colon, argument = path.partition(":")
        return cards.config_of(card, argument if colon else None)


_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "The experiment card, by its name or the path of a file, with an argument string after a "
    "colon: digits_rigl:algorithm=rigl,sparsity=0.5. Single options change with "
    "--config.train.epochs=3; `python -m dst_jax.config` lists them all. Cards by name: "
    f"{', '.join(cards.names())}.",
)
flags.FLAGS["config"].parser = _CardParser("config")
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "The run directory. The same config resumes it; another is refused. Default: runs/CARD/NAME.",
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "Where TFDS datasets are prepared. Default: TFDS's own, ~/tensorflow_datasets.",
)
_CACHE_DIR = flags.DEFINE_string(
    "cache_dir", None, "Decoded images and compiled programs. Default: ~/.cache/dst_jax."
)
_MULTIHOST = flags.DEFINE_string(
    "multihost",
    "",
    "For several processes: auto on TPU pods, Slurm, MPI and Kubernetes; elsewhere "
    "HOST:PORT,PROCESSES,INDEX. Every process gets the same command, and the same --workdir.",
)
_IMPORT = command_flags.of_files(
    "Files or modules of yours, as my_model.py, that register models, datasets, corruptions or "
    "algorithms (docs/adding.md). A card that registers them itself needs none.",
)
_TRACEBACK = "--traceback"  # of all commands, so `main` takes it out
flags.DEFINE_bool(
    _TRACEBACK.strip("-"),
    False,
    "Where code of yours fails (a card, a model, a corruption), all of the traceback before the "
    "line that names the place.",
)
_MODE = flags.DEFINE_enum(
    "mode",
    "all",
    experiment.MODES,
    "all: train, evaluate, analyze, report. The others do one of them; describe prints the "
    "network's layers, densities and FLOPs, without training or data; plan says how far a sweep is "
    "and what it takes; archive writes a folder to keep and publish (--out): what the report reads "
    "of all runs without their weights, the report, and scores.csv.gz. An existing --workdir needs "
    "no --config, which is read from it; report draws an archived folder again.",
)
_OUT = flags.DEFINE_string("out", None, "With --mode=archive: the folder to write.")
_IMAGE_RECORDS = flags.DEFINE_bool(
    "image_records",
    None,
    "With --mode=archive: keep which images were right, for the intervals over images. Default: "
    "kept if the archive has 10 MB at most.",
)
_PREDICT = flags.DEFINE_string(
    "predict",
    "",
    "With --mode=evaluate: scores a function of yours instead of a run. MODULE:ATTRIBUTE, or "
    "FILE.py:ATTRIBUTE; the attribute is predict(images uint8 [B, H, W, 3]) -> logits, of JAX or "
    "any other framework, or takes no argument and gives it. The scores go to --workdir, default "
    "runs/evaluate/...",
)
_DATASET = flags.DEFINE_string(
    "dataset",
    "",
    "With --predict: the dataset, such as cifar10; or folder:PATH, with a folder of images per "
    "class; or arrays:IMAGES.npy,LABELS.npy, or arrays:FILE.npz.",
)
_OUTPUTS = flags.DEFINE_enum(
    "outputs",
    None,
    ("logits", "probabilities"),
    "With --predict: what the function gives; default logits. Of probabilities the largest is the "
    "confidence.",
)
flags.adopt_module_key_flags(dataset_flags)
# Flags of options of `eval` whose own name would be taken for the training's.
_LONGER_NAMES = {"batch_size": "eval_batch_size", "seed": "eval_seed"}
_BATCH_SIZE = flags.DEFINE_string("batch_size", None, "Renamed: use --eval_batch_size.")


# Option of `eval` -> its flag: all of them, so that none can be forgotten.
_EVALUATION = {
    field: command_flags.of_option(
        name,
        _LONGER_NAMES.get(field, field),
        f"{option.meaning}. As config.{name}, for one call; needs an evaluation.",
    )
    for name, option in OPTIONS.items()
    for section, _, field in [name.partition(".")]
    if section == "eval"
}
_SWEEP = flags.DEFINE_string(
    "sweep", "", "A named list of runs of the card, done one after another; finished ones are kept."
)
_SWEEP_INDEX = flags.DEFINE_integer(
    "sweep_index", None, "Runs one member of the sweep, counted from 0: for job arrays."
)
_LAUNCHER = flags.DEFINE_enum(
    "launcher",
    "",
    ["", *LAUNCHERS],
    "Runs the sweep as jobs, through submitit: on this machine or on Slurm.",
)
_LAUNCHER_OPTIONS = flags.DEFINE_string(
    "launcher_options",
    "",
    "submitit's parameters, as in timeout_min=600,slurm_partition=gpu,gpus_per_node=1, and jobs: "
    "the most at a time (by default 1 for local).",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line, runs it, and turns every expected failure into one line.

    Args:
      arguments: the program's path and its arguments; None: those it was started with.

    Returns:
      The exit code.
    """
    arguments = list(sys.argv if arguments is None else arguments)
    traceback_too = _TRACEBACK in arguments[1:]
    arguments = [text for text in arguments if text != _TRACEBACK]
    try:
        text = _call(arguments)
        if text:
            print(text, flush=True)
        return 0
    except BrokenPipeError:  # who read the output has seen enough, as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        told = error
        if not isinstance(error, UserError | RunError | InterruptedRunError):
            from dst_jax import user_files  # which imports JAX

            if (of_user := user_files.failure(error)) is None:
                raise  # ours
            told = of_user
        if traceback_too:
            traceback.print_exception(error.__cause__ or error.__context__ or error)
        program = Path(arguments[0]).name
        print(f"{program if program in PROGRAMS else PROGRAMS[0]}: {told}", file=sys.stderr)
        return getattr(told, "exit_code", 2 if isinstance(told, UserError) else 1)
    except KeyboardInterrupt:  # where nothing is saved between: reports, archives, plans
        print("\nstopped", file=sys.stderr)
        return 130


def _call(arguments: list[str]) -> str:
    if arguments[1:2] and arguments[1] in subcommands.COMMANDS:
        return subcommands.call(arguments[1], arguments[2:])
    if {"--help", "-h", "--helpfull"} & set(arguments):
        print(f"{__doc__}\n{flags.FLAGS.module_help(__name__)}")
        raise SystemExit(0)
    try:
        rest = flags.FLAGS(arguments)[1:]
        card, argument = _card()
        config = _CONFIG.value
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise command_flags.usage_error(error) from None
    except (UserError, RunError):
        raise
    if files := command_flags.files_of(_IMPORT):
        from dst_jax import user_files  # which imports JAX

        for name in files:
            user_files.load(name, "--import")
    if rest:
        commands = ", ".join(subcommands.COMMANDS)
        expected = f"flags only, as --help lists them; {commands} stand before all flags"
        raise UserError("command line", " ".join(rest), expected)
    for flag in (_OUT, _IMAGE_RECORDS):
        if flag.value is not None and _MODE.value != "archive":
            raise UserError(f"--{flag.name}", f"--mode={_MODE.value}", "--mode=archive")
    from dst_jax.data import default_cache_dir

    cache_dir = Path(_CACHE_DIR.value or default_cache_dir())
    if _PREDICT.value or _DATASET.value or _OUTPUTS.value:
        function = _function(card)
        workdir = Path(_WORKDIR.value or experiment.default_scores_dir(function))
        run_paths = paths.RunPaths(workdir, _DATA_DIR.value, cache_dir, _MULTIHOST.value)
        return experiment.evaluate_function(function, run_paths, _evaluation())
    if lone := dataset_flags.used():
        raise UserError(f"--{lone}", "no --predict", "--predict and --dataset with it")
    if config is None and _WORKDIR.value is None:
        raise UserError("--config", "nothing", "an experiment card", "Try --config=digits_rigl")
    _check_sweep_flags()
    workdir = Path(_WORKDIR.value or paths.default_workdir(card, config, _SWEEP.value))
    sweep = Sweep(
        lists=lists_of(card, argument) if card else {},
        name=_SWEEP.value,
        index=_SWEEP_INDEX.value,
        launcher=_LAUNCHER.value,
        launcher_options=_LAUNCHER_OPTIONS.value,
        command=_member_command(arguments),
    )
    return experiment.run(
        config,
        paths.RunPaths(workdir, _DATA_DIR.value, cache_dir, _MULTIHOST.value),
        mode=_MODE.value,
        sweep=sweep,
        evaluation=_evaluation(),
        out=Path(_OUT.value) if _OUT.value else None,
        image_records=_IMAGE_RECORDS.value,
    )


def _function(card: str) -> experiment.Function:
    """The function to be scored, or what is wrong with the flags that name it."""
    for flag, found, expected in (
        ("--predict", _PREDICT.value, "MODULE:ATTRIBUTE"),
        ("--dataset", _DATASET.value, "the name of a dataset, such as cifar10"),
    ):
        if not found:
            raise UserError(flag, "nothing", expected, "--predict and --dataset go together")
    if _MODE.value != "evaluate":
        raise UserError("--mode", _MODE.value, "evaluate, with --predict")
    if card or _SWEEP.value:
        raise UserError("--predict", "--config or --sweep as well", "a function or a run, not both")
    return experiment.Function(
        _PREDICT.value,
        _DATASET.value,
        dataset_flags.reading(),
        {**dataset_flags.meaning(), "outputs": _OUTPUTS.value or "logits"},
    )


def _evaluation() -> dict[str, Any]:
    """The options of `config.eval` whose flags are given, by their names."""
    if _BATCH_SIZE.value is not None:
        raise UserError(
            "--batch_size",
            _BATCH_SIZE.value,
            f"--eval_batch_size={_BATCH_SIZE.value}, the images per batch of the evaluation",
            "The training's is --config.train.batch_size",
        )
    given = {
        name: tuple(map(command_flags.number, flag.value))
        if isinstance(flag.value, list)
        else flag.value
        for name, flag in _EVALUATION.items()
        if flag.value is not None
    }
    if given and _MODE.value not in ("all", "evaluate", "plan"):
        flag = _EVALUATION[next(iter(given))].name
        raise UserError(f"--{flag}", f"--mode={_MODE.value}", "a mode that evaluates")
    return given


def _check_sweep_flags() -> None:
    """Flags that mean nothing without a sweep, or with each other, are refused."""
    given = {
        "--sweep_index": _SWEEP_INDEX.value is not None,
        "--launcher": bool(_LAUNCHER.value),
        "--mode=plan": _MODE.value == "plan",
    }
    for flag, used in given.items():
        if used and not _SWEEP.value:
            raise UserError(flag, "no sweep", "--sweep=NAME, a list of runs of the card")
    if _SWEEP.value and not _CONFIG.present:
        raise UserError("--sweep", "no --config", "the card whose sweep it is")
    if given["--sweep_index"] and given["--launcher"]:
        raise UserError("--sweep_index", "--launcher as well", "one of the two")
    if given["--launcher"] and _MODE.value != "all":
        raise UserError("--launcher", f"--mode={_MODE.value}", "--mode=all")
    if _LAUNCHER_OPTIONS.value and not given["--launcher"]:
        raise UserError("--launcher_options", "no launcher", "--launcher=local or slurm")


def _member_command(arguments: list[str]) -> tuple[str, ...]:
    """This command line for a job that does one member: without the flags of the launcher.

    It names the program that was started, `run.py` or `dst-jax`, by its whole path.
    """
    flag = re.compile(r"--?launcher(_options)?(=.*)?")
    kept: list[str] = []
    rest = iter(arguments[1:])
    for argument in rest:
        if not (match := flag.fullmatch(argument)):
            kept.append(argument)
        elif match[2] is None:
            next(rest, None)  # its value
    return (sys.executable, str(Path(arguments[0]).resolve()), *kept)


def _card() -> tuple[str, str]:
    """Path and argument of the experiment card."""
    if not _CONFIG.present:
        return "", ""
    card, _, argument = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    return str(cards.find(card)), argument
