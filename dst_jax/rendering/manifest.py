"""`manifest.json` of a directory of corrupted images: what they are, and whether more may be added.

Written before the first image. A later call finds in it that it renders the same images in the same
way, or is refused; it may add corruptions, and severities where each has a folder. Called by
`render`.
"""

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dst_jax import __version__
from dst_jax.corruptions import CORRUPTIONS, no_draw
from dst_jax.corruptions.registry import REGISTERED_IN
from dst_jax.errors import UserError
from dst_jax.rendering.inputs import Inputs
from dst_jax.rendering.outputs import Format
from dst_jax.runtime.run_dir import read_json, write_json

MANIFEST = "manifest.json"
LOCK = ".corrupt.lock"
_OWN = {MANIFEST, LOCK}

_COMMON = (
    "within one grey level of the published script, fed with its random draws (photographs of 32, "
    "64 and 224 pixels)"
)
_EDGES = (
    "within one grey level of the published generator, fed with its random draws, but where a "
    "threshold or an edge is met within rounding"
)
_AGREEMENT = {
    **dict.fromkeys(("noise", "blur", "weather", "digital", "extra"), _COMMON),
    "bar": _EDGES,
    "3d": _EDGES,
    "procedural": "ours: there is no published one",
}
_SPECIAL = {"impulse_noise": "the law of the published script, which takes no seed"}


def describe(
    inputs: Inputs,
    sources: Mapping[str, str],
    severities: Sequence[int],
    *,
    seed: int,
    preset: str,
    form: Format,
    resize: int,
    crop: int,
    batch_size: int,
) -> dict[str, Any]:
    """What a call renders, as `manifest.json` has it.

    Args:
      inputs: the images.
      sources: corruption -> its `suites.Plan.source`, which tells other photographs of frost, and
        the file of one that a user registered.
      severities: of each corruption.
      seed: of the random numbers.
      preset: whose constants.
      form: how images are written.
      resize: of the inputs, see `inputs.open_inputs`.
      crop: likewise.
      batch_size: images per device in one program.
    """
    if inputs.kind == "array":
        sizes = "as they are"
    else:
        parts = [f"shorter side to {resize} pixels, bilinear"] if resize else []
        parts += [f"central square of {crop} pixels"] if crop else []
        sizes = ", ".join(parts) or "as they are, each image in its own size"
    return {
        "what": "corrupted images",
        "seed": seed,
        "preset": preset,
        "format": form.text,
        "versions": {
            "dst_jax": __version__,
            "jax": jax.__version__,
            "numpy": np.__version__,
            "pillow": importlib.metadata.version("pillow"),
        },
        "device": f"{jax.default_backend()} ({platform.machine()})",
        "batch_size": batch_size,
        "cast": "truncate",
        "inputs": {
            "kind": inputs.kind,
            "images": len(inputs.sizes),
            "sha256": inputs.digest,
            "classes": list(inputs.classes),
            "sizes": sizes,
            "colour": "as they are" if inputs.kind == "array" else "converted to RGB by Pillow",
            "ids": "the row, from 0"
            if inputs.kind == "array"
            else "the place among the sorted relative paths, from 0",
        },
        "randomness": "a key per (seed, corruption, severity, id)",
        "corruptions": {
            name: {
                "severities": list(severities),
                "source": source,
                "random": CORRUPTIONS[name].draw is not no_draw,
                "agreement": _agreement(name),
            }
            for name, source in sources.items()
        },
    }


def _agreement(name: str) -> str:
    if name in REGISTERED_IN:
        return f"registered by {Path(REGISTERED_IN[name]).name}: there is no published one"
    return _SPECIAL.get(name, _AGREEMENT[CORRUPTIONS[name].group])


def claim(out: Path, wanted: dict[str, Any]) -> None:
    """Writes the manifest of a new directory, or adds to that of one with the same images.

    Raises:
      UserError: the directory holds something else, or images that were made in another way.
    """
    path = out / MANIFEST
    if not path.exists():
        if foreign := sorted(entry.name for entry in out.iterdir() if entry.name not in _OWN):
            some = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
            raise UserError(str(out), f"a directory with {some}", "an empty one, or none")
        write_json(path, wanted)
        return
    found = read_json(path)
    if not isinstance(found, dict) or found.get("what") != wanted["what"]:
        raise UserError(str(path), "another program's file", "an empty directory, or none")
    there = found.get("corruptions")
    there = there if isinstance(there, dict) else {}
    before, now = dict(_flat(found)), dict(_flat(wanted))
    blocks = wanted["format"] == "npy"
    for field, value in now.items():
        part = field.split(".")
        added = part[0] == "corruptions" and part[1] not in there
        if added or (part[-1] == "severities" and not blocks):
            continue
        if before.get(field) != value:
            raise UserError(
                f"{path}: {field}",
                str(before.get(field, "nothing")),
                f"{value}, to go on there",
                "Give another directory, or what it was begun with",
            )
    merged = {**there}
    for name, entry in wanted["corruptions"].items():
        levels = {*there.get(name, {}).get("severities", ()), *entry["severities"]}
        merged[name] = {**entry, "severities": sorted(levels)}
    if merged != there:
        write_json(path, {**found, "corruptions": merged})


def _flat(value: Mapping[str, Any], prefix: str = "") -> Any:
    """(path with dots, value) of all that is no mapping."""
    for name, part in value.items():
        if isinstance(part, Mapping):
            yield from _flat(part, f"{prefix}{name}.")
        else:
            yield prefix + name, part
