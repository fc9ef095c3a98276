"""3DCC's corruptions that need no scene, a pixel at a time: see `by_pixel`."""

import math

import numpy as np

from tests.corruptions.by_pixel_bar import over_pixels


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
