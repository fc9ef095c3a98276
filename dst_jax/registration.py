"""Which file registered a name of the user's: so that no name is given twice.

Called by `models`, `data.datasets` and `data.benchmarks`, by what registers there. `sparsity` and
`corruptions` stand alone and do the same themselves. What a run writes down of these files is in
`user_files`.
"""

import os
import re
import sys
from collections.abc import Collection, MutableMapping

from dst_jax.errors import UserError


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
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise UserError(f"register_{kind}", repr(name), "a name of letters, digits, _, . and -")
    if name in taken and (
        name not in files or (files[name] != file and os.path.exists(files[name]))
    ):
        owner = f"registered by {files[name]}" if name in files else f"a {kind} of dst_jax"
        raise UserError(f"register_{kind}", f"{name}, {owner}", "a name that is free")
    files[name] = file
