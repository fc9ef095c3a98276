"""Every registered algorithm through train, stop, resume, evaluate, describe and report.

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

from dst_jax import evaluate, load_run, report, saved_run, sparsity, train, updaters
from dst_jax.analysis import describe
from dst_jax.interrupt import InterruptedRunError
from dst_jax.workdir import write_json

pytestmark = pytest.mark.usefixtures("on_one_device")

STEPS, STOP = 12, 7
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
            "train__ema": 0.9,
            "sparsity__algorithm": algorithm,
            "sparsity__sparsity": 0.8,
            "sparsity__update_freq": "3",
            "sparsity__update_end_step": "10",
            "sparsity__prune_end_step": "6",
            "checkpoint__every": "100",
            "log__every": "2",
            "eval__max_images": 8,
            "eval__severities": (1,),
            **NEEDS.get(algorithm, {}),
            **changes,
        }
    )


def trained(config, workdir, cache_dir, stop=None):
    """A run directory after its training; `stop`: interrupted once after that many steps."""
    workdir.mkdir()
    write_json(workdir / "config.json", config)
    if stop is not None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train.Log, "stop_requested", lambda self, interrupt, step: step >= stop)
            with pytest.raises(InterruptedRunError):
                train.train([config], [workdir], None, cache_dir)
        assert not (workdir / "summary.json").exists()
    train.train([config], [workdir], None, cache_dir)
    return workdir


def target_zeros(updater, params):
    """How many weights of each maskable layer, or of all together, are to be 0 in the end."""
    if isinstance(updater, sparsity.GlobalPruningMixin):
        sizes = [p.size for p in jax.tree.leaves(params) if p.ndim > 1]
        return sum(sizes) - sparsity.mask_calculator.number_active(sum(sizes), updater.sparsity)
    targets = updater.sparsity_distribution_fn(params)
    if isinstance(updater, (sparsity.StaticRandomSparse, sparsity.TopKAST)):
        wanted = sparsity.sparsity_distributions.requested_sparsity(
            updater.sparsity_distribution_fn
        )
        counts = sparsity.sparsity_distributions.active_counts(params, targets, wanted)
    else:
        counts = jax.tree.map(
            lambda s, p: sparsity.mask_calculator.number_active(p.size, s), targets, params
        )
    sizes = jax.tree.map(lambda n, p: p.size, counts, params)
    return sum(jax.tree.leaves(sizes)) - sum(jax.tree.leaves(counts))


@pytest.mark.parametrize("algorithm", sparsity.all_algorithm_names())
def test_the_whole_way(algorithm, tmp_path, cache_dir):
    config = config_of(algorithm)
    updaters.check_algorithm(config)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    trained(config, whole, cache_dir)
    trained(config, stopped, cache_dir, STOP)
    runs.assert_same_state(whole, stopped)
    assert runs.record(whole) == runs.record(stopped)

    run = load_run(stopped)
    updater = updaters.create_updater(config)
    kernels = {path: np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(run.params)}
    masks = {path: np.asarray(mask) for path, mask in jax.tree.leaves_with_path(run.masks)}
    zeros = sum(int((kernels[path] == 0).sum()) for path in masks)
    size = sum(mask.size for mask in masks.values())
    for path, mask in masks.items():
        np.testing.assert_array_equal(kernels[path] != 0, mask == 1)
    if updater.is_dense:
        assert not masks and all(np.count_nonzero(k) for k in kernels.values())
    else:
        assert zeros == target_zeros(updater, {p: k for p, k in run.params.items()})
        assert abs(zeros / size - config["sparsity"]["sparsity"]) < 0.01

    describe.write(run)
    facts = json.loads((stopped / "model.json").read_text())
    assert facts["sparsity"] == pytest.approx(zeros / size if size else 0)
    assert facts["maskable"] - facts["active"] == zeros
    assert (facts["flops_ratio"] == 1) == updater.is_dense
    assert run.metrics[-1]["density"] == pytest.approx(1 - zeros / size if size else 1)

    evaluate.evaluate(config, run, None, cache_dir)
    assert algorithm in report.write([stopped], tmp_path).text
