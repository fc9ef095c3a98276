"""C-bar's corruptions and 3DCC's as NumPy and SciPy do them, one image at a time, in float64.

Written from the formulas (Mintun et al. 2021; Kar et al. 2022), each in the most direct way that
these libraries offer. `corruptions` times them; the tests hold them, as ours, against loops over
pixels (`tests/corruptions/by_pixel.py`) on equal draws.
Each takes (image uint8 [N, N, 3], level or row of the severity, draws) and returns grey levels.
"""

import math

import numpy as np
from scipy import ndimage, stats


def _grid(side):
    return np.mgrid[:side, :side].astype(np.float64)


def _fourier(phases, colour):
    side = phases.shape[1]
    y, x = _grid(side) - side / 2
    distance = np.hypot(y, x)
    amplitude = distance if colour == "blue" else 1 / (distance**2 + 1)
    planes = []
    for half in phases.astype(np.float64):
        phase = np.concatenate([half, half[::-1, ::-1]], axis=1)
        spectrum = np.roll(amplitude * np.exp(1j * phase), side // 2, axis=(0, 1))
        noise = np.fft.ifft2(spectrum).real
        planes.append(noise / noise.std())
    return np.stack(planes, -1)


def blue_noise_sample(image, level, draws):
    return image * (_fourier(draws["phases"], "blue") > 3 * level / 10 - 2.5)


def brownish_noise(image, level, draws):
    return image + 64 * level / 10 * _fourier(draws["phases"], "brownish")


def checkerboard_cutout(image, level, draws):
    side = image.shape[0]
    y, x = _grid(side)
    cell = float(draws["cell"])
    cells = int(4 * side // cell)
    grid = draws["grid"][:cells, :cells] < level / 10
    cos, sin = math.cos(draws["angle"]), math.sin(draws["angle"])
    down, right = (cos * y + sin * x) / cell, (cos * x - sin * y) / cell
    same = (down % 2).astype(int) == (right % 2).astype(int)
    covered = same & grid[down.astype(int), right.astype(int)]
    return np.where(covered[..., None], 128, image)


def _sparkle(side, centre, lengths, exponent):
    y, x = _grid(side) - np.asarray(centre, np.float64)[:, None, None]
    turn = (np.arctan2(x, y) + math.pi) / (2 * math.pi) * len(lengths)
    rest = turn % 1
    extended = np.append(lengths, lengths[0])
    length = np.interp(turn % len(lengths), np.arange(len(extended)), extended)
    falloff = (length**2 / (y**2 + x**2 + 1e-4)) ** exponent
    return np.clip((1 - (rest - 0.5) ** 2) * falloff, 0, 1)[..., None]


def sparkles(image, level, draws):
    side = image.shape[0]
    radius = 0.1 * level / 10 * side
    for centre, rays, noise in zip(draws["centres"], draws["rays"], draws["n"], strict=True):
        lengths = np.maximum(radius * (1 + 0.25 * noise[:rays].astype(np.float64)), 1)
        image = image + _sparkle(side, centre, lengths, 1) * (255.0 - image)
    return image


def inverse_sparkles(image, level, draws):
    side = image.shape[0]
    lengths = 0.25 * side * (1 + 0.25 * draws["n"][: draws["rays"]].astype(np.float64))
    shown = _sparkle(side, draws["centre"], lengths, 65 * level / 10 / 50)
    return 255 + shown * (image.astype(np.float64) - 255)


def cocentric_sine_waves(image, level, draws):
    y, x = _grid(image.shape[0])
    x, y = x - draws["centre"][0], y - draws["centre"][1]
    radius = np.hypot(x, y) + draws["amplitude"] * np.sin(np.arctan2(x, y) * draws["frequency"])
    wave = radius % draws["width"] / draws["width"] - 0.5
    return image + 128 * level / 10 * wave[..., None]


def single_frequency_greyscale(image, level, draws):
    y, x = _grid(image.shape[0])
    wave = np.sin(x * draws["frequency"][0] + y * draws["frequency"][1] + draws["phase"])
    return image + 196 * level / 10 * wave[..., None]


def plasma_noise(image, level, draws):
    time, sharp = float(draws["time"]), float(draws["sharpness"])
    y, x = _grid(image.shape[0]) / float(draws["scale"])
    a, b, c = 1.0, 1.0, 1.0
    for _ in range(int(draws["iterations"])):
        r0, r1 = np.cos(y * a + time / b) / c, np.sin(x * a + time / b) / c
        x, y = x + r0 - 0.3 * r1, y + r1 + 0.3 * r0
        a, b, c = a * 1.93, b * 1.15, c * (2.25 - sharp)
    red, green, blue = np.sin(x - time), np.sin((x + y + math.sin(time)) / 2), np.sin(y + time)
    noise = np.stack([red, green, blue], -1)
    strength = 64 * level / 10
    return (1 - strength / 255) * image + strength * noise


def perlin_noise(image, level, draws):
    order, gradients = np.asarray(draws["order"]), np.asarray(draws["gradients"], np.float64)
    side = image.shape[0]
    total = 0.0
    for octave in (1, 2, 4, 8, 16):
        x, y = _grid(side) / (32 * side / 224) * octave
        bx, by = x.astype(int), y.astype(int)
        x, y = x - bx, y - by

        def corner(dx, dy, bx=bx, by=by, x=x, y=y):
            gradient = gradients[order[(order[(bx + dx) % 256] + by + dy) % 256]]
            return gradient[..., 0] * (x - dx) + gradient[..., 1] * (y - dy)

        sx, sy = x * x * (3 - 2 * x), y * y * (3 - 2 * y)
        above = corner(0, 0) + sx * (corner(1, 0) - corner(0, 0))
        below = corner(0, 1) + sx * (corner(1, 1) - corner(0, 1))
        total = total + np.abs(1.5 * (above + sy * (below - above))) / octave
    alpha = 0.5 * level / 10
    return (1 - alpha) * image + 255 * alpha * np.clip(total / 2 + 0.5, 0, 1)[..., None]


def caustic_refraction(image, level, draws):
    side = image.shape[0]
    time, size = float(draws["time"]), float(draws["size"])
    p = _grid(side) / size % 1 * 6.28318530718 - 250
    i, light = p.copy(), np.ones((side, side))
    for n in range(5):
        t = time * (1 - 3.5 / (n + 1))
        i = p + np.stack([np.cos(t - i[0]) + np.sin(t + i[1]), np.sin(t - i[1]) + np.cos(t + i[0])])
        light += 1 / np.hypot(0.005 * p[0] / np.sin(i[0] + t), 0.005 * p[1] / np.cos(i[1] + t))
    light = ndimage.gaussian_filter(np.clip(np.abs(1.17 - (light / 5) ** 1.4) ** 8, 0, 1), 1)
    light = np.pad(light, 1)
    dy, dx = light[2:, 1:-1] - light[:-2, 1:-1], light[1:-1, 2:] - light[1:-1, :-2]
    normal = np.stack([dy, dx, np.ones_like(dy)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    down = np.broadcast_to([0.0, 0.0, 1.0], normal.shape)
    beside = np.cross(down, normal)
    beside /= np.maximum(np.linalg.norm(beside, axis=-1, keepdims=True), 1e-12)
    cosine = normal[..., 2:]
    bent = np.arcsin(np.sin(np.arccos(cosine)) / 4)
    ray = np.cos(bent) * normal + np.sin(bent) * np.cross(normal, beside)
    ray = np.where(np.abs(cosine) >= 1 - 1e-3, down, ray) * 0.5 * level / 10 * side
    at = _grid(side) + np.moveaxis(np.round(ray, 3)[..., :2], -1, 0)
    return _sample(image, at) + 255 * 2 * level / 10 * (dy - dx)[..., None]


def _sample(image, at):
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0))).astype(np.float64)
    return np.stack(
        [ndimage.map_coordinates(padded[..., c], at + 1, order=1, cval=0) for c in range(3)], -1
    )


def pinch_and_twirl(image, level, draws):
    side = image.shape[0]
    cells = draws["sign"].shape[0]
    size = side // cells
    radius = size / 2
    out = image.astype(np.float64)
    for i in range(cells):
        for j in range(cells):
            rows, cols = slice(j * size, (j + 1) * size), slice(i * size, (i + 1) * size)
            centre = np.array([j * size + radius, i * size + radius])[:, None, None]
            d = _grid(side)[:, rows, cols] - centre
            share = np.hypot(*d) / radius
            still = (share > 1) | (np.round(share * radius, 3) == 0)
            share[still] = 1
            d = d * np.sin(math.pi / 2 * share) ** -(0.4 * level / 10 + 0.1)
            a = draws["sign"][i, j] * math.pi / 2 * level / 10 * (1 - share) ** 2
            turned = [d[0] * np.cos(a) - d[1] * np.sin(a), d[0] * np.sin(a) + d[1] * np.cos(a)]
            moved = _sample(out, centre + np.stack(turned))
            out[rows, cols] = np.where(still[..., None], out[rows, cols], moved)
    return out


def ripple(image, level, draws):
    side = image.shape[0]
    at = _grid(side)
    wavelength, phase = draws["wavelength"][:, None, None], draws["phase"][:, None, None]
    return _sample(
        image, at + 0.025 * level / 10 * side * np.sin(2 * math.pi * at / wavelength + phase)
    )


def circular_motion_blur(image, level, draws):
    del draws
    turns = np.linspace(-1, 1, 21)
    weights = np.exp(-2 * turns**2)
    image = image.astype(np.float64)
    total = sum(
        w * ndimage.rotate(image, turn * 15 * level / 10, reshape=False)
        for w, turn in zip(weights, turns, strict=True)
    )
    return total / weights.sum()


def transverse_chromatic_abberation(image, level, draws):
    side = image.shape[0]
    scale = 0.5 * level / 10
    scales = np.array([1, 1 + scale / 2, 1 + scale])[np.asarray(draws["order"])]
    out = np.empty_like(image)
    for c in range(3):
        zoomed = ndimage.zoom(image[..., c], scales[c], prefilter=False)
        edge = (zoomed.shape[0] - side) // 2
        out[..., c] = zoomed[edge : edge + side, edge : edge + side]
    return out


def _walk(row0, col0, row1, col1):
    """Zingl's anti-aliased line: yields (row, col, coverage)."""
    dc, dr = abs(col1 - col0), abs(row1 - row0)
    sc, sr = (1 if col0 < col1 else -1), (1 if row0 < row1 else -1)
    length = math.hypot(dc, dr) or 1.0
    error, row, col = dc - dr, row0, col0
    while True:
        yield row, col, 1 - abs(error - dc + dr) / length
        before, col_before = error, col
        if 2 * before >= -dc:
            if col == col1:
                return
            if before + dr < length:
                yield row + sr, col, 1 - abs(before + dr) / length
            error -= dr
            col += sc
        if 2 * before <= dr:
            if row == row1:
                return
            if dc - before < length:
                yield row, col_before + sc, 1 - abs(dc - before) / length
            error += dc
            row += sr


def lines(image, level, draws):
    side = image.shape[0]
    out = image.copy()
    for index in range(int(level / 10 * side)):
        angle, (row, col) = float(draws["angle"][index]), draws["middle"][index].astype(np.float64)
        down, right = math.cos(angle) * side, math.sin(angle) * side
        ends = int(row - down), int(col - right), int(row + down), int(col + right)
        for r, c, covered in _walk(*ends):
            if 0 <= r < side and 0 <= c < side:
                out[r, c] = (1 - covered) * out[r, c].astype(np.float64) + covered * 128
    return out


def iso_noise(image, std, draws):
    counts = stats.poisson.ppf(draws["u"], image / 255 * 25)
    return 255 * np.clip(np.clip(counts / 25, 0, 1) + std * draws["n"], 0, 1)


def low_light(image, brightest, draws):
    low, high = float(image.min()), float(image.max())
    dark = ((image - low) / max(high - low, 1)) ** 2 * brightest
    counts = stats.poisson.ppf(draws["u"], dark * 120)
    return 255 * np.clip(np.clip(counts / 120, 0, 1) + 0.018 * draws["n"], 0, 1)


def color_quant(image, bits, draws):
    del draws
    return image & (0xFF << (8 - bits) & 0xFF)


FUNCTIONS = {
    function.__name__: function
    for function in (
        *(blue_noise_sample, brownish_noise, checkerboard_cutout, inverse_sparkles, sparkles),
        *(caustic_refraction, cocentric_sine_waves, perlin_noise, plasma_noise),
        *(single_frequency_greyscale, circular_motion_blur, lines, pinch_and_twirl, ripple),
        *(transverse_chromatic_abberation, iso_noise, low_light, color_quant),
    )
}
