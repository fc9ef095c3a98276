"""`evaluate`: any predict functions on a suite of corruptions, from names to a `Result` of each.

The order of things: what to score (`suites`), the clean images (`images`), the check of the
functions, clean accuracy, then condition after condition (`loop`), which is rendered once for all
of them (`engine`) and written as it comes (`result_writer`). Our own runs take the same way
(`dst_jax.evaluate`), and so does the command (`command`).
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from dst_jax.errors import UserError
from dst_jax.robustness import arguments, class_map, images, loop, selection, suites
from dst_jax.robustness.engine import Engine
from dst_jax.robustness.predict_functions import Predict
from dst_jax.robustness.result import Result
from dst_jax.robustness.scorer import Scorer
from dst_jax.runtime.devices import Devices, is_main_process


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
    severities = arguments.check(
        predicts,
        severities,
        batch_size=batch_size,
        max_images=max_images,
        seed=seed,
        outputs=outputs,
        keep=keep,
        prefix=prefix,
    )
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
        seed=int(seed),
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
        model: arguments.checked(
            predict, opened, size, arguments.name_of(prefix, model), on_host, devices.count
        )
        for model, predict in predicts.items()
    }
    for predict in checked.values():
        if predict.why and not quiet:
            told = f"{predict.where}: runs on the host, as JAX cannot trace it ({predict.why})"
            print(told, file=sys.stderr)
    engine = Engine(plan, devices, bool(keep))
    networks = {model: engine.network(checked[model], outputs) for model in predicts}
    scorer = Scorer(engine, plan, opened, devices, size, prefix)
    return loop.score(
        *(networks, checked, scorer, plan, opened, size * devices.count),
        path=path,
        outputs=outputs,
        keep=keep,
        data_dir=data_dir,
        cache_dir=cache_dir,
        quiet=quiet,
        prefix=prefix,
    )
