"""Every registered algorithm through train, kill, resume, evaluate, describe and report.

Small on purpose: 12 steps of a small network on digits, on one device, within this process. What an
algorithm can do is asked of its class, so one that is new in the registry is walked through as it
is. What is refused before training, and the one line that says so, is in `test_updaters`.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs
from flax import traverse_util

from dst_jax import data, evaluate, load_run, report, sparsity
from dst_jax.analysis import network_facts
from dst_jax.runtime import checkpoint
from dst_jax.runtime.run_dir import write_json
from dst_jax.training import algorithm_checks, build, loop

pytestmark = pytest.mark.usefixtures("on_one_device")

STEPS, KILL = 12, 8  # masks change at 3, 6 and 9; a checkpoint is at 5
# What an algorithm needs beside the options that all have.
NEEDS = {
    "adam-fisher": {"train__optimizer": "adamw", "train__learning_rate": 0.01},
    "iterative_nm": {
        "sparsity__sparsity_type": "nm_2,4",
        "sparsity__sparsity": 0.5,
        "sparsity__dist_type": "uniform",
        "sparsity__exclude": "^classifier",
    },
}


def config_of(algorithm, **changes):
    return runs.small_config(
        **{
            "model__name": "mlp",
            "model__width": 16,
            "data__augment": "none",
            "data__validation": 0.1,
            "train__steps": str(STEPS),
            "train__warmup": "0",
            "train__batch_size": 16,
            "train__learning_rate": 0.01,
            "train__ema": 0.9,
            "sparsity__algorithm": algorithm,
            "sparsity__sparsity": 0.8,
            "sparsity__update_freq": "3",
            "sparsity__update_end_step": "10",
            "sparsity__prune_end_step": "6",
            "checkpoint__every": "5",
            "log__every": "2",
            "eval__max_images": 8,
            "eval__severities": (1,),
            **NEEDS.get(algorithm, {}),
            **changes,
        }
    )


class KilledError(Exception):
    """What ends a training at once, with nothing saved on the way out."""


def trained(config, workdir, cache_dir, kill=None):
    """A run directory after its training; `kill`: it was killed once, after that many steps."""
    workdir.mkdir()
    write_json(workdir / "config.json", config)
    if kill is not None:

        def stop_requested(self, interrupt, step):
            if step >= kill:
                raise KilledError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop.Log, "stop_requested", stop_requested)
            with pytest.raises(KilledError):
                loop.train([config], [workdir], None, cache_dir)
        assert not (workdir / "summary.json").exists()
    loop.train([config], [workdir], None, cache_dir)
    return workdir


def target_zeros(updater, layers):
    """How many weights of the maskable layers are to be 0 in the end, by path -> weights."""
    size = sum(layer.size for layer in layers.values())
    if isinstance(updater, sparsity.GlobalPruningMixin):
        return size - sparsity.mask_calculator.number_active(size, updater.sparsity)
    distribution = updater.sparsity_distribution_fn
    targets = traverse_util.flatten_dict(distribution(traverse_util.unflatten_dict(layers)))
    if isinstance(updater, (sparsity.StaticRandomSparse, sparsity.TopKAST)):
        exact = sparsity.sparsity_distributions
        counts = exact.active_counts(layers, targets, exact.requested_sparsity(distribution))
    else:
        counts = {
            path: sparsity.mask_calculator.number_active(layers[path].size, target)
            for path, target in targets.items()
        }
    return size - sum(counts.values())


def held_out_accuracy(run, cache_dir):
    """Of a run as it is read back, on the images that its training held out."""
    images, labels = data.load_arrays(data.get("digits"), "train", None, cache_dir)
    held = data.num_held_out(len(labels), run.config["data"]["validation"])
    hits = np.asarray(run.predict(images[-held:])).argmax(-1) == labels[-held:]
    return hits.mean()


@pytest.mark.parametrize("algorithm", sparsity.all_algorithm_names())
def test_the_whole_way(algorithm, tmp_path, cache_dir):
    config = config_of(algorithm)
    algorithm_checks.check(config)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    trained(config, whole, cache_dir)
    trained(config, stopped, cache_dir, KILL)
    runs.assert_same_state(whole, stopped)
    assert runs.record(whole) == runs.record(stopped)

    run = load_run(stopped)
    updater = build.updater(config)
    params, masks = (traverse_util.flatten_dict(tree) for tree in (run.params, run.masks))
    layers = {path: params[path] for path in masks}
    size = sum(layer.size for layer in layers.values())
    zeros = sum(int((mask == 0).sum()) for mask in masks.values())
    assert all(not layer[masks[path] == 0].any() for path, layer in layers.items())
    active_zeros = sum(int((layer == 0).sum()) for layer in layers.values()) - zeros
    # A weight that SET grew into a unit that no image of the last steps activated is still 0.
    assert active_zeros <= (0.01 * size if isinstance(updater, sparsity.SET) else 0)
    if updater.is_dense:
        assert not masks
    else:
        assert zeros == target_zeros(updater, layers)
        assert abs(zeros / size - config["sparsity"]["sparsity"]) < 0.001

    if updater.keeps_dense_weights:  # so does their average, masked only to be evaluated
        average = checkpoint.read(stopped / "checkpoints")["ema"]["params"]
        average = traverse_util.flatten_dict(average)
        assert all(np.count_nonzero(average[path]) == layers[path].size for path in layers)

    network_facts.write(run)
    facts = json.loads((stopped / "model.json").read_text())
    assert facts["sparsity"] == pytest.approx(zeros / size if size else 0)
    assert facts["maskable"] - facts["active"] == zeros
    assert (facts["flops_ratio"] == 1) == updater.is_dense
    assert run.metrics[-1]["density"] == pytest.approx(1 - zeros / size if size else 1)

    assert run.metrics[-1]["validation/accuracy"] == held_out_accuracy(run, cache_dir)
    evaluate.evaluate(config, run, None, cache_dir)
    assert algorithm in report.write([stopped], tmp_path).text


def test_seeds_that_train_together_are_validated_by_their_own_masks(tmp_path, cache_dir):
    """`random_ste` draws masks from the seed: one seed's masks are not another's."""
    configs = [config_of("random_ste", seed=seed, train__ema=0.0) for seed in (3, 4)]
    workdirs = [tmp_path / str(config["seed"]) for config in configs]
    for config, workdir in zip(configs, workdirs, strict=True):
        workdir.mkdir()
        write_json(workdir / "config.json", config)
    loop.train(configs, workdirs, None, cache_dir)
    kept = []
    for workdir in workdirs:
        run = load_run(workdir)
        assert run.metrics[-1]["validation/accuracy"] == held_out_accuracy(run, cache_dir)
        again = load_run(workdir)  # the same masks every time
        for one, other in zip(*map(jax.tree.leaves, (run.masks, again.masks)), strict=True):
            np.testing.assert_array_equal(one, other)
        kept.append(np.asarray(run.masks["fc1"]["kernel"]))
    assert (kept[0] != kept[1]).any()


def test_masks_of_random_ste_are_those_of_the_next_forward_pass(tmp_path, cache_dir):
    config = config_of("random_ste", train__ema=0.0)
    run = load_run(trained(config, tmp_path / "run", cache_dir))
    updater = build.updater(config)
    state = updater.init_state(run.params)
    for step, same in ((STEPS, True), (STEPS - 1, False)):
        masks = updater.forward_masks(run.params, state._replace(count=jnp.int32(step)))
        found = np.asarray(masks["fc1"]["kernel"]) == run.masks["fc1"]["kernel"]
        assert found.all() == same
