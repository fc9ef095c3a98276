"""The result of one model as it grows, and its copy on disk.

Takes over what a directory holds of the same setting, refuses what is another model's, and writes
the files (`storage`) as conditions are scored. Called by `loop`, one writer per model.
"""

import dataclasses
import time
from pathlib import Path

from dst_jax.errors import UserError
from dst_jax.robustness import kept_files, metrics, storage
from dst_jax.robustness.engine import Predictions
from dst_jax.robustness.kept import Kept
from dst_jax.robustness.records import (
    CLEAN,
    Condition,
    CorrectBits,
    Fingerprint,
    Score,
    Setting,
    checksum,
)
from dst_jax.robustness.result import Result
from dst_jax.robustness.suites import Plan
from dst_jax.runtime.devices import is_main_process
from dst_jax.runtime.run_dir import read_json

# What one model on one set of images may differ in between two starts, by rounding: the share of
# clean images whose correctness changes, and the calibration error.
_SAME_HITS, _SAME_ECE = 0.002, 0.002
# At least between two writes: three files for each condition of a small network would be many.
_SECONDS = 5.0


class ResultWriter:
    """The result of one model as it grows, and its copy on disk; only the first process writes.

    Args:
      dataset: name of the images, "" where they have none.
      plan: what is scored.
      path: the directory of the files; None: nothing is written.
      model: what identifies it.
      keep: one of `kept.KEEP`, what is kept of each prediction.

    Raises:
      UserError: the directory holds the scores of another model.
    """

    def __init__(
        self, dataset: str, plan: Plan, path: Path | None, model: Fingerprint, keep: str = ""
    ):
        self._dataset, self._plan, self._path, self._model = dataset, plan, path, model
        self._keep, self._kept = keep, dict[Condition, Kept]()
        self._differ: set[Condition] = set()  # those that were answered otherwise before
        self._rows: dict[Condition, Score] = {}
        self._hits: dict[Condition, CorrectBits] = {}
        stored = storage.read(path) if path else storage.Stored([], None, [])
        self._others = stored.results
        self._setting: Setting | None = None
        self._written, self._saved = time.monotonic(), True
        self._signed = stored.model is not None
        if stored.model is not None and not stored.model.is_of(model):
            raise _of_another_model(path, "its weights or predictions are not those on record")
        if stored.model is not None and stored.model.weights and not model.weights:
            self._model = stored.model  # what is known of it stays known
        _check_run(path, model)

    def begin(self, clean: Predictions, pixels: int) -> None:
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
            self._hits, self._kept = dict(old.hits), dict(old.kept)
            self._rows = {row.condition: row for row in old.scores}
        if CLEAN in self._hits:
            self._saved = False  # older versions wrote neither images nor model
            self._keep_predictions(CLEAN, clean)
        else:
            self.add(CLEAN, clean)
        self.save()

    def _check_answers(self, clean: Predictions) -> None:
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
                "scores of a model that is not recorded",
                "an empty directory, or one whose robustness.json or .npz tells the model",
                "Move those files away, or bring the lost ones back",
            )

    def missing(self) -> list[Condition]:
        """The conditions that are not scored yet, or whose record or predictions are not there."""
        return [
            condition
            for condition in self._plan.conditions
            if condition not in self._hits or not self._is_kept(condition)
        ]

    def _is_kept(self, condition: Condition) -> bool:
        kept = self._kept.get(condition)
        return not self._keep or (kept is not None and kept.holds(self._keep))

    def add(self, condition: Condition, outcome: Predictions) -> None:
        """Records a condition, and writes the files unless they were written a moment ago.

        One that was scored before keeps its score; its predictions may be kept now.
        """
        assert self._setting is not None
        if condition in self._hits:
            self._keep_predictions(condition, outcome)
            return
        self._hits[condition] = CorrectBits.pack(outcome.correct, outcome.id, outcome.label)
        self._rows[condition] = Score(
            corruption=condition.corruption,
            severity=condition.severity,
            accuracy=float(outcome.correct.mean()),
            ece=metrics.expected_calibration_error(outcome.confidence, outcome.correct),
            **self._setting._asdict(),
        )
        self._keep_predictions(condition, outcome)
        self._saved = False
        if time.monotonic() - self._written > _SECONDS:
            self.save()

    def _keep_predictions(self, condition: Condition, outcome: Predictions) -> None:
        """Keeps what is asked for, unless the score on record is of other answers."""
        if self._is_kept(condition) or outcome.logits is None or self._setting is None:
            return
        arrays = (outcome.id, outcome.label, outcome.confidence, outcome.logits)
        kept = Kept.of(self._keep, *arrays)
        if not kept_files.agrees(kept, self._hits[condition]):
            self._differ.add(condition)
        elif self._path is not None and is_main_process():
            self._kept[condition] = kept_files.write(self._path, self._setting, condition, kept)
        else:
            self._kept[condition] = kept

    def save(self) -> None:
        """Writes the files, if anything was scored since the last time."""
        if self._saved:
            return
        if self._path is not None and is_main_process():
            results = [*self._others, self._result(list(self._rows))]
            storage.write(self._path, results, self._model)
        self._written, self._saved = time.monotonic(), True

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
            (() if has_frost else self._plan.notes) + self._note(),
            {c: self._kept[c] for c in conditions if c in self._kept},
        )

    def _note(self) -> tuple[str, ...]:
        if not self._differ:
            return ()
        text = f"The predictions of {len(self._differ)} conditions are not kept: they are other"
        return (f"{text} answers than those of the score on record.",)


def _check_run(path: Path | None, model: Fingerprint) -> None:
    """Refuses to write into a run's directory what may not be that run's."""
    if path is None or not (path / "model.json").exists():
        return
    own = "an empty directory, or dst_jax.load_run of this run and its predict"
    if not model.weights:
        raise UserError(str(path), "a run's directory, for a function without weights", own)
    if storage.of_another_run(model, read_json(path / "model.json")):
        raise UserError(str(path), "the directory of a run of other weights", own)


def _of_another_model(path: Path | None, reason: str) -> UserError:
    return UserError(
        str(path),
        f"scores of another model ({reason})",
        "an empty directory, or one with this model's",
    )
