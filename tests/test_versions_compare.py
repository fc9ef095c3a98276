"""What `benchmarks.versions --compare` says of records that differ, lack arrays or are broken."""

import json
import re

import numpy as np
import pytest

from benchmarks import versions, versions_compare, versions_rounded
from dst_jax import config as config_lib
from dst_jax.runtime import interrupt


@pytest.fixture
def write(tmp_path):
    """Writes a record as `versions.record` does, and returns its path."""

    def written(stem, arrays, **about):
        arrays = {name: np.asarray(array) for name, array in arrays.items()}
        path = tmp_path / f"{stem}.json"
        digests = {name: versions.digest(array) for name, array in arrays.items()}
        path.write_text(json.dumps({**about, "digests": digests}))
        np.savez_compressed(path.with_suffix(".npz"), **arrays)
        return path

    return written


def cells(*paths, **options):
    """Group -> the cells of its row."""
    rows = {}
    text = versions_compare.table(paths, options.get("list_names", False))
    for line in text.split("\n\n")[1].splitlines()[2:]:
        group, *row = line.strip("| ").split(" | ")
        rows[group] = row
    return rows


IMAGES = {f"corruptions_32/{i}": np.full((2, 3), i, np.uint8) for i in range(8)}


def test_equal_records(write):
    assert cells(write("A", IMAGES), write("B", IMAGES)) == {"corruptions_32": ["8", "equal"]}


def test_what_one_record_lacks_is_told(write):
    one = {"corruptions_32/0": IMAGES["corruptions_32/0"]}
    other = {"corruptions_32/0": one["corruptions_32/0"] + 4, "random/bits": np.arange(3)}
    a, b, c = write("A", IMAGES), write("B", one), write("C", other)
    assert cells(a, b, c) == {
        "corruptions_32": [
            "8",
            "equal (1 of 8 recorded)",
            "1 of 1 differ: 100 % of their values, by at most 4 (1 of 8 recorded)",
        ],
        "random": ["0", "not recorded", "not compared (1 not in the first)"],
    }
    assert cells(b, a) == {"corruptions_32": ["1", "equal (7 not in the first)"]}
    assert cells(c, b)["random"] == ["1", "not recorded"]


def test_another_choice_is_told(write):
    a = write("A", IMAGES, **{"--networks": "mlp conv", "--frost_dir": ""})
    b = write("B", IMAGES, **{"--networks": "mlp", "--frost_dir": "12345678"})
    told = "was recorded with another --networks, --frost_dir."
    assert f"B {told}" in versions_compare.table([a, b], False)
    assert "was recorded with another" not in versions_compare.table([a, a], False)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_lost_is_told(write, order, value):
    ones = np.ones(4, np.float32)
    names = [f"step/m/{number}" for number in order]
    a = write("A", dict.fromkeys(names, ones))
    near, lost = ones.copy(), ones.copy()
    near[0], lost[1] = 1.0001, value
    b = write("B", dict(zip(sorted(names), (near, lost), strict=True)))
    for one, other in ((a, b), (b, a)):
        (row,) = cells(one, other).values()
        assert row[1].startswith("1 of 1 differ: 25 % of their values, 1 values NaN or infinite in")
        assert row[1].endswith("at most 1.0e-04 of their r.m.s.")
    listed = versions_compare.table([a, b], True)
    assert "| step/m/2 | 1 of 4, 1 of them NaN or infinite in one | 0 | 0 |" in listed


def test_not_a_number_in_both_is_the_same():
    one = np.array([np.nan, np.inf, 1, 2], np.float32)
    other = np.array([np.nan, np.inf, 1, 3], np.float32)
    found = versions_compare.difference(one, other)
    assert (found["count"], found["not_finite"], found["greatest"]) == (1, 0, 1.0)


def test_arrays_of_another_shape_or_type(write):
    a = write("A", {"data/x": np.zeros((0, 3)), "data/y": np.zeros(2), "data/z": ["a"]})
    b = write("B", {"data/x": np.zeros((0, 4)), "data/y": np.zeros(2), "data/z": ["b"]})
    expected = "2 of 3 differ: 1 of another shape or type, 100 % of their values"
    assert cells(a, b, list_names=True) == {"data": ["3", expected]}
    assert "| data/x | all | float64(0, 4) |  |" in versions_compare.table([a, b], True)
    c = write("C", {"data/x": np.zeros((0, 4))})
    assert cells(a, c)["data"][1] == "1 of 1 differ: 1 of another shape or type (1 of 3 recorded)"


BROKEN = {
    "text": ("{", "JSONDecodeError"),
    "list": ("[]", "TypeError"),
    "no digests": ("{}", "KeyError"),
    "names": ('{"digests": {"train_masks/x": ""}}', "IndexError"),
    "more than the arrays": ('{"digests": {"random/a": "", "random/b": ""}}', "no array random/b"),
}


@pytest.mark.parametrize(("text", "told"), BROKEN.values(), ids=BROKEN)
def test_a_broken_record_is_told_in_one_line(write, capsys, text, told):
    good, bad = write("A", {"random/a": 1}), write("B", {"random/a": 1})
    bad.write_text(text)
    error = refused([good, bad], capsys)
    assert told in error
    assert "B." in error


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_a_missing_file_is_told_in_one_line(write, capsys, suffix):
    paths = [write(name, {"random/a": 1}) for name in "AB"]
    paths[1].with_suffix(suffix).unlink()
    assert "No such file" in refused(paths, capsys)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 and no more", b"text"])
def test_arrays_that_are_no_arrays_are_told_in_one_line(write, capsys, content):
    paths = [write(name, {"random/a": 1}) for name in "AB"]
    paths[1].with_suffix(".npz").write_bytes(content)
    assert "B.npz" in refused(paths, capsys)


def test_arrays_that_were_damaged_are_told_in_one_line(write, capsys):
    paths = [write(name, {"random/a": np.arange(1000) + len(name)}) for name in ("A", "BB")]
    arrays = paths[1].with_suffix(".npz")
    content = bytearray(arrays.read_bytes())
    content[300:320] = bytes(20)
    arrays.write_bytes(content)
    assert "BB.npz" in refused(paths, capsys)


def test_a_part_that_is_unknown_is_told_in_one_line(tmp_path, capsys):
    error = refused_arguments(["--json", str(tmp_path / "A.json"), "--only", "dice"], capsys)
    assert "--only: found dice; expected some of draws, " in error


def test_a_place_that_is_not_there_is_told_before_anything_is_recorded(tmp_path, capsys):
    error = refused_arguments(["--json", str(tmp_path / "no" / "A.json")], capsys)
    assert "--json: found " in error


def test_arrays_of_another_record_are_told(write, capsys):
    """Also where the digests agree, so that nothing would be read."""
    arrays = {"random/a": np.arange(9), "random/b": np.arange(4)}
    a, b = write("A", arrays), write("B", arrays)
    b.with_suffix(".npz").write_bytes(
        write("C", {**arrays, "random/b": np.arange(1, 5)}).with_suffix(".npz").read_bytes()
    )
    error = refused([a, b], capsys)
    assert "B.npz: found another array random/b than was recorded; expected the arrays of" in error
    np.savez_compressed(b.with_suffix(".npz"), **arrays, **{"random/c": np.arange(3)})
    assert "found an array random/c; expected the arrays of B.json alone" in refused([a, b], capsys)


@pytest.mark.parametrize("place", ["B.json", "link.json", "A.npz", "no/S.json", "text.json", "."])
def test_a_summary_replaces_nothing_but_a_summary(write, capsys, tmp_path, place):
    a, b = (write(name, {"random/a": np.arange(3)}) for name in "AB")
    (tmp_path / "link.json").symlink_to(b)
    (tmp_path / "text.json").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    arguments = ["--compare", str(a), str(b), "--json", str(tmp_path / place)]
    assert "--json: found " in refused_arguments(arguments, capsys)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
    for _ in range(2):
        versions.main([*arguments[:-1], str(tmp_path / "S.json")])
    assert json.loads((tmp_path / "S.json").read_text())["groups"] == {"random": ["1", "equal"]}


@pytest.mark.parametrize("place", ["C.npz", "C", "config.json", "lone.json", "folder.json"])
def test_a_record_replaces_nothing_but_a_record(capsys, tmp_path, place):
    np.savez(tmp_path / "C.npz", mine=np.arange(3))
    np.savez(tmp_path / "lone.npz", mine=np.arange(3))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "folder.json").mkdir()
    files = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    arguments = ["--only", "promotion", "--json", str(tmp_path / place)]
    assert "--json: found " in refused_arguments(arguments, capsys)
    assert files == {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def test_a_place_that_cannot_be_written_is_told_in_one_line(capsys, tmp_path, monkeypatch):
    def full(path, arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(versions.run_dir, "write_arrays", full)
    arguments = ["--only", "promotion", "--json", str(tmp_path / "A.json")]
    with pytest.raises(SystemExit) as ended:
        versions.main(arguments)
    assert ended.value.code == 2
    assert "A.json (No space left on device)" in capsys.readouterr().err.splitlines()[-1]


def test_a_directory_that_is_there_is_not_begun(capsys, tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path, tmp_path / "file", tmp_path / "file" / "below"):
        error = refused_arguments(["--begin", str(place)], capsys)
        assert f"--begin: found {place} (" in error


def test_a_run_that_is_begun_stops_half_way_without_a_traceback(tmp_path, monkeypatch):
    steps = []

    def train_as_train_does(configs, workdirs, *places):
        stopped = interrupt.Interrupt()
        for step in range(versions_rounded.STEPS):
            if versions_rounded.loop.Log.stop_requested(None, stopped, step):
                raise interrupt.InterruptedRunError(stopped.requested, "saved")
            steps.append(step)

    monkeypatch.setattr(versions_rounded.loop, "train", train_as_train_does)
    versions.main(["--begin", str(tmp_path / "run")])
    assert len(steps) == versions_rounded.STOP
    assert json.loads((tmp_path / "run" / "config.json").read_text())["checkpoint"]["keep"] == 1


def run_directory(place, step=25, **changes):
    """A run directory as far as `--state` names it: a config and a step."""
    config = config_lib.resolve(config_lib.default(), 1437)
    config["eval"]["frost_dir"] = str(place)  # differs from machine to machine
    for name, value in changes.items():
        config[name] = {**config[name], **value} if isinstance(value, dict) else value
    (place / "checkpoints" / str(step)).mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(config))
    return place


def test_states_are_compared_of_one_run_only(write, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(versions, "state", lambda run: iter([("state/w", np.arange(3))]))
    runs = {
        "A": {},
        "same": {},
        "seed": {"seed": 7},
        "step": {"step": 50},
        "config": {"train": {"learning_rate": 0.7}},
    }
    paths = {}
    for name, changes in runs.items():
        paths[name] = tmp_path / f"{name}.json"
        run = run_directory(tmp_path / f"run_{name}", **changes)
        versions.main(["--json", str(paths[name]), "--state", str(run)])
    capsys.readouterr()
    state = json.loads(paths["A"].read_text())["--state"]
    assert re.fullmatch(r"config [0-9a-f]{8}, seed 0, step 25", state)
    text = versions_compare.table([paths["A"], paths["same"]], False)
    assert f"| --state | {state} | {state} |" in text
    assert "another --state" not in text
    for name in ("seed", "step", "config"):
        error = refused([paths["A"], paths[name]], capsys)
        assert f"{name}.json: found the state of another run or step: config " in error
        assert f"expected that of {paths['A']}: {state}" in error
    old = write("old", {"state/w": np.arange(3)})  # it does not say of which run
    text = versions_compare.table([paths["A"], old], False)
    assert "--state." in text.splitlines()[-1]


def test_a_state_of_no_run_is_told_in_one_line(tmp_path, capsys):
    arguments = ["--json", str(tmp_path / "A.json"), "--state", str(tmp_path / "none")]
    assert "none/config.json: found no such file" in refused_arguments(arguments, capsys)
    run = run_directory(tmp_path / "run")
    (run / "checkpoints" / "25").rmdir()
    arguments[-1] = str(run)
    assert "without a checkpoint" in refused_arguments(arguments, capsys)


def refused(paths, capsys):
    return refused_arguments(["--compare", *map(str, paths)], capsys)


def refused_arguments(arguments, capsys):
    """The one line with which the program ends."""
    with pytest.raises(SystemExit) as ended:
        versions.main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_a_record_says_what_was_asked_for(tmp_path):
    frost = tmp_path / "frost"
    frost.mkdir()
    (frost / "frost1.png").write_bytes(b"1")
    path = tmp_path / "A.json"
    versions.main(["--json", str(path), "--only", "promotion", "--frost_dir", str(frost)])
    about = json.loads(path.read_text())
    assert about["--only"] == "promotion"
    assert about["--networks"] == "mlp conv"
    before = about["--frost_dir"]
    assert len(before) == 8
    (frost / "frost1.png").write_bytes(b"2")
    versions.main(["--json", str(path), "--only", "promotion", "--frost_dir", str(frost)])
    assert json.loads(path.read_text())["--frost_dir"] != before
    assert cells(path, path) == {"promotion": ["2", "equal"]}
