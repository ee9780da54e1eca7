"""Writing a file whole or not at all, flushed to disk; locks between processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

# Constants of Linux, see renameat2(2).
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary file next to `path` that replaces it when the block ends without an error.

    Until then, and after an error, the old file stays. A link is replaced, not followed; a device
    or pipe, such as /dev/stdout, is written directly.

    Raises:
        OSError: the file cannot be written there.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield unfinished
        sync(unfinished)
        os.replace(unfinished, path)
        sync(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def write(path: str | os.PathLike, content: str | bytes) -> None:
    """Write a file, or replace it: see `replacing`. Texts are UTF-8, line ends stay as they are."""
    with replacing(path) as file:
        file.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def sync(path: str | os.PathLike) -> None:
    """Flush a file or the entries of a folder to disk, if the system can do that."""
    if sys.platform == "win32" and os.path.isdir(path):
        return
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exchange(first: str | os.PathLike, second: str | os.PathLike) -> bool:
    """Exchange two folders in one step; return False if the system cannot do that."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if rename is None:
        return False
    names = (os.fsencode(first), os.fsencode(second))
    return rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0


class Held(Exception):
    """The error of a lock that another process holds, or another part of this one.

    Attributes:
        process: the number of that process, "" if it is not known.
    """

    def __init__(self, process: str) -> None:
        super().__init__(process)
        self.process = process


class Lock:
    """A file that has one holder at a time. The system frees it when the holder's process ends in
    any way; `release` removes the file.

    Args:
        file: the file, in an existing folder.
    """

    def __init__(self, file: Path) -> None:
        import filelock  # not needed to read a bundle

        self.file = file
        self._lock = filelock.FileLock(
            file, timeout=0, thread_local=False, on_acquired=_write_process
        )
        self._busy = filelock.Timeout

    def hold(self) -> Lock:
        """Take the lock.

        Raises:
            Held: another holder has it.
            OSError: the file cannot be written.
        """
        try:
            self._lock.acquire()
        except self._busy as error:
            raise Held(_read_process(self.file)) from error
        return self

    def release(self) -> None:
        """Free the lock and remove its file."""
        if sys.platform != "win32":  # Windows cannot remove an open file
            self.file.unlink(missing_ok=True)
        self._lock.release()
        if sys.platform == "win32":
            with contextlib.suppress(OSError):
                self.file.unlink(missing_ok=True)


def _write_process(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a full disk: the number stays unknown
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())


def _read_process(file: Path) -> str:
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            return opened.read(20).strip()
    except OSError:  # the holder ended meanwhile, or Windows does not let others read the file
        return ""
