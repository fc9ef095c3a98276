"""Pages for what the documents link to in the repository and Sphinx does not know.

A link to a source file leads to a page with its text, a link to a directory to a list of such
pages, at the place that they have in the repository; other files (notebooks) are downloads. So a
link is written once, as a code host reads it, and needs no address of one. A link to a file that is
not there is a warning of MyST's. Also the page `index.html` at the top of the site, which leads to
the first one. A Sphinx extension, loaded by `conf.py`.
"""

import ast
import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

# What is shown as text, and the highlighting.
LANGUAGES = {
    ".cff": "yaml",
    ".md": "markdown",
    ".py": "python",
    ".toml": "toml",
    ".txt": "text",
    ".yml": "yaml",
}
_KEY = "repository_files"  # in the metadata of a document, which Sphinx drops with the document


def page_of(path: Path, root: Path) -> str:
    """The name of the page of a file or directory, relative to the top of the site."""
    name = path.relative_to(root).as_posix()
    return f"{name}/index" if path.is_dir() else name


class RepositoryLinks(SphinxTransform):
    """Turns links to text files and directories of the repository into links to their pages."""

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        """Called for every document that was read."""
        root = Path(self.env.srcdir).resolve()
        kinds = (addnodes.download_reference, addnodes.pending_xref)
        for node in [n for kind in kinds for n in self.document.findall(kind)]:
            name = node["reftarget"]
            if node.get("reftype") != "myst" or name.startswith("#"):
                continue
            if node.get("refdomain") == "doc":  # Markdown, which may be no document of the site
                if name in self.env.found_docs:
                    continue
                target = root / f"{name}.md"
            else:
                target = Path(self.env.relfn2path(name, self.env.docname)[1]).resolve()
            shown = target.is_dir() or (target.is_file() and target.suffix in LANGUAGES)
            if not shown or not target.is_relative_to(root):
                continue
            link = addnodes.pending_xref(
                "",
                *node.children,
                refdoc=self.env.docname,
                refdomain="",
                reftype="repository",
                reftarget=page_of(target, root),
                refwarn=True,
            )
            node.replace_self(link)
            metadata: Any = self.env.metadata[self.env.docname]
            metadata.setdefault(_KEY, []).append(str(target))


def resolve(app: Sphinx, env: Any, node: Any, content: Any) -> nodes.reference | None:
    """The link to a page of this module, for Sphinx's event `missing-reference`."""
    if node.get("reftype") != "repository":
        return None
    uri = app.builder.get_relative_uri(node["refdoc"], node["reftarget"])
    return nodes.reference("", "", *node.children, internal=True, refuri=uri)


def _files(directory: Path) -> list[Path]:
    found = (path for path in directory.rglob("*") if path.suffix in LANGUAGES)
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def _first_line(path: Path) -> str:
    """What a Python file says of itself in one line, "" for other files."""
    if path.suffix != ".py":
        return ""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """All pages of this module, for Sphinx's event `html-collect-pages`."""
    builder: Any = app.builder
    root = Path(app.srcdir).resolve()
    linked = {Path(name) for data in app.env.metadata.values() for name in dict(data).get(_KEY, ())}
    directories = {path for path in linked if path.is_dir()}
    files = linked - directories
    for directory in sorted(directories):
        inside = _files(directory)
        files.update(inside)
        page = page_of(directory, root)
        items = "".join(
            f'<li><a href="{builder.get_relative_uri(page, page_of(path, root))}"><code>'
            f"{html.escape(path.relative_to(directory).as_posix())}</code></a> "
            f"{html.escape(_first_line(path))}</li>"
            for path in inside
        )
        title = html.escape(directory.relative_to(root).as_posix()) + "/"
        yield page, {"title": title, "body": f"<h1>{title}</h1><ul>{items}</ul>"}, "page.html"
    for path in sorted(files):
        text = path.read_text(encoding="utf-8")
        code = builder.highlighter.highlight_block(text, LANGUAGES[path.suffix], linenos="inline")
        title = html.escape(path.relative_to(root).as_posix())
        yield page_of(path, root), {"title": title, "body": f"<h1>{title}</h1>{code}"}, "page.html"
    yield "index", {"first_page": builder.get_target_uri(app.config.root_doc)}, "redirect.html"


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_transform(RepositoryLinks)
    app.connect("missing-reference", resolve)
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
