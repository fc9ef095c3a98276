"""C-bar's and 3DCC's corruptions one pixel and one channel at a time, as they were published.

The oracle of `test_bar` and `test_colour_order`; the functions are in `by_pixel_bar`,
`by_pixel_warp` and `by_pixel_3dcc`. They were written from the papers (Mintun et al. 2021; Kar et
al. 2022) and the behaviour of their generators, not from `dst_jax.corruptions`: scalars, plain
loops and the standard library's functions in float64. NumPy holds the arrays, and SciPy does what
the generator itself leaves to it (a Gaussian filter, rotation, zoom). Those of C-bar were run
beside the published generator on equal draws: docs/corruptions.md. Not tests.

Each function takes (image uint8 [N, N, 3] RGB, the published number of the severity, the random
draws of one image) and returns grey levels [N, N, 3] float64, before they are clipped and cut off.
"""

from tests.corruptions import by_pixel_3dcc, by_pixel_bar, by_pixel_warp

# Severities 1 to 5 as published: of C-bar the tables of the release, from 0 to 10.
IMAGENET = {
    "blue_noise_sample": (0.8, 1.6, 2.4, 4.0, 5.6),
    "brownish_noise": (1.0, 2.0, 3.0, 4.0, 5.0),
    "caustic_refraction": (2.35, 3.2, 4.9, 6.6, 9.15),
    "checkerboard_cutout": (2.0, 3.0, 4.0, 5.0, 6.0),
    "cocentric_sine_waves": (3.0, 5.0, 8.0, 9.0, 10.0),
    "inverse_sparkles": (1.0, 2.0, 4.0, 9.0, 10.0),
    "perlin_noise": (4.6, 5.2, 5.8, 7.6, 8.8),
    "plasma_noise": (4.75, 7.0, 8.5, 9.25, 10.0),
    "single_frequency_greyscale": (1.0, 1.5, 2.0, 4.5, 5.0),
    "sparkles": (1.0, 2.0, 3.0, 5.0, 6.0),
    # Kar et al. 2022: deviations of the readout, the brightest light, bits that are kept, what
    # divides the map of the light, extinction of the fog.
    "iso_noise": tuple(0.7 * deviation for deviation in (0.08, 0.12, 0.18, 0.26, 0.38)),
    "low_light": (0.6, 0.5, 0.4, 0.3, 0.2),
    "color_quant": (5, 4, 3, 2, 1),
    "flash": (2.4, 1.4, 0.9, 0.6, 0.4),
    "fog_3d": (4.0, 8.0, 12.0, 16.0, 20.0),
}
CIFAR = {
    "blue_noise_sample": (0.7, 1.4, 2.1, 3.5, 4.2),
    "brownish_noise": (2.5, 4.0, 5.5, 6.5, 7.0),
    "checkerboard_cutout": (1.0, 2.0, 3.0, 4.0, 5.0),
    "circular_motion_blur": (2.8, 3.6, 4.4, 5.2, 6.0),
    "inverse_sparkles": (1.0, 1.5, 2.5, 4.5, 5.0),
    "lines": (0.5, 1.0, 1.5, 2.0, 2.5),
    "pinch_and_twirl": (5.5, 6.0, 6.5, 8.5, 10.0),
    "ripple": (5.5, 6.0, 6.5, 7.5, 8.0),
    "sparkles": (0.7, 3.5, 5.6, 6.3, 7.0),
    "transverse_chromatic_abberation": (1.0, 2.0, 5.0, 9.0, 10.0),
}

NAMES = (*IMAGENET, *(name for name in CIFAR if name not in IMAGENET))
ORACLES = {
    name: getattr(module, name)
    for name in NAMES
    for module in (by_pixel_bar, by_pixel_warp, by_pixel_3dcc)
    if hasattr(module, name)
}
