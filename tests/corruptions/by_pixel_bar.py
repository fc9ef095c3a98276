"""C-bar's noise and what it covers parts of an image with, a pixel at a time: see `by_pixel`."""

import math

import numpy as np


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
