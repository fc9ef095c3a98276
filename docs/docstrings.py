"""How the reference shows docstrings: the names in them, and what classes add to their bases.

Names: docstrings put options, files and shapes in single backquotes as they do functions. Such a
name is code, and a link where the reference has it. What is meant as a link is written with a
role, as :func:`name`, and is then checked; so are types of signatures and exceptions of "Raises".

Classes: algorithms inherit a dozen fields each. A signature has those that a class adds, and
private bases are shown as a part of the class. A Sphinx extension, loaded by `conf.py`.
"""

import dataclasses
import functools
import inspect
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyXRefRole
from sphinx.util.inspect import stringify_signature
from sphinx.util.nodes import make_refnode


class NameRole(PyXRefRole):
    """The role of text in single backquotes."""

    def process_link(
        self, env: Any, refnode: Any, has_explicit_title: bool, title: str, target: str
    ) -> tuple[str, str]:
        """Remembers the module and class in which a name stands."""
        refnode["refdomain"], refnode["reftype"] = "", "name"
        refnode["py:module"] = env.ref_context.get("py:module")
        refnode["py:class"] = env.ref_context.get("py:class")
        return title, target


def resolve(app: Sphinx, env: Any, node: Any, content: Any) -> nodes.Node | None:
    """The target of a name, for Sphinx's event `missing-reference`.

    Exceptions and types of docstrings, as `UserError`, are found by the last part of their full
    name, if it is unique.
    """
    python, target = env.domains.python_domain, node["reftarget"]
    if node.get("reftype") == "name":
        if not re.fullmatch(r"[A-Za-z_][\w.]*(\(\))?", target):
            return content
        name, module = target.removesuffix("()"), node["py:module"] or ""
        while True:  # of the module, or of a package that it is in
            found = python.resolve_xref(
                env, node["refdoc"], app.builder, "obj", name, node, content
            )
            if found or not module:
                return found or content
            module = node["py:module"] = module.rpartition(".")[0]
    if node.get("refdomain") == "py" and node.get("reftype") in ("class", "exc"):
        matches = python.find_obj(env, None, None, target, None, searchmode=1)
        run_paths = {(entry.docname, entry.node_id) for _, entry in matches}
        if len(run_paths) == 1:
            document, anchor = run_paths.pop()
            return make_refnode(app.builder, node["refdoc"], document, anchor, content, target)
    return None


def _is_private(base: type) -> bool:
    return base.__name__.startswith("_")


def _public_bases(found: type) -> list[type]:
    """The bases, and in place of a private one its own; none twice."""
    bases: dict[type, None] = {}
    for base in found.__bases__:
        bases.update(dict.fromkeys(_public_bases(base) if _is_private(base) else [base]))
    bases.pop(object, None)
    return list(bases)


def show_bases(app: Sphinx, name: str, found: Any, options: Any, bases: list[Any]) -> None:
    """For autodoc's event `autodoc-process-bases`."""
    if any(map(_is_private, found.__bases__)):
        bases[:] = _public_bases(found)


def show_text(
    app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]
) -> None:
    """For autodoc's event `autodoc-process-docstring`, before Napoleon has it.

    What a private base says is added to what the class says. Constants have no docstring, and what
    autodoc finds is their type's: the pages describe them.
    """
    if what == "data":
        lines.clear()
    if what == "class":
        for base in found.__bases__:
            if _is_private(base) and "__doc__" in vars(base):
                lines += ["", *inspect.cleandoc(base.__doc__).splitlines()]


class _Text:
    """A default value that is shown as a text."""

    def __init__(self, text: str):
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _default(value: Any) -> str:
    """A default as it is read: functions by their names, no address in memory."""
    if isinstance(value, functools.partial):
        options = ", ".join(f"{name}={option!r}" for name, option in value.keywords.items())
        return f"{value.func.__name__}({options})"
    if inspect.isroutine(value):
        return value.__name__
    text = repr(value)
    return "..." if text.startswith("<") else text  # default factories, objects at an address


def show_signature(
    app: Sphinx, what: str, name: str, found: Any, options: Any, *texts: Any
) -> tuple[str, str] | None:
    """For autodoc's event `autodoc-process-signature`: of dataclasses, the fields that they add."""
    if what != "class" or not dataclasses.is_dataclass(found):
        return None
    inherited = {
        field.name
        for base in found.__mro__[1:]
        if dataclasses.is_dataclass(base) and not _is_private(base)
        for field in dataclasses.fields(base)
    } - set(vars(found).get("__annotations__", ()))
    parameters = [
        parameter
        if parameter.default is parameter.empty
        else parameter.replace(default=_Text(_default(parameter.default)))
        for parameter in inspect.signature(found).parameters.values()
        if parameter.name not in inherited
    ]
    if inherited:
        parameters.append(inspect.Parameter("fields", inspect.Parameter.VAR_KEYWORD))
    signature = inspect.Signature(parameters)
    return stringify_signature(signature, unqualified_typehints=True), ""


def name_attributes(app: Sphinx, document: nodes.document) -> None:
    """For Sphinx's event `doctree-read`: what Sphinx heads "Variables" are attributes."""
    for field in document.findall(nodes.field_name):
        if field.astext() == "Variables":
            field.children = [nodes.Text("Attributes")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_role("name", NameRole(innernodeclass=nodes.literal))
    app.connect("missing-reference", resolve)
    app.connect("doctree-read", name_attributes)
    app.connect("autodoc-process-bases", show_bases)
    app.connect("autodoc-process-docstring", show_text, priority=400)  # Napoleon has 500
    app.connect("autodoc-process-signature", show_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
