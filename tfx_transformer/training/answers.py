"""The file of a teacher's answers, so that each text is answered once."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfx_transformer import files
from tfx_transformer.errors import InputError

# The file begins with this and the key.
_MAGIC = b"TFXA1\n"
_KEY = 32
# Before each answer: digest of its input, its length, and the check sum of both and the answer.
_HEAD = struct.Struct("<16sII")
# Inputs that are answered before the answers are flushed to disk.
_BLOCK = 256


class AnswerFile:
    """Answers by their inputs, in a file that grows.

    A file of another key is replaced. A damaged file is cut where the damage begins, and what
    followed is answered anew. So an interrupted run goes on after its last whole answer.

    Args:
        path: the file; only one process may use it.
        key: all that decides an answer besides its input, such as the digest of the model.

    Raises:
        InputError: it cannot be read or written.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self._start = _MAGIC + hashlib.sha256(key.encode()).digest()
        self._known: dict[bytes, bytes] = {}
        try:
            end = self._read(path.read_bytes() if path.is_file() else b"")
            if not end:
                files.write(path, self._start)
            elif end < path.stat().st_size:
                os.truncate(path, end)
        except OSError as error:
            raise self._error(error) from error

    def __len__(self) -> int:
        return len(self._known)

    def _read(self, data: bytes) -> int:
        """Keep the answers in the file's bytes, and return the end of the last whole one; 0 for a
        file of another key."""
        if not data.startswith(self._start):
            return 0
        place = len(self._start)
        while place + _HEAD.size <= len(data):
            digest, length, check = _HEAD.unpack_from(data, place)
            end = place + _HEAD.size + length
            value = data[place + _HEAD.size : end]
            if len(value) < length or _check(digest, value) != check:
                break
            self._known[digest] = value
            place = end
        return place

    def answer(
        self,
        inputs: Sequence[Any],
        ask: Callable[[list[Any]], Sequence[bytes]],
        show: Callable[[int, int], None] = lambda done, total: None,
        block: int = _BLOCK,
    ) -> list[bytes]:
        """Return the answer to each input, and append the new answers to the file.

        Args:
            inputs: JSON values, such as texts.
            ask: inputs -> their answers.
            show: called before each block with the number of new inputs that are answered, and
                their total.
            block: most inputs that `ask` gets at a time; their answers are then flushed to disk.

        Raises:
            InputError: the file cannot be written.
        """
        digests = [digest_of(value) for value in inputs]
        new = {d: v for d, v in zip(digests, inputs, strict=True) if d not in self._known}
        # Inputs of similar length together: less padding.
        order = sorted(new, key=lambda digest: _length(new[digest]))
        for start in range(0, len(order), block):
            show(start, len(order))
            part = order[start : start + block]
            found = ask([new[digest] for digest in part])
            self._append(dict(zip(part, found, strict=True)))
        return [self._known[digest] for digest in digests]

    def _append(self, found: dict[bytes, bytes]) -> None:
        try:
            with self.path.open("ab") as file:
                for digest, value in found.items():
                    file.write(_HEAD.pack(digest, len(value), _check(digest, value)) + value)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._error(error) from error
        self._known |= found

    def _error(self, error: OSError) -> InputError:
        return InputError(
            f"{self.path}: the teacher's answers cannot be kept there: {error.strerror}.\n"
            "  Free disk space, or allow reading and writing there, and repeat the command: it "
            "goes on."
        )


def digest_of(value: Any) -> bytes:
    """Return 16 bytes that are equal for equal JSON values; a tuple counts as a list."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def _check(digest: bytes, value: bytes) -> int:
    return zlib.crc32(value, zlib.crc32(digest + len(value).to_bytes(4, "little")))


def _length(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return len(value) if isinstance(value, str) else sum(map(_length, value))
