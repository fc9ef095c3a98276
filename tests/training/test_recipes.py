"""Recipes as a whole: everything on through a restart, soft labels, what is refused."""

import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import runs

from dst_jax import config as config_lib
from dst_jax import data
from dst_jax.errors import UserError
from dst_jax.runtime import checkpoint
from dst_jax.runtime.run_dir import claim, write_json
from dst_jax.saved_run import load_run
from dst_jax.training import loop, step

pytestmark = pytest.mark.usefixtures("on_one_device")

EVERYTHING = {
    "model__name": "mlp",
    "model__width": 16,
    "train__epochs": 1.0,
    "train__batch_size": 128,
    "train__grad_accum_steps": 2,
    "train__optimizer": "adamw",
    "train__learning_rate": 1e-3,
    "train__learning_rate_floor": 1e-5,
    "train__clip_norm": 1.0,
    "train__label_smoothing": 0.1,
    "train__mixup": 0.8,
    "train__cutmix": 1.0,
    "train__ema": 0.9,
    "data__augment": "reflect_crop_flip",
    "data__randaugment_layers": 2,
    "data__erasing": 0.25,
    "sparsity__update_freq": "3",
    "checkpoint__every": "4",
    "checkpoint__keep": 9,
}


def test_a_restart_with_everything_on_ends_with_the_same_bits(tmp_path, cache_dir):
    config = runs.small_config(**EVERYTHING)
    whole, again = tmp_path / "whole", tmp_path / "again"
    claim(whole, config)
    write_json(whole / "config.json", config)
    loop.train([config], [whole], None, cache_dir)
    shutil.copytree(whole, again)
    for path in (again / "checkpoints").iterdir():
        if path.name.isdigit() and int(path.name) > 4:
            shutil.rmtree(path)
    (again / "summary.json").unlink()
    loop.train([config], [again], None, cache_dir)
    runs.assert_same_state(whole, again)

    # What is evaluated is the average, and it is masked.
    saved, run = checkpoint.read(whole / "checkpoints"), load_run(whole)
    masks = saved["sparse"]["masks"]
    differ = 0
    for path, weight in jax.tree.leaves_with_path(run.params):
        average, last = saved["ema"]["params"], saved["params"]
        mask: dict | None = masks
        for key in path:
            average, last = average[key.key], last[key.key]
            mask = mask.get(key.key) if mask else None
        np.testing.assert_array_equal(weight, average)
        differ += (average != last).sum()
        if mask is not None:
            assert not weight[mask == 0].any()
    assert differ > 0
    rate = json.loads((whole / "metrics.jsonl").read_text().splitlines()[-1])["learning_rate"]
    assert 1e-5 < rate < 1e-4  # on its way to the floor


def test_the_loss_of_mixed_images_is_the_mixture_of_their_losses():
    random = np.random.default_rng(0)
    logits = jnp.asarray(random.normal(size=(6, 5)), jnp.float32)
    labels, others = random.integers(0, 5, (2, 6)).astype(np.int32)
    share = jnp.asarray(random.uniform(size=6), jnp.float32)
    found = step.mean_loss(logits, labels, 0.1, (others, share))
    logs = np.asarray(jax.nn.log_softmax(logits))
    both = [-0.9 * logs[range(6), chosen] - 0.1 * logs.mean(1) for chosen in (labels, others)]
    expected = (share * both[0] + (1 - share) * both[1]).mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    plain = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    assert float(step.mean_loss(logits, labels, 0.0)) == pytest.approx(float(plain), rel=1e-6)
    hard = step.mean_loss(logits, labels, 0.0, (others, jnp.ones(6)))
    assert float(hard) == pytest.approx(float(plain), rel=1e-6)


def test_a_mixed_image_is_right_if_its_larger_part_is():
    logits = jax.nn.one_hot(jnp.array([0, 1, 0, 1]), 2)
    batch = {"label": jnp.zeros(4, jnp.int32), "other": jnp.ones(4, jnp.int32)}
    batch["share"] = jnp.array([0.7, 0.7, 0.3, 0.3])
    assert step.is_correct(logits, batch).tolist() == [True, False, False, True]
    del batch["other"]
    assert step.is_correct(logits, batch).tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"train__grad_accum_steps": 3},
            r"train.grad_accum_steps: found 3; expected a divisor .* 32",
        ),
        ({"train__mixup": 1.0, "train__batch_size": 127}, r"found 127; expected an even number"),
        ({"train__ema": 1.0}, r"train.ema: found 1.*less than 1"),
        ({"train__learning_rate_floor": 1.0}, r"learning_rate_floor: found 1; .*at most .*0.1"),
        (
            {"train__learning_rate_floor": 0.01, "train__schedule": "step"},
            r"found 0.01 with schedule step; expected 0, or schedule cosine",
        ),
        ({"train__decay_every": "0"}, r"decay_every: found 0 steps; expected at least 1"),
        ({"data__augmix": 0.05}, r"data.augmix: found 0.05; expected 0, or a number from 0.1"),
        ({"data__augmix": 3.0, "data__randaugment_layers": 2}, r"expected one of the two"),
        ({"data__erasing": 1.5}, r"data.erasing: found 1.5"),
        ({"data__randaugment_magnitude": 11.0}, r"magnitude: found 11"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(changes, text):
    with pytest.raises(UserError, match=text) as error:
        runs.small_config(**changes)
    assert "\n" not in str(error.value)


PAGE = (runs.ROOT / "docs" / "recipes.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
def test_the_recipes_of_the_page_resolve(block):
    card = config_lib.default()
    exec(block, {"config": card})
    resolved = config_lib.resolve(card, 1_281_167)
    assert resolved["train"]["learning_rate"] > 0
    changed = {name for name, _ in config_lib.flatten(card)} - set(config_lib.OPTIONS)
    assert not changed


def test_the_page_names_every_option_of_the_chain_and_no_other():
    named = set(re.findall(r"`((?:data|train|model)\.[a-z0-9_]+)", PAGE))
    assert named <= set(config_lib.OPTIONS)
    fields = set(data.TrainAugmentation.__dataclass_fields__)
    assert fields <= {name.split(".")[1] for name in named}
    assert data.TrainAugmentation.from_config(runs.small_config()) == data.TrainAugmentation()
