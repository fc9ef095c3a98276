"""Trains, evaluates and reports: `python run.py --config=configs/digits_rigl.py`.

The door of the project: command-line flags in, one call into `dst_jax.experiment`, one line and an
exit code out (0 done, 1 the run failed, 2 a mistake to mend, 130/143 interrupted and saved).
"""

import re
import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from dst_jax import experiment
from dst_jax.config import OPTIONS
from dst_jax.errors import RunError, UserError
from dst_jax.interrupt import InterruptedRunError

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "The experiment card, with an argument string after a colon: "
    "configs/digits_rigl.py:algorithm=rigl,sparsity=0.5. Single options change with "
    "--config.train.epochs=3; `python -m dst_jax.config` lists them all.",
)
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
_MODE = flags.DEFINE_enum(
    "mode",
    "all",
    experiment.MODES,
    "all: train, evaluate, analyze, report. The others do one of them. An existing --workdir needs "
    "no --config: it holds its own.",
)
_SWEEP = flags.DEFINE_string(
    "sweep", "", "A named list of runs of the card, done one after another; finished ones are kept."
)


def main(arguments: list[str]) -> int:
    """Parses the command line, runs it, and turns every expected failure into one line."""
    try:
        config, sweeps, places = _parse(arguments)
        text = experiment.run(config, places, mode=_MODE.value, sweeps=sweeps, sweep=_SWEEP.value)
        if text:
            print(text)
        return 0
    except (UserError, RunError, InterruptedRunError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 2 if isinstance(error, UserError) else 1)


def _parse(arguments: list[str]) -> tuple:
    if {"--help", "-h", "--helpfull"} & set(arguments):
        print(f"{__doc__}\n{flags.FLAGS.main_module_help()}")
        raise SystemExit(0)
    try:
        rest = flags.FLAGS(arguments)[1:]
        card = _card()
        config = _CONFIG.value
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise _mistake(str(error)) from None
    if rest:
        raise UserError("command line", " ".join(rest), "flags only, as in `python run.py --help`")
    if config is None and _WORKDIR.value is None:
        raise UserError(
            "--config", "nothing", "an experiment card", "Try --config=configs/digits_rigl.py"
        )
    sweeps = experiment.sweeps_of(card) if card else {}
    workdir = _WORKDIR.value or experiment.default_workdir(card, config, _SWEEP.value)
    cache_dir = _CACHE_DIR.value or experiment.default_cache_dir()
    places = experiment.Places(Path(workdir), _DATA_DIR.value, Path(cache_dir), _MULTIHOST.value)
    return config, sweeps, places


def _card() -> str:
    """The path of the experiment card, or ""; ml_collections opens it only when it is read."""
    if not _CONFIG.present:
        return ""
    card = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]
    if card and not Path(card).is_file():
        cards = ", ".join(map(str, sorted(Path("configs").glob("*.py"))))
        raise UserError("--config", card, f"an experiment card ({cards or 'a Python file'})")
    return card


def _mistake(text: str) -> UserError:
    """Turns what absl and ml_collections say of a wrong flag into our one line."""
    text = text.encode().decode("unicode_escape")  # some of it comes as a repr
    if meant := re.search(r'Did you mean "(.+)" instead of "(.+)"', text):
        return UserError("config", f"no field {meant[2]}", meant[1])
    if flag := re.search(r"flag --([\w.]+)=(.*?): (.*)", text, re.DOTALL):
        option = OPTIONS.get(flag[1].removeprefix("config."))
        return UserError(f"--{flag[1]}", flag[2], option.expected() if option else flag[3])
    return UserError("command line", text, "flags as in `python run.py --help`")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
