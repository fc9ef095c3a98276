"""The rooms of the house: what may import what, and what may not import JAX."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import runs

PACKAGE = runs.ROOT / "dst_jax"
# From the bottom up: a room imports from those before it, also inside functions. Those of one line
# import nothing of each other.
ORDER = (
    ("errors",),
    ("statistics", "config", "random_keys", "registration"),
    ("command_flags", "dataset_flags"),
    ("sparsity", "corruptions"),  # stand alone: see below
    ("models", "data", "runtime"),
    ("user_files",),
    ("training",),
    ("robustness", "export"),
    ("saved_run",),
    ("evaluate", "analysis", "rendering"),
    ("report",),
    ("paths", "sweep", "launcher"),
    ("run_configs",),
    ("stages",),
    ("experiment", "subcommands"),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
ALONE = ("sparsity", "corruptions")
# What a report needs, and a config.
WITHOUT_JAX = (
    *("dst_jax", "dst_jax.cli", "dst_jax.config", "dst_jax.config.cards", "dst_jax.statistics"),
    *("dst_jax.robustness", "dst_jax.robustness.storage", "dst_jax.robustness.gains"),
    *("dst_jax.report", "dst_jax.report.archive", "dst_jax.runtime.run_dir", "dst_jax.data"),
)


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path) -> Iterator[str]:
    """The modules of dst_jax that a file imports anywhere, dotted, without the package's name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            package, _, below = f"{node.module}.".partition(".")
            if package == "dst_jax":
                yield from (f"{below}{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (a.name[8:] for a in node.names if a.name.startswith("dst_jax."))


def test_rooms_import_downward_only():
    wrong = []
    for module, path in modules().items():
        room = module.partition(".")[0]
        if not room:
            continue  # the package itself, which gives `load_run` when it is asked for
        assert room in LEVEL, f"{room} has no place in ORDER"
        for name in imported(path):
            other = name.partition(".")[0]
            if other != room and other in LEVEL and LEVEL[other] >= LEVEL[room]:
                wrong.append(f"{module} imports {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", ALONE)
def test_sparsity_and_corruptions_import_nothing_else_of_ours(room):
    others = {
        f"{module}: {name}"
        for module, path in modules().items()
        if module.partition(".")[0] == room
        for name in imported(path)
        if name.partition(".")[0] not in (room, "__version__")
    }
    assert not others


def test_architecture_names_what_is_there():
    """Every row of its table "Where is ...?": the file exists, and has the names beside it."""
    page = (runs.ROOT / "docs" / "architecture.md").read_text().partition("## Where is")[2]
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    assert len(rows) > 15
    for what, file, names in rows[1:]:  # after the head
        path = runs.ROOT / file.strip("`")
        assert path.is_file(), what
        for other in re.findall(r"`(dst_jax/[^`]+)`", names):
            assert (runs.ROOT / other).exists(), what
        tree = ast.parse(path.read_text()).body
        there = {node.name for node in tree if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        for node in tree:
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            there |= {target.id for target in targets if isinstance(target, ast.Name)}
        named = re.findall(r"`(\w+)(?:\([\w, ]*\))?`", names)
        assert named or "at the head of the file" in names, what
        assert set(named) <= there, (what, set(named) - there)


def test_heads_of_files_name_who_calls_them():
    """Each name after "Called by" is a module, or in one, that imports the file."""
    known = modules()
    imports = {module: set(imported(path)) for module, path in known.items()}
    wrong = []
    for module, path in known.items():
        head = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split())
        for sentence in re.findall(r"Called by (.*?)(?:[.;:] |[.;:]?$)", head):
            callers = re.split(r" (?:for|through|in|inside|with|before|of|that) ", sentence)[0]
            for name in re.findall(r"`(?:dst_jax\.)?([\w.]+)`", callers):
                if name.startswith("benchmarks") or not module:
                    continue
                of = [other for other in known if f".{other}".endswith(f".{name}")]
                if not of:  # a function of a module
                    of = [m for m in known if f".{m}".endswith(f".{name.rpartition('.')[0]}")]
                inside = [m for m in known for o in of if m == o or m.startswith(f"{o}.")]
                used = {name for caller in inside for name in imports[caller]}
                # Or through the package that it lies in, if that hands on what is in it.
                package = module.rpartition(".")[0]
                while package and not any(u.startswith(module) for u in imports[package]):
                    package = package.rpartition(".")[0]
                of_module = (module, package) if package else (module,)
                if not any(f"{u}.".startswith(f"{m}.") for u in used for m in of_module):
                    wrong.append(f"{module}: not called by {name}")
    assert not wrong, "\n".join(wrong)


def loaded(module: str) -> set[str]:
    """The modules of a fresh interpreter that has imported one."""
    program = f"import sys, {module}; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=runs.ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_what_needs_no_jax_does_not_import_it():
    found = loaded(", ".join(WITHOUT_JAX))
    assert not {"jax", "flax", "optax", "orbax", "tensorflow", "torch"} & found


def test_every_module_can_be_imported_first():
    """No circle: each is imported in an interpreter that has imported nothing else of ours."""
    program = """
import importlib, sys
kept = set(sys.modules)
for name in sys.argv[1:]:
    for module in [m for m in sys.modules if m.partition(".")[0] == "dst_jax"]:
        del sys.modules[module]
    importlib.import_module(name)
"""
    needs_more = ("launcher", "data.builders", "data.stream", "data.tf_", "data.prepare")
    names = [f"dst_jax.{m}" if m else "dst_jax" for m in modules() if not m.startswith(needs_more)]
    names = [name for name in names if not name.endswith("__main__")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *names],
        cwd=runs.ROOT,
        capture_output=True,
        text=True,
        env=runs.environment(),
    )
    assert done.returncode == 0, done.stderr[-2000:]
