"""`evaluate`: any predict functions on a suite of corruptions, from names to a `Result` of each.

The order of things: what to score (`suites`), the clean images (`images`), the check of the
functions, clean accuracy, then condition after condition (`engine`), which is rendered once for all
of them and written as it comes (`result_writer`). Our own runs take the same way
(`dst_jax.evaluate`), and so does the command (`command`).
"""

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dst_jax.errors import RunError, UserError
from dst_jax.robustness import class_map, images, selection, suites
from dst_jax.robustness.engine import Engine, Predictions
from dst_jax.robustness.kept import KEEP
from dst_jax.robustness.networks import OUTPUTS
from dst_jax.robustness.predict_functions import Checked, Predict, check_predict
from dst_jax.robustness.records import CLEAN, Condition
from dst_jax.robustness.result import Result
from dst_jax.robustness.result_writer import ResultWriter
from dst_jax.robustness.scorer import Scorer
from dst_jax.runtime.devices import Devices, any_process, is_main_process
from dst_jax.runtime.interrupt import Interrupt, InterruptedRunError
from dst_jax.runtime.progress import Progress
from dst_jax.runtime.run_dir import locked, make


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
    image_ids: selection.ImageIds = (),
    classes: class_map.Classes | None = None,
    scale: str = "",
    path: str | os.PathLike | None = None,
    outputs: str = "logits",
    on_host: bool | None = None,
    keep: str = "",
    devices: Devices | None = None,
    quiet: bool = False,
    prefix: str = "",
) -> Result:
    """Scores a classifier on clean and on corrupted images.

    Clean images go to the devices once and stay there if they fit in a quarter of their memory;
    else they are read once per corruption. Corruptions are rendered there. The result is the same,
    bit by bit, for any number of devices and any order of the images, and the randomness is the
    same for any batch size too; rendered grey levels then differ by compiled rounding at most.

    Args:
      predict: maps images uint8 [B, H, W, 3] to logits [B, classes]; it normalises by itself. A
        function of JAX is compiled: as `jax.tree_util.Partial(function, variables)` its weights
        are arguments of the program; otherwise they may be constants in it. Any other function
        runs on the host, NumPy in and NumPy out, see `HostFunction` and `adapters`.
      dataset: a name in `dst_jax.data.DATASETS`, whose test split is read; or "folder:PATH", or
        what `folder` and `pil_images` give; or arrays (images uint8 [N, H, W, 3], labels [N]); or
        an iterable of batches, see `images.open_source`.
      suite: a benchmark of the dataset, such as "CIFAR10-C"; a key of `SUITES`; names of
        corruptions, one or a list; or a prepared corrupted set, such as "cifar10_corrupted".
      source: "rendered"; a prepared corrupted set; the folder of a published one, as ImageNet-C
        or CIFAR-10-C lie after unpacking; or "auto", the default of the command too: a prepared
        set if it holds every condition asked for, else rendered; see `suites.plan`.
      corruptions: the suite restricted to these; empty: all.
      severities: among 1..5; empty: those of the benchmark.
      preset: constants of the corruptions, one of `dst_jax.corruptions.PRESETS`; "": what fits the
        size of the images.
      seed: of the corruptions.
      jpeg85: whether rendered images are saved as JPEG of quality 85, as those of ImageNet-C were;
        None: as the published set, see `suites.plan`.
      frost_dir: directory of the photographs of frost; without it a suite leaves frost out.
      batch_size: images per device.
      max_images: the first so many images only; 0: all.
      data_dir: where TFDS datasets are prepared; None: TFDS's own default.
      cache_dir: where decoded arrays are cached; None: `data.default_cache_dir()`.
      name: what images without a name are, such as "imagenet2012", without which there is no mCE.
      image_ids: these images only: numbers from 0 in the published order, or names of files, or a
        file with one a line, or "robustbench", the 5,000 of ImageNet; see `selection`.
      classes: which logits of `predict` stand for which labels, where they are not the same
        numbers: the logit of each label, or {label: logit}, see `class_map.ClassMap`.
      scale: "unit": the arrays are floats in [0, 1]; "": uint8.
      path: a directory for `robustness.csv`, `.npz` and `.json`, written every few seconds; the
        same call resumes from there. It may hold other scores, which are kept (another suite,
        source, preset, seed or set of images is another score), but of one model only.
      outputs: "logits", or "probabilities", whose largest is then the confidence. Rows that are
        not negative and sum to 1 on all clean images are refused as logits.
      on_host: whether `predict` runs on the host; None: if JAX cannot trace it. There it gets
        `batch_size` images for each device at once.
      keep: what is kept of each prediction besides whether it is right: "top5" or "logits", of
        which `Result` makes top-5 accuracy, confusion, likelihood and others; "": nothing.
      devices: None: all.
      quiet: show no progress.
      prefix: what stands before an argument's name in the text of an error.

    Raises:
      UserError: an argument is wrong, `path` holds the scores of another model, or another
        evaluation writes there now.
      RunError: a prepared corrupted set holds another number of images, or `predict` gives NaN.
      InterruptedRunError: SIGTERM or Ctrl-C, with a path; what was scored is on disk.
    """
    found = evaluate_models(
        {"": predict},
        dataset,
        suite,
        source=source,
        corruptions=corruptions,
        severities=severities,
        preset=preset,
        seed=seed,
        jpeg85=jpeg85,
        frost_dir=frost_dir,
        batch_size=batch_size,
        max_images=max_images,
        data_dir=data_dir,
        cache_dir=cache_dir,
        name=name,
        image_ids=image_ids,
        classes=classes,
        scale=scale,
        path=path,
        outputs=outputs,
        on_host=on_host,
        keep=keep,
        devices=devices,
        quiet=quiet,
        prefix=prefix,
    )
    return found[""]


def evaluate_models(
    predicts: Mapping[str, Predict],
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
    image_ids: selection.ImageIds = (),
    classes: class_map.Classes | None = None,
    scale: str = "",
    path: str | os.PathLike | None = None,
    outputs: str = "logits",
    on_host: bool | None = None,
    keep: str = "",
    devices: Devices | None = None,
    quiet: bool = False,
    prefix: str = "",
) -> dict[str, Result]:
    """Scores several classifiers on the same images, each of which is rendered once for all.

    The scores are those of `evaluate`, one model after another. All of them lie on the devices
    together.

    Args:
      predicts: name -> the function, as `evaluate` takes it. Where they are
        `jax.tree_util.Partial` of the same function, they share a compiled program.
      path: a directory with one for each name in it, which hold what `evaluate` writes.
      dataset: as `evaluate` takes it, as are the following.
      suite: see `evaluate`.
      source: see `evaluate`.
      corruptions: see `evaluate`.
      severities: see `evaluate`.
      preset: see `evaluate`.
      seed: see `evaluate`.
      jpeg85: see `evaluate`.
      frost_dir: see `evaluate`.
      batch_size: see `evaluate`.
      max_images: see `evaluate`.
      data_dir: see `evaluate`.
      cache_dir: see `evaluate`.
      name: see `evaluate`.
      image_ids: see `evaluate`.
      classes: see `evaluate`; of all of them.
      scale: see `evaluate`.
      outputs: see `evaluate`; of all of them.
      on_host: see `evaluate`; of all of them.
      keep: see `evaluate`; of all of them.
      devices: see `evaluate`.
      quiet: see `evaluate`.
      prefix: see `evaluate`.

    Returns:
      Name -> result.

    Raises:
      UserError, InterruptedRunError: as `evaluate`, of any of them.
      RunError: as `evaluate`; where one of several gives NaN, after the others are scored.
    """
    if batch_size < 1:
        raise UserError(f"{prefix}batch_size", batch_size, "at least 1")
    if outputs not in OUTPUTS:
        raise UserError(f"{prefix}outputs", outputs, " or ".join(OUTPUTS))
    if keep not in KEEP:
        raise UserError(f"{prefix}keep", keep, "top5 or logits")
    _check_names(predicts, prefix)
    mapping = None if classes is None else class_map.ClassMap(classes, prefix)
    opened = images.open_source(
        *(dataset, name, max_images, data_dir, cache_dir, prefix),
        image_ids=image_ids,
        labels=mapping.labels if mapping else None,
        scale=scale,
    )
    if mapping:
        width = opened.dataset.num_classes if opened.dataset else 0
        predicts = {model: mapping.applied(predict, width) for model, predict in predicts.items()}
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
        grey=opened.grey,
        classes=mapping.mark if mapping else "",
    )
    devices = devices or Devices()
    size = min(batch_size, opened.total or batch_size)
    quiet = quiet or not is_main_process()
    checked = {
        model: _checked(predict, opened, size, _argument(prefix, model), on_host, devices.count)
        for model, predict in predicts.items()
    }
    for predict in checked.values():
        if predict.why and not quiet:
            told = f"{predict.where}: runs on the host, as JAX cannot trace it ({predict.why})"
            print(told, file=sys.stderr)
    engine = Engine(plan, devices, bool(keep))
    networks = {model: engine.network(checked[model], outputs) for model in predicts}
    scorer = Scorer(engine, plan, opened, devices, size, prefix)
    with contextlib.ExitStack() as stack:
        interrupt = None
        writers: dict[str, ResultWriter] = {}
        for model, network in networks.items():
            where = Path(path) / model if path is not None else None
            if where is not None:
                interrupt = interrupt or stack.enter_context(Interrupt())
                if is_main_process():
                    make(where)
                    stack.enter_context(locked(where, ".evaluation.lock"))
            fingerprint = network.fingerprint((*opened.side, 3), size * devices.count)
            writers[model] = ResultWriter(opened.name, plan, where, fingerprint, keep)
            stack.callback(writers[model].save)  # whatever ends this
        outcomes = dict(zip(networks, scorer.clean([*networks.values()]), strict=True))
        failed: dict[str, str] = {}
        for model, outcome in outcomes.items():
            if np.isnan(outcome.confidence).any():
                failed[model] = _problem(model, CLEAN, outcome)
                continue
            scorer.check_outputs(networks[model], checked[model], outcome, outputs)
            count = checked[model].classes
            if outcome.label.max() >= count or outcome.label.min() < 0:
                found = f"labels from {outcome.label.min()} to {outcome.label.max()}"
                raise UserError(
                    _argument(prefix, model),
                    f"logits of {count} classes for {found}",
                    "as many logits at least",
                )
            writers[model].begin(outcome, scorer.pixels)
        if len(failed) == len(networks):
            raise RunError("; ".join(failed.values()))
        missing = {
            model: set(() if model in failed else writer.missing())
            for model, writer in writers.items()
        }
        done = sum(not any(c in left for left in missing.values()) for c in plan.conditions)
        total = len(plan.conditions)
        progress = Progress(total, done, quiet=quiet)
        progress.show(done, f"clean  {_accuracies(outcomes)}", now=True)
        for condition, outcomes in scorer.conditions(networks, missing, data_dir, cache_dir):
            for model, outcome in outcomes.items():
                if model in failed:
                    continue
                if problem := _problem(model, condition, outcome):
                    failed[model] = problem  # the others do not wait for it
                else:
                    writers[model].add(condition, outcome)
            if len(failed) == len(networks):
                break
            done += 1
            text = f"{condition.corruption} {condition.severity}  {_accuracies(outcomes)}"
            progress.show(done, text, now=done == total)
            if interrupt is not None and any_process(bool(interrupt.requested)):
                break
        if interrupt is not None and any_process(bool(interrupt.requested)):
            raise InterruptedRunError(interrupt.requested, f"{done} of {total} conditions scored")
    progress.end()
    if failed:
        raise RunError("; ".join(failed.values()))
    return {model: writer.result() for model, writer in writers.items()}


def _check_names(predicts: Any, prefix: str) -> None:
    """Refuses what is no mapping of names to functions, or a name that is no directory's."""
    where, expected = f"{prefix}predicts", "{name: predict function}, at least one"
    if not isinstance(predicts, Mapping):
        raise UserError(where, type(predicts).__name__, expected)
    if not predicts:
        raise UserError(where, "nothing", expected)
    for name in predicts:
        # "" is the directory itself: one model alone.
        if not isinstance(name, str) or name in (".", "..") or Path(name).name != name:
            raise UserError(f"{where}: a name", name, "a text that can name a directory, without /")
    if "" in predicts and len(predicts) > 1:
        raise UserError(f"{where}: a name", "", "a name for each, where there are several")


def _argument(prefix: str, model: str) -> str:
    """What an error calls a predict function: with its name where there are several."""
    return f"{prefix}predict" + (f" of {model}" if model else "")


def _checked(
    predict: Predict,
    source: images.Source,
    size: int,
    argument: str,
    on_host: bool | None,
    devices: int,
) -> Checked:
    """A predict function whose kind is known, with classes that fit the images."""
    checked = check_predict(predict, (size, *source.side, 3), argument, on_host, devices)
    if source.dataset and checked.classes < source.dataset.num_classes:
        raise UserError(
            argument,
            f"logits of {checked.classes} classes",
            f"at least {source.dataset.num_classes}, those of {source.name}",
        )
    return checked


def _problem(model: str, condition: Condition, outcome: Predictions) -> str:
    """Says that a network gives what cannot be scored; "" where it does not."""
    if not outcome.problem:
        return ""
    where = f"{condition.corruption} {condition.severity}"
    return f"{_argument('', model)} gives {outcome.problem} of {where}"


def _accuracies(outcomes: Mapping[str, Predictions]) -> str:
    """For the line of progress: the accuracy, or between which those of several models lie."""
    found = sorted(outcome.correct.mean() for outcome in outcomes.values())
    if len(found) == 1:
        return f"accuracy {found[0]:.3f}"
    return f"{len(found)} models, accuracy {found[0]:.3f} to {found[-1]:.3f}"
