"""What an evaluation scores: benchmarks, suites, corruptions, prepared datasets -> a `Plan`.

Every usage error in them is told here, before anything is rendered; the lists themselves are in
`data.benchmarks`. No images here. Called by `evaluation`, and by `dst_jax.evaluate` before a
training starts.
"""

import dataclasses
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from dst_jax import corruptions, data, user_files
from dst_jax.corruptions import video
from dst_jax.corruptions.constants import ROWS
from dst_jax.corruptions.registry import REGISTERED_IN
from dst_jax.corruptions.threed import FROM_FILES
from dst_jax.corruptions.weather import FROST_FILES
from dst_jax.data import array_files, benchmarks
from dst_jax.data.benchmarks import SEVERITIES, SUITES
from dst_jax.data.corrupted_files import CorruptedFiles, open_corrupted
from dst_jax.errors import UserError
from dst_jax.robustness.records import CLEAN, Condition


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be scored, and how its images come about.

    Attributes:
      suite: its name; of a list of corruptions, their names joined by "+".
      source: "rendered"; "rendered+jpeg85" where corrupted images are also saved as JPEG of quality
        85 and read back, as those of the published set were, "+jpeg75" those of 3DCC; followed by
        "+NAME-2" for a corruption that was mended since version 0.1.0, by "+whole-videos" where
        perturbations along time are those of whole videos, by "+frost-CHECKSUM" where frost is
        drawn with other photographs than ImageNet-C's, and by "+NAME-CHECKSUM" of the file that
        registered a corruption of the user's; "tfds/NAME": a prepared dataset;
        "files/CHECKSUM": files in a published layout. Then "+grey" for grey images, and
        "+classes-CHECKSUM" where logits stand for other labels.
      preset: constants of the corruptions, one of `corruptions.PRESETS`; "" for prepared ones.
      seed: of the rendered corruptions; 0 for prepared ones.
      conditions: clean images first.
      notes: what was left out and why, in sentences.
      frost_dir: directory of the photographs of frost.
      files: where corrupted images are read from; "" where they are rendered or prepared for TFDS.
      grey: whether rendered images are made grey again.
    """

    suite: str
    source: str
    preset: str
    seed: int
    conditions: tuple[Condition, ...]
    notes: tuple[str, ...] = ()
    frost_dir: str | None = None
    files: str = ""
    grey: bool = False

    @property
    def prepared(self) -> str:
        """The name of the prepared dataset that the images come from; "": they do not."""
        kind, _, name = self.source.partition("+")[0].partition("/")
        return name if kind == "tfds" else ""

    def jpeg_quality(self, corruption: str) -> int:
        """The quality of the JPEG that images of this corruption go through; 0: none."""
        quality = _published_quality(corruption)
        return quality if f"+jpeg{quality}" in self.source else 0

    def reads_whole_videos(self, corruption: str) -> bool:
        """Whether a perturbation of clips is one of the whole video."""
        return "+whole-videos" in self.source and corruption in video.ALONG_TIME


def _published_quality(corruption: str) -> int:
    """Of the JPEGs of the published set; 3DCC's generator names none: Pillow's default."""
    return 75 if corruptions.CORRUPTIONS[corruption].group == "3d" else 85


def plan(
    suite: str | Sequence[str],
    dataset: data.Dataset | None,
    preset: str,
    *,
    source: str = "auto",
    only: Sequence[str] = (),
    severities: Sequence[int] = (),
    seed: int = 0,
    jpeg85: bool | None = None,
    frost_dir: str | os.PathLike | None = None,
    data_dir: str | os.PathLike | None = None,
    name: str = "",
    prefix: str = "",
    grey: bool = False,
    classes: str = "",
) -> Plan:
    """Says what to score.

    Args:
      suite: the name of a benchmark of the dataset, such as "CIFAR10-C"; a key of
        `data.benchmarks.SUITES`; names of corruptions, one or a list; or the name of a prepared
        corrupted set of the dataset.
      dataset: the clean dataset; None: images that have no name.
      preset: constants of rendered corruptions; `data.VIDEO`: perturbations of clips.
      source: "rendered"; the name of a prepared corrupted set; the folder of a corrupted set in a
        published layout (`data.corrupted_files`); "auto": the first of the dataset's corrupted sets
        that is prepared with every condition asked for, where the published files come before
        TFDS's own rendering, and "rendered" if there is none. What is asked for never comes from
        two sources.
      only: corruptions of the suite to restrict it to; empty: all.
      severities: among 1..5; empty: those of the benchmark, 1 to 5 where it names none.
      seed: of rendered corruptions.
      jpeg85: whether rendered images are saved as JPEG of quality 85, those of 3DCC of quality 75;
        None: as the published set was, that is, yes for all presets but cifar32.
      frost_dir: directory of the photographs of frost; without it a suite leaves frost out.
      data_dir: where TFDS datasets are prepared.
      name: of which dataset the caller's own images are, "" for none; a benchmark needs it.
      prefix: what stands before an argument's name in the text of an error.
      grey: the clean images were given in grey.
      classes: mark of the map from logits to labels; "": there is none.

    Raises:
      UserError: a name is wrong, a prepared set lacks a condition asked for, or a corruption cannot
        be rendered.
    """
    for severity in severities:
        if severity not in SEVERITIES:
            raise UserError(f"{prefix}severities", severity, "severities from 1 to 5")
    if not 0 <= seed < 2**31:
        raise UserError(f"{prefix}seed", seed, "a whole number from 0 to 2147483647")
    sets = (
        {corrupted.tfds_name: corrupted for corrupted in dataset.corrupted_sets} if dataset else {}
    )
    if preset == data.VIDEO and suite == "common":
        suite = "video"
    name = dataset.name if dataset else name
    mark = f"+classes-{classes}" if classes else ""
    files = _files(source, sets, preset, prefix)
    label, names, source = _names(suite, sets, source, name, prefix, files)
    levels = tuple(severities) or data.benchmark_of(label, name).severities
    for corruption in only:
        if corruption not in names:
            raise UserError(f"{prefix}corruptions", corruption, "among " + ", ".join(names))
    asked = [Condition(c, s) for c in names if not only or c in only for s in levels]
    if source == "auto":
        ready = (key for key in sets if not _absent(sets[key], asked, dataset, data_dir))
        source = next(ready, "rendered")
    if source in sets:
        if absent := _absent(sets[source], asked, dataset, data_dir):
            raise _incomplete(source, asked, absent, prefix)
        return Plan(label, f"tfds/{source}{mark}", "", 0, (CLEAN, *asked))
    if files is not None:
        if absent := [condition for condition in asked if condition not in files.conditions]:
            raise _incomplete(str(files.path), asked, absent, prefix, files.corruptions)
        origin = f"files/{files.checksum(names)}{mark}"
        return Plan(label, origin, "", 0, (CLEAN, *asked), files=str(files.path))
    if source != "rendered":
        choices = ["auto", "rendered", *sets]
        expected = "one of " + ", ".join(choices) + ", or the folder of a corrupted set"
        raise UserError(f"{prefix}source", source, expected)
    named = only or (() if label in SUITES or benchmarks.named(label) else names)
    if "frost" in named and not has_frost(frost_dir, prefix):
        raise UserError(
            f"{prefix}{'corruptions' if only else 'suite'}",
            "frost",
            "a corruption that can be rendered",
            f"frost needs {prefix}frost_dir, the directory of its photographs",
        )
    known, notes = _rendered(only or names, preset, frost_dir, prefix)
    chosen = [condition for condition in asked if condition.corruption in known]
    if not chosen:
        raise UserError(f"{prefix}suite", f"{label}, of which no condition is left", "one at least")
    saved = preset not in ("cifar32", data.VIDEO) if jpeg85 is None else jpeg85
    source = "rendered"
    # By the whole suite, so that its scores stay together when it is scored in parts.
    if preset == data.VIDEO:
        if {*names} & {*video.ALONG_TIME} and array_files.has_whole_videos(dataset, data_dir):
            source += "+whole-videos"
    else:
        ours = [name for name in names if name in corruptions.CORRUPTIONS]
        if saved:
            source += "".join(f"+jpeg{q}" for q in sorted({*map(_published_quality, ours)})[::-1])
        source += "".join(f"+{n}-{form}" for n, form in corruptions.REVISED.items() if n in ours)
    directory = str(frost_dir) if frost_dir else None
    if frost_dir and any(condition.corruption == "frost" for condition in chosen):
        source += _photographs(frost_dir)
    for name in dict.fromkeys(condition.corruption for condition in chosen):
        if name in REGISTERED_IN:
            source += f"+{name}-{user_files.mark_of_corruption(name)}"
    source += "+grey" * grey + mark
    return Plan(label, source, preset, seed, (CLEAN, *chosen), notes, directory, grey=grey)


def _files(
    source: str | os.PathLike, sets: Mapping[str, data.CorruptedSet], preset: str, prefix: str
) -> CorruptedFiles | None:
    """The corrupted set that a path names; None where the source is none."""
    if source in ("auto", "rendered", *sets):
        return None
    text = os.fspath(source)
    if not (os.sep in text or text.startswith("~") or Path(text).exists()):
        return None
    if preset == data.VIDEO:
        raise UserError(f"{prefix}source", text, "rendered: clips are not read from image files")
    return open_corrupted(text)


def _names(
    suite: str | Sequence[str],
    sets: Mapping[str, data.CorruptedSet],
    source: str,
    dataset: str,
    prefix: str,
    files: CorruptedFiles | None,
) -> tuple[str, tuple[str, ...], str]:
    """The suite's label, its corruptions, and the source."""
    if isinstance(suite, str) and suite in sets:
        return suite, sets[suite].corruptions, suite
    if isinstance(suite, str) and suite in SUITES:
        return suite, SUITES[suite], source
    own = [b.name for b in benchmarks.BENCHMARKS if dataset and b.dataset == dataset]
    if isinstance(suite, str) and (benchmark := benchmarks.named(suite)):
        if benchmark.name not in own:
            found = f"{benchmark.name}, which is of {benchmark.dataset}"
            choices = ", ".join([*own, *SUITES])
            where = dataset or "images without a name"
            raise UserError(f"{prefix}suite", found, f"for {where} one of {choices}")
        return benchmark.name, benchmark.corruptions, source
    names = tuple(dict.fromkeys([suite] if isinstance(suite, str) else suite))
    known = corruptions.CORRUPTIONS.keys() | FROM_FILES.keys() | video.PERTURBATIONS.keys()
    known |= set(files.corruptions if files else ())
    for name in names:
        if name not in known:
            choices = ", ".join([*SUITES, *own, *sets])
            expected = f"one of {choices}, or names of corruptions"
            hint = "If a file of yours registers it, import it first (--import=FILE.py)"
            raise UserError(f"{prefix}suite", name, expected, hint)
    if not names:
        raise UserError(f"{prefix}suite", "no corruption", "one of " + ", ".join(SUITES))
    ours = {key: members for key, members in SUITES.items() if key not in benchmarks.REGISTERED}
    same = [label for label, members in ours.items() if set(members) == set(names)]
    return (same[0] if same else "+".join(names)), names, source


def _rendered(
    names: Sequence[str],
    preset: str,
    frost_dir: str | os.PathLike | None,
    prefix: str,
) -> tuple[list[str], tuple[str, ...]]:
    """Those of the corruptions that can be rendered, and notes on those that cannot."""
    if preset == data.VIDEO:
        for name in names:
            if name not in video.PERTURBATIONS:
                choices = "one of " + ", ".join(video.PERTURBATIONS) + " for clips"
                raise UserError(f"{prefix}suite", name, choices)
        return list(names), ()
    if preset not in corruptions.PRESETS:
        raise UserError(f"{prefix}preset", preset, "one of " + ", ".join(corruptions.PRESETS))
    notes = []
    if not has_frost(frost_dir, prefix) and "frost" in names:
        notes.append(f"frost is left out: {prefix}frost_dir names no photographs.")
        names = [name for name in names if name != "frost"]
    for name in names:
        if name in FROM_FILES:
            expected = f"a corruption of an image alone: this is {FROM_FILES[name]}"
            hint = "It comes from a prepared dataset only, such as imagenet_3dcc"
            raise UserError(f"{prefix}suite", name, expected, hint)
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
    return list(names), tuple(notes)


def _absent(
    corrupted: data.CorruptedSet,
    asked: Sequence[Condition],
    dataset: data.Dataset | None,
    data_dir: str | os.PathLike | None,
) -> list[Condition]:
    """What a prepared corrupted set lacks of the conditions asked for."""
    assert dataset is not None
    ready = data.prepared_conditions(dataset, data_dir, suite=corrupted.tfds_name)
    return [condition for condition in asked if condition not in ready]


def _incomplete(
    name: str,
    asked: Sequence[Condition],
    absent: Sequence[Condition],
    prefix: str,
    there: Sequence[str] = (),
) -> UserError:
    """What a set lacks; `there`: the corruptions that files have, empty for a prepared set."""
    if len(absent) == len(asked) and not there:
        return UserError(
            f"{prefix}source",
            f"{name}, not prepared",
            "a prepared dataset, or rendered",
            "docs/data.md says how to prepare it",
        )
    lacking = list(dict.fromkeys(c.corruption for c in absent))
    some = ", ".join(lacking[:5]) + (" ..." if len(lacking) > 5 else "")
    prepared = "" if there else " prepared"
    mend = f"It has {', '.join(there)}; name" if there else "Prepare the rest (docs/data.md), name"
    return UserError(
        f"{prefix}source",
        f"{name} with {len(asked) - len(absent)} of {len(asked)} conditions{prepared} (not {some})",
        "every condition asked for",
        f"{mend} what is there with {prefix}{'suite or ' if there else ''}"
        f"{prefix if there else ''}corruptions and {prefix}severities, or use rendered",
    )


# CRC-32 of the photographs of ImageNet-C, one after another in the order of `FROST_FILES`.
_IMAGENET_C_FROST = 0xF2A018DA


def _photographs(directory: str | os.PathLike) -> str:
    """What tells scores with other photographs of frost from those with ImageNet-C's."""
    checksum = 0
    for name in FROST_FILES:
        checksum = zlib.crc32((Path(str(directory)) / name).read_bytes(), checksum)
    return "" if checksum == _IMAGENET_C_FROST else f"+frost-{checksum:08x}"


def has_frost(directory: str | os.PathLike | None, prefix: str = "") -> bool:
    """Whether a directory of frost is named; it must hold all photographs."""
    for name in FROST_FILES if directory else ():
        if not (Path(str(directory)) / name).is_file():
            raise UserError(f"{prefix}frost_dir", f"no {name} in {directory}", "frost1.png ...")
    return bool(directory)
