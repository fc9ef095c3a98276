"""Fills the directory `analysis/` of a run: what its weights, spectra and maps of attention say.

Each part is one file that lies there whole or not at all; a part that is there with the same
settings and the same checkpoint is kept, and the heat map goes on where it was. Nothing is drawn
here: `report` reads the files. Called by `experiment`.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax import corruptions, data
from dst_jax.analysis import saliency, spectral
from dst_jax.analysis.weights import describe_weights
from dst_jax.errors import UserError
from dst_jax.interrupt import Interrupt, InterruptedRunError
from dst_jax.options import OPTIONS
from dst_jax.parallel import Devices
from dst_jax.progress import Progress
from dst_jax.robustness.storage import read_scores
from dst_jax.saved_run import Run, logits_function
from dst_jax.workdir import read_arrays, write_arrays

Arrays = dict[str, np.ndarray]

FORMAT = 1  # of the files; another one is another setting
_KEPT = 4096  # so many images stay on the device between two passes
_SEED = 0
_NOISE_NORM = 8.0  # of band-limited noise at 32 pixels
_RADII = 17  # points of a curve where the config names none
_PICTURES = 4
_PICTURE_CORRUPTION = ("impulse_noise", 3)
_RENDERED = 64  # images that the spectrum of a corruption is measured on
_SAVE_EVERY = 20.0  # seconds of the heat map


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The section `analysis` of a config, with defaults for what an older one lacks."""
    found = config.get("analysis", {})
    prefix = "analysis."
    return {
        name.removeprefix(prefix): found.get(name.removeprefix(prefix), option.default)
        for name, option in OPTIONS.items()
        if name.startswith(prefix)
    }


class Analysis:
    """The parts of one run's analysis; every method returns the arrays of a file.

    Args:
      config: the resolved config of the run; its section `analysis` may be newer than the training.
      run: the run, as `load_run` reads it.
      data_dir: where TFDS datasets are prepared; None: TFDS's own default.
      cache_dir: where decoded arrays are cached.
    """

    def __init__(self, config: Mapping[str, Any], run: Run, data_dir: str | None, cache_dir: Path):
        self.run, self._config, self._options = run, config, options_of(config)
        self._data_dir, self._cache_dir = data_dir, cache_dir
        self._dataset = data.get(config["data"]["name"])
        if self._dataset.clip:
            raise UserError(
                "analysis",
                f"clips of {self._dataset.name}",
                "images: spectra and saliency need them",
            )
        self._size = self._dataset.image_shape[0]
        self._devices = Devices(devices=jax.local_devices())
        self._images: list[Any] | None = None
        self._predict: Any = None

    def settings(self, part: str) -> dict[str, Any]:
        """What a file of that part depends on besides the code."""
        options = self._options
        images = {"images": options["images"]}
        chosen: dict[str, dict[str, Any]] = {
            "weights": {"layer": options["layer"]},
            "attenuation": {**images, "radii": self._radii()},
            "heat_map": {
                **images,
                "step": options["heat_map_step"],
                "extent": spectral.heat_map_extent(self._size),
                "norm": spectral.heat_map_norm(self._size),
            },
            "noise": {**images, "bandwidths": self._radii(), "norm": self._noise_norm()},
            "corruptions": {
                "images": _RENDERED,
                "corruptions": self._corruptions(),
                "severities": list(self._config["eval"]["severities"]),
            },
            "saliency": {"pictures": _PICTURES, "corruption": list(_PICTURE_CORRUPTION)},
        }
        return {"format": FORMAT, "checkpoint": self.run.step, **chosen[part]}

    def _radii(self) -> list[float]:
        named = [float(radius) for radius in self._options["radii"]]
        return named or np.linspace(0, self._size, _RADII).tolist()

    def _noise_norm(self) -> float:
        return _NOISE_NORM * self._size / 32

    def _corruptions(self) -> list[str]:
        """Those that the run was scored on, else those that its config names, else all."""
        scores = read_scores(self.run.workdir / "robustness.csv")
        names = dict.fromkeys(row.corruption for row in scores if row.severity)
        named = list(names) or list(self._config["eval"]["corruptions"])
        return named or [*corruptions.BENCHMARK, *corruptions.EXTRA]

    def predict(self) -> Any:
        """The network on the devices."""
        if self._predict is None:
            self._predict = self._devices.replicate_global(self.run.predict)
        return self._predict

    def batches(self) -> Iterable[Any]:
        """The first clean test images, on the devices; kept there if they are not too many."""
        if self._images is not None:
            return self._images
        limit, dataset = self._options["images"], self._dataset
        count = data.num_examples(dataset, dataset.test_split, self._data_dir, self._cache_dir)
        count = min(count, limit or count)
        size = min(count, self._config["eval"]["batch_size"])
        size = -(-size // self._devices.count) * self._devices.count
        if dataset.resident:
            images, labels = data.load_arrays(
                dataset, dataset.test_split, self._data_dir, self._cache_dir
            )
            found: Iterable[Any] = data.eval_batches(images[:count], labels[:count], size)
        else:
            found = data.stream_eval_batches(dataset, self._data_dir, size, limit=count)
        placed = map(self._devices.shard_rows, found)
        if count > _KEPT and not dataset.resident:
            return placed
        self._images = list(placed)
        return self._images

    def weights(self) -> Arrays:
        """Where the active weights are, and the spectrum of the first layer."""
        height, width, channels = self._dataset.image_shape
        return describe_weights(self.run, (height, width, channels), self._options["layer"])

    def attenuation(self) -> Arrays:
        """RA curves: accuracy against the radius of the attenuation."""
        radii = self._radii()
        curves = {
            band: spectral.radius_accuracy(self.predict(), self.batches, self._size, radii, band)
            for band in ("low", "high")
        }
        shown = self._size * np.array([0.25, 0.5, 0.75])
        picture = np.asarray(next(iter(self.batches()))["image"][0])
        examples = {"example": picture, "example_radii": shown}
        examples["examples"] = spectral.attenuated_examples(picture, shown.tolist())
        return {"radii": np.array(radii), "n": self._seen(), **curves, **examples}

    def noise(self) -> Arrays:
        """Accuracy under band-limited noise against its bandwidth."""
        widths, norm = self._radii(), self._noise_norm()
        curves = {
            band: spectral.noise_accuracy(
                self.predict(), self.batches, self._size, widths, band, norm=norm, seed=_SEED
            )
            for band in ("low", "high")
        }
        return {"bandwidths": np.array(widths), "norm": np.array(norm), "n": self._seen(), **curves}

    def heat_map(self, begun: Arrays, save: Callable[[Arrays], None]) -> Arrays:
        """The Fourier heat map, as errors in [0, 1].

        Args:
          begun: the file as far as it got, or {}.
          save: keeps what is done so far; raises if the run is to stop.
        """
        options, size = self.settings("heat_map"), self._size
        axis = spectral.heat_map_axis(size, options["extent"], options["step"])
        cells = spectral.heat_map_cells(size, axis.tolist())
        errors = begun.get("errors", np.full(len(cells), np.nan))
        arrays = {
            "axis": axis,
            "cells": cells,
            "errors": errors,
            "size": np.array(size),
            "norm": np.array(options["norm"]),
            "n": self._seen(),
        }
        missing = np.flatnonzero(np.isnan(errors))
        found = spectral.heat_map(
            self.predict(), self.batches, size, cells[missing], norm=options["norm"], seed=_SEED
        )
        saved = time.monotonic()
        for index, accuracy in zip(missing, found, strict=True):
            errors[index] = 1 - accuracy
            if time.monotonic() - saved > _SAVE_EVERY:
                save(arrays)
                saved = time.monotonic()
        return arrays

    def corruptions(self) -> Arrays:
        """How much of each corruption is of high frequency, from rendered images."""
        options, dataset = self.settings("corruptions"), self._dataset
        key = json.dumps([dataset.name, self._config["eval"]["frost_dir"], options])
        if key not in _SPECTRA:  # a property of the dataset: once for all runs of a call
            _SPECTRA[key] = self._measure(options["corruptions"], options["severities"])
        return _SPECTRA[key]

    def _measure(self, names: list[str], severities: list[int]) -> Arrays:
        batch = next(iter(self.batches()))
        images, ids = batch["image"][:_RENDERED], batch["id"][:_RENDERED]
        images = images[: int(jnp.sum(batch["weight"][:_RENDERED] > 0))]
        ids = ids[: len(images)]
        share = np.full((len(names), len(severities)), np.nan)
        frost = self._config["eval"]["frost_dir"] or None
        for row, name in enumerate(names):
            render = _corrupt(name, self._dataset.preset, frost)
            for column, severity in enumerate(severities):
                keys = corruptions.example_keys(_SEED, name, severity, ids)
                try:
                    corrupted = render(images, keys, severity)
                except ValueError:  # one that is not rendered here, or lacks its photographs
                    break
                high, total = spectral.band_energies(
                    corrupted.astype(jnp.float32) - images.astype(jnp.float32)
                )
                share[row, column] = float(high) / float(total) if float(total) else np.nan
        return {
            "names": np.array(names),
            "severities": np.array(severities),
            "high_share": share,
            "n": np.array(len(images)),
        }

    def saliency(self) -> Arrays:
        """Maps of a few test images, clean and corrupted, for their true class."""
        batch = jax.tree.map(np.asarray, next(iter(self.batches())))
        rows = first_of_each(batch["label"], batch["weight"], _PICTURES)
        images, labels = jnp.asarray(batch["image"][rows]), jnp.asarray(batch["label"][rows])
        name, severity = _PICTURE_CORRUPTION
        keys = corruptions.example_keys(_SEED, name, severity, jnp.asarray(batch["id"][rows]))
        corrupted = _corrupt(name, self._dataset.preset, None)(images, keys, severity)
        dtype = jnp.dtype(self._config["model"]["dtype"])
        variables = {"params": self.run.params, "batch_stats": self.run.batch_stats}
        arrays = {"labels": np.asarray(labels), "ids": batch["id"][rows]}
        method, explain = saliency.method_for(self.run.model, variables, images)
        explain, classify = jax.jit(explain), jax.jit(logits_function(self._config))
        for kind, pictures in (("clean", images), ("corrupted", corrupted)):
            normal = data.normalise(pictures, self._dataset, dtype)
            maps = explain(variables, normal, labels)
            logits = classify(variables, pictures)
            arrays |= {
                f"{kind}_images": np.asarray(pictures),
                f"{kind}_maps": np.asarray(maps, np.float32),
                f"{kind}_predictions": np.asarray(jnp.argmax(logits, -1)),
            }
        return {
            **arrays,
            "method": np.array(method),
            "corruption": np.array(name),
            "severity": np.array(severity),
        }

    def _seen(self) -> np.ndarray:
        return np.array(sum(int(jnp.sum(batch["weight"] > 0)) for batch in self.batches()))


_SPECTRA: dict[str, Arrays] = {}


def _corrupt(name: str, preset: str, frost_dir: str | None) -> Callable[..., jax.Array]:
    return jax.jit(
        lambda images, keys, severity: corruptions.corrupt(
            name, images, keys, severity, preset, frost_dir=frost_dir
        )
    )


def first_of_each(labels: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Rows of the first image of each of the first `count` classes that turn up, in order."""
    valid = np.flatnonzero(weights > 0)
    _, first = np.unique(labels[valid], return_index=True)
    return valid[np.sort(first)[:count]]


def part_path(workdir: Path, part: str) -> Path:
    """Where a part of a run's analysis lies."""
    return workdir / "analysis" / f"{part}.npz"


def is_done(part: str, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> bool:
    """Whether a file has these settings and no gaps."""
    same = bool(arrays) and json.loads(str(arrays["settings"])) == json.loads(json.dumps(settings))
    return same and not (part == "heat_map" and np.isnan(arrays["errors"]).any())


def analyze(
    config: Mapping[str, Any], run: Run, data_dir: str | None, cache_dir: Path, parts: Iterable[str]
) -> None:
    """Writes what is missing of a run's analysis.

    Args:
      config: see `Analysis`.
      run: see `Analysis`.
      data_dir: see `Analysis`.
      cache_dir: see `Analysis`.
      parts: names among `options.ANALYSES`.

    Raises:
      UserError: a dataset is not prepared, or the config names a layer that is not there.
      InterruptedRunError: SIGTERM or Ctrl-C; what is done is on disk.
    """
    work, parts = Analysis(config, run, data_dir, cache_dir), list(parts)
    begun = {part: read_arrays(part_path(run.workdir, part)) for part in parts}
    missing = [part for part in parts if not is_done(part, begun[part], work.settings(part))]
    if not missing:
        return
    part_path(run.workdir, "").parent.mkdir(exist_ok=True)
    progress = Progress(len(parts), len(parts) - len(missing))
    with Interrupt() as interrupt:
        for index, part in enumerate(missing):
            progress.show(len(parts) - len(missing) + index, f"analysis: {part}")
            settings = work.settings(part)

            def save(arrays: Arrays, part: str = part, settings: Any = settings) -> None:
                path = part_path(run.workdir, part)
                write_arrays(path, {**arrays, "settings": np.array(json.dumps(settings))})
                if interrupt.requested:
                    raise InterruptedRunError(
                        interrupt.requested, f"analysis saved in {path.parent}"
                    )

            if part == "heat_map":
                same = begun[part] and json.loads(str(begun[part]["settings"])) == settings
                save(work.heat_map(begun[part] if same else {}, save))
            else:
                try:
                    save(getattr(work, part)())
                except UserError as error:
                    if part != "saliency":  # a network without maps has none to show
                        raise
                    save({"method": np.array(""), "reason": np.array(str(error))})
        progress.show(len(parts), "analysis done", now=True)
    progress.end()
