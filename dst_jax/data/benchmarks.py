"""The published corruption benchmarks: names, exact corruptions, severities, test images.

Robust accuracy belongs to a benchmark: a mean over another list is another number, and a mean over
a part of the list is incomplete (`robustness.Result.lacking`). Facts only, no JAX: the registries
of `dst_jax.corruptions` render them, and tests hold both lists against each other. Suites that a
user registers are here too. Called by `datasets`, `robustness`, `user_files` and `report`.
"""

import dataclasses
from collections.abc import Sequence

from dst_jax import registration
from dst_jax.errors import UserError

SEVERITIES = (1, 2, 3, 4, 5)

# Hendrycks & Dietterich 2019, section 3, in the order of the tables, by category; brightness is
# counted under weather there. Then the four that they keep for validation.
_NOISE = ("gaussian_noise", "shot_noise", "impulse_noise")
_BLUR = ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur")
_WEATHER = ("snow", "frost", "fog", "brightness")
_DIGITAL = ("contrast", "elastic_transform", "pixelate", "jpeg_compression")
C = (*_NOISE, *_BLUR, *_WEATHER, *_DIGITAL)
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
COMMON = (*C, *EXTRA)
# Mintun et al. 2021; the spelling is theirs.
_BAR_BOTH = (
    *("blue_noise_sample", "brownish_noise", "checkerboard_cutout"),
    *("inverse_sparkles", "sparkles"),
)
C_BAR = (
    *_BAR_BOTH,
    *("caustic_refraction", "cocentric_sine_waves", "perlin_noise"),
    *("plasma_noise", "single_frequency_greyscale"),
)
C_BAR_CIFAR = (
    *_BAR_BOTH,
    *("circular_motion_blur", "lines", "pinch_and_twirl", "ripple"),
    "transverse_chromatic_abberation",
)
# Kar et al. 2022: the 11 that Wu et al. 2025 score, h265_crf, which the published files have too,
# and what of them needs a photograph only.
THREE_D = (
    *("near_focus", "far_focus", "fog_3d", "flash", "color_quant", "low_light"),
    *("xy_motion_blur", "z_motion_blur", "iso_noise", "bit_error", "h265_abr"),
)
THREE_D_FILES = (*THREE_D, "h265_crf")
THREE_D_RENDERED = ("iso_noise", "low_light", "color_quant")
# Schiappa et al. 2023, by category.
_CLIPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    "blur": ("defocus_blur", "motion_blur", "zoom_blur"),
    "digital": ("jpeg_compression",),
    "temporal": ("sampling", "reverse_sampling", "jumbling", "box_jumbling", "freezing"),
    "camera": ("static_rotation", "random_rotation", "translation"),
}
VIDEO = tuple(name for names in _CLIPS.values() for name in names)
# Ours, for the embedded digits: what renders in seconds.
DIGITS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "gaussian_blur"),
    *("brightness", "contrast", "pixelate", "jpeg_compression"),
)

# Lists that can be rendered for any images, by the name that asks for them.
SUITES: dict[str, tuple[str, ...]] = {
    "common": COMMON,
    "c": C,
    "c_extra": EXTRA,
    "c_bar_imagenet": C_BAR,
    "c_bar_cifar": C_BAR_CIFAR,
    "3dcc": THREE_D_RENDERED,
    "video": VIDEO,
}
_TITLES = {"common": "all common corruptions", "c": "common corruptions"}

# Number of test images of the published clean sets.
TEST_IMAGES = {
    "cifar10": 10_000,
    "cifar100": 10_000,
    "tiny_imagenet": 10_000,
    "tiny_imagenet32": 10_000,
    "imagenet2012": 50_000,
    "ucf101": 3_783,
    "digits": 360,
    "moving_digits": 360,
}

_CATEGORIES = {
    "noise": _NOISE,
    "blur": _BLUR,
    "weather": _WEATHER,
    "digital": _DIGITAL,
    "extra": EXTRA,
    "bar": (*C_BAR, *C_BAR_CIFAR),
    "3d": THREE_D_FILES,
    **{name: _CLIPS[name] for name in ("temporal", "camera")},
    "procedural": ("frost_procedural",),
}
_CATEGORY = {name: category for category, names in _CATEGORIES.items() for name in names}


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A named list of conditions that a robust accuracy is the mean of.

    Attributes:
      name: as papers write it, such as "CIFAR10-C".
      corruptions: its corruptions, all of them.
      severities: its severities, ascending.
      dataset: the clean test set, a name in `DATASETS`; "" for lists that are of no one set.
      source: where list and protocol are published; "" for lists of ours.
    """

    name: str
    corruptions: tuple[str, ...]
    severities: tuple[int, ...] = SEVERITIES
    dataset: str = ""
    source: str = ""

    @property
    def conditions(self) -> tuple[tuple[str, int], ...]:
        """All (corruption, severity) of it."""
        return tuple((name, level) for name in self.corruptions for level in self.severities)

    @property
    def test_images(self) -> int:
        """Images of the whole test set; 0: not known."""
        return TEST_IMAGES.get(self.dataset, 0)


_HENDRYCKS = "Hendrycks & Dietterich 2019"
_MINTUN = "Mintun et al. 2021"
BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark("CIFAR10-C", COMMON, dataset="cifar10", source=_HENDRYCKS),
    Benchmark("CIFAR100-C", COMMON, dataset="cifar100", source=_HENDRYCKS),
    Benchmark("TinyImageNet-C", C, dataset="tiny_imagenet", source=_HENDRYCKS),
    Benchmark("ImageNet-C", C, dataset="imagenet2012", source=_HENDRYCKS),
    Benchmark("CIFAR10-C-bar", C_BAR_CIFAR, dataset="cifar10", source=_MINTUN),
    Benchmark("ImageNet-C-bar", C_BAR, dataset="imagenet2012", source=_MINTUN),
    Benchmark(
        "ImageNet-3DCC",
        THREE_D,
        dataset="imagenet2012",
        source="Kar et al. 2022, the 11 of Wu et al. 2025",
    ),
    Benchmark("UCF101-P", VIDEO, (1, 2, 3, 4), "ucf101", "Schiappa et al. 2023, Wu et al. 2025"),
    Benchmark("Digits-C", DIGITS, dataset="digits"),
)


REGISTERED: dict[str, Benchmark] = {}  # the suites that users registered
REGISTERED_IN: dict[str, str] = {}  # name -> file, of the same


def register_suite(
    name: str, corruptions: Sequence[str], severities: Sequence[int] = SEVERITIES
) -> None:
    """Makes a list of corruptions available under a name, in `--suite`, cards and `evaluate`.

    Its robust accuracy is the mean over the whole list, and is labelled incomplete where some of it
    is missing. A file may register its names again, as a card does that is read twice.

    Args:
      name: letters, digits, `_`, `.` and `-`.
      corruptions: names of dst_jax, or of yours that are registered before.
      severities: among 1..5.

    Raises:
      UserError: the name is taken, or one of the others is none.
    """
    from dst_jax.corruptions import CORRUPTIONS, video
    from dst_jax.corruptions.threed import FROM_FILES
    from dst_jax.data.datasets import DATASETS

    known = {**CORRUPTIONS, **dict.fromkeys(FROM_FILES), **video.PERTURBATIONS}
    listed, levels = tuple(dict.fromkeys(corruptions)), tuple(sorted(set(severities)))
    where = f"register_suite {name}"
    if isinstance(corruptions, str) or not listed:
        raise UserError(where, repr(corruptions), "a list of corruptions, at least one")
    for corruption in listed:
        if corruption not in known:
            hint = "One of your own is registered before the suite"
            raise UserError(where, corruption, "names of corruptions", hint)
    if not levels or not set(levels) <= set(SEVERITIES):
        raise UserError(where, f"severities {list(severities)}", "severities from 1 to 5")
    sets = {each.tfds_name for data in DATASETS.values() for each in data.corrupted_sets}
    if name in known or named(name) or name in sets:
        kind = "corruption" if name in known else "corrupted set" if name in sets else "benchmark"
        what = f"a {kind}"
        raise UserError("register_suite", f"{name}, {what}", "a name that is free")
    registration.claim("suite", name, SUITES, REGISTERED_IN)
    SUITES[name], REGISTERED[name] = listed, Benchmark(name, listed, levels)


def named(name: str) -> Benchmark | None:
    """The benchmark of that name, whatever the case of its letters; None: there is none."""
    return next((b for b in BENCHMARKS if b.name.lower() == name.lower()), None)


def of(suite: str, dataset: str, corruptions: tuple[str, ...] = ()) -> Benchmark:
    """The benchmark that scores of a suite belong to.

    A suite that holds a benchmark of the dataset and more, as all 19 common corruptions on
    ImageNet, is of that benchmark: its robust accuracy is the mean over the benchmark's own list.

    Args:
      suite: what was scored: a benchmark, a key of `SUITES`, or corruptions joined by "+".
      dataset: the clean test set, "" for images without a name.
      corruptions: the list of a suite that is none of these, as a prepared corrupted set.

    Returns:
      One of `BENCHMARKS`; or, for a list that is none of them, one made of the list itself.
    """
    if (found := named(suite)) is not None:
        return found
    if suite in REGISTERED:
        return dataclasses.replace(REGISTERED[suite], dataset=dataset)
    asked = SUITES.get(suite) or corruptions or tuple(suite.split("+"))
    published = [b for b in BENCHMARKS if b.source and b.dataset == dataset]
    inside = [b for b in published if {*b.corruptions} <= {*asked}]
    if inside:
        return max(inside, key=lambda b: len(b.corruptions))
    name = suite if suite not in SUITES else f"{_TITLES.get(suite, suite)} ({len(asked)})"
    return Benchmark(name, asked, dataset=dataset)


def category(corruption: str) -> str:
    """The group whose mean a corruption belongs to: noise, blur, weather, digital, extra, bar, 3d.

    The first four are those of Hendrycks & Dietterich 2019, with brightness under weather. Clips
    have temporal and camera besides noise, blur and digital. "other" for names not known here.
    """
    return _CATEGORY.get(corruption, "other")
