"""The 19 common corruptions as NumPy, SciPy, Pillow, OpenCV and scikit-image do them.

Written from the formulas (Hendrycks & Dietterich 2019), each in the most direct way that these
libraries offer; one image at a time, as the published scripts work. Each takes (image uint8
[N, N, 3], the row of constants of the severity, a NumPy generator) and returns grey levels.
`corruptions` times them with NumPy's draws; `exactness` and the tests compare ours with them on
equal draws (`given_draws`). With OpenCV 5 and scikit-image they are the recorded outputs of the
published scripts, bit by bit but for 13 values of 9.8 million. OpenCV and scikit-image are used
where they are importable, as the published scripts use them:

- noise: NumPy's generator. Gaussian blurs, zoom, the displacement of elastic: scipy.ndimage.
- defocus: cv2.filter2D (else SciPy's FFT). elastic's affine map: cv2.warpAffine (else SciPy).
- water of spatter: cv2.Canny, distanceTransform, equalizeHist, filter2D (else SciPy's likes).
- brightness, saturate: skimage.color (else matplotlib.colors). JPEG, pixelate: Pillow.
- motion blur, snow: the taps of ImageMagick's filter summed in NumPy, in memory, and rounded as it
  does; the published scripts call ImageMagick through PNG files, which is slower.
- glass blur: the published loop over pixels in Python. fog: diamond-square on NumPy arrays.
"""

import importlib
import io
import math
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage, signal

try:
    cv2: Any = importlib.import_module("cv2")
except ImportError:
    cv2 = None

try:
    from skimage.color import hsv2rgb, rgb2hsv
except ImportError:
    from matplotlib.colors import hsv_to_rgb as hsv2rgb
    from matplotlib.colors import rgb_to_hsv as rgb2hsv

FROST_BANK: list[np.ndarray] = []  # photographs of frost, uint8; `corruptions` fills it


def _clip(x):
    return 255 * np.clip(x, 0, 1)


def gaussian_noise(image, row, rng):
    return _clip(image / 255 + rng.normal(scale=row, size=image.shape))


def shot_noise(image, row, rng):
    return _clip(rng.poisson(image / 255 * row) / row)


def impulse_noise(image, row, rng):
    flipped, salt = rng.random(image.shape) <= row, rng.random(image.shape) <= 0.5
    return np.where(flipped, np.where(salt, 255, 0), image)


def speckle_noise(image, row, rng):
    x = image / 255
    return _clip(x + x * rng.normal(scale=row, size=image.shape))


def _blur(x, sigma):
    return ndimage.gaussian_filter(x, (sigma, sigma, 0)[: x.ndim], mode="nearest")


def gaussian_blur(image, row, rng):
    del rng
    return _clip(_blur(image / 255, row))


def defocus_blur(image, row, rng):
    del rng
    radius, softness = row
    half = 8 if radius <= 8 else int(radius)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.float32)
    disk /= disk.sum()
    x, reach = image / 255, 1 if radius <= 8 else 2
    if cv2 is not None:
        disk = cv2.GaussianBlur(disk, (2 * reach + 1, 2 * reach + 1), softness)
        return _clip(np.stack([cv2.filter2D(x[..., c], -1, disk) for c in range(3)], -1))
    disk = ndimage.gaussian_filter(disk.astype(np.float64), softness, mode="mirror", radius=reach)
    padded = np.pad(x, ((half, half), (half, half), (0, 0)), mode="reflect")
    return _clip(signal.fftconvolve(padded, disk[..., None], mode="valid", axes=(0, 1)))


def glass_blur(image, row, rng):
    sigma, delta, sweeps = row
    x = np.floor(255 * _blur(image / 255, sigma))
    H, W, _ = x.shape
    for _ in range(sweeps):
        for h in range(H - delta, delta, -1):
            for w in range(W - delta, delta, -1):
                dx, dy = rng.integers(-delta, delta, 2)
                x[h, w] = x[h + dy, w + dx]
    return _clip(_blur(x / 255, sigma))


def _motion(x, radius, sigma, degrees):
    taps = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    weights /= weights.sum()
    H, W, margin = x.shape[0], x.shape[1], len(taps)
    padded = np.pad(x, [(margin, margin)] * 2 + [(0, 0)] * (x.ndim - 2), mode="edge")
    total = np.zeros(x.shape)
    for i, weight in enumerate(weights):
        row = margin + math.ceil(i * math.sin(math.radians(degrees)) - 0.5)
        col = margin + math.ceil(i * math.cos(math.radians(degrees)) - 0.5)
        total += weight * padded[row : row + H, col : col + W]
    # ImageMagick rounds to 16 bits, and cuts those off to 8 where it writes the file.
    return np.floor(257 * total + 0.5) // 257


def motion_blur(image, row, rng):
    radius, sigma = row
    return _motion(image.astype(np.float64), radius, sigma, rng.uniform(-45, 45))


def _zoomed(x, factor):
    size = len(x)
    part = math.ceil(size / factor)
    start = (size - part) // 2
    middle = x[start : start + part, start : start + part]
    zoomed = ndimage.zoom(middle, (factor, factor, 1)[: x.ndim], order=1)
    cut = (len(zoomed) - size) // 2
    return zoomed[cut : cut + size, cut : cut + size]


def zoom_blur(image, row, rng):
    del rng
    x = (image / 255).astype(np.float32)
    factors = np.arange(*row)
    return _clip((x + sum(_zoomed(x, factor) for factor in factors)) / (len(factors) + 1))


def snow(image, row, rng):
    loc, scale, zoom, threshold, radius, sigma, mix = row
    x = (image / 255).astype(np.float32)
    flakes = _zoomed(rng.normal(loc, scale, image.shape[:2]), zoom)
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1)
    flakes = _motion(np.floor(255 * flakes), radius, sigma, rng.uniform(-135, -45))[..., None] / 255
    grey = (x @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    return _clip(
        mix * x + (1 - mix) * np.maximum(x, grey * 1.5 + 0.5) + flakes + flakes[::-1, ::-1]
    )


def _shrunk(picture, scale):
    """As OpenCV shrinks: bilinear between the nearest pixels, none left out or averaged."""
    places = [(np.arange(round(n * scale)) + 0.5) / scale - 0.5 for n in picture.shape[:2]]
    grid = np.meshgrid(*places, indexing="ij")
    planes = [
        ndimage.map_coordinates(picture[..., c].astype(np.float64), grid, order=1, mode="nearest")
        for c in range(3)
    ]
    return np.rint(np.stack(planes, -1)).astype(np.uint8)


def frost(image, row, rng):
    size = len(image)
    picture = FROST_BANK[rng.integers(len(FROST_BANK))]
    if row[2] != 1 and cv2 is not None:
        picture = cv2.resize(picture, (0, 0), fx=row[2], fy=row[2])
    elif row[2] != 1:
        picture = _shrunk(picture, row[2])
    top, left = (rng.integers(0, length - size) for length in picture.shape[:2])
    return row[0] * image + row[1] * picture[top : top + size, left : left + size]


def plasma(size, decay, rng):
    relief, scale, step = np.zeros((size, size)), 100.0, size
    while step > 1:
        half, side = step // 2, size // step
        noise = scale * rng.uniform(-scale, scale, (3, side, side))
        corners = relief[::step, ::step]
        right, below = np.roll(corners, -1, 1), np.roll(corners, -1, 0)
        centres = (corners + right + below + np.roll(right, -1, 0)) / 4 + noise[0]
        relief[half::step, half::step] = centres
        across = corners + right + centres + np.roll(centres, 1, 0)
        down = corners + below + centres + np.roll(centres, 1, 1)
        relief[::step, half::step] = across / 4 + noise[1]
        relief[half::step, ::step] = down / 4 + noise[2]
        step, scale = half, scale / decay
    relief -= relief.min()
    return relief / relief.max()


def fog(image, row, rng):
    weight, decay, size = row
    x = image / 255
    cloud = plasma(size, decay, rng)[: len(x), : len(x), None]
    return _clip((x + weight * cloud) * x.max() / (x.max() + weight))


def brightness(image, row, rng):
    del rng
    hsv = rgb2hsv(image / 255)
    hsv[..., 2] = np.clip(hsv[..., 2] + row, 0, 1)
    return _clip(hsv2rgb(hsv))


def saturate(image, row, rng):
    del rng
    hsv = rgb2hsv(image / 255)
    hsv[..., 1] = np.clip(hsv[..., 1] * row[0] + row[1], 0, 1)
    return _clip(hsv2rgb(hsv))


def contrast(image, row, rng):
    del rng
    x = image / 255
    mean = x.mean(axis=(0, 1))
    return _clip((x - mean) * row + mean)


def elastic_transform(image, row, rng):
    alpha, sigma, jitter = row
    x, size = (image / 255).astype(np.float32), len(image)
    s = size // 3
    points = size // 2 + np.array([[s, s], [s, -s], [-s, -s]], np.float64)
    moved = points + np.float32(rng.uniform(-jitter, jitter, points.shape))
    affine = np.linalg.solve(np.c_[moved, np.ones(3)], points).T  # output (x, y) -> input
    y, col = np.mgrid[:size, :size].astype(np.float64)
    if cv2 is not None:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        x = cv2.warpAffine(x, affine, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    else:
        at = [affine[i, 0] * col + affine[i, 1] * y + affine[i, 2] for i in (1, 0)]
        planes = [ndimage.map_coordinates(x[..., c], at, order=1, mode="mirror") for c in range(3)]
        x = np.stack(planes, -1)
    right, down = (
        alpha * ndimage.gaussian_filter(rng.uniform(-1, 1, (size, size)), sigma, truncate=3)
        for _ in range(2)
    )
    at = [y + down.astype(np.float32), col + right.astype(np.float32)]
    planes = [ndimage.map_coordinates(x[..., c], at, order=1, mode="reflect") for c in range(3)]
    return _clip(np.stack(planes, -1))


def pixelate(image, row, rng):
    del rng
    size, box = len(image), Image.Resampling.BOX
    small = Image.fromarray(image).resize((int(size * row), int(size * row)), box)
    return np.asarray(small.resize((size, size), box))


def jpeg_compression(image, row, rng):
    del rng
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=row)
    return np.asarray(Image.open(file))


def _water(layer):
    """The distance to edges of drops, equalised and embossed: [H, W] grey levels."""
    if cv2 is not None:
        edges = cv2.Canny(layer, 50, 150)
        distance = cv2.distanceTransform(255 - edges, cv2.DIST_L2, 5)
        distance = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
        equal = cv2.equalizeHist(distance)
        emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
        return cv2.blur(cv2.filter2D(equal, cv2.CV_8U, emboss), (3, 3)).astype(np.float64)
    # Without OpenCV: Canny's edges without their thinning, the Euclidean distance.
    wide = layer.astype(np.float64)
    slope = abs(ndimage.sobel(wide, 0)) + abs(ndimage.sobel(wide, 1))
    edges = ndimage.binary_propagation(slope > 150, np.ones((3, 3)), mask=slope > 50)
    distance = np.minimum(ndimage.distance_transform_edt(~edges), 20)
    distance = ndimage.uniform_filter(distance, 3, mode="mirror").astype(np.uint8)
    share = np.cumsum(np.bincount(distance.ravel(), minlength=256)) / distance.size
    equal = np.rint(255 * (share - share[distance.min()]) / max(1 - share[distance.min()], 1e-9))
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    relief = np.clip(ndimage.correlate(equal[distance], emboss, mode="mirror"), 0, 255)
    return np.rint(ndimage.uniform_filter(relief, 3, mode="mirror"))


def spatter(image, row, rng):
    loc, scale, sigma, threshold, strength, mud = row
    x = (image / 255).astype(np.float32)
    layer = _blur(rng.normal(loc, scale, image.shape[:2]), sigma)
    layer[layer < threshold] = 0
    if mud:
        stain = _blur((layer > threshold).astype(np.float32), strength)[..., None]
        stain[stain < 0.8] = 0
        return _clip(x * (1 - stain) + stain * np.array([63 / 255, 42 / 255, 20 / 255], np.float32))
    layer = (255 * layer).astype(np.uint8)
    drops = layer * _water(layer).astype(np.float32)
    drops = strength * (drops / max(drops.max(), np.float32(1e-9)))
    return _clip(x + drops[..., None] * np.array([175 / 255, 238 / 255, 238 / 255], np.float32))


FUNCTIONS = {
    function.__name__: function
    for function in (
        *(gaussian_noise, shot_noise, impulse_noise, defocus_blur, glass_blur, motion_blur),
        *(zoom_blur, snow, frost, fog, brightness, contrast, elastic_transform, pixelate),
        *(jpeg_compression, speckle_noise, gaussian_blur, spatter, saturate),
    )
}
