"""What is promised to be the same with every supported version of JAX, as digests.

Recorded with JAX 0.10.2, 0.11.2 and 0.12.0.1, which agreed. A version that changes one changes
results of our users: `docs/versions.md` has to say so. A change of ours that is meant to change one
writes here what the failure shows.
"""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import versions, versions_exact
from dst_jax import corruptions, sparsity
from dst_jax.corruptions import video

pytestmark = pytest.mark.usefixtures("on_one_device")

DRAWS = {
    "fold_in": "220f41af4c7144d6",
    "split": "c2f043bfa327d929",
    "bits": "e9fb8a62b0fffa67",
    "uniform": "ffe1b5cef2ea660d",
    "uniform_in_bounds": "52252893640ff259",
    "randint": "a3fcd209f85986c2",
    "bernoulli": "b9a6bc5f996f8a05",
    "rademacher": "286f82dafc8d3207",
    "permutation": "1c38a1bfc44e47fd",
    "ours_uniform": "3b6c856ff934ee25",
}
INITIAL = {
    "mlp": "8225403904be1c1e",
    "vgg16": "d4d37a3b4bded299",
    "resnet20": "10a577306027c654",
    "resnet50": "54ee8c5540edd470",
    "wide_resnet22_2": "26fffeb8ec8c5d80",
    "efficientnet_b0": "771dba627a884051",
    "deit_small": "735886d7901fa61b",
    "resnet3d50": "cb4357cef1b14c20",
    "i3d_r50": "9e331107c7cfec03",
}
DATA = {
    "order_0": "68aa53f632b5a979",
    "order_3": "8b732a617d3a9caf",
    "crop_offsets": "0b04da1ebc9ec8ab",
    "flips": "0abcddb02a234f21",
    "crop": "d3c55dd72a2e64a2",
    "reflect_crop_flip": "1921f96516265ffa",
}
MASKS = {
    "magnitude": "7b6f428fb796e623",
    "random": "5f1bd40284b334e2",
    "saliency": "1e8286ecf9b5eac5",
    "magnitude_ste": "33dc86be9b4d968e",
    "random_ste": "f3512e3b97da405b",
    "global_magnitude": "be6b170e5d088c93",
    "global_saliency": "7906907c6778e189",
    "static_sparse": "07fceccdd1e1dc89",
    "rigl": "94d801ea8301c7d0",
    "set": "be29d578c2c6c8a6",
    "static": "07fceccdd1e1dc89",
    "mest_r": "3874d8154d49199a",
    "mest_g": "06b0ade2fe441899",
    "granet_r": "d3e64cbf08a33c70",
    "granet_g": "1c80b2bdfcf8af2d",
    "gmp": "7693a203e434c72a",
    "acdc": "e46f660aa78a0115",
    "snfs": "604542125682f0f3",
    "topkast": "e02836d341b934d3",
    "adam-fisher": "5ec50ec8c9866c39",
    "iterative_nm": "b2900906f7e6039d",
}
CORRUPTIONS = {
    "impulse_noise": "4124e0e2cea196e5",
    "pixelate": "d909f12ac006faa4",
    "jpeg_compression": "517020a1bab8740e",
}
VIDEO = {
    "jumbling": "e8a7dc1f4403ae0c",
    "random_rotation": "6aeeb64c1b14127e",
    "translation": "96b57731f7734107",
}
PROMOTION = {"promotion/table": "758623535d23b2fd", "promotion/numpy": "38fe81b9d9a4f796"}


def together(arrays):
    """One digest of many named arrays, 16 hexadecimal digits."""
    lines = [f"{name} {versions.digest(np.asarray(array))}" for name, array in sorted(arrays)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def by_item(recorded):
    """Second part of the names -> digest of the arrays; what is rounded is left out."""
    items = {}
    for name, array in recorded:
        _, item, *rest = name.split("/")
        if not item.startswith("rounded_"):
            items.setdefault(item, []).append(("/".join(rest), array))
    return {item: together(arrays) for item, arrays in items.items()}


def noise():
    """Images uint8 [4, 32, 32, 3], the same with every version."""
    bits = np.random.Generator(np.random.Philox(12))
    return jnp.asarray(bits.integers(0, 256, (4, 32, 32, 3), np.uint8))


def corrupted(name):
    """Images of noise through a corruption, at severities 1, 3 and 5."""
    images = noise()
    for severity in (1, 3, 5):
        keys = corruptions.example_keys(11, name, severity, jnp.arange(4))
        found = corruptions.corrupt(name, images, keys, severity, preset_of(name))
        yield f"corruptions/{name}/{severity}", found


def preset_of(name):
    known = corruptions.registry.ROWS[name]
    return "cifar32" if "cifar32" in known else next(iter(known))


def perturbed(name):
    """A clip of noise through a perturbation of video, at severities 1, 3 and 5."""
    frames = jnp.concatenate([noise(), noise()[::-1]])
    for severity in (1, 3, 5):
        yield f"video/{name}/{severity}", video.perturb(name, frames, jax.random.key(11), severity)


def test_random_draws():
    assert by_item(versions_exact.draws()) == DRAWS


def test_initial_variables():
    assert by_item(versions_exact.initial()) == INITIAL


def test_order_of_the_examples_and_augmentation():
    assert by_item(versions_exact.order()) == DATA


def test_masks_of_every_algorithm_from_given_weights_and_gradients():
    assert by_item(versions_exact.masks(jitted=False)) == MASKS


def test_compiled_updates_choose_the_same_masks():
    some = ("rigl", "granet_r", "global_magnitude", "iterative_nm")
    found = by_item(versions_exact.masks(jitted=True, algorithms=some))
    assert found == {name: MASKS[name] for name in some}


@pytest.mark.parametrize("name", ["impulse_noise", "pixelate", "jpeg_compression"])
def test_corruptions_whose_arithmetic_is_in_integers(name):
    assert by_item(corrupted(name)) == {name: CORRUPTIONS[name]}


@pytest.mark.parametrize("name", ["jumbling", "random_rotation", "translation"])
def test_perturbations_of_clips_that_only_move_pixels(name):
    assert by_item(perturbed(name)) == {name: VIDEO[name]}


def test_every_algorithm_has_its_digest():
    registry = sparsity.ALGORITHM_REGISTRY
    assert set(MASKS) == {name for name, found in registry.items() if not found.is_dense}


def test_types_of_mixed_arithmetic():
    found = {name: versions.digest(array)[:16] for name, array in versions_exact.promotion()}
    assert found == PROMOTION
