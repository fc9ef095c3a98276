"""Read access to what a user has downloaded: a folder, a tar or a zip, all with one interface.

Members are read into memory and never extracted, so no name in an archive can reach the disk.
Called by the builders beside this file and by `dst_jax.data.prepare`.
"""

import contextlib
import lzma
import os
import pathlib
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from dst_jax.errors import UserError


class Archive:
    """The regular files of a folder, a tar or a zip.

    Paths are relative to the top and joined with "/"; "" is the top. Hidden files are left out, as
    some systems add them.

    Attributes:
      path: what is read.
      sequential: reading one file costs as much as reading all (compressed tar).
    """

    sequential = False

    def __init__(self, path: pathlib.Path):
        self.path = path

    def folders(self, folder: str) -> list[str]:
        """Sorted names of the folders in a folder; none where it does not exist."""
        raise NotImplementedError

    def files(self, folder: str) -> list[str]:
        """Sorted names of the files in a folder; none where it does not exist."""
        raise NotImplementedError

    def read(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yields (path, content) of files that exist, in the order that is quickest.

        Raises:
          UserError: the archive is damaged or cannot be read.
        """
        raise NotImplementedError

    def read_one(self, path: str) -> bytes:
        """The content of one file that exists."""
        return next(self.read([path]))[1]

    def search(self, depth: int = 2) -> Iterator[str]:
        """The top and the folders down to `depth` levels below it, the highest first."""
        level = [""]
        for _ in range(depth + 1):
            yield from level
            level = [join(folder, name) for folder in level for name in self.folders(folder)]

    def find_file(self, name: str) -> str | None:
        """The highest folder that has a file of that name."""
        return next((folder for folder in self.search() if name in self.files(folder)), None)

    def error(self, found: str, expected: str, hint: str = "") -> UserError:
        """What to tell the user when the content is not what it should be."""
        return UserError(f"--source={self.path}", found, expected, hint)


def open_archive(path: os.PathLike | str) -> Archive:
    """Opens a folder, a tar (plain, gzip, bzip2 or xz) or a zip.

    Raises:
      UserError: there is no such thing, or it is damaged.
    """
    path = pathlib.Path(path).expanduser()
    if path.is_dir():
        return _Folder(path)
    if not path.is_file():
        raise UserError(f"--source={path}", "nothing there", "a folder, a tar or a zip")
    with _readable(path):
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
        return _Zip(path) if is_zip else _Tar(path)


def join(*parts: str) -> str:
    """Joins the parts of a path in an archive; the top, "", disappears."""
    return "/".join(part for part in parts if part)


@contextlib.contextmanager
def _readable(path: pathlib.Path) -> Iterator[None]:
    """Turns what goes wrong while reading into one line."""
    try:
        yield
    except (
        *(OSError, EOFError, NotImplementedError, RuntimeError),  # RuntimeError: a password
        *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    ) as error:
        raise UserError(
            f"--source={path}",
            f"what cannot be read ({str(error) or type(error).__name__})",
            "an intact folder, tar or zip",
            "If the download broke off, download it again",
        ) from error


class _Folder(Archive):
    def folders(self, folder: str) -> list[str]:
        return self._names(folder, os.DirEntry.is_dir)

    def files(self, folder: str) -> list[str]:
        return self._names(folder, os.DirEntry.is_file)

    def _names(self, folder: str, wanted: Any) -> list[str]:
        with _readable(self.path):
            try:
                with os.scandir(self.path / folder) as entries:
                    return sorted(e.name for e in entries if wanted(e) and not _hidden(e.name))
            except (FileNotFoundError, NotADirectoryError):
                return []

    def read(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        for path in paths:
            with _readable(self.path / path):
                content = (self.path / path).read_bytes()
            yield path, content


class _Indexed(Archive):
    """An archive whose list of files is read once, when it is opened."""

    def __init__(self, path: pathlib.Path):
        super().__init__(path)
        self._folders: dict[str, set[str]] = {}
        self._files: dict[str, dict[str, Any]] = {}

    def _add(self, path: str, handle: Any) -> None:
        """Notes a file; one whose name points out of the archive is left out."""
        pure = pathlib.PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or any(map(_hidden, pure.parts)):
            return
        *folders, name = pure.parts
        above = ""
        for folder in folders:
            self._folders.setdefault(above, set()).add(folder)
            above = join(above, folder)
        self._files.setdefault(above, {})[name] = handle

    def _handle(self, path: str) -> Any:
        folder, _, name = path.rpartition("/")
        return self._files[folder][name]

    def folders(self, folder: str) -> list[str]:
        return sorted(self._folders.get(folder, ()))

    def files(self, folder: str) -> list[str]:
        return sorted(self._files.get(folder, ()))


class _Zip(_Indexed):
    def __init__(self, path: pathlib.Path):
        super().__init__(path)
        self._zip = zipfile.ZipFile(path)
        for info in self._zip.infolist():
            if not info.is_dir():
                self._add(info.filename, info)

    def read(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        for path in paths:
            with _readable(self.path):
                content = self._zip.read(self._handle(path))
            yield path, content


class _Tar(_Indexed):
    def __init__(self, path: pathlib.Path):
        super().__init__(path)
        with path.open("rb") as file:
            # The published archives are ustar or GNU tars, both of which have this mark.
            self.sequential = file.read(262)[257:] != b"ustar"
        with tarfile.open(path, "r:*" if self.sequential else "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # ImageNet-C: a million
                # Links are left out: nothing outside the archive is ever read.
                if member.isreg() and not member.issparse():
                    self._add(member.name, (member.offset_data, member.size))

    def read(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        run_paths = sorted((*self._handle(path), path) for path in paths)
        if self.sequential:
            yield from self._read_through({offset: path for offset, _, path in run_paths})
            return
        with _readable(self.path), self.path.open("rb") as file:
            for offset, size, path in run_paths:
                file.seek(offset)
                content = file.read(size)
                if len(content) != size:
                    raise EOFError(f"it ends within {path}")
                yield path, content

    def _read_through(self, wanted: dict[int, str]) -> Iterator[tuple[str, bytes]]:
        with _readable(self.path), tarfile.open(self.path, "r:*") as tar:
            while wanted and (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]
                path = wanted.pop(member.offset_data, None)
                if path is not None and (file := tar.extractfile(member)) is not None:
                    yield path, file.read()


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))
