"""Archives that somebody else wrote, or that are damaged: refused in one line, or drawn safely."""

import io
import json
import zipfile
from pathlib import Path

import pytest
from run_directories import make

from dst_jax import experiment
from dst_jax.errors import UserError
from dst_jax.paths import RunPaths
from dst_jax.report import archive, archive_reading, runs


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """The bytes of an archive of two runs."""
    root = tmp_path_factory.mktemp("runs")
    paths = [make(root, "rigl", 0.5), make(root, "set", 0.5, upto=40, name="failed")]
    return archive.pack([(path.name, runs.read(path)) for path in paths], [], True)


def draw(folder: Path) -> str:
    return experiment.run(None, RunPaths(folder, None, folder / "cache"), mode="report")


def with_entry(source: bytes, name: str, content: bytes = b"x", **changes) -> bytes:
    """The bytes of an archive with one more entry."""
    buffer = io.BytesIO(source)
    entry = zipfile.ZipInfo("placeholder")
    entry.filename = name
    for key, value in changes.items():
        setattr(entry, key, value)
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr(entry, content)
    return buffer.getvalue()


BAD_NAMES = {
    "absolute": ("/etc/config.json", {}),
    "parent": ("../config.json", {}),
    "parent inside": ("run/../../config.json", {}),
    "drive": ("C:/run/config.json", {}),
    "backslash": ("..\\config.json", {}),
    "dot": ("./run/config.json", {}),
    "empty part": ("run//config.json", {}),
    "link": ("link/config.json", {"external_attr": 0o120777 << 16, "create_system": 3}),
    "device": ("run/config.json", {"external_attr": 0o020666 << 16, "create_system": 3}),
}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_an_archive_that_would_leave_the_directory_is_refused(whole, tmp_path, name):
    where, changes = BAD_NAMES[name]
    (tmp_path / "runs.zip").write_bytes(with_entry(whole, where, **changes))
    with pytest.raises(UserError, match=r"runs\.zip: found an archive in which"):
        draw(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["runs.zip"]


def test_a_file_that_is_there_twice_is_refused(whole, tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = with_entry(whole, "failed/config.json")
    (tmp_path / "runs.zip").write_bytes(twice)
    with pytest.raises(UserError, match="is there twice"):
        draw(tmp_path)


def test_files_that_are_not_ours_are_not_written(whole, tmp_path):
    path = tmp_path / "runs.zip"
    path.write_bytes(with_entry(with_entry(whole, "failed/code.py"), "checkpoints/x/y"))
    with archive_reading.unpacked(path) as (found, _):
        assert not list(found[0].parent.rglob("code.py"))
        assert not (found[0].parent / "checkpoints").exists()
        assert (found[0] / "config.json").exists()


@pytest.mark.parametrize("limit", ["LIMIT", "ENTRIES"])
def test_an_archive_that_is_too_large_is_refused(whole, tmp_path, monkeypatch, limit):
    monkeypatch.setattr(archive_reading, limit, 5)
    path = tmp_path / "runs.zip"
    path.write_bytes(whole)
    with pytest.raises(UserError, match="too large"), archive_reading.unpacked(path):
        pass


def test_arrays_that_unpack_to_too_much_are_refused(whole, tmp_path, monkeypatch):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", bytes(5_000_000))
    path = tmp_path / "runs.zip"
    path.write_bytes(with_entry(whole, "failed/robustness.npz", inner.getvalue()))
    with archive_reading.unpacked(path):
        pass
    monkeypatch.setattr(archive_reading, "LIMIT", 4_000_000)
    with pytest.raises(UserError, match="too large"), archive_reading.unpacked(path):
        pass


def test_a_size_that_is_a_lie_is_refused(whole, tmp_path):
    large = with_entry(whole, "failed/summary.json", bytes(3_000_000), compress_type=8)
    size = (3_000_000).to_bytes(4, "little")
    assert large.count(size) == 2  # before the file, and in the list of contents
    path = tmp_path / "runs.zip"
    path.write_bytes(large.replace(size, (1000).to_bytes(4, "little")))
    with pytest.raises(UserError, match="damaged archive"), archive_reading.unpacked(path):
        pass


def damaged(whole: bytes) -> dict[str, bytes]:
    middle = len(whole) // 2
    flipped = bytearray(whole)
    for place in range(200, len(flipped) // 2, 997):
        flipped[place] ^= 0xFF
    return {
        "empty": b"",
        "text": b"no archive at all",
        "cut": whole[:middle],
        "flipped": bytes(flipped),
        "foreign": with_entry(b"PK\x05\x06" + bytes(18), "hello.txt"),
    }


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "flipped", "foreign"])
def test_a_damaged_archive_is_one_line(whole, tmp_path, kind):
    content = damaged(whole)[kind]
    (tmp_path / "runs.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"runs\.zip: found a damaged archive") as told:
        draw(tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({"format": 2, "runs": [], "planned": []}, "a newer version"),
        ({"format": 1, "runs": ["../x"], "planned": []}, "no run's"),
        ({"format": 1, "runs": [["x"]], "planned": []}, "no run's"),
        ({"format": 1, "runs": [], "planned": [3]}, "a plan that is none"),
        ({"format": 1}, "lists no runs"),
        (None, r"it has no archive\.json"),
        ([], "is not ours"),
    ],
)
def test_a_list_of_runs_that_is_none(tmp_path, facts, found):
    with zipfile.ZipFile(tmp_path / "runs.zip", "w") as file:
        file.writestr("archive.json" if facts is not None else "other", json.dumps(facts))
    with pytest.raises(UserError, match=found):
        draw(tmp_path)


def test_json_without_a_bottom_is_one_line(whole, tmp_path):
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    entries["failed/config.json"] = b"[" * 200_000
    with zipfile.ZipFile(tmp_path / "runs.zip", "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    with pytest.raises(UserError, match="damaged archive"):
        draw(tmp_path)
