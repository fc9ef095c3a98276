"""What the parts of an analysis hold: a run's weights, spectra and maps of attention, as arrays.

Nothing is written or drawn here: `analyze` keeps the arrays in files, `report` draws them.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax import corruptions, data
from dst_jax.analysis import corruption_spectra, frequencies, saliency, spectral
from dst_jax.analysis.weights import describe_weights
from dst_jax.config.options import OPTIONS
from dst_jax.data import benchmarks
from dst_jax.errors import UserError
from dst_jax.robustness import storage
from dst_jax.runtime.devices import Devices
from dst_jax.saved_run import Run
from dst_jax.training import build

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
      on_progress: called at the start of every pass over images, and of every rendering of some.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        run: Run,
        data_dir: str | None,
        cache_dir: Path,
        on_progress: Callable[[], None] = lambda: None,
    ):
        self._on_progress = on_progress
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
                "extent": frequencies.heat_map_extent(self._size),
                "norm": frequencies.heat_map_norm(self._size),
            },
            "noise": {**images, "bandwidths": self._radii(), "norm": self._noise_norm()},
            "corruptions": {
                "images": _RENDERED,
                "corruptions": self._corruptions(),
                "severities": list(self._config["eval"]["severities"] or benchmarks.SEVERITIES),
                **corruption_spectra.marks(self._corruptions()),
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
        results = storage.load_all(self.run.workdir)
        scores = [row for result in results for row in result.scores]
        names = dict.fromkeys(row.corruption for row in scores if row.severity)
        named = list(names) or list(self._config["eval"]["corruptions"])
        return named or [*corruptions.BENCHMARK, *corruptions.EXTRA]

    def num_passes(self, part: str, begun: Arrays) -> int:
        """How often `tell` is called for a part of which the file `begun` is there, or {}."""
        if part == "heat_map":
            return 1 + int(np.isnan(self._heat_map_cells(begun)[2]).sum())
        if part == "corruptions":
            options = self.settings(part)
            return 1 + len(options["corruptions"]) * len(options["severities"])
        curves = {"attenuation": 2, "noise": 2}.get(part, 0)
        return {"weights": 0, "attenuation": 2}.get(part, 1) + curves * len(self._radii())

    def predict(self) -> Any:
        """The network on the devices, which takes filtered images, floats, too."""
        if self._predict is None:
            self._predict = self._devices.replicate_global(self.run.predict_floats)
        return self._predict

    def batches(self) -> Iterable[Any]:
        """The first clean test images, on the devices; kept there if they are not too many."""
        self._on_progress()
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

    def _heat_map_cells(self, begun: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(axis, cells, errors of the cells: NaN where they are not measured yet)."""
        options = self.settings("heat_map")
        axis = frequencies.heat_map_axis(self._size, options["extent"], options["step"])
        cells = frequencies.heat_map_cells(self._size, axis.tolist())
        return axis, cells, begun.get("errors", np.full(len(cells), np.nan))

    def heat_map(self, begun: Arrays, save: Callable[[Arrays], None]) -> Arrays:
        """The Fourier heat map, as errors in [0, 1].

        Args:
          begun: the file as far as it got, or {}.
          save: keeps what is done so far; raises if the run is to stop.
        """
        size, norm = self._size, self.settings("heat_map")["norm"]
        axis, cells, errors = self._heat_map_cells(begun)
        arrays = {
            "axis": axis,
            "cells": cells,
            "errors": errors,
            "size": np.array(size),
            "norm": np.array(norm),
            "n": self._seen(),
        }
        missing = np.flatnonzero(np.isnan(errors))
        found = spectral.heat_map(
            self.predict(), self.batches, size, cells[missing], norm=norm, seed=_SEED
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
        options = self.settings("corruptions")
        batch = next(iter(self.batches()))
        images, ids = batch["image"][:_RENDERED], batch["id"][:_RENDERED]
        images = images[: int(jnp.sum(batch["weight"][:_RENDERED] > 0))]
        return corruption_spectra.high_shares(
            self._dataset,
            images,
            ids[: len(images)],
            (tuple(options["corruptions"]), tuple(options["severities"])),
            self._config["eval"]["frost_dir"] or None,
            self._on_progress,
        )

    def saliency(self) -> Arrays:
        """Maps of a few test images, clean and corrupted, for their true class."""
        batch = jax.tree.map(np.asarray, next(iter(self.batches())))
        rows = first_of_each(batch["label"], batch["weight"], _PICTURES)
        images, labels = jnp.asarray(batch["image"][rows]), jnp.asarray(batch["label"][rows])
        name, severity = _PICTURE_CORRUPTION
        keys = corruptions.example_keys(_SEED, name, severity, jnp.asarray(batch["id"][rows]))
        render = corruption_spectra.renderer(name, self._dataset.preset, None)
        corrupted = render(images, keys, severity)
        dtype = jnp.dtype(self._config["model"]["dtype"])
        variables = {"params": self.run.params, "batch_stats": self.run.batch_stats}
        arrays = {"labels": np.asarray(labels), "ids": batch["id"][rows]}
        method, explain = saliency.method_for(self.run.model, variables, images)
        explain, classify = jax.jit(explain), jax.jit(build.logits_function(self._config))
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


def first_of_each(labels: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Rows of the first image of each of the first `count` classes that turn up, in order."""
    valid = np.flatnonzero(weights > 0)
    _, first = np.unique(labels[valid], return_index=True)
    return valid[np.sort(first)[:count]]
