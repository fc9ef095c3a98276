"""Evaluates the checkpoint of a run on clean and corrupted test images: `robustness.csv`.

Says what to score and where the images come from; the scoring itself is `robustness.score`. Each
condition is on disk once it is scored, and a restart skips it. Called by `experiment`.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dst_jax import corruptions, data
from dst_jax.corruptions import video
from dst_jax.corruptions.weather import FROST_FILES
from dst_jax.errors import RunError, UserError
from dst_jax.interrupt import Interrupt, InterruptedRunError
from dst_jax.parallel import Devices, any_process, is_main_process
from dst_jax.progress import Progress
from dst_jax.robustness import (
    CLEAN,
    Batch,
    Condition,
    Predict,
    Score,
    read_scores,
    score,
    write_scores,
)
from dst_jax.saved_run import Run

Config = Mapping[str, Any]


def wanted_conditions(config: Config, data_dir: str | None) -> tuple[str, list[Condition]]:
    """The suite's name and the conditions that a config asks for, clean images first.

    Raises:
      UserError: a corruption has no such name, or the prepared dataset is not there.
    """
    dataset, options = data.get(config["data"]["name"]), config["eval"]
    source = options["source"]
    prepared: list[Condition] = []
    if source == "auto":
        source = dataset.corrupted.tfds_name if dataset.corrupted else "rendered"
        if source != "rendered":
            prepared = _prepared(dataset, data_dir, source)
    elif source != "rendered":
        prepared = _prepared(dataset, data_dir, source)
        if not prepared:
            raise UserError(
                "config.eval.source",
                f"{source}, not prepared",
                "a prepared dataset, or rendered",
                f"See python -m dst_jax.data.prepare {source} --help",
            )
    if prepared:
        suite, available = f"tfds/{source}", prepared
    else:
        suite = f"rendered/{dataset.preset}/seed{options['seed']}"
        names = [*corruptions.BENCHMARK, *corruptions.EXTRA]
        if dataset.clip:
            names = list(video.PERTURBATIONS)
        elif not _has_frost(options["frost_dir"]):
            names.remove("frost")
        available = [Condition(name, severity) for name in names for severity in range(1, 6)]
    known = dict.fromkeys(condition.corruption for condition in available)
    for name in options["corruptions"]:
        if name not in known:
            mend = "frost needs config.eval.frost_dir" if name == "frost" else ""
            raise UserError("config.eval.corruptions", name, "among " + ", ".join(known), mend)
    chosen = [
        condition
        for condition in available
        if condition.corruption in (options["corruptions"] or known)
        and condition.severity in options["severities"]
    ]
    return suite, [CLEAN, *chosen]


def _prepared(dataset: data.Dataset, data_dir: str | None, name: str) -> list[Condition]:
    known = [corrupted.tfds_name for corrupted in dataset.corrupted_sets]
    if name not in known:
        raise UserError(
            "config.eval.source", name, "one of " + ", ".join(["auto", "rendered", *known])
        )
    return [Condition(*pair) for pair in data.prepared_conditions(dataset, data_dir, suite=name)]


def _has_frost(directory: str) -> bool:
    """Whether a directory of frost is named; it must hold all photographs."""
    for name in FROST_FILES if directory else ():
        if not (Path(directory) / name).is_file():
            raise UserError("config.eval.frost_dir", f"no {name} in {directory}", "frost1.png ...")
    return bool(directory)


def is_complete(config: Config, workdir: Path, data_dir: str | None, cache_dir: Path) -> bool:
    """Whether a run directory holds a score of every condition that its config asks for."""
    return not _standing(config, workdir, data_dir, cache_dir)[-1]


def _standing(
    config: Config, workdir: Path, data_dir: str | None, cache_dir: Path
) -> tuple[str, int, list[Score], list[Condition]]:
    """(the suite, images of each condition, the scores on disk, the conditions left)."""
    dataset = data.get(config["data"]["name"])
    suite, wanted = wanted_conditions(config, data_dir)
    count = data.num_examples(dataset, dataset.test_split, data_dir, cache_dir)
    count = min(count, config["eval"]["max_images"] or count)
    found = read_scores(workdir / "robustness.csv")
    scores = [row for row in found if row.suite == suite and row.n == count]
    done = {Condition(row.corruption, row.severity) for row in scores}
    return suite, count, scores, [condition for condition in wanted if condition not in done]


def evaluate(config: Config, run: Run, data_dir: str | None, cache_dir: Path) -> None:
    """Scores the run's last checkpoint and writes `robustness.csv`.

    Args:
      config: the resolved config of the run; its section `eval` may be newer than the training.
      run: the run, as `load_run` reads it.
      data_dir: where TFDS datasets are prepared; None: TFDS's own default.
      cache_dir: where decoded arrays are cached.

    Raises:
      UserError: the run is not trained to its end, or the config does not fit.
      RunError: a corrupted dataset holds another number of images than the clean one.
      InterruptedRunError: SIGTERM or Ctrl-C; what was scored is on disk.
    """
    if run.step != config["train"]["steps"]:
        raise UserError(
            f"--workdir={run.workdir}",
            f"training at step {run.step} of {config['train']['steps']}",
            "a finished training",
            "Finish it with --mode=train",
        )
    dataset, options = data.get(config["data"]["name"]), config["eval"]
    path = run.workdir / "robustness.csv"
    suite, count, scores, missing = _standing(config, run.workdir, data_dir, cache_dir)
    if not missing:
        return

    devices = Devices()
    batch_size = -(-options["batch_size"] // devices.count) * devices.count  # rounded up
    predict = devices.replicate_global(run.predict)
    images = _Images(dataset, data_dir, cache_dir, count, batch_size, devices)
    total = len(scores) + len(missing)
    progress = Progress(total, len(scores), quiet=not is_main_process())
    progress.show(len(scores), "evaluating", now=True)
    with Interrupt() as interrupt:
        for condition, n, accuracy in _score(predict, images, suite, missing, options):
            if n != count:
                raise RunError(f"{suite} {condition}: {n} images scored, {count} expected")
            scores.append(Score(suite, *condition, n, accuracy))
            if is_main_process():
                write_scores(path, scores)
            text = f"{condition.corruption} {condition.severity}  accuracy {accuracy:.3f}"
            progress.show(len(scores), text, now=len(scores) == total)
            if any_process(bool(interrupt.requested)):
                raise InterruptedRunError(
                    interrupt.requested, f"{len(scores)} of {total} conditions scored"
                )
    progress.end()


def _score(
    predict: Predict, images: "_Images", suite: str, conditions: list[Condition], options: Config
) -> Iterator[tuple[Condition, int, float]]:
    if suite.startswith("rendered/"):
        yield from score(
            predict,
            images.clean,
            conditions,
            preset=images.dataset.preset,
            seed=options["seed"],
            frost_dir=options["frost_dir"] or None,
            at_once=not images.dataset.resident,
        )
        return
    for condition in conditions:
        batches = functools.partial(images.prepared, suite.removeprefix("tfds/"), condition)
        for _, n, accuracy in score(predict, batches, [CLEAN], preset=images.dataset.preset):
            yield condition, n, accuracy


@dataclasses.dataclass
class _Images:
    """Test images as batches on the devices: clean ones, or those of a prepared corrupted set."""

    dataset: data.Dataset
    data_dir: str | None
    cache_dir: Path
    count: int
    batch_size: int
    devices: Devices
    _kept: list[Batch] | None = None

    def clean(self) -> Iterable[Batch]:
        """The clean test images; a resident dataset stays on the devices from one call on."""
        if not self.dataset.resident:
            stream = data.stream_eval_batches(
                self.dataset, self.data_dir, self.batch_size, limit=self.count
            )
            return map(self.devices.shard_rows, stream)
        if self._kept is None:
            arrays = data.load_arrays(
                self.dataset, self.dataset.test_split, self.data_dir, self.cache_dir
            )
            self._kept = list(self._place(*arrays))
        return self._kept

    def prepared(self, suite: str, condition: Condition) -> Iterable[Batch]:
        """The images of a condition of a prepared dataset, or the clean ones."""
        if condition == CLEAN:
            return self.clean()
        if not self.dataset.resident:
            stream = data.corrupted_batches(
                self.dataset,
                *condition,
                self.batch_size,
                self.data_dir,
                limit=self.count,
                suite=suite,
            )
            return map(self.devices.shard_rows, stream)
        return self._place(
            *data.load_corrupted(
                self.dataset, *condition, self.data_dir, self.cache_dir, suite=suite
            )
        )

    def _place(self, images: Any, labels: Any) -> Iterator[Batch]:
        batches = data.eval_batches(images[: self.count], labels[: self.count], self.batch_size)
        return map(self.devices.shard_rows, batches)
