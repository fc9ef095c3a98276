"""`write_corrupted`: renders images under corruptions and severities, and writes them to disk.

Corruption after corruption, all severities of a batch in one go; reading, rendering and writing
overlap. What is finished is not rendered again, and a file has its name only once it is whole. The
programs are those of `robustness.evaluate`. Called by `subcommands`.
"""

import collections
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dst_jax.corruptions import PRESET_SIZES
from dst_jax.data import corrupted_index
from dst_jax.errors import UserError
from dst_jax.rendering import manifest
from dst_jax.rendering.inputs import Inputs, open_inputs
from dst_jax.rendering.outputs import ArrayFiles, ImageFiles, Output, parse_format
from dst_jax.robustness import images, suites
from dst_jax.robustness.engine import Engine
from dst_jax.robustness.records import Condition
from dst_jax.runtime import run_dir
from dst_jax.runtime.devices import Devices
from dst_jax.runtime.interrupt import Interrupt, InterruptedRunError
from dst_jax.runtime.progress import Progress

_SMALL = 64  # pixels of the longer side up to which a batch has as many images as in `evaluate`
_AHEAD = 2  # batches that are being written, or wait for the device


class Written(NamedTuple):
    """What a call did.

    Attributes:
      out: the directory.
      conditions: all that it holds of this call, in order.
      written: images that this call wrote.
      notes: what was left out and why, in sentences.
    """

    out: Path
    conditions: tuple[Condition, ...]
    written: int
    notes: tuple[str, ...]


def write_corrupted(
    source: str | os.PathLike,
    out: str | os.PathLike,
    corruptions: str | Sequence[str] = "common",
    severities: Sequence[int] = (),
    *,
    preset: str = "",
    seed: int = 0,
    frost_dir: str | os.PathLike | None = None,
    format: str = "png",
    side: int = 0,
    resize: int = 0,
    labels: str = "",
    batch_size: int = 0,
    workers: int = 0,
    devices: Devices | None = None,
    quiet: bool = False,
    prefix: str = "",
) -> Written:
    """Renders corrupted images to disk; the same call goes on where one was stopped.

    Args:
      source: a folder of images, of any tree, or a `.npy` of uint8 [N, H, W, 3].
      out: the directory, which is made; it may hold what an earlier call of the same kind wrote.
      corruptions: a key of `robustness.SUITES`, or names of corruptions, one or a list.
      severities: among 1..5; empty: all five, or those of the suite.
      preset: constants, one of `dst_jax.corruptions.PRESETS`; "": those for the size of the images.
      seed: of the random numbers.
      frost_dir: directory of the photographs of frost; without it a suite leaves frost out.
      format: "png"; "jpeg:85" (or another quality), as the files of ImageNet-C are; or "npy", a
        file per corruption in the layout of CIFAR-10-C.
      side: height and width that a folder's images get, in pixels: the central square after the
        shorter side is resized, bilinear; 0: as they are, each in its own size. ImageNet: 224.
      resize: the shorter side before that; 0: `side`. ImageNet: 256.
      labels: a `.npy` of whole numbers [N] for an array file; a folder's labels are its folders.
      batch_size: images per device; 0: 128 up to 64 pixels, 32 above.
      workers: threads that read and write files; 0: one per core.
      devices: None: all.
      quiet: show no progress.
      prefix: what stands before an argument's name in the text of an error.

    Raises:
      UserError: an argument is wrong, an image cannot be read or has a size for which a corruption
        has no form, or `out` holds something else.
      InterruptedRunError: SIGTERM or Ctrl-C; what is written is whole.
    """
    form, out = parse_format(format), Path(out)
    for flag, value in (("side", side), ("resize", resize), ("batch_size", batch_size)):
        if value < 0:
            raise UserError(f"{prefix}{flag}", value, "at least 0")
    apart = out.resolve()
    if apart == Path(source).resolve() or Path(source).resolve() in apart.parents:
        raise UserError(str(out), "the folder of the images or one in it", "a directory beside it")
    devices = devices or Devices()
    with ThreadPoolExecutor(workers or cores()) as pool:
        inputs = open_inputs(source, labels, side, resize, pool)
        preset = preset or _preset(inputs, prefix)
        levels_asked = sorted(set(severities), key=str)
        found = _plan(corruptions, preset, frost_dir, prefix, severities=levels_asked, seed=seed)
        conditions = found.conditions[1:]  # without the clean images
        levels: dict[str, list[int]] = {}
        for corruption, severity in conditions:
            levels.setdefault(corruption, []).append(severity)
        blocks = next(iter(levels.values()))
        size = batch_size or (128 if max(map(max, inputs.sizes)) <= _SMALL else 32)
        output: Output = (
            ArrayFiles(out, inputs, blocks) if form.kind == "npy" else ImageFiles(out, inputs, form)
        )
        engine = Engine(found, devices)
        _check_sizes(engine, devices, inputs, levels, preset)
        wanted = manifest.describe(
            inputs,
            # Alone, so that each tells its own photographs of frost, or the user's file.
            {name: _plan([name], preset, frost_dir, prefix).source for name in levels},
            blocks,
            seed=seed,
            preset=preset,
            form=form,
            side=side,
            resize=resize,
            batch_size=size,
        )
        run_dir.make(out, "OUT")
        with run_dir.locked(out, manifest.LOCK, "OUT"), Interrupt() as interrupt:
            manifest.claim(out, wanted)
            _write_index(out, inputs, pool)
            work = _Work(engine, devices, inputs, output, size, pool, interrupt)
            try:
                written = work.do(levels, quiet)
            except OSError as error:
                text = error.strerror or str(error)
                raise UserError(str(out), text, "a directory that can be written") from None
    return Written(out, conditions, written, found.notes)


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _preset(inputs: Inputs, prefix: str) -> str:
    fits = {(size, size): preset for preset, size in PRESET_SIZES.items()}
    found = {fits.get(size, "") for size in set(inputs.sizes)}
    if len(found) == 1 and (preset := next(iter(found))):
        return preset
    sizes = sorted(set(inputs.sizes))
    shown = " to ".join(f"{h} x {w}" for h, w in dict.fromkeys((sizes[0], sizes[-1])))
    raise UserError(
        f"{prefix}preset",
        f"nothing, for images of {shown} pixels",
        "one of " + ", ".join(PRESET_SIZES),
        f"Or {prefix}side=224 {prefix}resize=256 as for ImageNet",
    )


def _plan(
    corruptions: str | Sequence[str],
    preset: str,
    frost_dir: str | os.PathLike | None,
    prefix: str,
    **options: Any,
) -> suites.Plan:
    """What is rendered, as `evaluate` plans it, without the save as JPEG: see `format`."""
    try:
        return suites.plan(
            corruptions,
            None,
            preset,
            source="rendered",
            jpeg85=False,
            frost_dir=frost_dir,
            prefix=prefix,
            **options,
        )
    except UserError as error:  # which calls the argument as `evaluate` does
        error.args = (str(error).replace(f"{prefix}suite:", f"{prefix}corruptions:", 1),)
        raise


def _check_sizes(
    engine: Engine, devices: Devices, inputs: Inputs, corruptions: Iterable[str], preset: str
) -> None:
    """Finds a corruption without a form for the largest or an oblong image before any is rendered.

    Raises:
      UserError: there is one.
    """
    sizes = set(inputs.sizes) - {(PRESET_SIZES[preset],) * 2}
    oblong = [size for size in sorted(sizes) if size[0] != size[1]]
    extremes: set[tuple[int, int]] = set()
    if sizes:
        extremes = {min(sizes), max(sizes), max(sizes, key=lambda size: size[1]), *oblong[:1]}
    for height, width in extremes:
        rows = {
            "image": jax.ShapeDtypeStruct((devices.count, height, width, 3), np.uint8),
            "id": jax.ShapeDtypeStruct((devices.count,), np.int32),
        }
        for name in corruptions:
            jax.eval_shape(
                lambda rows, name=name: engine.render(
                    Condition(name, 1), images.Batch(rows, *[np.zeros(0)] * 3)
                ),
                rows,
            )


def _write_index(out: Path, inputs: Inputs, pool: ThreadPoolExecutor) -> None:
    """The table of the images, by which `evaluate` finds their counterparts and tells others."""
    if (out / corrupted_index.NAME).exists():
        return

    def grey(index: int) -> np.ndarray:
        return corrupted_index.grey_of(inputs.read(index)[None])[0]

    count = len(inputs.sizes)
    names = inputs.names or [str(row) for row in range(count)]
    levels = np.stack([*pool.map(grey, range(count))])
    run_dir.write_bytes(
        out / corrupted_index.NAME, corrupted_index.table(names, inputs.labels, levels)
    )


class _Work:
    """Renders what is missing, batch by batch."""

    def __init__(
        self,
        engine: Engine,
        devices: Devices,
        inputs: Inputs,
        output: Output,
        batch_size: int,
        pool: ThreadPoolExecutor,
        interrupt: Interrupt,
    ):
        self._engine, self._devices, self._inputs = engine, devices, inputs
        self._output, self._size, self._pool = output, batch_size, pool
        self._interrupt = interrupt
        self._of_size: dict[tuple[int, int], list[int]] = {}
        for index, size in enumerate(inputs.sizes):
            self._of_size.setdefault(size, []).append(index)

    def do(self, levels: dict[str, list[int]], quiet: bool) -> int:
        """Renders and writes; how many images."""
        missing = {
            Condition(corruption, severity): self._output.missing(corruption, severity)
            for corruption, found in levels.items()
            for severity in found
        }
        total = len(missing) * len(self._inputs.sizes)
        first = done = total - sum(int(part.sum()) for part in missing.values())
        progress = Progress(total, done, quiet=quiet)
        for corruption, found in levels.items():
            left = {s: missing[Condition(corruption, s)] for s in found}
            if not any(part.any() for part in left.values()):
                continue
            self._output.begin(corruption)
            for severity, count in self._corruption(corruption, left):
                done += count
                progress.show(done, f"{corruption} {severity}", now=done == total)
                if self._interrupt.requested:
                    break
            if self._interrupt.requested:
                text = f"{done:,} of {total:,} images written"
                raise InterruptedRunError(self._interrupt.requested, text)
            self._output.finish(corruption)
        progress.end()
        return done - first

    def _corruption(
        self, corruption: str, left: dict[int, np.ndarray]
    ) -> Iterator[tuple[int, int]]:
        """Yields the severity and the number of images of each batch that is on disk."""
        waiting: collections.deque = collections.deque()  # on the device
        writing: collections.deque = collections.deque()  # on the way to the disk

        def collect() -> None:
            severity, numbers, rendered = waiting.popleft()
            host = np.asarray(rendered)
            jobs = [
                self._pool.submit(self._output.write, corruption, severity, index, host[row])
                for row, index in enumerate(numbers)
                if left[severity][index]
            ]
            writing.append((severity, jobs))

        def finished() -> tuple[int, int]:
            severity, jobs = writing.popleft()
            for job in jobs:
                job.result()
            return severity, len(jobs)

        for numbers, batch in self._batches(np.any([*left.values()], axis=0)):
            for severity, part in left.items():
                if part[numbers].any():
                    rendered = self._engine.render(Condition(corruption, severity), batch)
                    waiting.append((severity, numbers, rendered))
                while len(waiting) > _AHEAD:
                    collect()
                while len(writing) > _AHEAD:
                    yield finished()
        while waiting:
            collect()
        while writing:
            yield finished()

    def _batches(self, wanted: np.ndarray) -> Iterator[tuple[list[int], images.Batch]]:
        """Batches of images of one size, the next of which is read meanwhile."""
        parts: list[tuple[int, list[int]]] = []
        for numbers in self._of_size.values():
            # As many as there are at most, whatever is missing: one program for a size.
            size = min(self._size, len(numbers)) * self._devices.count
            kept = [index for index in numbers if wanted[index]]
            parts += [(size, kept[start : start + size]) for start in range(0, len(kept), size)]

        def read(numbers: list[int]) -> list[Future]:
            return [self._pool.submit(self._inputs.read, index) for index in numbers]

        ahead = read(parts[0][1])
        for place, (size, numbers) in enumerate(parts):
            now, ahead = ahead, read(parts[place + 1][1]) if place + 1 < len(parts) else []
            yield numbers, self._placed(size, numbers, [job.result() for job in now])

    def _placed(self, size: int, numbers: list[int], found: list[np.ndarray]) -> images.Batch:
        host = {
            "image": np.zeros((size, *found[0].shape), np.uint8),
            "label": np.zeros(size, np.int32),
            "id": np.zeros(size, np.int32),
            "weight": np.zeros(size, np.float32),
        }
        host["image"][: len(found)] = found
        host["id"][: len(found)] = numbers
        host["weight"][: len(found)] = 1
        return images.put(host, self._devices)
