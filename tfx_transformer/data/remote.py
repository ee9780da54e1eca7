"""Documents at addresses such as s3://bucket/texts/, through fsspec.

A file is copied to a temporary folder, read there, and removed before the next one is copied.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tfx_transformer.data.corpus import TEXT_SUFFIXES, Piece, read_documents
from tfx_transformer.errors import InputError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::[^,]+)?://")
_PATTERN = re.compile(r"[*?\[]")


def is_address(name: str | os.PathLike[str]) -> bool:
    """Return True if a name is an address, such as s3://bucket/file, and not a local path."""
    return _ADDRESS.match(os.fspath(name)) is not None


def names_of(paths: str) -> list[str]:
    """Return the names in a list with commas between them. The path of a file that exists is one
    name, even with a comma in it."""
    if os.path.exists(paths):
        return [paths]
    return [name for part in paths.split(",") if (name := part.strip())]


class RemoteFile(NamedTuple):
    """A file: its file system, its path there, and its address."""

    system: Any
    path: str
    name: str


def file_at(address: str) -> RemoteFile:
    """Return the file at an address; `copied` raises if it does not exist.

    Raises:
        InputError: the kind of address is not known, or needs a package.
    """
    with _explaining(address):
        return RemoteFile(*_open(address), address)


def find(address: str) -> list[RemoteFile]:
    """Return the files of an address: the .txt and .md files below a folder, the files that a
    pattern such as *.parquet matches, or the file at the address.

    Raises:
        InputError: there is no such file, or its storage cannot be reached.
    """
    with _explaining(address):
        system, path = _open(address)
        if _PATTERN.search(_without_query(path)):
            matches = system.glob(path, detail=True)
            found = [p for p, info in matches.items() if info["type"] != "directory"]
        elif system.isdir(path):
            found = [p for p in system.find(path) if p.lower().endswith(TEXT_SUFFIXES)]
        else:
            found = [path] if system.exists(path) else []
        files = [RemoteFile(system, p, str(system.unstrip_protocol(p))) for p in sorted(found)]
    if not files:
        raise InputError(
            f"{address}: there is no such file, or no {' or '.join(TEXT_SUFFIXES)} file below it.\n"
            "  Check the address. Tables are named one by one, or by a pattern such as *.parquet."
        )
    return files


def state(address: str) -> list[list[str]]:
    """Return the files of an address, each with a text that changes when the file does."""
    with _explaining(address):
        return [[file.name, _mark(file)] for file in find(address)]


def _mark(file: RemoteFile) -> str:
    """Return a hash of all that the storage says of a file. The URL that a web server redirects to
    is left out: it may be another one each time."""
    info = file.system.info(file.path)
    facts = sorted((name, str(fact)) for name, fact in info.items() if name != "url")
    return hashlib.sha256(str(facts).encode()).hexdigest()


@contextlib.contextmanager
def copied(file: RemoteFile) -> Iterator[Path]:
    """Yield a local copy of a file, which is removed at the end.

    Raises:
        InputError: the file does not exist, or its storage cannot be reached.
    """
    with tempfile.TemporaryDirectory(prefix="tfx-transformer-") as folder:
        name = _without_query(file.path).rstrip("/").rpartition("/")[2]
        local = Path(folder, name or "file")
        with _explaining(file.name):
            file.system.get_file(file.path, str(local))
        yield local


def read_all(paths: str, **reading: Any) -> Iterator[Piece]:
    """Yield the documents of local files and of addresses, in their order; see `read_documents`.

    Args:
        paths: names with commas between them.
        reading: as for `read_documents`.
    """
    names = names_of(paths)
    if not any(map(is_address, names)):
        yield from read_documents(paths, **reading)
        return
    for name in names:
        if not is_address(name):
            yield from read_documents(name, **reading)
            continue
        for file in find(name):
            with copied(file) as local:
                try:
                    yield from read_documents(local, **reading)
                except InputError as error:
                    raise InputError(str(error).replace(str(local), file.name)) from error


def _without_query(path: str) -> str:
    """Return a path without the query of a URL: paths on a web server are whole URLs."""
    return path.partition("?")[0] if "://" in path else path


def _open(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    import fsspec

    return fsspec.core.url_to_fs(address)


@contextlib.contextmanager
def _explaining(address: str) -> Iterator[None]:
    """Raise every error of a file system as `InputError`: each system has its own kinds."""
    try:
        yield
    except InputError:
        raise
    except ImportError as error:  # of the package for this kind of storage
        raise InputError(f"{address}: {error}\n  pip install that package.") from error
    except Exception as error:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise InputError(
            f"{address} cannot be read: {what}\n"
            "  Check the address and your access, or copy the files here and name the copy."
        ) from error
