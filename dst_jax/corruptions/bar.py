"""ImageNet-C-bar and CIFAR-10-C-bar (Mintun et al. 2021): what both suites share, and their lists.

The corruptions live in `bar_noise`, `bar_cover` and `bar_warp`; each has one level L from 0 to 10 a
severity (`constants.ROWS`), and is defined for square images of side N. Fed with the same draws,
they are within one grey level of the published generator (docs/corruptions.md), but where rounding
decides: at the jump between two rings or rays, where noise meets its threshold, where a cell's
border meets a pixel, where a slope meets the threshold of refraction. Our draws follow its laws.

Differences in law: the permutation of `perlin_noise` is uniform, the generator's is nearly so.
The files of ImageNet-C-bar were saved as JPEG of quality 85 (`corruptions.jpeg85`), those of
CIFAR-10-C-bar without loss. Called by `registry`.
"""

from dst_jax.corruptions import bar_cover, bar_noise, bar_warp

BOTH = (
    bar_noise.BLUE_NOISE_SAMPLE,
    bar_noise.BROWNISH_NOISE,
    bar_cover.CHECKERBOARD_CUTOUT,
    bar_cover.INVERSE_SPARKLES,
    bar_cover.SPARKLES,
)
IMAGENET = (
    *BOTH,
    bar_warp.CAUSTIC_REFRACTION,
    bar_noise.COCENTRIC_SINE_WAVES,
    bar_noise.PERLIN_NOISE,
    bar_noise.PLASMA_NOISE,
    bar_noise.SINGLE_FREQUENCY_GREYSCALE,
)
CIFAR = (
    *BOTH,
    bar_warp.CIRCULAR_MOTION_BLUR,
    bar_cover.LINES,
    bar_warp.PINCH_AND_TWIRL,
    bar_warp.RIPPLE,
    bar_warp.TRANSVERSE_CHROMATIC_ABBERATION,
)
