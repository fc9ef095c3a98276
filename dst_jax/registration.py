"""Which file registered a name of the user's, so that no name is given twice; and its digest.

Called by `models`, `data.datasets` and `data.benchmarks`, by what registers there. `sparsity` and
`corruptions` stand alone and do the same themselves. What a run writes down of these files is in
`user_files`.
"""

import ast
import functools
import hashlib
import os
import re
import sys
from collections.abc import Collection, Iterator, MutableMapping
from pathlib import Path

from dst_jax.errors import UserError

NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"  # it becomes a part of paths, lists and command lines
# Words that options and scores have for something else.
RESERVED = ("clean", "auto", "rendered", "tiny")


def claim(kind: str, name: str, taken: Collection[str], files: MutableMapping[str, str]) -> None:
    """Notes which file registers a name: the one that called the caller of this function.

    A file may register its names again, as a card does that is read twice; so may a notebook.

    Args:
      kind: "model", "dataset" or "suite".
      name: the name.
      taken: all names that are registered already, those of the package too.
      files: name -> file of what users registered; the new name is added.

    Raises:
      UserError: it is no name, or is taken by the package or by another file.
    """
    file = os.path.abspath(sys._getframe(2).f_code.co_filename)
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        expected = "a name of letters, digits, _, . and - that begins with none of the last two"
        raise UserError(f"register_{kind}", repr(name), expected)
    if name in RESERVED:
        raise UserError(f"register_{kind}", f"{name}, a word with a meaning", "another name")
    if name in taken and (
        name not in files or (files[name] != file and os.path.exists(files[name]))
    ):
        owner = f"registered by {files[name]}" if name in files else f"a {kind} of dst_jax"
        raise UserError(f"register_{kind}", f"{name}, {owner}", "a name that is free")
    files[name] = file


def digest(path: str) -> str:
    """SHA-256 of a file and of what it imports from beside it; "" where there is no file.

    Of a file that imports nothing from there it is that of the file alone.
    """
    parts = [alone(path)]
    folder = os.path.dirname(path)
    parts += [f"{os.path.relpath(other, folder)} {alone(other)}" for other in beside(path)]
    return parts[0] and (
        parts[0] if len(parts) == 1 else hashlib.sha256("\n".join(parts).encode()).hexdigest()
    )


def alone(path: str) -> str:
    """SHA-256 of one file, hexadecimal; "" where there is none, as of a notebook's cell."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


def beside(path: str) -> list[str]:
    """The files that a Python file imports from its folder or its package, and what these import.

    Read from the `import` statements, wherever they stand: what other files a process has imported
    changes nothing. Modules that are installed or ours are none of them.

    Args:
      path: the file.

    Returns:
      Paths, sorted.
    """
    found: set[str] = set()
    waiting = [os.path.abspath(path)]
    while waiting:
        file = waiting.pop()
        try:
            stat = os.stat(file)
        except OSError:
            continue
        new = set(_imported(file, stat.st_mtime_ns, stat.st_size)) - found
        found |= new
        waiting += new
    return sorted(found - {os.path.abspath(path)})


@functools.lru_cache(maxsize=256)
def _imported(file: str, changed: int, size: int) -> tuple[str, ...]:
    """The files beside a file that it imports itself; `changed` and `size` are the file's."""
    del changed, size
    if "site-packages" in file or "dist-packages" in file:
        return ()
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ()
    folder = root = Path(file).parent
    while (root / "__init__.py").is_file() and root != root.parent:
        root = root.parent
    package = folder.relative_to(root).parts[:1]
    found: list[str] = []
    for start, name in _names(tree, folder, root):
        top = name.split(".")[0]
        ours = top == "dst_jax" or top in sys.stdlib_module_names
        # In a package, what lies beside the package is not its own.
        if start != root or not (ours or (package and top != package[0])):
            found += _files(start, name)
    return tuple(found)


def _names(tree: ast.AST, folder: Path, root: Path) -> Iterator[tuple[Path, str]]:
    """(where it is looked for, dotted name) of what a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((root, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = [folder, *folder.parents][node.level - 1] if node.level else root
            before = f"{node.module}." if node.module else ""
            yield from ((start, f"{before}{alias.name}") for alias in node.names)


def _files(start: Path, name: str) -> Iterator[str]:
    """The files of a dotted name: of each package on its way, and of the module."""
    path = start
    for part in name.split("."):
        path = path / part
        for file in (path / "__init__.py", path.with_name(f"{part}.py")):
            if file.is_file():
                yield str(file)
                break
