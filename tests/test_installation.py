"""The command without a checkout: cards by name, what a job is told, the wheel, the version."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import runs

import dst_jax
from dst_jax import cli
from dst_jax.config import cards
from dst_jax.errors import UserError
from dst_jax.runtime import environment

CARDS = sorted(path.stem for path in (runs.ROOT / "configs").glob("*.py"))
BUILD = """
import sys
from setuptools import build_meta
getattr(build_meta, sys.argv[1])(sys.argv[2])
"""


def call(*arguments, cwd):
    return subprocess.run(
        [sys.executable, str(runs.ROOT / "run.py"), *arguments],
        cwd=cwd,
        env=runs.environment(),
        capture_output=True,
        text=True,
    )


def test_a_card_is_found_by_its_name_anywhere_and_a_path_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cards.names() == CARDS
    assert cards.find("digits_rigl") == runs.ROOT / "configs" / "digits_rigl.py"
    (tmp_path / "configs").mkdir()
    for name in ("digits_rigl", "configs/digits_rigl.py"):  # a file of the user's own
        shutil.copy(runs.ROOT / "configs" / "digits_rigl.py", tmp_path / name)
        assert cards.find(name) == Path(name)
    for wrong in ("", "digits_rigl.py", "configs", "../configs/digits_rigl"):
        with pytest.raises(UserError, match=r"--config: found .*expected an experiment card \(cif"):
            cards.find(wrong)


def test_a_card_is_called_by_its_name_with_arguments_and_options(tmp_path):
    done = call("--config=resnet50_rigl:tiny", "--mode=describe", cwd=tmp_path)  # builds on another
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("resnet50 on digits")
    arguments = ("--config", "digits_rigl:algorithm=set,seed=1", "--config.sparsity.sparsity=0.8")
    done = call(*arguments, "--mode=describe", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Densities at sparsity 0.8" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments", [["--config=digits_rig"], ["--config=configs/digits_rigl.py"]]
)
def test_an_unknown_card_is_one_line_with_those_there_are(arguments, tmp_path):
    done = call(*arguments, "--config.seed=1", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"run.py: --config: found {arguments[0].partition('=')[2]}; exp")
    assert all(name in done.stderr for name in CARDS)


@pytest.mark.parametrize("program", ["run.py", "dst-jax"])
def test_a_job_and_the_record_name_the_program_that_was_started(program, tmp_path, monkeypatch):
    path = tmp_path / program
    arguments = ["--config=digits_rigl", "--launcher", "slurm", "--launcher_options=jobs=2"]
    command = cli._member_command([str(path), *arguments, "--sweep=demo"])
    assert command == (sys.executable, str(path), "--config=digits_rigl", "--sweep=demo")
    monkeypatch.setattr(sys, "argv", [str(path), "--config=digits_rigl"])
    typed = program if program == "dst-jax" else f"python {path}"
    assert environment._command() == f"{typed} --config=digits_rigl"


@pytest.mark.parametrize("program", ["run.py", "dst-jax"])
def test_a_mistake_opens_with_the_name_of_the_program(program, capsys):
    assert cli.main([f"/somewhere/{program}", "train"]) == 2
    assert capsys.readouterr().err.startswith(f"{program}: command line: found train; expected")


def test_the_citation_and_the_changelog_have_the_version():
    version = dst_jax.__version__
    assert f"\nversion: {version}\n" in (runs.ROOT / "CITATION.cff").read_text()
    headings = re.findall(r"^## (\S+)", (runs.ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == version


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """(source distribution, wheel built from it), of a copy of the checkout."""
    folder = tmp_path_factory.mktemp("build")
    requires = tomllib.loads((runs.ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    tools = folder / "tools"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    got = subprocess.run([*pip, "--target", tools, *requires], capture_output=True, text=True)
    if got.returncode:
        pytest.skip(f"{', '.join(requires)} cannot be installed here: {got.stderr.strip()[-200:]}")

    def build(what, source):
        done = subprocess.run(
            [sys.executable, "-c", BUILD, what, str(folder)],
            cwd=source,
            env={**os.environ, "PYTHONPATH": str(tools)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    skipped = (".*_cache", ".git", ".venv*", "runs", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(runs.ROOT, folder / "copy", ignore=shutil.ignore_patterns(*skipped, ".hypoth*"))
    build("build_sdist", folder / "copy")
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    build("build_wheel", next((folder / "unpacked").iterdir()))
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


@pytest.mark.slow
def test_the_wheel_is_whole_and_its_command_runs_away_from_the_checkout(
    distributions, tmp_path, cache_dir
):
    _, wheel = distributions
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        text = archive.read(metadata).decode()
    files = {
        str(path.relative_to(runs.ROOT))
        for path in (runs.ROOT / "dst_jax").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert found == files | {f"dst_jax/configs/{name}.py" for name in CARDS}
    assert f"\nVersion: {dst_jax.__version__}\n" in text
    assert not re.search(r"^Requires-Dist: .* @ ", text, re.MULTILINE)  # PyPI refuses those

    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--target", site, wheel], check=True)
    done = subprocess.run(
        [
            site / "bin" / "dst-jax",
            "--config=digits_rigl:tiny",
            "--workdir=run",
            f"--cache_dir={cache_dir}",
        ],
        cwd=elsewhere,
        env={**runs.environment(), "PYTHONPATH": str(site)},  # the rest is this interpreter's
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("report: run/report.html")
    record = json.loads((elsewhere / "run" / "environment.json").read_text())
    assert record["command"].startswith("dst-jax --config=digits_rigl:tiny ")
    assert record["commit"] == "unknown"  # it is not this checkout that ran


@pytest.mark.slow
def test_the_source_distribution_has_what_the_tests_and_documents_need(distributions):
    with tarfile.open(distributions[0]) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("run.py", "CHANGELOG.md", "CITATION.cff", "tests/conftest.py", "docs/cards.md"):
        assert name in found
    assert {f"configs/{name}.py" for name in CARDS} <= found


def make(*arguments):
    return subprocess.run(
        ["make", "-s", *arguments], cwd=runs.ROOT, capture_output=True, text=True, timeout=60
    )


def test_make_deletes_and_fills_nothing_but_an_environment(tmp_path):
    own = tmp_path / "thesis"
    own.mkdir()
    (own / "chapter1").write_text("mine")
    for target, said in (("demo", "and not empty: name another"), ("clean", "nothing is deleted")):
        done = make(target, f"VENV={own}")
        assert done.returncode
        assert f"VENV={own} is no environment of Python" in done.stderr
        assert said in done.stderr
    assert [path.name for path in own.iterdir()] == ["chapter1"]
    environment = tmp_path / "env"
    environment.mkdir()
    (environment / "pyvenv.cfg").touch()
    assert make("clean", f"VENV={environment}").returncode == 0
    assert not environment.exists()
    assert "runs" not in make("-n", "clean", f"VENV={environment}").stdout  # what was trained
