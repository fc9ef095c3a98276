"""What experiment cards share: argument string, toy form, and the lists of their sweeps.

A card in `configs/` holds what is its own: the recipe with its source, and what to expect. The
lists behind the paper's figures are made here, so that every card has the same ones; and here is
where a card is found and loaded. Called by the cards, `cli`, `paths` and `sweep`; nothing here
imports JAX, so `dst-jax --help` stays quick.
"""

import dataclasses
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

import dst_jax
from dst_jax import config as config_lib
from dst_jax.config.checks import DENSE
from dst_jax.config.options import OPTIONS
from dst_jax.errors import TRACEBACK, RunError, UserError, line_of, place_of, shown

# A run of a sweep: the options in which it differs from the card, {dotted name: value}.
Member = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Expected:
    """A result that a card is to be held against: robust accuracy in percent.

    Attributes:
      suite: the corrupted test images.
      sparsity: share of removed weights of the sparse methods.
      theirs: method -> robust accuracy, as Wu et al. 2025 print it; empty: no number is readable.
      ours: method -> robust accuracy, as this card gave it; empty: not yet run.
      note: what to know before a number is trusted.
    """

    suite: str
    sparsity: float
    theirs: Mapping[str, float]
    ours: Mapping[str, float] = dataclasses.field(default_factory=dict)
    note: str = ""


# The paper's methods: random growth, then growth by gradient.
RANDOM_GROWTH = ("set", "mest_r", "granet_r")
GRADIENT_GROWTH = ("rigl", "mest_g", "granet_g")
SIX_METHODS = ("set", "rigl", "mest_r", "mest_g", "granet_r", "granet_g")
SEEDS = (0, 1, 2)

# The short names that a card's argument string takes, `card.py:algorithm=rigl,sparsity=0.5`.
ARGUMENTS = {
    "algorithm": "sparsity.algorithm",
    "sparsity": "sparsity.sparsity",
    "seed": "seed",
    "epochs": "train.epochs",
    "model": "model.name",
}
TINY = "tiny"
_EXPECTED = "an experiment card, a Python file with get_config"

# The toy form of any card: 12 steps on images that need no download, with mask updates after steps
# 4 and 8, and 64 images under two corruptions. What of the recipe is given in percent stays.
_TINY_OPTIONS: Mapping[str, Any] = {
    "data.name": "digits",
    "data.input": "auto",
    "data.augment": "crop",
    "model.dtype": "float32",
    "train.batch_size": 32,
    "train.steps": "12",
    "sparsity.update_freq": "4",
    "checkpoint.every": "50%",
    "log.every": "4",
    "log.tensorboard": False,
    "eval.suite": "common",  # the digits are not the card's benchmark
    "eval.batch_size": 64,
    "eval.max_images": 64,
    "eval.corruptions": ("gaussian_noise", "contrast"),
    "eval.severities": (1, 4),
}


def directory() -> Path:
    """Where the cards that come with the package are: installed in it, or in its checkout."""
    package = Path(dst_jax.__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def names() -> list[str]:
    """The names of the cards that come with the package."""
    return sorted(path.stem for path in directory().glob("*.py"))


def find(card: str | Path) -> Path:
    """The file of a card: the path itself, or the card of that name that comes with the package.

    Raises:
      UserError: there is neither.
    """
    if Path(card).is_file():
        return Path(card)
    if str(card) in (known := names()):
        return directory() / f"{card}.py"
    raise UserError(
        "--config", str(card) or "nothing", f"an experiment card ({', '.join(known)}) or its file"
    )


def load(card: str | Path) -> ModuleType:
    """A card as a module with `get_config`, `SWEEPS` and `EXPECTED`, for one that builds on it.

    Args:
      card: a path or a name, as for `find`.

    Raises:
      UserError: there is no such card.
    """
    return module_of(find(card), "--config")


# (path, time of its last change, size) -> the module of a file: run once, unless it was edited.
_LOADED: dict[tuple[str, int, int], ModuleType] = {}


def loaded_files() -> list[str]:
    """The files that this process has loaded as modules."""
    return [path for path, _, _ in _LOADED]


def module_of(file: Path, field: str) -> ModuleType:
    """Runs a Python file as a module, once: it may import what lies beside it, as a program may.

    Args:
      file: it.
      field: what names it, for the text of an error.

    Raises:
      UserError: it is no Python file.
    """
    path = Path(os.path.abspath(file))
    stat = path.stat()
    key = (str(path), stat.st_mtime_ns, stat.st_size)
    if key in _LOADED:
        return _LOADED[key]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(field, str(file), "a Python file, named *.py")
    module = importlib.util.module_from_spec(spec)
    if path.parent != directory() and str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    known = sys.modules.setdefault(path.stem, module)  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if known is module:
            sys.modules.pop(path.stem, None)
        raise
    _LOADED[key] = module
    return module


def config_of(card: str | Path, argument: str | None) -> ConfigDict:
    """The options that a card returns, locked.

    Args:
      card: a path or a name, as for `find`.
      argument: what follows the colon; None: there is none.

    Raises:
      UserError: there is no such card, or it fails; the text names its file and line.
    """
    path = find(card)
    try:
        module = load(path)
        if not hasattr(module, "get_config"):
            raise UserError("--config", f"{path} without get_config", _EXPECTED)
        config = module.get_config(*([] if argument is None else [argument]))
    except (UserError, RunError):
        raise
    except SystemExit as error:  # else the command would end as if it were done
        raise UserError(
            "--config", f"a card that calls sys.exit({error.code})", _EXPECTED
        ) from None
    except Exception as error:  # whatever a user's card raises
        at = shown(place_of(error, [os.path.abspath(path)]))
        if meant := re.search(r'Did you mean "(.+)" instead of "(.+)"', str(error)):
            raise UserError(
                f"config{f', set at {at}' if at else ''}", f"no field {meant[2]}", meant[1]
            ) from error
        found = f"a card that fails ({line_of(error)}){f' at {at}' if at else ''}"
        raise UserError("--config", found, _EXPECTED, TRACEBACK) from error
    if not isinstance(config, ConfigDict):
        found = f"{path}, whose get_config gives {type(config).__name__}"
        raise UserError("--config", found, "a ConfigDict, such as dst_jax.config.default() gives")
    return config.lock()


def with_argument(
    config: ConfigDict, argument: str, tiny: Mapping[str, Any] | None = None
) -> ConfigDict:
    """Applies a card's argument string, for example `algorithm=rigl,sparsity=0.5,seed=1,tiny`.

    `tiny`, without a value, makes a run of seconds on a laptop that needs no prepared dataset: the
    embedded digits stand in for the card's own (`data.stand_in_for` tells which, and so does the
    output). It shows that the whole way works and says nothing about the method.

    Args:
      config: the card's config; changed in place.
      argument: what follows the colon of `--config=card.py:...`.
      tiny: options of the toy form besides those that all cards share, {dotted name: value}, as the
        width of the network.

    Raises:
      UserError: a part is neither `tiny` nor `name=value` with a name in `ARGUMENTS`, or its value
        does not fit.
    """
    parts = [part.strip() for part in argument.split(",") if part.strip()]
    if TINY in parts:
        own = config.data.name
        for name, value in {**_TINY_OPTIONS, **(tiny or {})}.items():
            config_lib.set_option(config, name, value)
        # Also where the data are the card's own: the network and the length are not.
        config.data.stand_in_for = own if own != config.data.name else f"{own} at full size"
    known = ", ".join(ARGUMENTS)
    for part in parts:
        if part == TINY:
            continue
        name, equals, text = part.partition("=")
        if not equals or name not in ARGUMENTS:
            raise UserError(
                "argument of the card",
                repr(part),
                f"{TINY}, or name=value with a name among {known}",
            )
        option = OPTIONS[ARGUMENTS[name]]
        try:
            value = type(option.default)(text)
        except ValueError:
            raise UserError(
                f"argument of the card: {name}", repr(text), option.expected()
            ) from None
        config_lib.set_option(config, ARGUMENTS[name], value)
    return config


def granet_recipe(config: ConfigDict) -> None:
    """Sets the training and the mask updates of GraNet's published CIFAR scripts (Liu et al. 2021).

    SGD 0.1 with Nesterov momentum 0.9, weight decay 5e-4, batch 128, 160 epochs, a tenth of the
    rate after half and after three quarters; updates every 1,000 steps to the end, with half of the
    active weights moving at first and 0.5 % at last; sparsity 0.5 until the card says another.

    Args:
      config: changed in place.
    """
    config.train.batch_size = 128
    config.train.epochs = 160.0
    config.train.learning_rate = 0.1
    config.train.schedule = "step"
    config.train.milestones = ("50%", "75%")
    config.train.weight_decay = 5e-4
    config.train.nesterov = True
    config.sparsity.sparsity = 0.5
    config.sparsity.update_freq = "1000"
    config.sparsity.update_end_step = "100%"
    config.sparsity.drop_fraction = 0.5
    config.sparsity.drop_fraction_floor = 0.005


def compare(
    algorithms: Iterable[str], sparsities: Iterable[float], seeds: Iterable[int] = SEEDS
) -> list[Member]:
    """Dense runs, then every algorithm at every sparsity; each with every seed.

    Args:
      algorithms: the sparse ones; dense comes by itself.
      sparsities: share of removed weights, in (0, 1).
      seeds: of the runs.
    """
    seeds = tuple(seeds)
    members: list[Member] = [{"sparsity.algorithm": "dense", "seed": seed} for seed in seeds]
    sparsities = tuple(sparsities)
    for algorithm in algorithms:
        for sparsity in sparsities:
            members += [
                {"sparsity.algorithm": algorithm, "sparsity.sparsity": sparsity, "seed": seed}
                for seed in seeds
            ]
    return members


def figure2() -> list[Member]:
    """The runs of figure 2 of Wu et al. 2025: dense and six methods at 30 to 70 % sparsity.

    The three seeds are ours; the paper names none.
    """
    return compare(SIX_METHODS, (0.3, 0.4, 0.5, 0.6, 0.7))


def table1() -> list[Member]:
    """The runs of table 1 and figures 3 and 4: dense and gradient growth, at 10 % sparsity."""
    return compare(GRADIENT_GROWTH, (0.1,))


def ablation(
    update_freqs: Sequence[str], small: Mapping[str, Any] | None, seeds: Sequence[int] = SEEDS
) -> list[Member]:
    """What RigL's gain could come from, one change at a time, at the card's sparsity.

    RigL as the card has it and dense; a fixed random mask (`static`); a smaller dense network with
    as many parameters as the sparse one has active; the same sparsity in every layer; a weight
    dropped and regrown at once that starts at zero; other times between mask updates.

    Args:
      update_freqs: times between mask updates, besides the card's own.
      small: the options that make the smaller dense network; None: the model has no width.
      seeds: of the runs.
    """
    rigl = {"sparsity.algorithm": "rigl"}
    dense = {"sparsity.algorithm": "dense"}
    changes: list[Member] = [dense, rigl, {"sparsity.algorithm": "static"}]
    if small:
        changes.append({**dense, **small})
    changes.append({**rigl, "sparsity.dist_type": "uniform"})
    changes.append({**rigl, "sparsity.regrow_same": "zero"})
    changes += [{**rigl, "sparsity.update_freq": freq} for freq in update_freqs]
    return [{**change, "seed": seed} for change in changes for seed in seeds]


def tiny_members(members: Sequence[Member]) -> list[Member]:
    """The sweep of a card in its toy form: of every option only the first two values.

    Dense runs count apart: figure 2 has two methods, two sparsities and two seeds left beside them.
    """
    kept: dict[str, list[Any]] = {}
    for member in members:
        for name, value in member.items():
            values = kept.setdefault(name, [])
            if value not in values and value not in DENSE and len(values) < 2:
                values.append(value)
    return [
        member
        for member in members
        if all(value in kept[name] or value in DENSE for name, value in member.items())
    ]
