"""Erasing, mixup and CutMix against their definitions; the chain of all of them on any devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dst_jax import data, random_keys
from dst_jax.config.options import OPTIONS
from dst_jax.data import mixup_cutmix, random_erasing
from dst_jax.errors import UserError

KEYS = random_keys.for_examples(0, 0, jnp.arange(5_000))
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(8, 12, 16, 3)).astype(np.float32)
LABELS = np.arange(8, dtype=np.int32)
ON = {"probability": 1.0, "cutmix_share": 0.5}


def within_five_sigma(found, probability, count):
    return abs(found - probability) < 5 * np.sqrt(probability * (1 - probability) / count)


def test_rectangles_have_the_areas_ratios_and_places_of_the_paper():
    height, width = 224, 192
    draw = jax.jit(jax.vmap(lambda key: random_erasing.rectangle(key, height, width)))
    top, left, h, w = map(np.asarray, draw(KEYS))
    assert (h > 0).all()  # none of 5,000 fails ten times
    assert ((top >= 0) & (left >= 0) & (top + h <= height) & (left + w <= width)).all()
    area, ratio = h * w / (height * width), h / w
    assert 0.019 < area.min() < 0.021
    assert 0.325 < area.max() < 0.335
    # Large ones that are long do not fit and are drawn again, so only small areas are uniform.
    small = area[area < 0.1]
    assert within_five_sigma((small < 0.06).mean(), 0.5, len(small))
    log_ratio = np.log(ratio[area < 0.1])
    assert abs(log_ratio).max() < np.log(1 / 0.3) + 0.05
    assert within_five_sigma((log_ratio > 0).mean(), 0.5, len(small))
    assert within_five_sigma((log_ratio > np.log(1 / 0.3) / 2).mean(), 0.25, len(small))
    place = top / (height - h)
    assert within_five_sigma((place < 0.25).mean(), 0.25, len(place))


def test_erasing_puts_noise_into_the_rectangle_with_its_probability():
    image, keys = jnp.full((24, 24, 3), 100.0), KEYS[:1_500]
    erased = np.asarray(jax.jit(jax.vmap(lambda key: random_erasing.erase(image, key, 0.25)))(keys))
    changed = (erased != 100).any(-1)
    assert within_five_sigma(changed.any((1, 2)).mean(), 0.25, len(keys))
    noise = erased[erased != 100]
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    for mask in changed[changed.any((1, 2))][:20]:  # it is one full rectangle
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        assert mask.sum() == rows * columns
    assert (np.asarray(random_erasing.erase(image, KEYS[0], 0.0)) == 100).all()


def test_mixup_is_its_formula_with_the_neighbour():
    batch = mixup_cutmix.mix(IMAGES, LABELS, KEYS[0], mixup=0.8, cutmix=0.0, **ON)
    share = batch["share"][0]
    assert 0 < share < 1
    np.testing.assert_array_equal(batch["share"], np.full(8, share))
    np.testing.assert_array_equal(batch["other"], [1, 0, 3, 2, 5, 4, 7, 6])
    others = IMAGES[np.asarray(batch["other"])]
    np.testing.assert_allclose(batch["image"], share * IMAGES + (1 - share) * others, atol=1e-6)


def test_cutmix_counts_the_labels_by_the_area_of_the_box():
    for key in KEYS[:20]:
        batch = mixup_cutmix.mix(IMAGES, LABELS, key, mixup=0.0, cutmix=1.0, **ON)
        others = IMAGES[np.asarray(batch["other"])]
        image = np.asarray(batch["image"])
        inside = (image == others).all((0, 3))
        assert ((image == IMAGES).all((0, 3)) == ~inside).all()
        assert inside.sum() == inside.any(1).sum() * inside.any(0).sum()  # one rectangle
        assert float(batch["share"][0]) == pytest.approx(1 - inside.mean(), abs=1e-6)


def test_the_box_has_the_area_that_lambda_says_unless_the_border_cuts_it():
    lam = jnp.linspace(0, 1, len(KEYS))
    draw = jax.vmap(lambda key, value: mixup_cutmix.cutmix_box(key, value, 200, 100))
    top, left, h, w = map(np.asarray, jax.jit(draw)(KEYS, lam))
    assert ((top >= 0) & (left >= 0) & (top + h <= 200) & (left + w <= 100)).all()
    area = h * w / 20_000
    assert (area <= 1 - lam + 1e-6).all()
    whole = (top > 0) & (left > 0) & (top + h < 200) & (left + w < 100)
    assert whole.sum() > 500
    assert np.abs(area - (1 - lam))[whole].max() < 0.04  # whole pixels of 100


def shares(mixup, cutmix, **options):
    draw = jax.jit(
        jax.vmap(
            lambda key: mixup_cutmix.mix(
                jnp.zeros((2, 32, 32, 1)).at[1].set(1.0),
                LABELS[:2],
                key,
                mixup=mixup,
                cutmix=cutmix,
                **{**ON, **options},
            )
        )
    )
    batch = draw(KEYS[:2_000])
    flat = np.asarray(batch["image"][:, 0]).reshape(2_000, -1)
    is_cut = np.isin(flat, (0, 1)).all(1) & (flat.max(1) > 0)
    return np.asarray(batch["share"][:, 0]), is_cut, flat


def test_the_law_of_lambda_and_the_switch():
    share, is_cut, _ = shares(1.0, 0.0)  # Beta(1, 1) is uniform
    assert not is_cut.any()
    for limit in (0.1, 0.5, 0.9):
        assert within_five_sigma((share < limit).mean(), limit, 2_000)
    share, _, _ = shares(2.0, 0.0)  # Beta(2, 2): P(x < 1/4) = 3/16 - 2/64
    assert within_five_sigma((share < 0.25).mean(), 3 / 16 - 2 / 64, 2_000)
    share, is_cut, flat = shares(0.8, 1.0, probability=0.6, cutmix_share=0.25)
    untouched = (share == 1) & (flat.max(1) == 0)
    assert abs(untouched.mean() - 0.4) < 0.06  # and boxes without a whole pixel
    assert abs(is_cut.mean() - 0.6 * 0.25) < 0.05
    np.testing.assert_allclose(1 - flat.mean(1), share, atol=1e-4)


def test_each_option_is_that_of_its_section():
    names = [field.name for field in dataclasses.fields(data.TrainAugmentation)]
    sections = {name: "data" if f"data.{name}" in OPTIONS else "train" for name in names}
    config = {
        section: {name: number if own == section else None for number, (name, own) in rows}
        for section in ("data", "train")
        for rows in [list(enumerate(sections.items()))]
    }
    found = data.TrainAugmentation.from_config(config)
    assert dataclasses.asdict(found) == {name: number for number, name in enumerate(names)}


def test_an_odd_batch_and_clips():
    with pytest.raises(UserError, match=r"found 7 images on a device; expected an even number"):
        mixup_cutmix.mix(IMAGES[:7], LABELS[:7], KEYS[0], mixup=1.0, cutmix=0.0, **ON)
    clips = jnp.asarray(RANDOM.normal(size=(4, 5, 12, 16, 3)).astype(np.float32))
    with jax.numpy_rank_promotion("raise"):
        batch = mixup_cutmix.mix(clips, LABELS[:4], KEYS[3], mixup=0.0, cutmix=1.0, **ON)
    same = np.asarray(batch["image"] == clips).all((0, 4))
    assert (same == same[:1]).all()  # the same box in every frame


ALL = data.TrainAugmentation(randaugment_layers=2, erasing=0.5, mixup=0.8, cutmix=1.0)
AUGMIX = data.TrainAugmentation(augmix=3.0, mixup=0.8)
PIXELS = RANDOM.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


def pipeline(train_augmentation, **options):
    return data.ResidentPipeline(
        data.get("cifar10"),
        PIXELS,
        np.arange(40, dtype=np.int32),
        augment="crop_flip",
        train_augmentation=train_augmentation,
        **{"batch_size": 8, "seed": 3, **options},
    )


def test_everything_on_four_devices_is_the_batch_of_one_under_jit_and_pmap():
    made = pipeline(ALL)
    step = 9
    feed = made.host_inputs(step)
    want = jax.jit(made.batch)(feed, step)
    assert set(want) == {"image", "label", "other", "share"}
    again = jax.jit(pipeline(ALL).batch)(feed, step)  # a restart
    jax.tree.map(np.testing.assert_array_equal, again, want)
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    placed = jax.device_put(feed, NamedSharding(mesh, PartitionSpec()))
    compiled = jax.jit(made.batch, out_shardings=rows).lower(placed, step).compile()
    found = compiled(placed, jnp.int32(step))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, want)
    shards = jax.pmap(
        lambda feed, step: made.batch(feed, step, (jax.lax.axis_index("data"), 4)),
        axis_name="data",
        in_axes=(None, 0),
    )(feed, jnp.full((4,), step))
    for name, value in want.items():
        np.testing.assert_allclose(np.reshape(shards[name], value.shape), value, atol=1e-6)


def test_augmix_in_the_chain_keeps_fractions_and_differs_from_step_to_step():
    made = pipeline(AUGMIX)
    draw = jax.jit(made.batch)
    first, second = draw(made.host_inputs(0), 0), draw(made.host_inputs(0), 1)
    assert (np.asarray(first["share"]) != np.asarray(second["share"])).all()
    plain = pipeline(data.TrainAugmentation())
    assert set(jax.jit(plain.batch)(plain.host_inputs(0), 0)) == {"image", "label"}


def test_clips_take_no_image_policies():
    with pytest.raises(UserError, match="clips"):
        data.TrainAugmentation(erasing=0.5).apply(
            jnp.zeros((2, 4, 8, 8, 3), jnp.uint8),
            jnp.zeros(2, jnp.int32),
            0,
            jnp.arange(2),
            augment="none",
            dataset=data.get("cifar10"),
            dtype=jnp.float32,
            seed=0,
        )
