"""The links of the finished pages: each must lead to something that is there.

Sphinx and MyST check what the documents ask for; what templates and other extensions write into the
pages, nobody. So all pages are read when they are finished, and a link to a file or an anchor that
is not there is a warning. The links back from the sources, "[docs]", are corrected before: viewcode
remembers one module for all names of a source file, and ours are described partly where they are
exported (`dst_jax.robustness.Score`), partly where they are (`robustness.records.CorrectBits`).
A Sphinx extension, loaded by `conf.py`.
"""

import functools
import pkgutil
import posixpath
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.util import logging

_SOURCES = "_modules/"  # viewcode's pages
_BACK = re.compile(
    r'(<div class="viewcode-block" id="(?P<name>[^"]+)">\s*<a class="viewcode-back" href=")'
    r'(?P<document>[^"#]*)#[^"]*"'
)
_LINKS = {"a": "href", "link": "href", "img": "src", "script": "src", "iframe": "src"}


@functools.cache
def _defined_in(name: str) -> str:
    """The module in which the thing of a full name is defined; "" where that is not told."""
    try:
        return str(getattr(pkgutil.resolve_name(name), "__module__", "") or "")
    except (ImportError, AttributeError, ValueError):
        return ""


def lead_back(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """For Sphinx's event `html-page-context`: the anchors of viewcode's links back."""
    if not page.startswith(_SOURCES) or "body" not in context:
        return
    module = page.removeprefix(_SOURCES).replace("/", ".")
    objects = app.env.domains.python_domain.objects

    def corrected(found: re.Match[str]) -> str:
        name, document = found["name"], found["document"]
        for full, entry in objects.items():
            if not full.endswith(f".{name}") or _defined_in(full) != module:
                continue
            if app.builder.get_relative_uri(page, entry.docname) == document:
                return f'{found[1]}{document}#{entry.node_id}"'
        return found[0]  # told by `check`

    context["body"] = _BACK.sub(corrected, context["body"])


class _Page(HTMLParser):
    """The anchors of a page and its links, with their lines."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[tuple[int, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by the parser."""
        given = dict(attrs)
        if anchor := given.get("id"):
            self.anchors.add(anchor)
        if tag == "a" and (anchor := given.get("name")):
            self.anchors.add(anchor)
        if target := given.get(_LINKS.get(tag, "")):
            self.links.append((self.getpos()[0], target))


def dead_links(root: Path) -> Iterator[tuple[str, int, str]]:
    """The links inside a site that lead nowhere.

    Args:
      root: the directory of its pages.

    Yields:
      (page, line, link).
    """
    pages = {
        path.relative_to(root).as_posix(): _Page(path.read_text(encoding="utf-8"))
        for path in sorted(root.rglob("*.html"))
    }
    for name, page in pages.items():
        for line, link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = name
            if parts.path:
                path = posixpath.join(posixpath.dirname(name), unquote(parts.path))
                target = posixpath.normpath(path)
            anchor = unquote(parts.fragment)
            there = target in pages or (root / target).is_file()
            if there and anchor and target in pages:
                there = anchor in pages[target].anchors
            if not there:
                yield name, line, link


def check(app: Sphinx, error: Exception | None) -> None:
    """For Sphinx's event `build-finished`: a warning for each link that leads nowhere."""
    if error is not None or app.builder.format != "html":
        return
    for page, line, link in dead_links(Path(app.outdir)):
        logging.getLogger(__name__).warning(
            "the link %s leads nowhere", link, location=f"{page}:{line}"
        )


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("html-page-context", lead_back)
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
