"""Which t test a page does, and that everything on it says so: paired by seed, or not."""

import csv
import json
import re

import pytest
from run_directories import conditions, make
from scipy import stats

from dst_jax import report
from dst_jax.report import comparisons, runs, tables, verdicts

DENSE, RIGL = (0.50, 0.51, 0.52), (0.60, 0.62, 0.61)
SEEDS = (0, 1, 2)


def group(root, algorithm, sparsity, accuracies, seeds=SEEDS):
    return [
        make(root, algorithm, sparsity, seed, conditions(0.9, value))
        for seed, value in zip(seeds, accuracies, strict=True)
    ]


def compared(*directories):
    (comparison,) = comparisons.compare(list(map(runs.read, directories)))
    return comparison


def told(written):
    """Verdict paragraphs and notes, as one line each form."""
    forms = {
        "terminal": written.text,
        "page": written.html_path.read_text().split("<h2>Definitions")[0],
        "markdown": written.markdown_path.read_text(),
        "latex": (written.html_path.parent / "report.tex").read_text(),
    }
    texts = {
        name: " ".join(form.replace("\u00a0", " ").replace("&#x27;", "'").split())
        for name, form in forms.items()
    }
    rows = csv.DictReader(written.csv_path.read_text().splitlines())
    return texts, {row["method"]: row["gain_test"] for row in rows}


PAIRED = "It is paired: the samples are the differences of the runs of the same seed."
WHY = "as the sides' seeds differ or are not known"
WELCH = "Welch's statistic, degrees of freedom of the side with fewer seeds"


def test_the_same_seeds_are_paired_and_every_form_says_so(tmp_path):
    paths = group(tmp_path, "dense", 0.0, DENSE) + group(tmp_path, "rigl", 0.5, RIGL)
    texts, column = told(report.write(paths, tmp_path / "out"))
    for name, text in texts.items():
        assert PAIRED in text, name
        assert "Welch" not in text, name
    for name in ("terminal", "page"):
        assert "the verdicts are t tests over seeds, paired by seed, corrected for the one" in (
            texts[name].replace("The verdicts", "the verdicts")
        )
    assert column == {"dense": "", "rigl": "paired"}
    comparison = compared(*paths)
    found = comparison.gain(comparison.groups[1]).over_seeds
    wanted = stats.ttest_rel(RIGL, DENSE)
    assert found.p == pytest.approx(wanted.pvalue)
    assert found.high == pytest.approx(wanted.confidence_interval(0.95).high)


def test_runs_are_paired_by_their_seed_not_by_their_place(tmp_path):
    paths = group(tmp_path, "dense", 0.0, DENSE, (7, 0, 3))
    paths += group(tmp_path, "rigl", 0.5, (RIGL[1], RIGL[2], RIGL[0]), (0, 3, 7))
    comparison = compared(*reversed(paths))
    found = comparison.gain(comparison.groups[1]).over_seeds
    assert found.paired
    assert found.p == pytest.approx(stats.ttest_rel(RIGL, DENSE).pvalue)


@pytest.mark.parametrize("what", ["one differs", "more", "unknown"])
def test_other_seeds_are_not_paired_and_every_form_says_so(tmp_path, what):
    paths = group(tmp_path, "dense", 0.0, DENSE)
    if what == "more":
        paths += group(tmp_path, "rigl", 0.5, (*RIGL, 0.60), range(4))
    else:
        paths += group(tmp_path, "rigl", 0.5, RIGL, (0, 1, 9 if what == "one differs" else 2))
    if what == "unknown":
        for path in (paths[2], paths[-1]):
            config = json.loads((path / "config.json").read_text())
            del config["seed"]
            (path / "config.json").write_text(json.dumps(config))
    texts, column = told(report.write(paths, tmp_path / "out"))
    for name, text in texts.items():
        assert f"It is not paired, {WHY}: {WELCH}." in text, name
        assert "It is paired" not in text, name
    for name in ("terminal", "page"):
        assert "t tests over seeds, not paired by seed, corrected for the one" in texts[name]
    assert column == {"dense": "", "rigl": "not paired"}
    verdict = next(iter(verdicts.judge([compared(*paths)]).values()))
    assert (verdict.text, verdict.paired) == (verdicts.MORE, False)


def test_some_of_each(tmp_path):
    paths = group(tmp_path, "dense", 0.0, DENSE) + group(tmp_path, "rigl", 0.5, RIGL)
    paths += group(tmp_path, "set", 0.5, RIGL, (1, 2, 3))
    texts, column = told(report.write(paths, tmp_path / "out"))
    for name, text in texts.items():
        assert "It is paired (the samples are the differences of the runs of" in text, name
        assert re.search(rf"but not that of set 50 \\?%, {WHY} \({WELCH}\)", text), name
    for name in ("terminal", "page"):
        assert (
            "paired by seed where both sides have the same seeds, corrected for the 2"
            in (texts[name])
        )
    assert column == {"dense": "", "rigl": "paired", "set": "not paired"}


def test_differences_without_spread_are_no_statement(tmp_path):
    paths = group(tmp_path, "dense", 0.0, DENSE)
    paths += group(tmp_path, "rigl", 0.5, [value + 0.1 for value in DENSE])
    comparison = compared(*paths)
    assert comparison.gain(comparison.groups[1]).over_seeds is None
    (verdict,) = verdicts.judge([comparison]).values()
    assert verdict == verdicts.Verdict(verdicts.NO_SPREAD)
    assert not any("t test" in note for note in tables.build(comparison).notes)
