"""The site that `make docs` builds: its reference is complete, and what leads nowhere is an error.

The first part reads the pages as text. The second builds small sites with the extensions of docs/,
and needs the extra `docs`.
"""

import importlib
import inspect
import io
import re
import sys
import warnings
from collections import Counter

import pytest
import runs

from dst_jax import robustness, statistics

DOCS = runs.ROOT / "docs"
ROOMS = ("sparsity", "corruptions", "robustness")


def described() -> Counter[str]:
    """Full name -> how often the reference describes it."""
    pages = [path.read_text() for path in (DOCS / "api").glob("*.md")]
    return Counter(
        name for page in pages for name in re.findall(r"^\.\. auto\w+:: (\S+)", page, re.MULTILINE)
    )


@pytest.mark.parametrize("room", ROOMS)
def test_reference_has_every_public_name_once(room):
    found = described()
    public = importlib.import_module(f"dst_jax.{room}").__all__
    assert len(public) > 5
    counts = {name: found[f"dst_jax.{room}.{name}"] for name in public}
    assert counts == dict.fromkeys(public, 1)


def test_reference_has_what_is_public_without_a_list():
    found = described()
    assert found["dst_jax.load_run"] == 1
    for name, thing in vars(statistics).items():
        is_own = getattr(thing, "__module__", None) == statistics.__name__
        if is_own and not name.startswith("_") and callable(thing):
            elsewhere = name in robustness.__all__
            assert found[f"dst_jax.statistics.{name}"] == (0 if elsewhere else 1), name


def test_reference_describes_nothing_that_is_not_there():
    for name in described():
        module, _, attribute = name.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), attribute, None)
        except ModuleNotFoundError:
            found = None
        assert found is not None or inspect.ismodule(importlib.import_module(name)), name


# --- the build ---

FILES = {
    "index.md": "# Index\n\n```{toctree}\nguide\n```\n",
    "guide.md": "# Guide\n\n## Two words\n",
    "source/one.py": '"""One line."""\n\nNUMBER = 1 < 2\n',
    "source/notes.md": "# No document\n",
}


def build(directory, text: str) -> str:
    """Builds a site whose guide holds a text, and returns the warnings."""
    pytest.importorskip("myst_parser", reason="needs the extra `docs`")
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    source, output = directory / "site", directory / "html"
    for name, content in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(content)
    (source / "guide.md").write_text(FILES["guide.md"] + text + "\n")
    options = {
        "extensions": [
            *("myst_parser", "sphinx.ext.viewcode"),
            *("repository_pages", "docstrings", "links"),
        ],
        "exclude_patterns": ["source"],
        "myst_heading_anchors": 4,
        "nitpicky": True,
        "root_doc": "index",
        "templates_path": [str(DOCS / "_templates")],
    }
    found = io.StringIO()
    sys.path.insert(0, str(DOCS))
    try:
        with warnings.catch_warnings(), docutils_namespace(), patch_docutils(str(source)):
            warnings.simplefilter("ignore")  # Sphinx's own, about its dependencies
            Sphinx(source, None, output, directory / "cache", "html", options, None, found).build()
    finally:
        sys.path.remove(str(DOCS))
    return re.sub(r"\x1b\[[\d;]*m", "", found.getvalue())


NAME = "```{{eval-rst}}\n.. default-role:: name\n\n.. py:function:: {}\n\n   {}\n```\n"
GOOD = [
    "[a document](index.md)",
    "[an anchor](guide.md#two-words)",
    "[a file](source/one.py)",
    "[a directory](source)",
    "[Markdown that is no document](source/notes.md)",
    NAME.format("there", "See :func:`there`, `there`, `nobody`, `any text`."),
]
# What leads nowhere, and what the warning names.
BROKEN = {
    "[a document](missing.md)": "missing.md",
    "[an anchor](guide.md#three-words)": "three-words",
    "[an anchor of its own](#four-words)": "four-words",
    "[a file](source/two.py)": "source/two.py",
    "[a directory](sources)": "'sources'",
    "![an image](missing.png)": "missing.png",
    NAME.format("one(x: NoType)", "A type."): "NoType",
    NAME.format("two", ":raises NoError: never"): "NoError",
    NAME.format("three", "See :func:`no_function`."): "no_function",
    NAME.format("four", "Where |w| is small."): '"w"',
}
# HTML is passed on as it is written: only the finished pages tell.
BROKEN_HTML = ["#five-words", "index.html#six-words", "seven.html", "_static/eight.css"]
GOOD_HTML = ["#", "#two-words", "genindex.html", "guide.html#two-words", "https://example.org#nine"]


def test_what_leads_somewhere_is_no_warning(tmp_path):
    assert build(tmp_path, "\n\n".join(GOOD)) == ""
    page = tmp_path / "html" / "guide.html"
    links = re.findall(r'href="([^"#:?]+)(?:[#?][^"]*)?"', page.read_text())
    assert {"source/one.py.html", "source/index.html", "source/notes.md.html"} <= set(links)
    for link in links:
        assert (page.parent / link).is_file(), link


def test_what_leads_nowhere_is_a_warning(tmp_path):
    found = build(tmp_path, "\n\n".join(BROKEN)).splitlines()
    lines = [line for line in found if "WARNING" in line or "ERROR" in line]
    lines = [line for line in lines if "leads nowhere" not in line]  # of the finished pages
    for text, name in BROKEN.items():
        assert sum(name in line for line in lines) == 1, (text, found)
    assert len(lines) == len(BROKEN), found


def test_links_of_the_finished_pages_lead_somewhere(tmp_path):
    text = "\n\n".join(f'<a href="{link}">link</a>' for link in (*GOOD_HTML, *BROKEN_HTML))
    found = build(tmp_path, text).splitlines()
    assert [re.findall(r"guide\.html:\d+: WARNING: the link (\S+) leads nowhere", line)
            for line in found] == [[link] for link in BROKEN_HTML]  # fmt: skip


# Two names of one source file: one is described where it is exported, one where it is defined.
EXPORTED = """
```{eval-rst}
.. py:module:: dst_jax.robustness
.. py:class:: Score
.. py:module:: dst_jax.robustness.records
.. py:class:: CorrectBits

   .. py:method:: pack
```
"""


def test_sources_lead_back_to_what_is_described(tmp_path):
    assert build(tmp_path, EXPORTED) == ""
    page = tmp_path / "html" / "_modules" / "dst_jax" / "robustness" / "records.html"
    found = set(re.findall(r'class="viewcode-back" href="[^"#]*#([^"]*)"', page.read_text()))
    bits = "dst_jax.robustness.records.CorrectBits"
    assert found == {"dst_jax.robustness.Score", bits, f"{bits}.pack"}


def test_pages_of_files_show_them(tmp_path):
    build(tmp_path, "[a](source)")
    html = tmp_path / "html" / "source"
    item = '<a href="one.py.html"><code>one.py</code></a> One line.'
    assert item in (html / "index.html").read_text()
    shown = re.sub(r"<[^>]+>", "", (html / "one.py.html").read_text())
    assert "NUMBER = 1 &lt; 2" in shown
