"""One way to write a file, whole or not at all and flushed to disk; locks between processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

# Of Linux: renameat2(2).
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary file beside `path`, which takes its place when the block ends without an
    error.

    What was at `path` stays until then, and stays if there is an error. A link is replaced, not
    followed; a device or pipe, such as /dev/stdout, is written itself.

    Raises:
        OSError: nothing can be written there.
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
    """Flush a file or the entries of a folder to disk, where the system can do that."""
    if sys.platform == "win32" and os.path.isdir(path):
        return
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exchange(first: str | os.PathLike, second: str | os.PathLike) -> bool:
    """Let two folders change places in one step; return False where the system cannot do that."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if rename is None:
        return False
    names = (os.fsencode(first), os.fsencode(second))
    return rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0


class Held(Exception):
    """Another process holds a lock, or another part of this one.

    Attributes:
        process: the number of that process, if it is known.
    """

    def __init__(self, process: str) -> None:
        super().__init__(process)
        self.process = process


class Lock:
    """A file that one holder has at a time. The system frees it when a process dies, however it
    does; the file itself is removed by `release`.

    Args:
        file: its folder exists.
    """

    def __init__(self, file: Path) -> None:
        import filelock  # a bundle is read without it

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
        """Give the lock up, and remove its file."""
        if sys.platform != "win32":  # there a file that is open cannot be removed
            self.file.unlink(missing_ok=True)
        self._lock.release()
        if sys.platform == "win32":
            with contextlib.suppress(OSError):
                self.file.unlink(missing_ok=True)


def _write_process(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a full disk: then nobody knows the number
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())


def _read_process(file: Path) -> str:
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            return opened.read(20).strip()
    except OSError:  # it ended meanwhile, or Windows keeps what is locked to itself
        return ""
