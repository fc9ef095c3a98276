"""The laws of the random corruptions, from our own draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dst_jax import corruptions
from dst_jax.corruptions.constants import ROWS


def draw(name, constants_severity=3, shape=(32, 32), number=64, preset="cifar32"):
    corruption = corruptions.CORRUPTIONS[name]
    constants = corruption.constants(ROWS[name][preset], shape, constants_severity)
    keys = corruptions.example_keys(0, name, constants_severity, jnp.arange(number))
    draws = jax.vmap(lambda key: corruption.draw(key, shape, constants))(keys)
    return {name: np.asarray(value) for name, value in draws.items()}


@pytest.mark.parametrize("severity", [1, 5])
def test_impulse_noise_replaces_the_published_share(severity):
    images = jnp.full((64, 32, 32, 3), 100, jnp.uint8)
    keys = corruptions.example_keys(0, "impulse_noise", severity, jnp.arange(64))
    found = np.asarray(corruptions.corrupt("impulse_noise", images, keys, severity, "imagenet224"))
    assert set(np.unique(found)) == {0, 100, 255}
    amount = ROWS["impulse_noise"]["imagenet224"][severity - 1]
    number = found.size
    for extreme in (0, 255):
        count = int((found == extreme).sum())
        assert stats.binomtest(count, number, amount / 2).pvalue > 1e-4
    # Per value, not per pixel: channels are independent.
    hit = found != 100
    both = (hit[..., 0] & hit[..., 1]).mean()
    assert both == pytest.approx(amount**2, rel=0.25, abs=2e-4)


@pytest.mark.parametrize(("grey", "photons"), [(0, 60), (40, 60), (255, 60), (120, 3)])
def test_shot_noise_is_poisson_cut_at_white(grey, photons):
    severity = ROWS["shot_noise"]["imagenet224"].index(photons) + 1
    images = jnp.full((64, 32, 32, 3), grey, jnp.uint8)
    keys = corruptions.example_keys(0, "shot_noise", severity, jnp.arange(64))
    found = corruptions.corrupt("shot_noise", images, keys, severity, "imagenet224", cast="round")
    counts = np.rint(np.asarray(found) / 255.0 * photons).astype(int)
    k = np.arange(photons + 1)
    law = stats.poisson.pmf(k, grey / 255 * photons)
    law[-1] = 1 - law[:-1].sum()
    seen = np.bincount(counts.ravel(), minlength=photons + 1)
    if grey == 0:
        assert seen[0] == counts.size
        return
    likely = law * counts.size > 5
    expected = np.append(law[likely], law[~likely].sum()) * counts.size
    observed = np.append(seen[likely], seen[~likely].sum())
    if expected[-1] < 5:
        assert observed[-1] < 20
        expected, observed = expected[:-1], observed[:-1]
    expected *= observed.sum() / expected.sum()
    assert stats.chisquare(observed, expected).pvalue > 1e-4


def test_normal_draws():
    for name in ("gaussian_noise", "speckle_noise", "snow", "spatter"):
        assert stats.kstest(draw(name)["n"].ravel()[:20000], "norm").pvalue > 1e-4


@pytest.mark.parametrize(("name", "low", "high"), [("motion_blur", -45, 45), ("snow", -135, -45)])
def test_angles(name, low, high):
    angles = draw(name, number=2000)["angle"]
    assert stats.kstest(angles, "uniform", (low, high - low)).pvalue > 1e-4


@pytest.mark.parametrize("severity", [1, 5])
def test_glass_offsets_exclude_the_upper_end(severity):
    delta = ROWS["glass_blur"]["imagenet224"][severity - 1][1]
    offsets = draw("glass_blur", severity, number=4, preset="imagenet224")["offsets"]
    assert set(np.unique(offsets)) == set(range(-delta, delta))
