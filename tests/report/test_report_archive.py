"""A study kept in one folder: the same tables out of it, nothing of the machine, nothing unsafe."""

import csv
import gzip
import io
import json
import shutil
import statistics
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import runs as commands
import synthetic_results as synthetic
from run_directories import CORRUPTIONS, SEVERITIES, analysed, conditions, make

from dst_jax import experiment, report
from dst_jax.errors import UserError
from dst_jax.paths import RunPaths
from dst_jax.report import archive, public_facts
from dst_jax.robustness import Condition, storage
from dst_jax.robustness.records import Fingerprint
from dst_jax.runtime import run_dir


def scored(path: Path, draw: int, accuracy: float, images: int = 40) -> Path:
    """Gives a run of `make` scores with records and the weights that they are of."""
    random = np.random.default_rng(draw)
    result = synthetic.of_hits(
        {
            Condition(c, s): random.random(images) < accuracy
            for c in CORRUPTIONS
            for s in SEVERITIES
        },
        clean=random.random(images) < 0.95,
        dataset="digits",
        setting=("Test-C", "rendered", "cifar32", 3),
    )
    storage.write(path, [result], Fingerprint(f"weights{draw}", np.zeros(2, int), np.zeros(2)))
    facts = json.loads((path / "model.json").read_text())
    (path / "model.json").write_text(json.dumps({**facts, "weights": f"weights{draw}"}))
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Dense and RigL with two seeds each, one run stopped, one that failed, and one checkpoint."""
    root = tmp_path_factory.mktemp("machine") / "study"
    for draw, accuracy in enumerate((0.5, 0.55, 0.7, 0.75)):
        algorithm, sparsity = ("dense", 0.0) if draw < 2 else ("rigl", 0.5)
        path = scored(make(root, algorithm, sparsity, draw % 2), draw, accuracy)
        (path / "checkpoints" / "400").mkdir(parents=True)
        (path / "checkpoints" / "400" / "weights").write_bytes(b"large")
    analysed(root / "rigl-0.5-0")
    make(root, "set", 0.5, upto=120, name="stopped")
    failed = make(root, "set", 0.5, 1, upto=40, name="failed")
    (failed / "model.json").write_text('{"parameters": ')
    of_machine = {
        "command": f"python {root}/run.py --config={root}/cards/my card.py:tiny "
        f"--workdir={root}/runs --data_dir=gs://bucket/tfds --multihost=node17:1234,2,0",
        "data_dir": f"{root}/tfds",
        "host": "node17",
        "hardware": "2 CPU cores",
        "commit": "abc123",
        "versions": {"jax": "0.10.2"},
        "started": "2026-01-01T00:00:00+00:00",
        "step": 0,
        "registered": [
            {"kind": "model", "name": "mine", "file": f"{root}/mine.py", "sha256": "ab"}
        ],
    }
    for path in root.iterdir():
        facts = {**of_machine, "starts": [of_machine]}
        (path / "environment.json").write_text(json.dumps(facts))
    return root


def call(mode: str, workdir: Path, out: Path | None = None, **options) -> str:
    run_paths = RunPaths(workdir, None, workdir / "cache")
    return experiment.run(None, run_paths, mode=mode, out=out, **options)


@pytest.fixture(scope="module")
def kept(study, tmp_path_factory) -> tuple[Path, str]:
    """The folder of the study, and what was printed."""
    out = tmp_path_factory.mktemp("kept") / "folder"
    return out, call("archive", study, out)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def of_zip(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


# --- what is kept ---


def test_the_folder_has_the_tables_and_figures_of_the_runs_to_the_byte(study, kept, tmp_path):
    folder, text = kept
    paths = sorted(study.iterdir())
    drawn = report.write(paths, tmp_path)
    assert text.startswith(drawn.text)
    of_runs, of_archive = contents(tmp_path), contents(folder)
    assert of_archive.keys() - of_runs.keys() == {"runs.zip", "scores.csv.gz"}
    # The page also says where each run lies, and with which command it was started.
    assert [name for name in of_runs if of_runs[name] != of_archive[name]] == ["report.html"]
    assert "figures/gains.svg" in of_runs
    assert "figures/attenuation.svg" in of_runs


def test_the_folder_is_drawn_again_out_of_itself_to_the_byte(kept, tmp_path):
    folder, text = kept
    (tmp_path / "runs.zip").write_bytes((folder / "runs.zip").read_bytes())
    again = call("report", tmp_path)
    assert again.splitlines()[:-1] == text.splitlines()[:-2]  # without the paths
    assert contents(tmp_path) == contents(folder)


def test_the_same_runs_give_the_same_bytes(study, kept, tmp_path):
    call("archive", study, tmp_path)
    assert contents(tmp_path) == contents(kept[0])


def test_which_file_of_the_users_registered_a_thing_is_kept(kept):
    facts = json.loads(of_zip(kept[0] / "runs.zip")["dense-0.0-0/environment.json"])
    wanted = {"kind": "model", "name": "mine", "file": "mine.py", "sha256": "ab"}
    assert facts["starts"][0]["registered"] == [wanted]


def test_nothing_of_the_machine_is_in_the_folder(study, kept):
    folder, _ = kept
    found = {**contents(folder), **of_zip(folder / "runs.zip")}
    found["scores"] = gzip.decompress(found["scores.csv.gz"])
    for name, content in found.items():
        for word in (str(study.parent), "/tmp", "node17", "bucket", "tfds/", "dst-jax-"):
            assert word.encode() not in content, (name, word)
    command = json.loads(found["dense-0.0-0/environment.json"])["starts"][0]["command"]
    assert command == (
        "python run.py --config=my card.py:tiny --workdir=runs --data_dir=tfds --multihost=..."
    )
    page = found["report.html"].decode()
    for fact in ("abc123", "jax 0.10.2", "2 CPU cores", "dense-0.0-0 in runs.zip", "2026-01-01"):
        assert fact in page
    assert "step 400, not in runs.zip" in page


def test_no_weights_and_no_times(kept):
    with zipfile.ZipFile(kept[0] / "runs.zip") as file:
        entries = file.infolist()
    assert [e.filename for e in entries] == sorted(e.filename for e in entries)
    assert {e.date_time for e in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert "dense-0.0-0/checkpoints/400/" in [e.filename for e in entries]
    assert not any("checkpoints" in e.filename and e.file_size for e in entries)


def test_runs_that_failed_or_were_stopped_are_named(kept):
    folder, text = kept
    assert "stopped/metrics.jsonl" in of_zip(folder / "runs.zip")
    page = (folder / "report.html").read_text()
    for name in ("stopped in runs.zip", "failed in runs.zip", "model.json is unreadable"):
        assert name in page
    assert "training not finished at step 120 of 400" in text
    assert "6 runs" in text


def test_runs_that_were_planned_and_not_begun_are_named(study, tmp_path):
    planned = [{"name": "never", "algorithm": "rigl", "sparsity": 0.9, "seed": 0}]
    archive.write(sorted(study.iterdir()), tmp_path, planned)
    again = call("report", tmp_path)
    assert "not run" in next(
        line for line in again.splitlines() if line.startswith("rigl") and "90" in line
    )


def test_what_leaving_out_the_records_loses_is_the_interval_over_images(
    study, tmp_path, monkeypatch
):
    whole, small = tmp_path / "whole", tmp_path / "small"
    call("archive", study, whole)
    monkeypatch.setattr(archive, "LARGE", 1000)
    text = call("archive", study, small)
    assert "which images were right is left out for 4 runs" in text
    assert not [name for name in of_zip(small / "runs.zip") if name.endswith("robustness.npz")]
    assert "Which images were right is not on record" in (small / "report.html").read_text()
    rows = [
        list(csv.DictReader((f / "report.csv").read_text().splitlines())) for f in (whole, small)
    ]
    differing = {name for a, b in zip(*rows, strict=True) for name in a if a[name] != b[name]}
    assert differing == {"gain_images_low", "gain_images_high"}
    forced = call("archive", study, tmp_path / "forced", image_records=True)
    assert "left out" not in forced


def test_a_record_that_contradicts_its_rows_is_kept(tmp_path):
    root = tmp_path / "study"
    paths = [scored(make(root, "rigl", 0.5, seed), seed, 0.7) for seed in (0, 1)]
    table = (paths[0] / "robustness.csv").read_text().splitlines()
    cells = table[-1].split(",")
    cells[5] = "0.012345"
    (paths[0] / "robustness.csv").write_text("\n".join([*table[:-1], ",".join(cells)]) + "\n")
    call("archive", root, tmp_path / "out", image_records=False)
    names = [name for name in of_zip(tmp_path / "out" / "runs.zip") if name.endswith(".npz")]
    assert names == ["rigl-0.5-0/robustness.npz"]
    assert "contradict each other in 1 row" in (tmp_path / "out" / "report.md").read_text()


# --- the scores ---


def test_the_plain_mean_of_the_scores_is_the_robust_accuracy_of_the_table(tmp_path):
    # Dense (50 + 30 + 80 + 60) / 4 = 55, RigL (60 + 46 + 78 + 60) / 4 = 61.
    names = [(c, s) for c in CORRUPTIONS for s in SEVERITIES]
    of_dense = dict(zip(names, (0.5, 0.3, 0.8, 0.6), strict=True))
    of_rigl = dict(zip(names, (0.6, 0.46, 0.78, 0.6), strict=True))
    root = tmp_path / "study"
    make(root, "dense", 0.0, 2, conditions(0.9, of_dense), train={"learning_rate": 0.1})
    quick = make(root, "rigl", 0.5, 2, conditions(0.9, of_rigl), train={"learning_rate": 0.1})
    with (quick / "robustness.csv").open("a") as file:  # a look at few images does not count
        file.writelines(",".join(map(str, r)) + "\n" for r in conditions(1.0, 0.9, n=8))
    call("archive", root, tmp_path / "out")
    text = gzip.decompress((tmp_path / "out" / "scores.csv.gz").read_bytes()).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    means = {
        run: statistics.fmean(
            float(row["accuracy"]) for row in rows if row["run"] == run and row["counted"] == "1"
        )
        for run in ("dense-0.0-2", "rigl-0.5-2")
    }
    assert means == {"dense-0.0-2": pytest.approx(0.55), "rigl-0.5-2": pytest.approx(0.61)}
    table = list(csv.DictReader((tmp_path / "out" / "report.csv").read_text().splitlines()))
    assert [float(row["robust_accuracy"]) for row in table] == pytest.approx(list(means.values()))
    first = next(row for row in rows if row["corruption"] == "fog")
    wanted = {"dataset": "digits", "model": "mlp", "algorithm": "dense", "sparsity": "0.0"}
    wanted |= {"seed": "2", "steps": "400", "suite": "Test-C", "severity": "1", "n": "100"}
    assert {key: first[key] for key in wanted} == wanted
    assert len(rows) == 5 + 10


def test_an_option_that_differs_between_the_runs_is_a_column(tmp_path):
    root = tmp_path / "study"
    for freq in (10, 20):
        make(root, "rigl", 0.5, 0, conditions(0.9, 0.5), name=f"f{freq}", update_freq=freq)
    call("archive", root, tmp_path / "out")
    text = gzip.decompress((tmp_path / "out" / "scores.csv.gz").read_bytes()).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0])[-2:] == ["counted", "sparsity.update_freq"]
    assert {(row["run"], row["sparsity.update_freq"]) for row in rows} == {
        ("f10", "10"),
        ("f20", "20"),
    }


# --- what belongs to the machine ---


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("dst-jax --config=digits_rigl --workdir=runs/x", None),
        ("python run.py --config=configs/a.py:algorithm=rigl,sparsity=0.5", None),
        ("python run.py --multihost=auto", None),
        ("python /a/b/run.py --workdir=/home/me/x", "python run.py --workdir=x"),
        ("python run.py --workdir /home/me/x --nolog", "python run.py --workdir x --nolog"),
        ("python run.py --cache_dir=~me/c --mode=all", "python run.py --cache_dir=c --mode=all"),
        ("/opt/bin/dst-jax --data_dir=s3://b/c/tfds/", "dst-jax --data_dir=tfds"),
        ("python C:\\me\\run.py --out=D:/x/y", "python run.py --out=y"),
        ("run.py --data_dir=../../x/tfds --workdir=../r", "run.py --data_dir=tfds --workdir=r"),
        ("python run.py --multihost=h.example:1,2,0", "python run.py --multihost=..."),
        ("dst-jax --config=a:model=/me x/b,seed=1", "dst-jax --config=a:model=b,seed=1"),
        ("run.py --config.eval.frost_dir=/my photos/f", "run.py --config.eval.frost_dir=f"),
    ],
)  # fmt: skip
def test_commands(command, wanted):
    assert public_facts.of_command(command) == (wanted or command)


def test_a_config_keeps_what_only_looks_like_a_path():
    config = {"eval": {"frost_dir": "/home/me/frost"}, "sparsity": {"exclude": "/kernel$"}}
    found = json.loads(public_facts.of_file("config.json", json.dumps(config).encode()))
    assert found == {"eval": {"frost_dir": "frost"}, "sparsity": {"exclude": "/kernel$"}}


def test_lines_stay_lines():
    lines = b'{"step": 40, "a/b": NaN, "text": "saved in /home/me/x"}\n{"step": 80}\n{"st'
    wanted = b'{"step": 40, "a/b": NaN, "text": "saved in x"}\n{"step": 80}\n{"st'
    assert public_facts.of_file("metrics.jsonl", lines) == wanted


def test_what_cannot_be_read_stays_unreadable_and_tells_no_path():
    assert public_facts.of_file("environment.json", b'{"command": "x /home/me') == b""
    assert public_facts.of_file("model.json", b'{"path": "/home/me') == b""
    assert public_facts.of_file("model.json", b'{"parameters": ') == b'{"parameters": '


# --- the command ---


def test_the_command(study, tmp_path):
    program = [sys.executable, "run.py"]
    out = tmp_path / "out"
    done = commands.run([*program, "--mode=archive", f"--workdir={study}", f"--out={out}"])
    assert (done.returncode, done.stderr) == (0, "")
    assert f"archive: {out}/runs.zip, 6 runs, " in done.stdout
    (out / "runs.zip").write_bytes(b"PK")
    done = commands.run([*program, "--mode=report", f"--workdir={out}"])
    assert done.returncode == 2
    assert done.stderr.startswith(f"run.py: {out}/runs.zip: found a damaged archive")
    assert done.stderr.count("\n") == 1


def test_mistakes(study, tmp_path):
    with pytest.raises(UserError, match="--out: found nothing"):
        call("archive", study)
    with pytest.raises(UserError, match="the directory of the runs"):
        call("archive", study, study)
    with pytest.raises(UserError, match="no run"):
        call("archive", tmp_path, tmp_path / "out")
    (tmp_path / "runs.zip").write_bytes(b"")
    with pytest.raises(UserError, match="has no weights"):
        call("evaluate", tmp_path)
    with pytest.raises(UserError, match="two runs named dense"):
        archive.write(
            [make(tmp_path / a, "dense", 0.0, name="dense") for a in "ab"], tmp_path / "o"
        )


def test_an_archive_is_replaced_whole_and_never_by_one_that_lacks_its_runs(study, tmp_path):
    out = tmp_path / "kept"
    call("archive", study, out)
    (out / "figures" / "old.svg").write_text("of a report before")
    (out / ".archive-left").mkdir()
    call("archive", study, out)
    assert not (out / "figures" / "old.svg").exists()
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"runs that are not given: .*failed"):
        archive.write(sorted(study.glob("*-*-*")), out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_folder_of_other_files_is_not_written_to(study, tmp_path):
    (tmp_path / "report.html").write_text("hi")
    with pytest.raises(UserError, match=r"--out=.*: found report.html, of no archive"):
        call("archive", study, tmp_path)
    assert (tmp_path / "report.html").read_text() == "hi"


def test_what_fails_while_it_draws_leaves_the_folder_as_it_was(study, tmp_path, monkeypatch):
    out = tmp_path / "kept"
    call("archive", study, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive, "_scores", no_space)
    with pytest.raises(UserError, match=f"--out={out}: found No space left on device"):
        call("archive", study, out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_two_calls_do_not_write_one_folder(study, tmp_path):
    with (
        run_dir.locked(tmp_path, "", "--out"),
        pytest.raises(UserError, match=r"--out=.*in use by another call"),
    ):
        call("archive", study, tmp_path)
    assert not list(tmp_path.iterdir())


def test_scores_that_are_not_the_archives_are_written_again_and_told(kept, tmp_path):
    copy = shutil.copytree(kept[0], tmp_path / "copy")
    whole = (copy / archive.SCORES).read_bytes()
    assert "written again" not in call("report", copy)
    (copy / archive.SCORES).write_bytes(gzip.compress(b"run,accuracy\nrigl,1\n"))
    assert "scores.csv.gz was not that of runs.zip" in call("report", copy)
    assert (copy / archive.SCORES).read_bytes() == whole


def test_a_run_that_the_index_does_not_list_is_no_part_of_an_archive(kept, tmp_path):
    path = tmp_path / archive.NAME
    shutil.copy(kept[0] / archive.NAME, path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("foreign/config.json", "{}")
    with pytest.raises(UserError, match=r"archive\.json does not list foreign"):
        call("report", tmp_path)
