"""ImageNet-C-bar and CIFAR-10-C-bar (Mintun et al. 2021): what both suites share, and their lists.

The corruptions live in `bar_noise`, `bar_cover` and `bar_warp`; each has one level L from 0 to 10 a
severity (`constants.ROWS`), and is defined for square images of side N. Fed with the same draws,
they compare with the published generator as follows; our draws follow its laws.

| corruption | agrees with the generator to |
|---|---|
| blue_noise_sample | the bit, but where the noise meets its threshold within rounding |
| brownish_noise, single_frequency_greyscale, plasma_noise, perlin_noise | 1 grey level |
| cocentric_sine_waves | 1 grey level, but at the jump between two rings |
| checkerboard_cutout | the bit, but where a cell's border meets a pixel within rounding |
| sparkles, inverse_sparkles | 1 grey level, but where two rays meet within rounding |
| lines | 1 grey level (scikit-image's anti-aliased line has a closed form) |
| caustic_refraction | 1 grey level, but where a slope meets the generator's threshold |
| pinch_and_twirl, ripple | 1 grey level |
| circular_motion_blur, transverse_chromatic_abberation | 1 grey level (cubic splines as scipy's) |

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
