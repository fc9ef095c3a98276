"""`python -m benchmarks.accelerator`: loop, records and budget, the study."""

import dataclasses
import importlib.util
import json
import os
import re
import signal
import sys
import tarfile
import time
from pathlib import Path

import jax
import pytest
import runs
from jax.experimental.compilation_cache import compilation_cache

from benchmarks.accelerator import (
    clock,
    command,
    loop,
    records,
    stages,
    study,
    study_runs,
    table,
    trainer,
)
from benchmarks.accelerator.stages import Part
from dst_jax import data, experiment, run_configs
from dst_jax.paths import RunPaths
from dst_jax.training import build


class Fakes:
    """Parts that do nothing but count, in place of the real ones."""

    def __init__(self):
        self.ran: list[str] = []
        self.parts: list[Part] = []
        self.setting = 1

    def add(self, name, stage="a", seconds=1.0, action=lambda context: None, missing=None):
        def run(context):
            self.ran.append(name)
            action(context)
            return {"figures": {"of": name}, "rows": [[f"what {name}", "1", "2", "3"]]}

        more = {} if missing is None else {"missing": missing}
        self.parts.append(
            Part(
                name,
                stage,
                f"title of {name}",
                lambda context: seconds,
                run,
                settings=lambda context: {"setting": self.setting},
                **more,
            )
        )


@pytest.fixture
def fakes(monkeypatch):
    fakes = Fakes()
    monkeypatch.setattr(stages, "parts", lambda: fakes.parts)
    monkeypatch.setattr(loop, "process_start", time.monotonic)
    return fakes


@pytest.fixture
def call(tmp_path, capfd):
    """A function: one call of the command; returns exit code, table and what was printed."""

    def run(*arguments, budget=100.0):
        out = tmp_path / "out"
        code = command.main(
            [f"--budget_s={budget}", f"--out={out}", f"--work={tmp_path / 'work'}", *arguments]
        )
        table = (out / "table.md").read_text() if (out / "table.md").exists() else ""
        printed = capfd.readouterr()
        return code, table, printed.out + printed.err

    return run


def rows_of(table: str) -> list[str]:
    return [line for line in table.splitlines() if re.match(r"\| [a-z] \|", line)]


def test_parts_are_done_once_and_their_table_stays_whole(fakes, call, tmp_path):
    fakes.add("one")
    fakes.add("two", "b")
    code, table, _ = call("--only=b")
    assert (code, fakes.ran) == (0, ["two"])
    assert rows_of(table) == ["| b | what two | 1 | 2 | 3 |"]
    code, table, printed = call()
    assert (code, fakes.ran) == (0, ["two", "one"])
    assert "two: kept from an earlier call" in printed
    one, two = rows_of(table)
    assert one == "| a | what one | 1 | 2 | 3 |"
    assert re.fullmatch(r"\| b \| what two \| 1 \| 2 \| 3; kept, of 20\S+ \|", two)
    _, table, _ = call("--only=one")  # what the call does not ask for stays in the table
    assert len(rows_of(table)) == 2
    assert fakes.ran == ["two", "one"]
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [part["figures"] for part in found["parts"]] == [{"of": "two"}, {"of": "one"}]


def test_other_settings_and_damaged_records_are_told_and_done_again(fakes, call, tmp_path):
    fakes.add("one")
    call()
    fakes.setting = 2
    _, _, printed = call()
    assert "one was done with other settings (setting): it is run again" in printed
    path = max((tmp_path / "work" / "parts").glob("one-*.json"), key=os.path.getmtime)
    whole = path.read_text()
    record = json.loads(whole)
    changes = ({"seconds": "x"}, {"text": 5}, {"notes": 7}, {"rows": [], "figures": {}})
    changes += ({"seconds": float("nan")}, {"settings": {}})
    damages = [json.dumps({**record, **change}) for change in changes]
    damages += [whole.replace('"stage"', '"stag"'), whole.replace('"rows"', '"row"')]
    damages += [whole[:40], "[]", whole.replace("one", "two")]
    for damage in damages:
        before = len(fakes.ran)
        path.write_text(damage)
        code, table, printed = call()
        assert code == 0
        assert len(fakes.ran) == before + 1
        assert re.search(r"one-\w+\.json is damaged .*: one is run again", printed)
        assert "is damaged" in table
        assert path.read_text().startswith("{")


def test_results_brought_from_another_machine_count(fakes, call, tmp_path):
    fakes.add("one")
    call()
    (record,) = (tmp_path / "work" / "parts").iterdir()
    record.unlink()
    call()
    assert fakes.ran == ["one"]
    (tmp_path / "out" / "results.json").write_text('{"parts": [')
    _, table, printed = call()
    assert fakes.ran == ["one", "one"]
    assert "results.json is damaged" in printed
    assert "results.json is damaged" in table
    (tmp_path / "out" / "results.json").write_text("again")
    _, _, printed = call()
    assert "kept as results.damaged.2.json" in printed
    kept = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.damaged*")}
    assert kept == {"results.damaged.json": '{"parts": [', "results.damaged.2.json": "again"}


@pytest.mark.parametrize("shared", ["--work", "--out"])
def test_two_calls_at_a_time_do_not_share_a_directory(fakes, call, capfd, tmp_path, shared):
    """The second is refused before it touches anything, and works once the first has ended."""
    places = {"--work": str(tmp_path / "work"), "--out": str(tmp_path / "out")}
    own = {flag: place if flag == shared else place + "2" for flag, place in places.items()}
    arguments = [f"{flag}={place}" for flag, place in own.items()]
    found = []

    def second(context):
        if len(fakes.ran) == 1:
            capfd.readouterr()
            found.append((command.main(arguments), capfd.readouterr().err))

    fakes.add("one", action=second)
    code, table, _ = call()
    assert (code, fakes.ran) == (0, ["one"])
    ((code, error),) = found
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith(f"benchmarks.accelerator: {shared}: found {places[shared]}, in use by")
    assert "more than" not in table
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"table.md", "results.json"}  # no lock is taken home
    assert command.main(arguments) == 0


def test_work_and_out_may_be_one_directory(fakes, tmp_path):
    fakes.add("one")
    (tmp_path / "link").symlink_to(tmp_path)
    assert command.main([f"--work={tmp_path}", f"--out={tmp_path / 'link'}"]) == 0


def test_no_call_drops_what_another_has_done(fakes, call, tmp_path):
    def figures():
        found = json.loads((tmp_path / "out" / "results.json").read_text())["parts"]
        return sorted((part["name"], part["settings"]["setting"]) for part in found)

    fails = []
    fakes.add("one", action=lambda context: [][0] if fails else None)
    fakes.add("two")
    call()
    fakes.setting = 2
    _, table, _ = call("--only=two")
    assert figures() == [("one", 1), ("two", 1), ("two", 2)]
    assert "results.json holds 2 more records" in table
    _, table, _ = call(budget=clock.RESERVE)
    assert len(figures()) == 3
    assert not [row for row in rows_of(table) if "what" in row]
    fakes.setting = 1
    fails.append(True)
    for path in (tmp_path / "work" / "parts").glob("one-*.json"):
        path.write_text("{")  # so that it is run again, in vain
    code, table, _ = call()
    assert code == 1
    assert "failed" in table
    parts = json.loads((tmp_path / "out" / "results.json").read_text())["parts"]
    assert [part["status"] for part in parts] == ["done"] * 3
    fails.clear()
    call()
    assert len(figures()) == 3


@pytest.mark.parametrize("change", ["code", "versions", "xla_flags", "data"])
def test_what_a_record_depends_on_is_in_its_settings(fakes, call, monkeypatch, change):
    fakes.add("one")
    call()
    monkeypatch.setattr(loop.identity, change, lambda *a: {"of": "another"})
    _, _, printed = call()
    name = {"data": "images"}.get(change, change)
    assert f"one was done with other settings ({name}): it is run again" in printed
    assert fakes.ran == ["one", "one"]


def test_flags_that_nothing_can_be_done_with_are_one_line(fakes, call, tmp_path):
    fakes.add("one")
    for value in ("nan", "inf", "1e300", "0", "-1"):
        code, _, printed = call(budget=value)
        assert code == 2
        assert re.fullmatch(r"benchmarks\.accelerator: --budget_s: found .*\n", printed)
    for flag in ("--seed=-1", "--epochs=-1", "--rounds=-1", "--rounds=9"):
        code, _, printed = call(flag)
        assert (code, printed.count("\n")) == (2, 1)
    text = " ".join(command.parser().format_help().split())
    assert "most seeds of the study (5), 0 to 8; of a toy at most 3" in text
    assert study.MOST_ROUNDS == 8
    assert not (tmp_path / "out").exists()
    (tmp_path / "out" / "results.json").mkdir(parents=True)
    code, _, printed = call()
    assert (code, fakes.ran) == (2, [])
    assert printed.count("\n") == 1


def test_the_last_files_are_written_whole_whatever_signal_comes(fakes, call, monkeypatch):
    fakes.add("one")
    real = loop.write_text

    def slow(path, text):
        if "begun" not in text:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)  # longer than the clock of a budget that is over waits
        real(path, text)

    monkeypatch.setattr(loop, "write_text", slow)
    code, table, _ = call(budget=1)
    assert code == 0
    assert "the budget, 1 s, is over" in table


def test_what_does_not_fit_is_left_out_with_the_reason_and_the_rest_is_done(fakes, call):
    fakes.add("long", seconds=1000.0)
    fakes.add("short")
    code, table, _ = call()
    assert (code, fakes.ran) == (0, ["short"])
    line = next(line for line in table.splitlines() if "title of long" in line)
    assert re.search(r"left out \|  \| takes about 1000 s, \d+ s are left", line)


def test_time_that_is_left_is_used_for_what_was_left_out(fakes, call, monkeypatch):
    """By worth, whatever the stage's share; what needs another part waits for it."""
    monkeypatch.setattr(stages, "SHARES", {"b": 0.1})
    seconds = {"first": 1000.0}
    fakes.add("first")
    first = fakes.parts.pop()
    fakes.parts.append(dataclasses.replace(first, estimate=lambda context: seconds["first"]))
    fakes.add("over", "b", seconds=40.0)
    fakes.add("next", "b", seconds=30.0)
    needs = lambda context: "" if "last" in context.results else "needs last"  # noqa: E731
    fakes.add("needy", "c", missing=needs)
    fakes.add("last", "d", action=lambda context: seconds.update(first=1.0))
    fakes.add("never", "d", seconds=1000.0)
    code, table, printed = call()
    assert (code, fakes.ran) == (0, ["last", "first", "over", "next", "needy"])
    assert table.count("left out") == 1
    assert re.search(
        r"title of never \| left out \|  \| takes about 1000 s, \d+ s are left ", table
    )
    assert printed.count("never: left out") == 1


def test_a_toy_learns_how_busy_the_machine_is(tmp_path):
    context = stages.Context(stages.Options(tmp_path, tmp_path, tiny=True), clock.Clock(100, 0))
    assert context.toy_s("restart") == stages.TOY_S["restart"]
    for name in ("masks", "corruptions", "steps"):
        context.learn(name, 4 * stages.TOY_S[name])
    assert 2 * stages.TOY_S["restart"] < context.toy_s("restart") < 4 * stages.TOY_S["restart"]
    for name in ("masks", "corruptions", "steps"):
        context.learn(name, 0.0)
    assert context.toy_s("restart") < 2 * stages.TOY_S["restart"]


def test_every_part_of_a_toy_has_an_estimate_of_its_own(tmp_path):
    context = stages.Context(stages.Options(tmp_path, tmp_path, tiny=True), clock.Clock(100, 0))
    context.results = {"study_pilot": {"epochs": 1}}
    context.identity = "0"
    for part in stages.parts():
        if not part.missing(context):
            assert part.estimate(context) > 0, part.name
            assert part.name in stages.TOY_S
    assert sum(stages.TOY_S.values()) < 150


def test_a_budget_too_small_starts_nothing(fakes, call):
    fakes.add("one")
    fakes.add("two")
    code, table, _ = call(budget=clock.RESERVE)
    assert (code, fakes.ran) == (0, [])
    assert table.count("left out |  | the budget, 8 s, is over") == 2


def test_a_part_that_fails_is_one_line_and_the_rest_goes_on(fakes, call):
    def fail(context):
        raise MemoryError("RESOURCE_EXHAUSTED: out of memory\nwhile allocating 3 GiB")

    fakes.add("greedy", action=fail)
    fakes.add("torchless", action=lambda context: __import__("no_such_torch"))
    fakes.add("fine")
    code, table, _ = call()
    assert code == 1
    assert "| failed |  | MemoryError: RESOURCE_EXHAUSTED: out of memory |" in table
    assert "ModuleNotFoundError: No module named 'no_such_torch'" in table
    assert "what fine" in table
    call()
    assert fakes.ran.count("greedy") == 2  # a failure is tried again
    assert fakes.ran.count("fine") == 1


def test_the_budget_ends_a_part_and_the_table_says_so(fakes, call, monkeypatch):
    monkeypatch.setattr(clock, "RESERVE", 60.0)
    fakes.add("fast", seconds=0.1)
    fakes.add("slow", seconds=0.1, action=lambda context: time.sleep(60))
    fakes.add("after")
    began = time.monotonic()
    code, table, _ = call(budget=62.0)
    assert time.monotonic() - began < 30
    assert (code, fakes.ran) == (0, ["fast", "slow"])
    assert "title of slow | left out |  | begun, not finished: stopped by the budget's end" in table
    assert "title of after | left out |  | not reached: stopped by the budget's end" in table
    assert "what fast" in table


def test_sigterm_keeps_what_is_done(fakes, call):
    fakes.add("fast")
    fakes.add("slow", action=lambda context: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(60))
    previous = signal.getsignal(signal.SIGTERM)
    code, table, _ = call()
    assert code == 143
    assert "what fast" in table
    assert "begun, not finished: stopped by SIGTERM" in table
    assert signal.getsignal(signal.SIGTERM) is previous


def test_only_names_the_order_and_mistakes_are_one_line(fakes, call):
    for name, stage in (("one", "a"), ("two", "b"), ("three", "a")):
        fakes.add(name, stage)
    call("--only=b,three,a")
    assert fakes.ran == ["two", "three", "one"]
    code, _, printed = call("--only=z")
    assert code == 2
    assert printed.strip() == (
        "benchmarks.accelerator: --only: found z; expected among a, b, one, two, three"
    )
    assert call("--budget_s=-1")[0] == 2


@pytest.mark.parametrize("installed", [False, True])
def test_on_a_tpu_parts_with_processes_of_their_own_come_first(monkeypatch, installed):
    found = {"libtpu": object()} if installed else {}
    monkeypatch.setattr(importlib.util, "find_spec", found.get)
    for own in (False, True):
        part = stages.Part("x", "a", "x", lambda context: 0.0, dict, own_processes=own)
        assert part.comes_first == (own and installed)


def test_the_real_parts_have_names_and_letters_that_files_and_flags_can_take():
    parts = stages.parts()
    assert all(re.fullmatch(r"[a-z0-9_]+", part.name) for part in parts)
    assert all(re.fullmatch(r"[a-z]", part.stage) for part in parts)
    assert [part.stage for part in parts] == sorted(part.stage for part in parts)


# --- the study


@pytest.fixture
def fake_runs(monkeypatch):
    """The study's runs without training; a list of those done, and of the reports' seeds."""
    done: list[tuple[str, int]] = []
    reports: list[list[int]] = []

    def do(context, method, seed, epochs):
        done.append((method, seed))
        return {"clean": 0.9, "robust": 0.7, "sparsity": 0.5, "train_s": 1.0}

    def report(context, seeds, epochs):
        reports.append(list(seeds))
        return f"the report of {len(seeds)} seeds"

    monkeypatch.setattr(study_runs, "do", do)
    monkeypatch.setattr(study_runs, "report", report)
    monkeypatch.setattr(loop, "process_start", time.monotonic)
    figures = {"images_per_s": 1e5, "scored_per_s": 1e5, "train_images": 50_000}
    figures |= {"to_score": 910_000, "corruptions": 18, "epochs": 10}
    pilot = Part(
        "study_pilot", "d", "pilot", lambda c: 0.0, lambda c: {"figures": figures, "rows": []}
    )
    monkeypatch.setattr(stages, "parts", lambda: [pilot, *study.PARTS[1:]])
    return done, reports, monkeypatch


def test_rounds_are_whole_and_balanced(fake_runs, call):
    done, reports, _ = fake_runs
    code, table, _ = call("--rounds=2", "--seed=5", budget=600.0)
    assert code == 0
    assert done == [(method, seed) for seed in (5, 6) for method in study_runs.METHODS]
    assert reports == [[5], [5, 6]]
    assert "the report of 2 seeds" in table
    assert "the report of 1 seeds" not in table  # one report: the last
    assert "left out" not in table


def test_the_archive_belongs_to_the_table(fake_runs, call, tmp_path):
    _, _, patch = fake_runs
    archive = tmp_path / "out" / "report.tar.gz"
    patch.setattr(
        study_runs, "report", lambda c, seeds, e: archive.write_text(f"{len(seeds)}") and "text"
    )
    _, text, _ = call("--rounds=2", budget=600.0)
    assert archive.read_text() == "2"
    assert "report.tar.gz" not in text
    archive.unlink()
    _, text, _ = call("--rounds=2", budget=600.0)
    assert "report.tar.gz is absent from --out: its run directories are not below" in text
    archive.write_text("other")
    _, text, _ = call("--rounds=2", budget=600.0)
    assert "report.tar.gz in --out is of another call and not of this table" in text
    patch.setattr(study_runs, "all_there", lambda *a: True)
    for before in ("other", "2"):
        archive.write_text(before)
        _, text, _ = call("--rounds=2", budget=600.0)
        assert archive.read_text() == "2"
        assert "report.tar.gz" not in text


def test_a_bracket_is_explained_once_under_the_table():
    def record(name, cell, count):
        more = {"timings": count} if count else {}
        return {"name": name, "stage": "a", "title": name, "status": "done", "figures": more,
                "rows": [["what", cell, "", ""]], "date": "", "seconds": 1234.5,
                "estimated_s": 0.0}  # fmt: skip

    done = [record("one", "5.38 (5.3 to 5.4) ms", 4), record("two", "0 of 3 differ", 0)]
    done += [record("three", "1,490 (1.2e-07 to 1,500)", 2)]
    text = table.markdown({"used_s": 123.45}, done, [])
    assert text.count("is the median of the timings") == 1
    assert "Timings or rounds of each figure: 4 for one; 2 for three\n" in text
    assert "| one | 1,230 | 0 |" in text
    assert "- used_s: 123\n" in text
    assert "median" not in table.markdown({}, done[1:2], [])


def test_the_title_says_where():
    for hardware, words in (
        ("1 x cpu (x86_64, 2 cores)", "on a CPU, without an accelerator"),
        ("1 x NVIDIA H100", "on an accelerator"),
    ):
        assert table.markdown({"hardware": hardware}, [], []).startswith(f"# One command {words}\n")


def test_a_round_that_does_not_fit_for_all_methods_is_not_begun(fake_runs, call):
    done, reports, patch = fake_runs
    patch.setattr(study, "_round_estimate", None)
    real = study.PARTS[2].estimate
    context = stages.Context(stages.Options(Path(), Path()), clock.Clock(1, 0))
    context.results = {"study_pilot": {"epochs": 10}, "study_0": {"round_s": 100.0}}
    assert 100 < real(context) < 130  # by the round before
    _, table, _ = call("--rounds=3", budget=50.0)  # the first round needs about 170 s
    assert (done, reports) == ([], [])
    assert table.count("needs study_") == 2
    assert "takes about" in table
    assert re.search(r"report.tar.gz is absent from --out: no study yet, takes about \d+", table)
    _, table, _ = call("--rounds=0")
    assert "report.tar.gz is absent from --out: no study yet, --rounds=0" in table
    _, table, _ = call("--only=study_pilot")
    assert "report.tar.gz is absent from --out: no study yet, --only does not name it" in table


def test_the_length_of_the_runs_follows_the_time(fake_runs):
    figures = {"images_per_s": 1e5, "scored_per_s": 1e5, "train_images": 50_000}
    figures |= {"to_score": 910_000, "corruptions": 18}
    each = study.run_seconds(figures, 30)
    wanted = study.WANTED * len(study_runs.METHODS)
    assert study._most_epochs(figures, wanted * each) == 30
    assert study._most_epochs(figures, wanted * each - 1) == 25
    assert study._most_epochs(figures, 1.0) == min(study.EPOCHS)


@pytest.mark.parametrize("epochs", [min(study.EPOCHS), max(study.EPOCHS)])
def test_the_runs_of_the_study_can_begin_and_change_their_masks(epochs):
    options = stages.Options(Path(), Path(), data="cifar10")
    context = stages.Context(options, clock.Clock(1, 0))
    for method in study_runs.METHODS:
        config = run_configs.as_published(study_runs.card(context, method, 3, epochs))
        updater = build.updater(config)
        changes = sum(map(updater.is_mask_update, range(config["train"]["steps"])))
        assert changes == 0 if method == "dense" else 20 <= changes <= 40
        assert config["train"]["epochs"] == epochs
        assert config["eval"]["corruptions"] == []
        assert not config["data"]["stand_in_for"]


@pytest.mark.slow
def test_the_pilot_compiles_the_very_programs_of_the_runs(tmp_path, on_one_device):
    """A training after it finds them in the cache on disk and adds none."""
    where = tmp_path / "cache"
    changes = {"data.name": "digits", "model.name": "mlp", "model.width": 8, "model.depth": 1}
    changes |= {"train.steps": "8", "train.batch_size": 32, "sparsity.algorithm": "rigl"}
    changes |= {"sparsity.update_freq": "3", "log.every": "8"}
    card = trainer.card(changes)
    images, labels = data.load_arrays(data.get("digits"), "train", None, where)
    previous = jax.config.jax_compilation_cache_dir
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", str(where / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        run = trainer.Trainer(trainer.resolve(card, len(labels)), images, labels)
        run.compile(update=False)
        run.compile(update=True)
        run.close()
        compiled = set(os.listdir(where / "xla"))
        experiment.run(card, RunPaths(tmp_path / "run", None, where), mode="train")
        added = set(os.listdir(where / "xla")) - compiled
    finally:
        jax.config.update("jax_compilation_cache_dir", previous)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
        compilation_cache.reset_cache()
    programs = [name for name in compiled if "lambda" in name and name.endswith("-cache")]
    assert len(programs) >= 2
    assert not [name for name in added if "lambda" in name]


@pytest.mark.slow
def test_the_toy_of_real_parts(call, tmp_path, on_one_device, monkeypatch):
    monkeypatch.setattr(loop, "process_start", time.monotonic)
    arguments = ("--tiny", "--only=ceilings,study_pilot,study_0", "--rounds=1")
    code, table, printed = call(*arguments, budget=600.0)
    assert code == 0, printed
    assert "**A toy**" in table
    assert "left out" not in table
    assert "toy: no verdict" in table  # the report judges nothing by it
    (study_dir,) = (tmp_path / "work" / "study").glob("digits-toy-*")
    assert len(list(study_dir.glob("*-0/robustness.csv"))) == len(study_runs.METHODS)
    assert "study: ResNet-20 shrunk to width 4 and depth 1, seed 0" in table
    assert "Timings or rounds of each figure: 5 for ceilings\n" in table
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    names = ["report.tar.gz", "results.json", "table.md"]
    assert sorted(path.name for path in files) == names
    with tarfile.open(tmp_path / "out" / "report.tar.gz") as archive:
        assert "report/report.html" in archive.getnames()
        assert "runs/set-0.5-0/robustness.csv" in archive.getnames()
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    figures = {part["name"]: part["figures"] for part in found["parts"]}
    assert figures["ceilings"]["copy_gb_s"] > 0
    assert set(figures["study_0"]["scores"]) == set(study_runs.METHODS)
    (tmp_path / "out" / "report.tar.gz").write_bytes(b"of another call")
    _, table, printed = call(*arguments, budget=600.0)
    assert printed.count("kept from an earlier call") == 3
    with tarfile.open(tmp_path / "out" / "report.tar.gz") as archive:  # written again
        assert "report/report.html" in archive.getnames()
    assert "report.tar.gz" not in table


def test_one_line_of_an_exception():
    assert records.one_line(ValueError("a\nb")) == "ValueError: a"
    assert records.one_line(MemoryError()) == "MemoryError"


def test_a_checkout_that_is_not_installed_is_one_line():
    code = (
        "import runpy, sys; sys.modules['ml_collections'] = None; "
        "runpy.run_module('benchmarks.accelerator', run_name='__main__')"
    )
    done = runs.run([sys.executable, "-c", code])
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "benchmarks.accelerator: found no ml_collections; expected dst_jax installed, or a folder "
        "that python -m benchmarks.accelerator --pack=DIR wrote elsewhere"
    ]
