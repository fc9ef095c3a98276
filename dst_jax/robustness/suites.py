"""What an evaluation scores: names of suites, corruptions and prepared datasets -> a `Plan`.

Every mistake in them is told here, before anything is rendered. No images here. Called by
`evaluation`, and by `dst_jax.evaluate` before a training starts.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dst_jax import corruptions, data
from dst_jax.corruptions import video
from dst_jax.corruptions.constants import ROWS
from dst_jax.corruptions.threed import FROM_FILES
from dst_jax.corruptions.weather import FROST_FILES
from dst_jax.errors import UserError

SEVERITIES = (1, 2, 3, 4, 5)
# The suites that are rendered. `common`: all 19 of CIFAR-10-C, and for clips the same as `video`.
SUITES: dict[str, tuple[str, ...]] = {
    "common": corruptions.BENCHMARK + corruptions.EXTRA,
    **corruptions.SUITES,
    "video": tuple(video.PERTURBATIONS),
}


class Condition(NamedTuple):
    """What images go through: a corruption's name and its severity 1..5, or ("clean", 0)."""

    corruption: str
    severity: int


CLEAN = Condition("clean", 0)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be scored, and how its images come about.

    Attributes:
      suite: its name; of a list of corruptions, their names joined by "+".
      source: "rendered"; "rendered+jpeg85" where corrupted images are also saved as JPEG of quality
        85 and read back, as those of the published set were; "tfds/NAME": a prepared dataset.
      preset: constants of the corruptions, one of `corruptions.PRESETS`; "" for prepared ones.
      seed: of the rendered corruptions; 0 for prepared ones.
      conditions: clean images first.
      notes: what was left out and why, in sentences.
      frost_dir: directory of the photographs of frost.
    """

    suite: str
    source: str
    preset: str
    seed: int
    conditions: tuple[Condition, ...]
    notes: tuple[str, ...] = ()
    frost_dir: str | None = None

    @property
    def prepared(self) -> str:
        """The name of the prepared dataset that the images come from; "": they are rendered."""
        return self.source.removeprefix("tfds/") if self.source.startswith("tfds/") else ""

    def is_saved(self, corruption: str) -> bool:
        """Whether images of this corruption go through JPEG of quality 85."""
        return self.source == "rendered+jpeg85" and _group(corruption) != "3d"


def category(corruption: str) -> str:
    """The group whose mean it belongs to: noise, blur, weather, digital, extra, bar, 3d.

    The first four are those of Hendrycks & Dietterich 2019, with brightness under weather. Clips
    have temporal and camera besides noise, blur and digital.
    """
    if corruption in corruptions.CORRUPTIONS:
        return _group(corruption)
    clips = video.PERTURBATIONS.get(corruption)
    return clips.category if clips else "3d"


def _group(corruption: str) -> str:
    return corruptions.CORRUPTIONS[corruption].group


def plan(
    suite: str | Sequence[str],
    dataset: data.Dataset | None,
    preset: str,
    *,
    source: str = "rendered",
    only: Sequence[str] = (),
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
    jpeg85: bool | None = None,
    frost_dir: str | os.PathLike | None = None,
    data_dir: str | os.PathLike | None = None,
    prefix: str = "",
) -> Plan:
    """Says what to score.

    Args:
      suite: a name in `SUITES`; or names of corruptions, one or a list; or the name of a prepared
        corrupted set of the dataset.
      dataset: the clean dataset; None: images that have no name.
      preset: constants of rendered corruptions; `data.VIDEO`: perturbations of clips.
      source: "rendered"; the name of a prepared corrupted set; "auto": the dataset's first
        corrupted set if that is prepared and holds the suite's corruptions, else "rendered".
      only: corruptions of the suite to restrict it to; empty: all.
      severities: among 1..5.
      seed: of rendered corruptions.
      jpeg85: whether rendered images are saved as JPEG of quality 85; None: as the published set
        was, that is, yes for all presets but cifar32. Never those of 3DCC.
      frost_dir: directory of the photographs of frost; without it a suite leaves frost out.
      data_dir: where TFDS datasets are prepared.
      prefix: what stands before an argument's name in the text of an error.

    Raises:
      UserError: a name is wrong, a prepared set is not there, or a corruption cannot be rendered.
    """
    for severity in severities:
        if severity not in SEVERITIES:
            raise UserError(f"{prefix}severities", severity, "severities from 1 to 5")
    if not severities:
        raise UserError(f"{prefix}severities", "none", "at least one, from 1 to 5")
    if not 0 <= seed < 2**31:
        raise UserError(f"{prefix}seed", seed, "a whole number from 0 to 2147483647")
    sets = (
        {corrupted.tfds_name: corrupted for corrupted in dataset.corrupted_sets} if dataset else {}
    )
    if preset == data.VIDEO and suite == "common":
        suite = "video"
    label, names, source = _names(suite, sets, source, prefix)
    if source == "auto":
        first = dataset.corrupted if dataset else None
        ready = (
            first is not None
            and dataset is not None
            and set(names) <= set(first.corruptions)
            and data.prepared_conditions(dataset, data_dir)
        )
        source = first.tfds_name if first and ready else "rendered"
    if source == "rendered":
        named = only or (() if label in SUITES else names)
        if "frost" in named and not has_frost(frost_dir, prefix):
            raise UserError(
                f"{prefix}{'corruptions' if only else 'suite'}",
                "frost",
                "a corruption that can be rendered",
                f"frost needs {prefix}frost_dir, the directory of its photographs",
            )
        available, notes = _rendered(names, preset, frost_dir, prefix)
    elif source in sets and dataset is not None:
        available, notes = _prepared(dataset, source, names, label, data_dir, prefix)
    else:
        choices = ["auto", "rendered", *sets]
        raise UserError(f"{prefix}source", source, "one of " + ", ".join(choices))
    known = dict.fromkeys(condition.corruption for condition in available)
    for name in only:
        if name not in known:
            raise UserError(f"{prefix}corruptions", name, "among " + ", ".join(known))
    chosen = [c for c in available if c.corruption in (only or known) and c.severity in severities]
    if not chosen:
        raise UserError(f"{prefix}suite", f"{label} with nothing to score", "a corrupted condition")
    if source != "rendered":
        return Plan(label, f"tfds/{source}", "", 0, (CLEAN, *chosen), notes)
    saved = preset not in ("cifar32", data.VIDEO) if jpeg85 is None else jpeg85
    source = "rendered+jpeg85" if saved and any(_group(n) != "3d" for n in known) else "rendered"
    directory = str(frost_dir) if frost_dir else None
    return Plan(label, source, preset, seed, (CLEAN, *chosen), notes, directory)


def _names(
    suite: str | Sequence[str], sets: dict[str, data.CorruptedSet], source: str, prefix: str
) -> tuple[str, tuple[str, ...], str]:
    """The suite's label, its corruptions, and the source."""
    if isinstance(suite, str) and suite in sets:
        return suite, sets[suite].corruptions, suite
    if isinstance(suite, str) and suite in SUITES:
        return suite, SUITES[suite], source
    names = tuple(dict.fromkeys([suite] if isinstance(suite, str) else suite))
    known = corruptions.CORRUPTIONS.keys() | FROM_FILES.keys() | video.PERTURBATIONS.keys()
    for name in names:
        if name not in known:
            choices = ", ".join([*SUITES, *sets])
            raise UserError(f"{prefix}suite", name, f"one of {choices}, or names of corruptions")
    if not names:
        raise UserError(f"{prefix}suite", "no corruption", "one of " + ", ".join(SUITES))
    same = [label for label, members in SUITES.items() if set(members) == set(names)]
    return (same[0] if same else "+".join(names)), names, source


def _rendered(
    names: Sequence[str],
    preset: str,
    frost_dir: str | os.PathLike | None,
    prefix: str,
) -> tuple[list[Condition], tuple[str, ...]]:
    """The conditions that can be rendered, and notes on those that cannot."""
    if preset == data.VIDEO:
        for name in names:
            if name not in video.PERTURBATIONS:
                choices = "one of " + ", ".join(video.PERTURBATIONS) + " for clips"
                raise UserError(f"{prefix}suite", name, choices)
        return [Condition(name, severity) for name in names for severity in SEVERITIES], ()
    if preset not in corruptions.PRESETS:
        raise UserError(f"{prefix}preset", preset, "one of " + ", ".join(corruptions.PRESETS))
    notes = []
    if not has_frost(frost_dir, prefix) and "frost" in names:
        notes.append(f"frost is left out: {prefix}frost_dir names no photographs.")
        names = [name for name in names if name != "frost"]
    for name in names:
        if name in FROM_FILES:
            expected = f"a corruption of an image alone: this is {FROM_FILES[name]}"
            mend = "It comes from a prepared dataset only, such as imagenet_3dcc"
            raise UserError(f"{prefix}suite", name, expected, mend)
        if name not in corruptions.CORRUPTIONS:
            raise UserError(f"{prefix}suite", name, "a corruption of images: this one is of clips")
        if corruptions.CORRUPTIONS[name].needs_map:
            expected = "a corruption of an image alone: this one needs a map of its scene"
            raise UserError(f"{prefix}suite", name, expected)
        if preset not in ROWS[name]:
            raise UserError(
                f"{prefix}preset",
                f"{preset}, for which {name} has no constants",
                " or ".join(ROWS[name]) + f", the only published ones of {name}",
            )
    return [Condition(name, severity) for name in names for severity in SEVERITIES], tuple(notes)


def _prepared(
    dataset: data.Dataset,
    source: str,
    names: Sequence[str],
    label: str,
    data_dir: str | os.PathLike | None,
    prefix: str,
) -> tuple[list[Condition], tuple[str, ...]]:
    found = [Condition(*pair) for pair in data.prepared_conditions(dataset, data_dir, suite=source)]
    if not found:
        raise UserError(
            f"{prefix}source",
            f"{source}, not prepared",
            "a prepared dataset, or rendered",
            "docs/data.md says how to prepare it",
        )
    order = {name: index for index, name in enumerate(names)}
    available = sorted(
        (c for c in found if c.corruption in order), key=lambda c: (order[c.corruption], c.severity)
    )
    if not available:
        raise UserError(f"{prefix}suite", f"{label}, none of which is in {source}", source)
    missing = len(SEVERITIES) * len(names) - len(available)
    note = f"{missing} of {len(SEVERITIES) * len(names)} conditions are not prepared in {source}."
    return available, ((note,) if missing else ())


def has_frost(directory: str | os.PathLike | None, prefix: str = "") -> bool:
    """Whether a directory of frost is named; it must hold all photographs."""
    for name in FROST_FILES if directory else ():
        if not (Path(str(directory)) / name).is_file():
            raise UserError(f"{prefix}frost_dir", f"no {name} in {directory}", "frost1.png ...")
    return bool(directory)
