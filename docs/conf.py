"""How `make docs` builds the site: Sphinx reads README.md, docs/ and the docstrings of dst_jax.

The source directory is the repository's root, so that a link between two documents is the same here
and on a code host. Links to anything else in the repository are `repository_pages`'s, and `links`
checks those of the finished pages. Warnings are errors there (`-W -n`). Nothing is asked of the
network, so names of other packages are not linked.
"""

import sys
from pathlib import Path

import dst_jax

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

project = "dst_jax"
author = "the authors of dst_jax"
version = release = dst_jax.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "repository_pages",
    "docstrings",
    "links",
]

# Documents. Only docs/ is searched: a checkout also holds environments, runs and data.
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**.md", "results/*.md"]
_KEPT = (HERE, HERE.parent / "results")
exclude_patterns = [p.name for p in HERE.parent.iterdir() if p.is_dir() and p not in _KEPT]
exclude_patterns.append("docs/_*")
myst_heading_anchors = 4  # a link to any heading, checked; the anchors are those of code hosts
smartquotes_action = "D"  # dashes alone: '' and "" are values
highlight_language = "text"  # of blocks that name none: commands and tables

# Docstrings: Google's form, names in single backquotes, types from the signatures.
default_role = "name"  # of docstrings.py
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a list of attributes, not an entry of the index each
napoleon_attr_annotations = False  # the signature has the types
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# `-n` asks for the target of every type in a signature. Ours must be in the reference; these are
# other packages', whose lists of names would have to be downloaded.
nitpick_ignore_regex = [
    ("py:.*", r"(collections|jax|jaxlib|numpy|optax)\..*"),
    ("py:.*", r"(os|pathlib|types|typing)\..*"),
    ("py:.*", r"(nn|np)\..*"),  # of modules that import Flax and NumPy for their types only
]

templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme = "furo"
html_title = f"dst_jax {version}"
html_domain_indices = False  # the reference is short enough to be its own list of modules
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
