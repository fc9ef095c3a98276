"""Trains, evaluates and reports: `python run.py --config=configs/digits_rigl.py`.

The door of the project: command-line flags in, one call into `dst_jax.experiment`, one line and an
exit code out (0 done, 1 the run failed, 2 a mistake to mend, 130/143 interrupted and saved).
"""

import re
import sys
from pathlib import Path
from typing import Any

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
    "all: train, evaluate, analyze, report. The others do one of them; describe prints the "
    "network's layers, densities and FLOPs, without training or data. An existing --workdir needs "
    "no --config: it holds its own.",
)
_PREDICT = flags.DEFINE_string(
    "predict",
    "",
    "With --mode=evaluate: scores a function of yours instead of a run. MODULE:ATTRIBUTE, or "
    "FILE.py:ATTRIBUTE; the attribute is predict(images uint8 [B, H, W, 3]) -> logits, or takes no "
    "argument and gives it. The scores go to --workdir, default runs/evaluate/...",
)
_DATASET = flags.DEFINE_string("dataset", "", "With --predict: the dataset, such as cifar10.")
_SUITE = flags.DEFINE_string(
    "suite",
    None,
    "What is scored, as config.eval.suite: common (all 19), c (the 15 of ImageNet-C), ..., names "
    "of corruptions, or a prepared corrupted dataset.",
)
_SEVERITIES = flags.DEFINE_list("severities", None, "As config.eval.severities: 1,2,3,4,5.")
_FROST_DIR = flags.DEFINE_string("frost_dir", None, "As config.eval.frost_dir.")
_PRESET = flags.DEFINE_string("preset", None, "As config.eval.preset.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "As config.eval.batch_size.")
_MAX_IMAGES = flags.DEFINE_integer("max_images", None, "As config.eval.max_images.")
_EVAL_SEED = flags.DEFINE_integer("eval_seed", None, "As config.eval.seed.", 0, 2**31 - 1)
_SWEEP = flags.DEFINE_string(
    "sweep", "", "A named list of runs of the card, done one after another; finished ones are kept."
)


def main(arguments: list[str]) -> int:
    """Parses the command line, runs it, and turns every expected failure into one line."""
    try:
        text = _call(arguments)
        if text:
            print(text)
        return 0
    except (UserError, RunError, InterruptedRunError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 2 if isinstance(error, UserError) else 1)


def _call(arguments: list[str]) -> str:
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
    cache_dir = Path(_CACHE_DIR.value or experiment.default_cache_dir())
    if _PREDICT.value or _DATASET.value:
        function = _function(card)
        workdir = Path(_WORKDIR.value or experiment.default_scores_dir(function))
        places = experiment.Places(workdir, _DATA_DIR.value, cache_dir, _MULTIHOST.value)
        return experiment.evaluate_function(function, places, _evaluation())
    if config is None and _WORKDIR.value is None:
        raise UserError(
            "--config", "nothing", "an experiment card", "Try --config=configs/digits_rigl.py"
        )
    workdir = Path(_WORKDIR.value or experiment.default_workdir(card, config, _SWEEP.value))
    return experiment.run(
        config,
        experiment.Places(workdir, _DATA_DIR.value, cache_dir, _MULTIHOST.value),
        mode=_MODE.value,
        sweeps=experiment.sweeps_of(card) if card else {},
        sweep=_SWEEP.value,
        evaluation=_evaluation(),
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
    return experiment.Function(_PREDICT.value, _DATASET.value)


def _evaluation() -> dict[str, Any]:
    """The options of `config.eval` that have flags of their own, where those are given."""
    severities: Any = _SEVERITIES.value
    if severities is not None:
        try:
            severities = tuple(map(int, severities))
        except ValueError:
            found = ",".join(severities)
            raise UserError("--severities", found, "whole numbers from 1 to 5") from None
    given = {
        "suite": _SUITE.value,
        "severities": severities,
        "frost_dir": _FROST_DIR.value,
        "preset": _PRESET.value,
        "batch_size": _BATCH_SIZE.value,
        "max_images": _MAX_IMAGES.value,
        "seed": _EVAL_SEED.value,
    }
    return {name: value for name, value in given.items() if value is not None}


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
    if lone := re.search(r"Unknown command line flag '(config\.[\w.]+)'", text):
        mend = "For runs on disk the options of config.eval have flags of their own, as --suite"
        return UserError(f"--{lone[1]}", "no --config", "a card whose option it changes", mend)
    if meant := re.search(r'Did you mean "(.+)" instead of "(.+)"', text):
        return UserError("config", f"no field {meant[2]}", meant[1])
    if flag := re.search(r"flag --([\w.]+)=(.*?): (.*)", text, re.DOTALL):
        name = flag[1].removeprefix("config.")
        option = OPTIONS.get(name, OPTIONS.get(f"eval.{name.removeprefix('eval_')}"))
        return UserError(f"--{flag[1]}", flag[2], option.expected() if option else flag[3])
    return UserError("command line", text, "flags as in `python run.py --help`")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
