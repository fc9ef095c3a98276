"""The published constants of every corruption: one row per severity, one table per preset.

Only numbers live here; the modules beside this file say what each column means and how it is used.
Sources: Hendrycks & Dietterich 2019 and the generation scripts of ImageNet-C, CIFAR-10-C and
Tiny-ImageNet-C (`inception299` is the ImageNet-C variant for 299-pixel networks); Mintun et al.
2021 (ImageNet-C-bar, CIFAR-10-C-bar) and Kar et al. 2022 (3D Common Corruptions), which have no
constants for the other presets.
"""

from typing import Any

# Preset -> side in pixels of the images that its constants were tuned for.
PRESET_SIZES = {"cifar32": 32, "tiny64": 64, "imagenet224": 224, "inception299": 299}
PRESETS = tuple(PRESET_SIZES)

# Five rows, severity 1 to 5: numbers, or tuples where a corruption has several constants.
Rows = tuple[Any, Any, Any, Any, Any]


def _table(cifar32: Rows, tiny64: Rows, imagenet224: Rows, inception299: Rows) -> dict[str, Rows]:
    return dict(zip(PRESETS, (cifar32, tiny64, imagenet224, inception299), strict=True))


def _scaled(unit: float, rows: Rows) -> Rows:
    """Rows given in units of (about) the image's side, in pixels."""
    return tuple(tuple(unit * value for value in row) for row in rows)  # type: ignore[return-value]


_ZOOM_32 = ((1, 1.06, 0.01), (1, 1.11, 0.01), (1, 1.16, 0.01), (1, 1.21, 0.01), (1, 1.26, 0.01))
_ZOOM_224 = ((1, 1.11, 0.01), (1, 1.16, 0.01), (1, 1.21, 0.02), (1, 1.26, 0.02), (1, 1.31, 0.03))

_SNOW_32 = (
    (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)
_SNOW_64 = (
    (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
    (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
)
_SNOW_224 = (
    (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)

_FROST_32 = ((1, 0.2, 0.2), (1, 0.3, 0.2), (0.9, 0.4, 0.2), (0.85, 0.4, 0.2), (0.75, 0.45, 0.2))
_FROST_64 = ((1, 0.3, 0.3), (0.9, 0.4, 0.3), (0.8, 0.45, 0.3), (0.75, 0.5, 0.3), (0.7, 0.55, 0.3))
_FROST_224 = ((1, 0.4, 1), (0.8, 0.6, 1), (0.7, 0.7, 1), (0.65, 0.7, 1), (0.6, 0.75, 1))

_BRIGHTNESS_224 = (0.1, 0.2, 0.3, 0.4, 0.5)
_CONTRAST_224 = (0.4, 0.3, 0.2, 0.1, 0.05)

_ELASTIC_224 = (
    (2, 0.7, 0.1),
    (2, 0.08, 0.2),
    (0.05, 0.01, 0.02),
    (0.07, 0.01, 0.02),
    (0.12, 0.01, 0.02),
)
_SATURATE_224 = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))

# Corruption -> preset -> rows; a preset is absent where nobody published constants for it.
ROWS: dict[str, dict[str, Rows]] = {
    "gaussian_noise": _table(  # standard deviation; the image in [0, 1]
        (0.04, 0.06, 0.08, 0.09, 0.10),
        (0.04, 0.08, 0.12, 0.15, 0.18),
        (0.08, 0.12, 0.18, 0.26, 0.38),
        (0.09, 0.13, 0.19, 0.27, 0.40),
    ),
    "shot_noise": _table(  # expected photons of a white pixel
        (500, 250, 100, 75, 50),
        (250, 100, 50, 30, 15),
        (60, 25, 12, 5, 3),
        (50, 20, 10, 5, 3),
    ),
    "impulse_noise": _table(  # share of replaced values
        (0.01, 0.02, 0.03, 0.05, 0.07),
        (0.01, 0.02, 0.05, 0.08, 0.14),
        (0.03, 0.06, 0.09, 0.17, 0.27),
        (0.04, 0.07, 0.10, 0.18, 0.28),
    ),
    "speckle_noise": _table(  # standard deviation relative to the value
        (0.06, 0.1, 0.12, 0.16, 0.2),
        (0.15, 0.2, 0.25, 0.3, 0.35),
        (0.15, 0.2, 0.35, 0.45, 0.6),
        (0.16, 0.21, 0.36, 0.46, 0.61),
    ),
    "gaussian_blur": _table(  # standard deviation in pixels
        (0.4, 0.6, 0.7, 0.8, 1),
        (0.5, 0.75, 1, 1.25, 1.5),
        (1, 2, 3, 4, 6),
        (1.5, 2.5, 3.5, 4.5, 6.5),
    ),
    "defocus_blur": _table(  # radius of the disk, standard deviation of its soft edge
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        ((4, 0.1), (5, 0.5), (7, 0.5), (10, 0.5), (12, 0.5)),
    ),
    "glass_blur": _table(  # standard deviation, largest displacement, sweeps
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        ((0.8, 1, 3), (1, 3, 1), (1.1, 2, 4), (1.2, 4, 2), (1.6, 5, 2)),
    ),
    "motion_blur": _table(  # radius, standard deviation
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        ((12, 4), (17, 6), (17, 9), (17, 13), (22, 16)),
    ),
    "zoom_blur": _table(  # start, stop, step of the zoom factors, as numpy.arange counts them
        _ZOOM_32, _ZOOM_32, _ZOOM_224, _ZOOM_224
    ),
    "snow": _table(  # mean, deviation, zoom, threshold, blur radius, blur deviation, image weight
        _SNOW_32, _SNOW_64, _SNOW_224, _SNOW_224
    ),
    # Weight of the image, weight of the frost, size of the photographs relative to their files.
    "frost": _table(_FROST_32, _FROST_64, _FROST_224, _FROST_224),
    "frost_procedural": _table(_FROST_32, _FROST_64, _FROST_224, _FROST_224),
    "fog": _table(  # weight of the fog, decay of the fractal's amplitude per level, its side
        ((0.2, 3, 32), (0.5, 3, 32), (0.75, 2.5, 32), (1, 2, 32), (1.5, 1.75, 32)),
        ((0.4, 3, 64), (0.7, 3, 64), (1, 2.5, 64), (1.5, 2, 64), (2, 1.75, 64)),
        ((1.5, 2, 256), (2, 2, 256), (2.5, 1.7, 256), (2.5, 1.5, 256), (3, 1.4, 256)),
        ((1.5, 2, 512), (2, 2, 512), (2.5, 1.8, 512), (2.5, 1.6, 512), (3, 1.5, 512)),
    ),
    "brightness": _table(  # added to the value channel of HSV
        (0.05, 0.1, 0.15, 0.2, 0.3), _BRIGHTNESS_224, _BRIGHTNESS_224, _BRIGHTNESS_224
    ),
    "contrast": _table(  # gain about the mean of each channel
        (0.75, 0.5, 0.4, 0.3, 0.15), _CONTRAST_224, _CONTRAST_224, _CONTRAST_224
    ),
    "elastic_transform": _table(  # size and smoothness of the displacements, affine jitter; pixels
        _scaled(
            32,
            (
                (0, 0, 0.08),
                (0.05, 0.2, 0.07),
                (0.08, 0.06, 0.06),
                (0.1, 0.04, 0.05),
                (0.1, 0.03, 0.03),
            ),
        ),
        _scaled(
            64,
            (
                (0, 0, 0.08),
                (0.05, 0.3, 0.06),
                (0.1, 0.08, 0.06),
                (0.1, 0.03, 0.03),
                (0.16, 0.03, 0.02),
            ),
        ),
        _scaled(244, _ELASTIC_224),
        _scaled(360, _ELASTIC_224),
    ),
    "pixelate": _table(  # side of the small image relative to the original
        (0.95, 0.9, 0.85, 0.75, 0.65),
        (0.9, 0.8, 0.7, 0.6, 0.5),
        (0.6, 0.5, 0.4, 0.3, 0.25),
        (0.5, 0.4, 0.3, 0.25, 0.2),
    ),
    "jpeg_compression": _table(  # quality
        (80, 65, 58, 50, 40),
        (65, 58, 50, 40, 25),
        (25, 18, 15, 10, 7),
        (23, 16, 13, 8, 5),
    ),
    "spatter": _table(  # mean, deviation, smoothing, threshold, intensity (water) or smoothing of
        # the stain (mud), mud?
        (
            (0.62, 0.1, 0.7, 0.7, 0.5, 0),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0),
            (0.65, 0.3, 1, 0.69, 0.5, 0),
            (0.65, 0.1, 0.7, 0.69, 0.6, 1),
            (0.65, 0.1, 0.5, 0.68, 0.6, 1),
        ),
        (
            (0.62, 0.1, 0.7, 0.7, 0.6, 0),
            (0.65, 0.1, 0.8, 0.7, 0.6, 0),
            (0.65, 0.3, 1, 0.69, 0.6, 0),
            (0.65, 0.1, 0.7, 0.68, 0.6, 1),
            (0.65, 0.1, 0.5, 0.67, 0.6, 1),
        ),
        (
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ),
        (
            (0.65, 0.3, 4, 0.69, 0.9, 0),
            (0.65, 0.3, 3.5, 0.68, 0.9, 0),
            (0.65, 0.3, 3, 0.68, 0.8, 0),
            (0.65, 0.3, 1.2, 0.65, 1.8, 1),
            (0.67, 0.4, 1.2, 0.65, 1.8, 1),
        ),
    ),
    "saturate": _table(  # gain and offset of the saturation channel of HSV
        ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)),
        _SATURATE_224,
        _SATURATE_224,
    ),
    # ImageNet-C-bar and CIFAR-10-C-bar: one level from 0 to 10, which scales the parameters.
    "blue_noise_sample": {
        "cifar32": (0.7, 1.4, 2.1, 3.5, 4.2),
        "imagenet224": (0.8, 1.6, 2.4, 4, 5.6),
    },
    "brownish_noise": {"cifar32": (2.5, 4, 5.5, 6.5, 7), "imagenet224": (1, 2, 3, 4, 5)},
    "checkerboard_cutout": {"cifar32": (1, 2, 3, 4, 5), "imagenet224": (2, 3, 4, 5, 6)},
    "inverse_sparkles": {"cifar32": (1, 1.5, 2.5, 4.5, 5), "imagenet224": (1, 2, 4, 9, 10)},
    "sparkles": {"cifar32": (0.7, 3.5, 5.6, 6.3, 7), "imagenet224": (1, 2, 3, 5, 6)},
    "caustic_refraction": {"imagenet224": (2.35, 3.2, 4.9, 6.6, 9.15)},
    "cocentric_sine_waves": {"imagenet224": (3, 5, 8, 9, 10)},
    "perlin_noise": {"imagenet224": (4.6, 5.2, 5.8, 7.6, 8.8)},
    "plasma_noise": {"imagenet224": (4.75, 7, 8.5, 9.25, 10)},
    "single_frequency_greyscale": {"imagenet224": (1, 1.5, 2, 4.5, 5)},
    "circular_motion_blur": {"cifar32": (2.8, 3.6, 4.4, 5.2, 6)},
    "lines": {"cifar32": (0.5, 1, 1.5, 2, 2.5)},
    "pinch_and_twirl": {"cifar32": (5.5, 6, 6.5, 8.5, 10)},
    "ripple": {"cifar32": (5.5, 6, 6.5, 7.5, 8)},
    "transverse_chromatic_abberation": {"cifar32": (1, 2, 5, 9, 10)},
    # 3D Common Corruptions, those of one photograph and at most one map.
    "iso_noise": {"imagenet224": (0.056, 0.084, 0.126, 0.182, 0.266)},  # standard deviation
    "low_light": {"imagenet224": (0.6, 0.5, 0.4, 0.3, 0.2)},  # the brightest value that is left
    "color_quant": {"imagenet224": (5, 4, 3, 2, 1)},  # bits per channel
    "flash": {"imagenet224": (2.4, 1.4, 0.9, 0.6, 0.4)},  # divides the light of the flash
    "fog_3d": {"imagenet224": (4, 8, 12, 16, 20)},  # extinction per unit of depth
}
