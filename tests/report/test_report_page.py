"""The page and the figures: well-formed, self-contained, described, repeatable."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
from run_directories import conditions, make

from dst_jax import report

_VOID = {"meta", "br", "img", "link", "hr", "input"}


class _Checker(HTMLParser):
    """Collects what the tests ask of a page, and checks that tags are balanced."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.references, self.svgs = [], [], [], []
        self.figures = 0

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        attributes = dict(attrs)
        self.figures += tag == "figure"
        if tag == "svg":
            self.svgs.append(attributes)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        self.references += [
            attributes[key] for key in ("src", "href", "xlink:href") if key in attributes
        ]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    directories = [
        make(root, "dense", 0.0, 0, conditions(0.92, 0.5)),
        make(root, "dense", 0.0, 1, conditions(0.91, 0.52)),
        make(root, "rigl", 0.5, 0, conditions(0.9, 0.6)),
        make(root, "rigl", 0.3, 0, conditions(0.9, 0.6), name="<b>&'\"$x_1$"),
        make(root, "stranger", 0.3, 0, upto=200),
    ]
    return report.write(directories, root / "out")


@pytest.fixture(scope="module")
def page(written):
    checker = _Checker()
    checker.feed(written.html_path.read_text(encoding="utf-8"))
    checker.close()
    return checker


def test_page_is_well_formed_with_unique_ids(page):
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))


def test_page_refers_to_nothing_outside_itself(written, page):
    assert all(reference.startswith("#") for reference in page.references)
    assert {reference[1:] for reference in page.references} <= set(page.ids)
    text = written.html_path.read_text(encoding="utf-8")
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    assert "@import" not in text
    assert set(re.findall(r'https?://[^"\s<]+', text)) <= {"http://www.w3.org/2000/svg"}


def test_every_figure_is_described(written, page):
    names = [path.stem for path in written.figure_paths]
    assert page.figures == len(page.svgs) == len(names)
    assert names == ["gains", "sparsity", "corruptions", "severity", "training"]
    for attributes in page.svgs:
        assert attributes["role"] == "img"
        assert len(attributes["aria-label"]) > 40


def test_what_a_run_says_is_escaped(written):
    text = written.html_path.read_text(encoding="utf-8")
    assert "<b>&'" not in text
    assert "&lt;b&gt;&amp;&#x27;&quot;$x_1$" in text


def test_provenance_is_on_the_page(written):
    text = written.html_path.read_text(encoding="utf-8")
    for fact in (
        "abc123",
        "jax 0.10.2",
        "2 CPU cores",
        "400 steps in 1.5 s",
        "algorithm=rigl",
        "seed 1",
    ):
        assert fact in text


def test_figures_stand_alone_and_follow_the_ink_of_the_page(written):
    for path in written.figure_paths:
        svg = path.read_text(encoding="utf-8")
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert "currentColor" in svg
        assert "#010203" not in svg
        assert "#040506" not in svg


def test_a_method_keeps_its_colour_in_all_figures(written):
    for path in written.figure_paths:
        assert "#7f7f7f" in path.read_text()  # dense
        assert "#0072b2" in path.read_text()  # rigl 30 %


def test_writing_again_gives_the_same_bytes_and_leaves_nothing_else(tmp_path):
    runs = [make(tmp_path, "dense", 0.0, rows=conditions(0.9, 0.5))]
    out = tmp_path / "out"
    report.write(runs, out)
    first = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    report.write(runs, out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == first
    assert sorted(str(path.relative_to(out)) for path in first) == [
        "figures/corruptions.svg",
        "figures/severity.svg",
        "figures/training.svg",
        "published.csv",
        "report.csv",
        "report.html",
        "report.md",
        "report.tex",
    ]


def test_markdown_is_one_table_with_a_cell_a_column(written):
    rows = [r for r in written.markdown_path.read_text().splitlines() if r.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    assert any("training not finished at step 200 of 400" in row for row in rows)


def test_page_of_three_runs_is_below_one_megabyte(tmp_path):
    names = [f"corruption_{i}" for i in range(19)]
    values = {(name, severity): 0.5 for name in names for severity in range(1, 6)}
    runs = [make(tmp_path, a, 0.5, rows=conditions(0.9, values)) for a in ("dense", "rigl", "set")]
    written = report.write(runs, tmp_path / "out")
    assert written.html_path.stat().st_size < 1_000_000


def test_import_needs_neither_jax_nor_matplotlib():
    code = (
        "import sys, dst_jax.report; "
        "sys.exit(any(m in sys.modules for m in ('jax', 'matplotlib', 'tensorflow')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_report_is_written_without_jax(tmp_path):
    make(tmp_path, "dense", 0.0, 0, conditions(0.92, 0.5))
    code = (
        "import sys; from pathlib import Path; from dst_jax import report; "
        f"root = Path({str(tmp_path)!r}); report.write([root / 'dense-0.0-0'], root / 'out'); "
        "sys.exit(any(m in sys.modules for m in ('jax', 'jaxlib', 'flax', 'tensorflow')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "out" / "report.html").exists()


def test_a_run_finished_with_another_commit_says_so(tmp_path):
    runs = [make(tmp_path, a, s, 0, conditions(0.9, 0.5)) for a, s in (("dense", 0), ("set", 0.5))]
    environment = json.loads((runs[1] / "environment.json").read_text())
    second = {**environment, "commit": "def456", "step": 120}
    environment["starts"] = [{**environment, "step": 0}, second]
    (runs[1] / "environment.json").write_text(json.dumps(environment))
    written = report.write(runs, tmp_path / "out")
    page = written.html_path.read_text()
    assert "from step 0: abc123; from step 120: def456" in page
    assert "abc123 then def456" in page
    assert "set 50 % and dense were trained with other commits." in written.text
