"""One run at a time in one folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO

from tfx_transformer.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: nothing warns of a second run there
    fcntl = None

LOCK = "lock"

# The folders this process holds. A second run of the same process into one of them follows the
# first: it is no run at the same time.
_held: dict[Path, TextIO] = {}


def hold(folder: Path) -> None:
    """Makes a folder if need be, and keeps other processes out until `release` or the end.

    The system frees the lock of a process that dies, however it does.

    Raises:
        InputError: another process holds it, or it cannot be written.
    """
    path = folder.resolve()
    if path in _held and (path / LOCK).exists():
        return
    release(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _locked(folder / LOCK)
    except BlockingIOError as error:
        process = (folder / LOCK).read_text(encoding="utf-8").strip()
        raise InputError(
            f"{folder}: another run, process {process}, is writing there now.\n"
            "  Wait for its end, or choose another --name."
        ) from error
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error.strerror}.\n"
            "  Free what it needs, or start where you may write."
        ) from error
    _held[path] = file


def release(folder: Path) -> None:
    """Lets other processes write to a folder again."""
    file = _held.pop(folder.resolve(), None)
    if file is not None:
        (folder / LOCK).unlink(missing_ok=True)
        file.close()


def _locked(path: Path) -> TextIO:
    while True:
        file = path.open("a", encoding="utf-8")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            # Between opening and locking it its holder may have ended and removed it.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except OSError:
            file.close()
            raise
        file.close()
