"""Documents at addresses such as s3://bucket/texts/, through fsspec.

A file is copied to a temporary folder, read there, and removed before the next one is copied.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfx_transformer.data.corpus import TEXT_SUFFIXES, Piece, read_documents
from tfx_transformer.errors import InputError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::[^,]+)?://")
_PATTERN = re.compile(r"[*?\[]")


def is_address(name: str | os.PathLike[str]) -> bool:
    """Return True if a name is an address, such as s3://bucket/file, and not a local path."""
    return _ADDRESS.match(os.fspath(name)) is not None


def names_of(paths: str) -> list[str]:
    """Return the names in a list with commas between them; a file with a comma in its name is
    one."""
    if os.path.exists(paths):
        return [paths]
    return [name for part in paths.split(",") if (name := part.strip())]


def find(address: str) -> list[str]:
    """Return the addresses of the files of an address: of the .txt and .md files below a folder, of
    the files that a pattern such as *.parquet matches, or its own.

    Raises:
        InputError: there is no such file, or its storage cannot be reached.
    """
    with _explaining(address):
        system, path = _open(address)
        if _PATTERN.search(path):
            found = system.glob(path)
        elif system.isdir(path):
            found = [p for p in system.find(path) if p.lower().endswith(TEXT_SUFFIXES)]
        else:
            found = [path] if system.exists(path) else []
        names = [str(system.unstrip_protocol(path)) for path in sorted(found)]
    if not names:
        raise InputError(
            f"{address}: there is no such file, or no {' or '.join(TEXT_SUFFIXES)} file below it.\n"
            "  Check the address. Tables are named one by one, or by a pattern such as *.parquet."
        )
    return names


def state(address: str) -> list[list[str]]:
    """Return the files of an address, each with a text that changes when the file does."""
    with _explaining(address):
        return [[name, str(_open(name)[0].ukey(_open(name)[1]))] for name in find(address)]


@contextlib.contextmanager
def copied(address: str) -> Iterator[Path]:
    """Yield a local copy of a file, which is removed at the end.

    Raises:
        InputError: the file does not exist, or its storage cannot be reached.
    """
    with tempfile.TemporaryDirectory(prefix="tfx-transformer-") as folder:
        with _explaining(address):
            system, path = _open(address)
            local = Path(folder, path.rstrip("/").rpartition("/")[2] or "file")
            system.get_file(path, str(local))
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
                    raise InputError(str(error).replace(str(local), file)) from error


def _open(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    import fsspec

    return fsspec.core.url_to_fs(address)


@contextlib.contextmanager
def _explaining(address: str) -> Iterator[None]:
    """Raise errors of a file system as those of the user: each has its own kinds of errors."""
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
