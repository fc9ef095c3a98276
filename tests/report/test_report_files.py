"""Runs of which the user's file was edited in between are other runs to the report."""

import json

import pytest
from run_directories import conditions, make

from dst_jax.report import comparisons, runs


def with_files(path, *starts):
    """Writes what each start recorded: {kind: digest} of things called "mine"."""
    file = path / "environment.json"
    environment = json.loads(file.read_text())
    environment["starts"] = [
        environment
        | {
            "registered": [
                {"kind": kind, "name": "mine", "file": "mine.py", "sha256": digest * 8}
                for kind, digest in digests.items()
            ]
        }
        for digests in starts
    ]
    file.write_text(json.dumps(environment))
    return path


def study(root, of_dense, of_sparse):
    """Three seeds of dense and of RigL; a list of starts for each run."""
    for algorithm, sparsity, starts in (("dense", 0.0, of_dense), ("rigl", 0.5, of_sparse)):
        for seed, recorded in enumerate(starts):
            rows = conditions(0.9, 0.5 + 0.01 * seed)
            with_files(make(root, algorithm, sparsity, seed, rows), *recorded)
    (comparison,) = comparisons.compare([runs.read(path) for path in sorted(root.iterdir())])
    return comparison


SAME = [[{"model": "a"}]] * 3


def test_the_same_file_is_one_group_with_a_baseline(tmp_path):
    comparison = study(tmp_path, SAME, [[{"model": "a", "algorithm": "b"}]] * 3)
    assert [len(group.runs) for group in comparison.groups] == [3, 3]
    assert comparison.gain(comparison.groups[1]) is not None


@pytest.mark.parametrize("kind", ["model", "dataset", "algorithm"])
def test_seeds_of_an_edited_file_are_not_pooled(tmp_path, kind):
    edited = [[{"model": "a", kind: "a"}], [{"model": "a", kind: "a"}], [{"model": "a", kind: "e"}]]
    comparison = study(tmp_path, SAME, edited)
    assert sorted(len(group.runs) for group in comparison.groups) == [1, 2, 3]
    assert any("file of" in group.name for group in comparison.groups)


def test_a_model_that_was_edited_has_no_dense_baseline(tmp_path):
    comparison = study(tmp_path, SAME, [[{"model": "e"}]] * 3)
    sparse = comparison.groups[1]
    assert comparison.gain(sparse) is None
    assert "file of model mine ('aaaaaaaa', here 'eeeeeeee')" in comparison.obstacle(sparse)


def test_a_run_that_was_resumed_with_an_edited_file_is_a_group_of_its_own(tmp_path):
    resumed = [[{"model": "a"}, {"model": "e"}], [{"model": "a"}], [{"model": "a"}]]
    comparison = study(tmp_path, SAME, resumed)
    assert sorted(len(group.runs) for group in comparison.groups) == [1, 2, 3]
    (told,) = [note for note in comparison.notes if "more than one version" in note]
    assert "of the file of model mine (aaaaaaaa then eeeeeeee)" in told
