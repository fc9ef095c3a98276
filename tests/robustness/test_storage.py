"""Results survive their files; files that are damaged are one line."""

import csv
import json

import numpy as np
import pytest
import synthetic_results as tables

from dst_jax.errors import UserError
from dst_jax.robustness import storage
from dst_jax.robustness.records import Condition


def some(seed, setting=tables.SETTING, n=37):
    random = np.random.default_rng(seed)
    conditions = [Condition("fog", 1), Condition("fog", 5), Condition("glass_blur", 2)]
    return tables.of_hits({c: random.random(n) < 0.4 for c in conditions}, setting=setting)


def same(one, two):
    assert (one.dataset, one.scores, one.notes) == (two.dataset, two.scores, two.notes)
    assert one.hits.keys() == two.hits.keys()
    for condition, hits in one.hits.items():
        assert np.array_equal(hits.bits, two.hits[condition].bits)
        assert hits.images == two.hits[condition].images


def test_save_and_load(tmp_path):
    assert storage.load_all(tmp_path) == []
    result = some(0)
    storage.save(tmp_path / "new", result)
    same(storage.load(tmp_path / "new"), result)
    columns = "suite,source,corruption,severity,n,accuracy,ece,preset,seed,images"
    lines = (tmp_path / "new" / "robustness.csv").read_text().splitlines()
    assert lines[0] == columns
    (facts,) = json.loads((tmp_path / "new" / "robustness.json").read_text())["results"]
    assert facts["robust_accuracy"] == result.robust_accuracy
    assert (facts["suite"], facts["severities"], facts["n"]) == ("c", [1, 2, 5], 37)


def test_a_directory_holds_several_and_a_finished_score_is_never_replaced(tmp_path):
    prepared = ("common", "tfds/cifar10_corrupted", "", 0)
    storage.save(tmp_path, some(0), some(1, prepared))
    storage.save(tmp_path, some(0))  # the same again
    with pytest.raises(UserError, match=r"found other scores of c, .*37 images"):
        storage.save(tmp_path, some(2))
    storage.save(tmp_path, some(3, n=8))  # fewer images stand beside
    first, quick, second = sorted(storage.load_all(tmp_path), key=lambda r: (r.setting.suite, -r.n))
    same(first, some(0))
    same(quick, some(3, n=8))
    same(second, some(1, prepared))
    same(storage.load(tmp_path, "common"), some(1, prepared))
    with pytest.raises(UserError, match=r"found c, .*; expected one result|; c, .*"):
        storage.load(tmp_path)
    with pytest.raises(UserError, match="found no result; expected one result of 3dcc"):
        storage.load(tmp_path, "3dcc")


def test_without_the_record_there_are_still_the_accuracies(tmp_path):
    storage.save(tmp_path, some(0))
    (tmp_path / "robustness.npz").unlink()
    (tmp_path / "robustness.json").unlink()
    loaded = storage.load(tmp_path)
    assert loaded.scores == some(0).scores
    assert not loaded.hits


def test_a_row_that_its_record_contradicts_is_not_counted(tmp_path):
    storage.save(tmp_path, some(0))
    path = tmp_path / "robustness.csv"
    rows = list(csv.reader(path.read_text().splitlines()))
    rows[2][5] = "0.123"
    path.write_text("\n".join(map(",".join, rows)) + "\n")
    stored = storage.read(tmp_path, salvage=True)
    assert stored.problems == [
        "robustness.csv and robustness.npz contradict each other in 1 row, left out"
    ]
    (result,) = stored.results
    assert Condition(rows[2][2], int(rows[2][3])) not in {row.condition for row in result.scores}
    assert len(result.scores) == len(result.hits) == 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("robustness.json", '{"results": [{"notes": null}]}'),
        ("robustness.json", '{"results": [{"notes": [1]}]}'),
        ("robustness.json", '{"results": [{"dataset": [1]}]}'),
        ("robustness.json", '{"results": [], "model": {"weights": "", "classes": 1e400}}'),
        ("robustness.json", "[" * 100_000),
        ("robustness.csv", "suite,corruption,severity,n,accuracy\n" + "x" * 200_000),
    ],
)
def test_foreign_content_is_one_line(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=rf"{name}: found .*Delete"):
        storage.load_all(tmp_path)
    assert storage.read(tmp_path, salvage=True).problems


HEAD = "suite,source,corruption,severity,n,accuracy,ece,preset,seed\n"


@pytest.mark.parametrize(
    "text",
    [
        "suite\nx\n",
        HEAD + "a,b,c,d,e,f,g,h,i\n",
        HEAD + "a,b,fog,1,10,0.5,0,p,0\n" * 2,
        HEAD + "a,b,fog,1,10,0.",
        HEAD + "a,b,fog,1,0,0.5,0,p,0\n",
        HEAD + "a,b,fog,1,10,1.5,0,p,0\n",
        "suite,severity,n,accuracy\na,1,10,0.5\n",
    ],
)
def test_a_damaged_table_is_one_line(tmp_path, text):
    path = tmp_path / "robustness.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=r"robustness.csv: found a damaged table .*Delete"):
        storage.load_all(tmp_path)


@pytest.mark.parametrize("name", ["robustness.npz", "robustness.json"])
@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_truncated_file_is_one_line(tmp_path, name, keep):
    storage.save(tmp_path, some(0))
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:keep] if keep >= 0 else path.read_bytes()[: keep - 40])
    with pytest.raises(UserError, match=rf"{name}: found .*Delete"):
        storage.load_all(tmp_path)


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="expected a directory that can be written"):
        storage.write(tmp_path / "file" / "x", [some(0)])


def test_what_is_damaged_can_be_left_out_and_told(tmp_path):
    storage.save(tmp_path, some(0))
    path = tmp_path / "robustness.csv"
    path.write_text(path.read_text() + "c,rendered,fog,x\n")
    (tmp_path / "robustness.npz").write_bytes(b"PK")
    stored = storage.read(tmp_path, salvage=True)
    assert [problem.partition(":")[0] for problem in stored.problems] == [
        "robustness.csv has 1 unreadable row, left out",
        "robustness.npz is unreadable",
    ]
    (result,) = stored.results
    assert result.scores == some(0).scores
    assert not result.hits


def test_files_of_version_0_1_are_read(tmp_path):
    """As that version wrote them: no images in the table, names in the archive, a list as JSON."""
    new = some(0)
    rows = [row._replace(images="") for row in new.scores]
    lines = [HEAD.strip(), *(",".join(map(str, row[:9])) for row in rows)]
    (tmp_path / "robustness.csv").write_text("\n".join(lines) + "\n")
    arrays = {}
    for condition, hits in new.hits.items():
        key = "/".join(map(str, (*tables.SETTING, *condition)))
        arrays |= {f"{key}/bits": hits.bits, f"{key}/images": np.asarray(hits.images, np.uint32)}
    np.savez(tmp_path / "robustness.npz", **arrays)
    names = ("suite", "source", "preset", "seed")
    facts = {"dataset": "imagenet2012", "notes": [], "n": 37}
    facts |= dict(zip(names, tables.SETTING, strict=True))
    (tmp_path / "robustness.json").write_text(json.dumps([facts]))
    same(storage.load(tmp_path), new)


def test_means_that_a_complete_table_contradicts_are_not_counted(tmp_path):
    whole = tables.of_accuracies(dict.fromkeys(tables.GRID, 0.5), n=50_000)
    assert not whole.lacking
    storage.save(tmp_path, whole)
    path = tmp_path / "robustness.csv"
    text = path.read_text()
    path.write_text(text.replace(",0.5,", ",0.52,", 1))
    stored = storage.read(tmp_path, salvage=True)
    assert not stored.results
    assert stored.problems[0].startswith("robustness.csv and robustness.json contradict each other")
    path.write_text(text)
    assert storage.load(tmp_path) == whole
