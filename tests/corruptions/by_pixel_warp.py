"""C-bar's corruptions that move pixels, one at a time: see `by_pixel`."""

import math

import numpy as np
from scipy import ndimage

from tests.corruptions.by_pixel_bar import over_pixels


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
