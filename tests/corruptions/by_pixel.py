"""C-bar's and 3DCC's corruptions one pixel and one channel at a time, as they were published.

The oracle of `test_bar` and `test_colour_order`. It was written from the papers (Mintun et al.
2021; Kar et al. 2022) and the behaviour of their generators, not from `dst_jax.corruptions`:
scalars, plain loops and the standard library's functions in float64. NumPy holds the arrays, and
SciPy does what the generator itself leaves to it (a Gaussian filter, rotation, zoom). Those of
C-bar were run beside the published generator on equal draws: docs/corruptions.md. Not tests.

Each function takes (image uint8 [N, N, 3] RGB, the published number of the severity, the random
draws of one image) and returns grey levels [N, N, 3] float64, before they are clipped and cut off.
"""

import math

import numpy as np
from scipy import ndimage

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


def over_pixels(image, colours):
    """[N, N, 3] from a function of (row, column, red, green, blue) that gives three numbers."""
    out = np.empty(image.shape, np.float64)
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            out[row, column] = colours(row, column, *map(float, image[row, column]))
    return out


# --- additive noise of C-bar ---


def spectral_noise(phases, amplitude):
    """[N, N] of deviation 1: a Fourier sum, term by term in matrices of exponentials.

    Args:
      phases: [N, N / 2], of the left half of the spectrum; the right half is it, turned by 180
        degrees. Frequency 0 is at row N / 2, column N / 2.
      amplitude: of the distance to frequency 0.
    """
    side = len(phases)
    middle = side / 2
    spectrum = np.zeros((side, side), complex)
    for row in range(side):
        for column in range(side):
            if column < side // 2:
                phase = float(phases[row][column])
            else:
                phase = float(phases[side - 1 - row][side - 1 - column])
            size = amplitude(math.hypot(column - middle, row - middle))
            # The centre moves to the corner, as inverse transforms expect it.
            at = (row + side // 2) % side, (column + side // 2) % side
            spectrum[at] = size * complex(math.cos(phase), math.sin(phase))
    number = np.arange(side)
    wave = np.exp(2j * math.pi * np.outer(number, number) / side)
    noise = (wave @ spectrum @ wave).real
    return noise / math.sqrt(np.mean((noise - noise.mean()) ** 2))


def blue_noise_sample(image, level, draws):
    noise = spectral_noise(draws["phases"][0], lambda distance: distance)
    threshold = level * 3.0 / 10 - 2.5

    def colours(row, column, *rgb):
        return rgb if noise[row, column] > threshold else (0, 0, 0)

    return over_pixels(image, colours)


def brownish_noise(image, level, draws):
    noise = [spectral_noise(draws["phases"][c], lambda d: 1 / (d * d + 1)) for c in range(3)]
    strength = level * 64.0 / 10

    def colours(row, column, *rgb):
        return [value + strength * noise[c][row, column] for c, value in enumerate(rgb)]

    return over_pixels(image, colours)


def single_frequency_greyscale(image, level, draws):
    across, down = map(float, draws["frequency"])
    phase, strength = float(draws["phase"]), level * 196.0 / 10

    def colours(row, column, *rgb):
        wave = math.sin(column * across + row * down + phase)
        return [value + strength * wave for value in rgb]

    return over_pixels(image, colours)


def cocentric_sine_waves(image, level, draws):
    x0, y0 = map(float, draws["centre"])
    frequency, amplitude, width = (
        float(draws[name]) for name in ("frequency", "amplitude", "width")
    )
    strength = level * 128.0 / 10

    def colours(row, column, *rgb):
        angle = math.atan2(column - x0, row - y0) * frequency
        distance = math.hypot(column - x0, row - y0) + math.sin(angle) * amplitude
        wave = (distance % width) / width - 0.5
        return [value + strength * wave for value in rgb]

    return over_pixels(image, colours)


def plasma_noise(image, level, draws):
    time, sharpness, scale = (float(draws[name]) for name in ("time", "sharpness", "scale"))
    strength = level * 64.0 / 10

    def colours(row, column, red, green, blue):
        x, y = column / scale, row / scale
        frequency, slowness, divisor = 1.0, 1.0, 1.0
        for _ in range(int(draws["iterations"])):
            right = math.cos(y * frequency + time / slowness) / divisor
            down = math.sin(x * frequency + time / slowness) / divisor
            x, y = x + right - 0.3 * down, y + down + 0.3 * right
            frequency, slowness = frequency * 1.93, slowness * 1.15
            divisor *= 2.25 - sharpness
        kept = 1 - strength / 255
        return (
            kept * red + strength * math.sin(x - time),
            kept * green + strength * math.sin((x + y + math.sin(time)) / 2),
            kept * blue + strength * math.sin(y + time),
        )

    return over_pixels(image, colours)


def perlin_noise(image, level, draws):
    order = [int(number) for number in draws["order"]]
    gradients = [tuple(map(float, gradient)) for gradient in draws["gradients"]]
    cell = 32 * len(image) / 224
    alpha = level * 0.5 / 10

    def smooth(t):
        return t * t * (3 - 2 * t)

    def noise(first, second):
        """Perlin's gradient noise; rows of the image are its first coordinate."""
        corner, inside = (math.floor(first), math.floor(second)), (first % 1, second % 1)

        def ramp(i, j):
            at = order[(order[(corner[0] + i) % 256] + corner[1] + j) % 256]
            return gradients[at][0] * (inside[0] - i) + gradients[at][1] * (inside[1] - j)

        near = ramp(0, 0) + smooth(inside[0]) * (ramp(1, 0) - ramp(0, 0))
        far = ramp(0, 1) + smooth(inside[0]) * (ramp(1, 1) - ramp(0, 1))
        return 1.5 * (near + smooth(inside[1]) * (far - near))

    def colours(row, column, *rgb):
        octaves = (1, 2, 4, 8, 16)
        total = sum(abs(noise(row / cell * f, column / cell * f)) / f for f in octaves)
        white = min(max(0.5 * total + 0.5, 0.0), 1.0)
        return [(1 - alpha) * value + 255 * alpha * white for value in rgb]

    return over_pixels(image, colours)


def glow(row, column, centre, lengths, exponent):
    """How much of a sparkle's white lies on a pixel, in [0, 1]."""
    dy, dx = row - float(centre[0]), column - float(centre[1])
    turn = (math.atan2(dx, dy) + math.pi) / (2 * math.pi) * len(lengths)
    ray, rest = int(turn), turn - int(turn)
    this, following = lengths[ray % len(lengths)], lengths[(ray + 1) % len(lengths)]
    length = this + rest * (following - this)
    falloff = (length**2 / (dy * dy + dx * dx + 1e-4)) ** exponent
    return min(max((1 - (rest - 0.5) ** 2) * falloff, 0.0), 1.0)


def sparkles(image, level, draws):
    radius = level * 0.1 / 10 * len(image)
    out = image.astype(np.float64)
    for centre, rays, normal in zip(draws["centres"], draws["rays"], draws["n"], strict=True):
        lengths = [max(1.0, radius + 0.25 * radius * float(n)) for n in normal[: int(rays)]]

        def colours(row, column, *rgb, centre=centre, lengths=lengths):
            white = glow(row, column, centre, lengths, 1.0)
            return [value + white * (255 - value) for value in rgb]

        out = over_pixels(out, colours)
    return out


def inverse_sparkles(image, level, draws):
    radius, amount = 0.25 * len(image), 100 - level * 65.0 / 10
    lengths = [radius + 0.25 * radius * float(n) for n in draws["n"][: int(draws["rays"])]]

    def colours(row, column, *rgb):
        shown = glow(row, column, draws["centre"], lengths, (100 - amount) / 50)
        return [255 + shown * (value - 255) for value in rgb]

    return over_pixels(image, colours)


# --- what covers parts of an image ---


def checkerboard_cutout(image, level, draws):
    angle, cell = float(draws["angle"]), float(draws["cell"])
    cells = int(4 * len(image) // cell)  # a side of the generator's grid
    cos, sin = math.cos(angle), math.sin(angle)

    def colours(row, column, *rgb):
        down, right = (cos * row + sin * column) / cell, (cos * column - sin * row) / cell
        if int(down % 2) != int(right % 2):
            return rgb
        # Cut towards zero; what is negative counts from the end of the grid.
        chosen = float(draws["grid"][int(down) % cells][int(right) % cells]) < level / 10
        return (128, 128, 128) if chosen else rgb

    return over_pixels(image, colours)


def anti_aliased_line(row0, col0, row1, col1):
    """Zingl's anti-aliased line, as scikit-image walks it: (row, column, share of grey) each."""
    across, down = abs(col1 - col0), abs(row1 - row0)
    right, below = 1 if col0 < col1 else -1, 1 if row0 < row1 else -1
    length = math.hypot(across, down) if across + down else 1.0
    error, row, col = across - down, row0, col0
    pixels = []
    while True:
        pixels.append((row, col, abs(error - across + down) / length))
        now, here = error, col
        if 2 * now >= -across:
            if col == col1:
                break
            if now + down < length:
                pixels.append((row + below, col, abs(now + down) / length))
            error, col = error - down, col + right
        if 2 * now <= down:
            if row == row1:
                break
            if across - now < length:
                pixels.append((row, here + right, abs(across - now) / length))
            error, row = error + across, row + below
    return [(row, col, 1 - away) for row, col, away in pixels]


def lines(image, level, draws):
    side = len(image)
    out = image.copy()  # uint8: what is drawn is cut off to whole levels, line by line
    for i in range(int(level / 10 * side)):
        angle, (row, column) = float(draws["angle"][i]), map(float, draws["middle"][i])
        down, right = math.cos(angle) * side, math.sin(angle) * side
        before = out.astype(np.float64)
        ends = int(row - down), int(column - right), int(row + down), int(column + right)
        for r, c, share in anti_aliased_line(*ends):
            if 0 <= r < side and 0 <= c < side:
                for channel in range(3):
                    out[r, c, channel] = int((1 - share) * before[r, c, channel] + share * 128)
    return out.astype(np.float64)


# --- what moves pixels ---


def between_pixels(image, row, column):
    """The colour at (row, column), bilinear; a neighbour outside the image is black."""
    top, left = math.floor(row), math.floor(column)
    colour = [0.0, 0.0, 0.0]
    for r, by_row in ((top, top + 1 - row), (top + 1, row - top)):
        for c, by_column in ((left, left + 1 - column), (left + 1, column - left)):
            if 0 <= r < image.shape[0] and 0 <= c < image.shape[1]:
                for channel in range(3):
                    colour[channel] += by_row * by_column * float(image[r, c, channel])
    return colour


def caustic_light(row, column, time, size):
    p = [(place / size % 1) * 6.28318530718 - 250 for place in (row, column)]
    i, light = list(p), 1.0
    for n in range(5):
        t = time * (1 - 3.5 / (n + 1))
        i = [
            p[0] + math.cos(t - i[0]) + math.sin(t + i[1]),
            p[1] + math.sin(t - i[1]) + math.cos(t + i[0]),
        ]
        down, right = p[0] / (math.sin(i[0] + t) / 0.005), p[1] / (math.cos(i[1] + t) / 0.005)
        light += 1 / math.sqrt(down**2 + right**2)
    return min(abs(1.17 - (light / 5) ** 1.4) ** 8, 1.0)


def refracted(normal):
    """A ray of light straight down, after a surface with that unit normal and a density of 4."""
    cosine = normal[2]
    if abs(cosine) >= 1 - 1e-3:
        return 0.0, 0.0, 1.0
    bent = math.asin(math.sin(math.acos(cosine)) / 4)
    beside = (-normal[1], normal[0], 0.0)  # (0, 0, 1) x normal
    length = math.hypot(*beside)
    beside = [part / length for part in beside]
    along = np.cross(normal, beside)
    # In the basis of the normal, `along` and `beside` the ray is (cos, sin, 0).
    basis = np.linalg.inv(np.stack([normal, along, beside]))
    return tuple(basis @ [math.cos(bent), math.sin(bent), 0.0])


def caustic_refraction(image, level, draws):
    side, time, size = len(image), float(draws["time"]), float(draws["size"])
    light = np.array(
        [[caustic_light(row, column, time, size) for column in range(side)] for row in range(side)]
    )
    light = ndimage.gaussian_filter(light, 1)
    lens, lighting = level * 0.5 * side / 10, level * 2.0 / 10

    def lit(row, column):
        return float(light[row, column]) if 0 <= row < side and 0 <= column < side else 0.0

    def colours(row, column, *rgb):
        del rgb
        down = lit(row + 1, column) - lit(row - 1, column)
        right = lit(row, column + 1) - lit(row, column - 1)
        length = math.sqrt(down**2 + right**2 + 1)
        ray = refracted((down / length, right / length, 1 / length))
        moved = [round(lens * part, 3) for part in ray]
        colour = between_pixels(image / 255, row + moved[0], column + moved[1])
        colour = [value - right * lighting + down * lighting for value in colour]
        return [255 * min(max(value, 0.0), 1.0) for value in colour]

    return over_pixels(image, colours)


def pinch_and_twirl(image, level, draws):
    cells = len(draws["sign"])
    size = len(image) // cells
    radius, amount = size / 2, level * 0.4 / 10 + 0.1
    out = image.astype(np.float64)
    for i in range(cells):  # columns of cells, and within them rows
        for j in range(cells):
            twist = float(draws["sign"][i][j]) * level * (math.pi / 2) / 10
            centre = j * size + radius, i * size + radius
            cell = np.empty((size, size, 3))
            for row in range(j * size, (j + 1) * size):
                for column in range(i * size, (i + 1) * size):
                    dy, dx = row - centre[0], column - centre[1]
                    distance = math.hypot(dy, dx)
                    at = row, column
                    if distance <= radius and round(distance, 3) != 0:
                        pinch = math.sin(math.pi / 2 * distance / radius) ** -amount
                        turn = twist * (1 - distance / radius) ** 2
                        cos, sin = math.cos(turn), math.sin(turn)
                        at = (
                            centre[0] + pinch * (dy * cos - dx * sin),
                            centre[1] + pinch * (dy * sin + dx * cos),
                        )
                    cell[row - j * size, column - i * size] = between_pixels(out, *at)
            out[j * size : (j + 1) * size, i * size : (i + 1) * size] = cell
    return out


def ripple(image, level, draws):
    amplitude = level * 0.025 / 10 * len(image)

    def source(place, axis):
        wavelength, phase = float(draws["wavelength"][axis]), float(draws["phase"][axis])
        return place + amplitude * math.sin(2 * math.pi * place / wavelength + phase)

    def colours(row, column, *rgb):
        del rgb
        return between_pixels(image, source(row, 0), source(column, 1))

    return over_pixels(image, colours)


def circular_motion_blur(image, level, draws):
    del draws
    degrees = level * 15.0 / 10
    out, weights = np.zeros(image.shape), 0.0
    for i in range(21):
        turn = 2 * i / 20 - 1
        weight = math.exp(-2 * turn**2)
        weights += weight
        for channel in range(3):
            plane = image[..., channel] / 255
            out[..., channel] += weight * ndimage.rotate(plane, turn * degrees, reshape=False)
    return 255 * out / weights


def transverse_chromatic_abberation(image, level, draws):
    side, scale = len(image), level * 0.5 / 10
    factors = [1.0, 1 + scale / 2, 1 + scale]
    out = np.empty(image.shape, np.float64)
    for channel in range(3):
        factor = factors[int(draws["order"][channel])]
        zoomed = ndimage.zoom(image[..., channel], factor, prefilter=False)
        edge = (len(zoomed) - side) // 2
        out[..., channel] = zoomed[edge : edge + side, edge : edge + side]
    return out


# --- 3D Common Corruptions ---


def photons(rate, u):
    """The count of a Poisson law at the quantile u: its masses added one after another."""
    mass = total = math.exp(-rate)
    count = 0
    while total < u and count < 10_000:
        count += 1
        mass *= rate / count
        total += mass
    return count


def sensor_noise(image, light, most, readout, draws):
    """Photons of a light in [0, 1] and a normal error of the readout, a value at a time."""
    out = np.empty(image.shape, np.float64)
    for index in np.ndindex(*image.shape):
        count = photons(light(float(image[index])) * most, float(draws["u"][index]))
        value = min(count / most, 1.0) + readout * float(draws["n"][index])
        out[index] = 255 * min(max(value, 0.0), 1.0)
    return out


def iso_noise(image, readout, draws):
    return sensor_noise(image, lambda value: value / 255, 25, readout, draws)


def low_light(image, brightest, draws):
    low, high = float(image.min()), float(image.max())
    span = high - low or 1.0  # where the generator divides by 0

    def light(value):
        return brightest * ((value - low) / span) ** 2

    return sensor_noise(image, light, 120, 0.1 * 0.18, draws)


def color_quant(image, bits, draws):
    del draws
    step = 2 ** (8 - bits)
    return over_pixels(image, lambda row, column, *rgb: [v // step * step for v in rgb])


def flash(image, divisor, draws):
    def colours(row, column, *rgb):
        return [min(v + v * float(draws["map"][row, column]) / divisor, 255.0) for v in rgb]

    return over_pixels(image, colours)


def fog_3d(image, extinction, draws):
    mean = float(image.astype(np.float64).mean())  # one grey for all channels

    def colours(row, column, *rgb):
        seen = math.exp(-extinction * float(draws["map"][row, column]))
        return [seen * value + (1 - seen) * mean for value in rgb]

    return over_pixels(image, colours)


ORACLES = {
    function.__name__: function
    for function in (
        *(blue_noise_sample, brownish_noise, checkerboard_cutout, inverse_sparkles, sparkles),
        *(caustic_refraction, cocentric_sine_waves, perlin_noise, plasma_noise),
        *(single_frequency_greyscale, circular_motion_blur, lines, pinch_and_twirl, ripple),
        *(transverse_chromatic_abberation, iso_noise, low_light, color_quant, flash, fog_3d),
    )
}
