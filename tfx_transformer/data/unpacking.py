"""Compressed tables: unpacked once, within bounds, to a file that lasts as long as the process."""

from __future__ import annotations

import atexit
import bz2
import functools
import gzip
import lzma
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

from tfx_transformer.data.sources import row_error
from tfx_transformer.errors import InputError

# An ordinary table is compressed to a tenth; a file that grows by more than this factor, and to
# more than this many bytes, is probably made to fill a disk.
_MOST_TIMES = 200
_FREE_BYTES = 1024**3
_BLOCK = 1 << 20


def _open_zstd(path: Path) -> IO[bytes]:
    import pyarrow

    return cast("IO[bytes]", pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd"))


# Ending -> function that opens the file; a zip is read by its only member.
OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _open_zstd,
}
ENDINGS = (*OPENERS, ".zip")
_MARKS = {
    ".gz": b"\x1f\x8b\x08",
    ".bz2": b"BZh",
    ".xz": b"\xfd7zXZ\0",
    ".zst": b"\x28\xb5\x2f\xfd",
    ".zip": b"PK\x03\x04",
}


def is_packed_name(path: Path) -> bool:
    """Return True if a name has the ending of a compressed file."""
    return path.suffix.lower() in ENDINGS


def is_packed(path: Path) -> bool:
    """Return True for a compressed file, whatever its name."""
    return bool(_kind(path))


def _kind(path: Path) -> str:
    """Return the ending that fits a compressed file, by its first bytes; "" for other files."""
    if path.suffix.lower() in (".xlsx", ".xlsm") or not os.path.isfile(path):
        return ""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError:
        return ""
    by_bytes = next((end for end, mark in _MARKS.items() if start.startswith(mark)), "")
    return by_bytes or (path.suffix.lower() if is_packed_name(path) else "")


def pack(plain: Path, path: Path, ending: str) -> None:
    """Write the compressed form of a file; `ending`: one of `OPENERS`."""
    with plain.open("rb") as file, _packing(path, ending) as packed:
        shutil.copyfileobj(file, packed, _BLOCK)


def _packing(path: Path, ending: str) -> Any:
    if ending == ".zst":
        import pyarrow

        return pyarrow.CompressedOutputStream(str(path), "zstd")
    return {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}[ending](path, "wb")


def unpacked(path: Path) -> Path:
    """Return the unpacked form of a compressed file; its name has the ending of the table.

    Raises:
        InputError: the file is damaged, unpacks to far too many bytes, or is a zip of several
            files.
    """
    status = os.stat(path)
    return _unpack(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _unpack(path: Path, size: int, stamp: int) -> Path:
    try:
        kind = _kind(path)
        if kind == ".zip":
            return _unpack_member(path, size)
        with OPENERS[kind](path) as packed:
            inner = Path(path.stem) if is_packed_name(path) else path
            return _copy(packed, path, inner, size)
    except InputError:
        raise
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
            NotImplementedError, RuntimeError) as error:  # fmt: skip
        what = f"it cannot be unpacked: {error}."
        raise row_error(str(path), what, "The file is damaged: copy or download it again.") from (
            error
        )


def _unpack_member(path: Path, size: int) -> Path:
    with zipfile.ZipFile(path) as archive:
        members = [part for part in archive.infolist() if not part.is_dir()]
        members = [m for m in members if not m.filename.startswith("__MACOSX/")]
        if len(members) != 1:
            shown = ", ".join(repr(member.filename) for member in members[:5])
            what = f"the zip file holds {len(members)} files: {shown}."
            raise row_error(str(path), what, "Unpack it, and name one of them.")
        with archive.open(members[0]) as packed:
            return _copy(packed, path, Path(members[0].filename), size)


def _copy(packed: IO[bytes], path: Path, name: Path, size: int) -> Path:
    most = max(_FREE_BYTES, _MOST_TIMES * size)
    target = _folder() / f"{len(os.listdir(_folder()))}{name.suffix.lower()}"
    total = 0
    try:
        with target.open("xb") as file:
            while data := packed.read(_BLOCK):
                total += len(data)
                if total > most:
                    what = f"it unpacks to more than {most:,} bytes, from {size:,}."
                    raise row_error(str(path), what, "Unpack it yourself if that is right.")
                file.write(data)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tfx_transformer_"))
    process = os.getpid()

    def remove() -> None:
        if os.getpid() == process:  # not in a child that was forked
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
