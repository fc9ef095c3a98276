"""Folders, tars and zips read alike; what lies outside of them is never read or written."""

import io
import os
import tarfile
import zipfile

import pytest

from dst_jax.data.builders.archive import open_archive
from dst_jax.errors import UserError

FILES = {"top.txt": b"top", "a/one.bin": b"1" * 700, "a/b/two.bin": b"2", "c/three.bin": b""}


def write_tar(path, files, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(params=["folder", "tar", "tar.gz", "tar.xz", "zip"])
def source(request, tmp_path):
    path = tmp_path / f"source.{request.param}"
    files = {f"name/{name}": content for name, content in FILES.items()}
    files |= {"name/._top.txt": b"", "__MACOSX/top.txt": b""}
    if request.param == "folder":
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    elif request.param == "zip":
        with zipfile.ZipFile(path, "w") as file:
            for name, content in files.items():
                file.writestr(name, content)
    else:
        mode = {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz"}[request.param]
        files = {f"./{name}": content for name, content in files.items()}
        write_tar(path, files, mode)
    return path


def test_all_kinds_read_alike(source):
    archive = open_archive(source)
    assert archive.folders("") == ["name"]
    assert archive.folders("name") == ["a", "c"]
    assert archive.folders("name/a") == ["b"]
    assert archive.files("name") == ["top.txt"]
    assert archive.files("name/a") == ["one.bin"]
    assert archive.files("nowhere") == archive.folders("nowhere") == []
    assert archive.find_file("one.bin") == "name/a"
    assert archive.find_file("missing") is None
    assert archive.sequential == (source.suffix in (".gz", ".xz"))
    paths = [f"name/{name}" for name in reversed(FILES)]
    assert dict(archive.read(paths)) == {f"name/{name}": FILES[name] for name in FILES}
    assert archive.read_one("name/a/one.bin") == FILES["a/one.bin"]


def test_members_outside_and_links_are_left_out(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    path = write_tar(tmp_path / "evil.tar", {"../evil": b"x", "/tmp/evil": b"x", "good": b"x"})
    with tarfile.open(path, "a") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            member = tarfile.TarInfo("link")
            member.type, member.linkname = kind, os.fspath(tmp_path / "secret.txt")
            tar.addfile(member)
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as file:
        for name in ("../evil", "/tmp/evil", "good"):
            file.writestr(name, "x")
    before = sorted(tmp_path.parent.rglob("*"))
    for name in ("evil.tar", "evil.zip"):
        archive = open_archive(tmp_path / name)
        assert (archive.files(""), archive.folders("")) == (["good"], [])
        assert archive.read_one("good") == b"x"
    assert sorted(tmp_path.parent.rglob("*")) == before


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.xz", "zip", "noise", "empty"])
def test_a_damaged_archive_is_told(kind, tmp_path):
    path = tmp_path / f"broken.{kind}"
    content = os.urandom(30_000)
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a", content)
    elif kind.startswith("tar"):
        mode = {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz"}[kind]
        write_tar(path, {"a": content}, mode)
    else:
        path.write_bytes(content if kind == "noise" else b"")
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(UserError, match=r"--source=.*cannot be read .*download it again"):
        open_archive(path).read_one("a")


def test_damage_found_while_reading_is_told(tmp_path):
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", b"content")
    path.write_bytes(path.read_bytes().replace(b"content", b"c0ntent", 1))
    with pytest.raises(UserError, match="Bad CRC-32"):
        open_archive(path).read_one("a")


def test_a_missing_source_is_told(tmp_path):
    with pytest.raises(UserError, match="found nothing there; expected a folder, a tar or a zip"):
        open_archive(tmp_path / "missing.tar")
