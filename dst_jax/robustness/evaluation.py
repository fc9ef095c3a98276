"""`evaluate`: any predict function on a suite of corruptions, from names to a `Result`.

The order of things: what to score (`suites`), the clean images (`images`), the check of the
function, clean accuracy, then condition after condition (`engine`), each on disk (`storage`) before
the next. Our own runs take the same way (`dst_jax.evaluate`), and so does the command (`command`).
"""

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dst_jax.errors import RunError, UserError
from dst_jax.interrupt import Interrupt, InterruptedRunError
from dst_jax.parallel import Devices, any_process, is_main_process
from dst_jax.progress import Progress
from dst_jax.robustness import images, metrics, storage, suites
from dst_jax.robustness.engine import Engine, Outcome, Predict, check_predict
from dst_jax.robustness.records import (
    CLEAN,
    Condition,
    Fingerprint,
    Hits,
    Score,
    Setting,
    checksum,
)
from dst_jax.robustness.result import Result
from dst_jax.robustness.suites import Plan
from dst_jax.workdir import locked, make

# What one model on one set of images may differ in between two starts, by rounding: the share of
# clean images whose correctness changes, and the calibration error.
_SAME_HITS, _SAME_ECE = 0.002, 0.002


def evaluate(
    predict: Predict,
    dataset: Any,
    suite: str | Sequence[str] = "common",
    *,
    source: str = "auto",
    corruptions: Sequence[str] = (),
    severities: Sequence[int] = (),
    preset: str = "",
    seed: int = 0,
    jpeg85: bool | None = None,
    frost_dir: str | os.PathLike | None = None,
    batch_size: int = 128,
    max_images: int = 0,
    data_dir: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    name: str = "",
    path: str | os.PathLike | None = None,
    devices: Devices | None = None,
    quiet: bool = False,
    prefix: str = "",
) -> Result:
    """Scores a classifier on clean and on corrupted images.

    Clean images go to the devices once and stay there if they fit in a quarter of their memory;
    else they are read once a corruption. Corruptions are rendered there. The result is the same,
    bit by bit, for any number of devices and any order of the images, and the randomness is the
    same for any batch size too; rendered grey levels then differ by compiled rounding at most.

    Args:
      predict: maps images uint8 [B, H, W, 3] to logits [B, classes]; pure JAX. It normalises by
        itself. As `jax.tree_util.Partial(function, variables)` its weights are arguments of the
        compiled program; otherwise they may be constants in it.
      dataset: a name in `dst_jax.data.DATASETS`, whose test split is read; or arrays (images uint8
        [N, H, W, 3], labels [N]); or an iterable of batches, see `images.open_source`.
      suite: a benchmark of the dataset, such as "CIFAR10-C"; a key of `SUITES`; names of
        corruptions, one or a list; or a prepared corrupted set, such as "cifar10_corrupted".
      source: "rendered"; a prepared corrupted set; or "auto", the default of the command too: a
        prepared set if it holds every condition asked for, else rendered; see `suites.plan`.
      corruptions: the suite restricted to these; empty: all.
      severities: among 1..5; empty: those of the benchmark.
      preset: constants of the corruptions, one of `dst_jax.corruptions.PRESETS`; "": what fits the
        size of the images.
      seed: of the corruptions.
      jpeg85: whether rendered images are saved as JPEG of quality 85, as those of ImageNet-C were;
        None: as the published set, see `suites.plan`.
      frost_dir: directory of the photographs of frost; without it a suite leaves frost out.
      batch_size: images a device.
      max_images: the first so many images only; 0: all.
      data_dir: where TFDS datasets are prepared; None: TFDS's own default.
      cache_dir: where decoded arrays are cached; None: `data.default_cache_dir()`.
      name: what images without a name are, such as "imagenet2012", without which there is no mCE.
      path: a directory for `robustness.csv`, `.npz` and `.json`, written after each condition; the
        same call goes on from there. It may hold other scores, which are kept (another suite,
        source, preset, seed or set of images is another score), but of one model only.
      devices: None: all.
      quiet: show no progress.
      prefix: what stands before an argument's name in the text of an error.

    Raises:
      UserError: an argument is wrong, `path` holds the scores of another model, or another
        evaluation writes there now.
      RunError: a prepared corrupted set holds another number of images, or `predict` gives NaN.
      InterruptedRunError: SIGTERM or Ctrl-C, with a path; what was scored is on disk.
    """
    if batch_size < 1:
        raise UserError(f"{prefix}batch_size", batch_size, "at least 1")
    opened = images.open_source(dataset, name, max_images, data_dir, cache_dir, prefix)
    if not (preset or opened.preset):
        side = "x".join(map(str, opened.side))
        raise UserError(f"{prefix}preset", f"nothing, for images of {side}", "a preset's name")
    plan = suites.plan(
        suite,
        opened.dataset,
        preset or opened.preset,
        source=source,
        only=corruptions,
        severities=severities,
        seed=seed,
        jpeg85=jpeg85,
        frost_dir=frost_dir,
        data_dir=data_dir,
        name=opened.name,
        prefix=prefix,
    )
    devices = devices or Devices()
    size = min(batch_size, opened.total or batch_size)
    classes = check_predict(predict, (size, *opened.side, 3), prefix)
    if opened.dataset and classes < opened.dataset.num_classes:
        raise UserError(
            f"{prefix}predict",
            f"logits of {classes} classes",
            f"at least {opened.dataset.num_classes}, those of {opened.name}",
        )
    engine = Engine(predict, plan, devices)
    scorer = _Scorer(engine, plan, opened, devices, size, prefix)
    where = Path(path) if path is not None else None
    progress = Progress(len(plan.conditions), quiet=quiet or not is_main_process())
    with contextlib.ExitStack() as stack:
        interrupt = None
        if where is not None:
            interrupt = stack.enter_context(Interrupt())
            if is_main_process():
                make(where)
                stack.enter_context(locked(where, ".evaluation.lock"))
        model = engine.fingerprint((*opened.side, 3), size * devices.count)
        book = _Book(opened.name, plan, where, model)
        outcome = scorer.clean()
        if outcome.label.max() >= classes or outcome.label.min() < 0:
            found = f"labels from {outcome.label.min()} to {outcome.label.max()}"
            raise UserError(
                f"{prefix}predict", f"logits of {classes} classes for {found}", "a logit each"
            )
        book.begin(outcome, scorer.pixels)
        missing = book.missing()
        done = len(plan.conditions) - len(missing)
        progress = Progress(len(plan.conditions), done, quiet=quiet or not is_main_process())
        progress.show(done, f"clean  accuracy {outcome.correct.mean():.3f}", now=True)
        for condition, outcome in scorer.conditions(missing, data_dir, cache_dir):
            book.add(condition, outcome)
            done += 1
            text = f"{condition.corruption} {condition.severity}"
            accuracy = f"accuracy {outcome.correct.mean():.3f}"
            progress.show(done, f"{text}  {accuracy}", now=done == len(plan.conditions))
            if interrupt is not None and any_process(bool(interrupt.requested)):
                raise InterruptedRunError(
                    interrupt.requested, f"{done} of {len(plan.conditions)} conditions scored"
                )
    progress.end()
    return book.result()


class _Scorer:
    """Conditions one after another, from the images that each needs."""

    def __init__(
        self,
        engine: Engine,
        plan: Plan,
        source: images.Source,
        devices: Devices,
        size: int,
        prefix: str,
    ):
        self._engine, self._plan, self._source = engine, plan, source
        self._devices, self._size, self._prefix = devices, size, prefix
        self._clean = images.CleanImages(source, devices, size)
        self._count, self._labels = 0, np.zeros(0, np.int32)

    def clean(self) -> Outcome:
        outcome = self._engine.score(self._clean(), [CLEAN])[CLEAN]
        self._count, self._labels = len(outcome.id), outcome.label
        return outcome

    @property
    def pixels(self) -> int:
        """Checksum of the caller's own images, 0 for those of a named dataset."""
        return self._clean.checksum

    def conditions(self, wanted: list[Condition], data_dir: Any, cache_dir: Any) -> Any:
        """Yields (condition, outcome)."""
        if self._plan.prepared:
            for condition in wanted:
                yield condition, self._of_prepared(condition, data_dir, cache_dir)
            return
        groups = [[condition] for condition in wanted]
        if not self._clean.kept:  # reading is dear: all severities in one pass
            by_name = itertools.groupby(wanted, key=lambda condition: condition.corruption)
            groups = [list(members) for _, members in by_name]
        for group in groups:
            yield from self._engine.score(self._clean(), group).items()

    def _of_prepared(self, condition: Condition, data_dir: Any, cache_dir: Any) -> Outcome:
        assert self._source.dataset is not None
        batches = images.prepared_batches(
            self._source.dataset,
            condition,
            self._plan.prepared,
            self._count,
            self._size * self._devices.count,
            data_dir,
            cache_dir,
        )
        placed = (images.put(batch, self._devices) for batch in batches)
        outcome = self._engine.score(placed, [CLEAN])[CLEAN]
        where = f"{self._plan.prepared} {condition.corruption} {condition.severity}"
        if len(outcome.id) != self._count:
            raise RunError(f"{where}: {len(outcome.id)} images scored, {self._count} expected")
        if not np.array_equal(np.sort(outcome.label), np.sort(self._labels)):
            raise UserError(
                f"{self._prefix}max_images",
                f"{self._count}, but the first images of {where} are not those of the clean set",
                "all images (0) where a prepared set has an order of its own",
                f"Or use {self._prefix}source=rendered",
            )
        return outcome


class _Book:
    """The result as it grows, and its copy on disk; only the first process writes."""

    def __init__(self, dataset: str, plan: Plan, path: Path | None, model: Fingerprint):
        self._dataset, self._plan, self._path, self._model = dataset, plan, path, model
        self._rows: dict[Condition, Score] = {}
        self._hits: dict[Condition, Hits] = {}
        stored = storage.read(path) if path else storage.Stored([], None, [])
        self._others = stored.results
        self._setting: Setting | None = None
        self._signed = stored.model is not None
        if stored.model is not None and not stored.model.is_of(model):
            raise _of_another_model(path, "its weights or predictions are not those on record")

    def begin(self, clean: Outcome, pixels: int) -> None:
        """Takes over what is on disk of the same setting; refuses scores of another model.

        Args:
          clean: the outcome of the clean images.
          pixels: checksum of the images that their pixels identify, else 0; see `images.Source`.
        """
        plan, images_ = self._plan, f"{checksum(clean.id, clean.label) ^ pixels:08x}"
        n = len(clean.id)
        self._setting = Setting(plan.suite, plan.source, plan.preset, plan.seed, n, images_)
        self._check_answers(clean)
        self._others = [
            dataclasses.replace(old, dataset=self._dataset)
            if not old.dataset and old.setting.images == images_  # the JSON was lost
            else old
            for old in self._others
        ]
        same = [old for old in self._others if old.setting == self._setting]
        self._others = [old for old in self._others if old.setting != self._setting]
        for old in same:  # one or none
            self._hits = dict(old.hits)
            self._rows = {row.condition: row for row in old.scores}
        if CLEAN in self._hits:
            self._write()  # older versions wrote neither images nor model
        else:
            self.add(CLEAN, clean)

    def _check_answers(self, clean: Outcome) -> None:
        """Refuses scores whose answers on clean images were not this model's, or nobody's."""
        compared = self._signed
        for old in self._others:
            if CLEAN not in old.hits or old.dataset not in ("", self._dataset):
                continue
            same = self._setting is not None and old.setting.images == self._setting.images
            if not same and (self._signed or not self._dataset or not old.dataset):
                continue  # the weights were compared; or the caller's own images, other ones
            # A named dataset is read in one order: the first images are the same ones.
            shared = min(old.n, len(clean.id))
            compared = True
            changed = (old.hits[CLEAN].unpack(old.n)[:shared] != clean.correct[:shared]).mean()
            ece = metrics.expected_calibration_error(clean.confidence, clean.correct)
            moved = abs((old.clean_ece or 0) - ece) if same else 0.0
            if changed > max(_SAME_HITS, 1 / shared) or moved > max(_SAME_ECE, 1 / shared):
                was = f"right on {old.hits[CLEAN].unpack(old.n)[:shared].mean():.2%} of the same"
                now = f"{clean.correct[:shared].mean():.2%}"
                raise _of_another_model(self._path, f"{was} clean images, now on {now}")
        if self._others and not compared:
            raise UserError(
                str(self._path),
                "scores that do not say whose they are",
                "an empty directory, or one whose robustness.json or .npz tells the model",
                "Move those files away, or bring the lost ones back",
            )

    def missing(self) -> list[Condition]:
        """The conditions of the plan that are not scored yet, or whose record is lost."""
        return [condition for condition in self._plan.conditions if condition not in self._hits]

    def add(self, condition: Condition, outcome: Outcome) -> None:
        """Records a condition and writes the files."""
        assert self._setting is not None
        self._hits[condition] = Hits.pack(outcome.correct, outcome.id, outcome.label)
        self._rows[condition] = Score(
            corruption=condition.corruption,
            severity=condition.severity,
            accuracy=float(outcome.correct.mean()),
            ece=metrics.expected_calibration_error(outcome.confidence, outcome.correct),
            **self._setting._asdict(),
        )
        self._write()

    def _write(self) -> None:
        if self._path is not None and is_main_process():
            results = [*self._others, self._result(list(self._rows))]
            storage.write(self._path, results, self._model)

    def result(self) -> Result:
        """The conditions of the plan, in its order."""
        return self._result(list(self._plan.conditions))

    def _result(self, conditions: list[Condition]) -> Result:
        # A plan's notes are on frost, which an earlier call may have scored with its photographs.
        has_frost = any(condition.corruption == "frost" for condition in conditions)
        return Result(
            self._dataset,
            tuple(self._rows[condition] for condition in conditions),
            {c: self._hits[c] for c in conditions if c in self._hits},
            () if has_frost else self._plan.notes,
        )


def _of_another_model(path: Path | None, reason: str) -> UserError:
    return UserError(
        str(path),
        f"scores of another model ({reason})",
        "an empty directory, or one with this model's",
    )
