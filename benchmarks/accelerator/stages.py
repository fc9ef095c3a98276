"""What a part is, what it is given, and the list of all parts in the order of their worth.

A stage is a module of this package with `PARTS`, named in `MODULES`; a part is what is estimated,
run, recorded and resumed as one. Called by `command`. Importing this, or a stage, must not touch a
device: what needs JAX or PyTorch imports it inside `estimate` or `run`.
"""

import dataclasses
import functools
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from benchmarks.accelerator import identity
from benchmarks.accelerator.clock import Clock

# The modules of the stages, the most worthwhile first; the last one takes all time that is left.
MODULES = ("ceilings", "agreement", "restart", "speed", "rendering", "study")

# Stages that take at most this share of the budget in one call, where --only names none: the study
# needs what is left. A later call goes on with their other parts.
SHARES = {"b": 0.28, "c": 0.12}

# Seconds of the parts of a toy: about twice those on two quiet cores. A part that is not listed is
# none of a toy's, or is expected to take what the one before it took.
TOY_S = {
    **{"ceilings": 2.0, "masks": 6.0, "corruptions": 6.0, "steps": 8.0, "restart": 18.0},
    **{"update_resnet50": 12.0, "speed_deit_small": 6.0, "torch_deit_small": 5.0},
    **{"rendering_32": 5.0, "rendering_224": 6.0, "study_pilot": 9.0, "study_0": 40.0},
}
_DOUBT_S = 10.0  # a toy's estimates are trusted as if so many seconds had been as expected

NOT_ASKED = "not asked for"  # a part of which nothing is told

COLUMNS = ("what", "measured", "against", "difference or ratio")


class Outcome(TypedDict):
    """What `Part.run` returns; plain JSON.

    Attributes:
      figures: every number, by name. By convention `compile_s` is the longest time that a program
        took to compile, and `steps_per_s` the training steps per second by what was trained: later
        parts estimate with them (`Context.longest_compile`, `Context.figure`).
      rows: lines of the table, each with a text for every one of `COLUMNS`.
      notes: sentences below the table.
      text: Markdown that stands below the table by itself, under the part's title; of a stage only
        the text of its last part counts.
    """

    figures: dict[str, Any]
    rows: list[list[str]]
    notes: NotRequired[list[str]]
    text: NotRequired[str]


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line says; see the flags in `command`.

    Attributes:
      out: where the files to take home go.
      work: where run directories, caches and unpacked images are kept between calls.
      tiny: everything shrunk to what a CPU does in minutes; says nothing about speed or methods.
      data: name of the dataset.
      data_dir: where it is, as `dst_jax` takes it; None: TFDS's default.
      frost_dir: photographs of frost; "": frost is left out.
      seed: of random inputs, and the first of the study's seeds.
      epochs: of the study's runs; 0: as many up to 30 as let three seeds of every method fit.
      rounds: most seeds of the study.
      jobs: programs for an accelerator that are compiled at the same time, at most.
    """

    out: Path
    work: Path
    tiny: bool = False
    data: str = "digits"
    data_dir: str | None = None
    frost_dir: str = ""
    seed: int = 0
    epochs: int = 0
    rounds: int = 5
    jobs: int = 4


@dataclasses.dataclass
class Context:
    """What a part is given.

    Attributes:
      options: of the command line.
      clock: what is left of the budget.
      results: name of a part -> its figures, of all parts that are done, also by earlier calls.
      say: shows one line of progress, with the time left in front.
      shares: of the budget, by stage; see `SHARES`.
      spent: seconds that this call has spent in each stage.
      identity: six digits that stand for the code, versions, hardware, images and photographs.
      expected, took: seconds of the toy's parts that this call did, by `TOY_S` and in truth.
    """

    options: Options
    clock: Clock
    results: dict[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    say: Callable[[str], None] = print
    shares: Mapping[str, float] = dataclasses.field(default_factory=dict)
    spent: dict[str, float] = dataclasses.field(default_factory=dict)
    identity: str = ""
    expected: float = 0.0
    took: float = 0.0

    def left(self, stage: str) -> float:
        """Seconds that a part of this stage may take."""
        share = self.shares.get(stage)
        if share is None:
            return self.clock.left()
        return min(self.clock.left(), share * self.clock.budget - self.spent.get(stage, 0.0))

    def toy_s(self, part: str) -> float:
        """Seconds that a part of a toy will take, by those that are done: machines are busy."""
        return TOY_S.get(part, 0.0) * (self.took + _DOUBT_S) / (self.expected + _DOUBT_S)

    def learn(self, part: str, seconds: float) -> None:
        """Remembers how long a part of a toy took."""
        if self.options.tiny and part in TOY_S:
            self.expected += TOY_S[part]
            self.took += seconds

    @property
    def cache_dir(self) -> Path:
        """`dst_jax`'s cache: compiled programs, decoded images."""
        return self.options.work / "cache"

    @property
    def workers(self) -> int:
        """Threads that may compile at a time.

        One for a CPU: XLA's compiler for it shares one pool of threads, and with eight programs at
        a time it was seen to stand still.
        """
        import jax

        return 1 if jax.default_backend() == "cpu" else max(1, self.options.jobs)

    @functools.cached_property
    def images_digest(self) -> str:
        """Which images these are; see `identity.data`."""
        return identity.data(self.options.data, self.options.data_dir)

    @functools.cached_property
    def frost_digest(self) -> str:
        """Which photographs of frost these are; "" where there are none."""
        return identity.frost(self.options.frost_dir)

    @functools.cached_property
    def dataset(self) -> Any:
        """The `dst_jax.data.Dataset`."""
        from dst_jax import data

        return data.get(self.options.data)

    @functools.cached_property
    def train_images(self) -> tuple[Any, Any]:
        """(uint8 [N, H, W, 3], int32 [N]): all training images; a toy takes the first 512."""
        return self._images(self.dataset.train_split, 512)

    @functools.cached_property
    def test_images(self) -> tuple[Any, Any]:
        """(uint8 [N, H, W, 3], int32 [N]): all test images; a toy takes the first 64."""
        return self._images(self.dataset.test_split, 64)

    def _images(self, split: str, few: int) -> tuple[Any, Any]:
        from dst_jax import data

        limit = few if self.options.tiny else None
        options = self.options
        return data.load_arrays(self.dataset, split, options.data_dir, self.cache_dir, limit)

    def figure(self, part: str, name: str, default: float) -> float:
        """A number that an earlier part measured, or the default where it did not."""
        found = self.results.get(part, {}).get(name, default)
        return float(found) if isinstance(found, int | float) else default

    def longest_compile(self, default: float) -> float:
        """Seconds of the longest compilation (`compile_s`) that any part measured so far."""
        return max((self.figure(part, "compile_s", 0.0) for part in self.results), default=0.0) or (
            default
        )


@dataclasses.dataclass(frozen=True)
class Part:
    """One piece of work that is started whole or not at all.

    Attributes:
      name: unique, of [a-z0-9_]; its records are `parts/NAME-SETTINGS.json`.
      stage: the letter of its stage.
      title: what it is, for the table's list of what was left out.
      estimate: seconds that `run` will take; from what earlier parts measured where there is
        something, else too many rather than too few. It must not compile or touch a device.
      run: does it. Whatever it raises is recorded as one line, and the next part begins. It may
        look at `context.clock.left()` and stop early with fewer figures, saying so in a row.
      settings: what a record must have been made with to be kept, besides the options that are the
        same for all parts (`loop.Loop.common_settings`); plain JSON.
      missing: why it cannot be run whatever time is left, such as a part that it needs and that is
        not done; "" if nothing is missing. `NOT_ASKED` leaves it out without a word.
      bring: called at the end of a call that kept the part's record, where no later part of the
        stage has a text: brings the part's files in `--out` again if they are not there; returns
        the figures, changed where files are named by them.
      own_processes: starts processes that need the accelerator, so on machines where only one
        process may hold it (TPU) it comes before the parts that take it.
    """

    name: str
    stage: str
    title: str
    estimate: Callable[[Context], float]
    run: Callable[[Context], Outcome]
    settings: Callable[[Context], Mapping[str, Any]] = lambda context: {}
    missing: Callable[[Context], str] = lambda context: ""
    bring: Callable[[Context, dict[str, Any]], dict[str, Any]] = lambda context, figures: figures
    own_processes: bool = False

    @property
    def comes_first(self) -> bool:
        """Whether it needs an accelerator that no part has taken yet, as `own_processes` says."""
        return self.own_processes and importlib.util.find_spec("libtpu") is not None


def parts(modules: Sequence[str] = MODULES) -> list[Part]:
    """All parts in the order of their worth."""
    found: list[Part] = []
    for module in modules:
        found += importlib.import_module(f"benchmarks.accelerator.{module}").PARTS
    names = [part.name for part in found]
    assert len(set(names)) == len(names), names
    return found
