"""Documents encoded as token ids, in their order, by one process or several."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer.data.corpus import Piece
from tfx_transformer.data.near_duplicates import band_keys, exact_key
from tfx_transformer.errors import InputError
from tfx_transformer.text.tokenizer import Tokenizer

# Least characters of a task of a process; characters from which on a document is not compared.
_TASK_CHARACTERS, _COMPARED_CHARACTERS = 500_000, 1_000_000


class Part(NamedTuple):
    """A document; or a part of one that is too long to be compared with others.

    Attributes:
        texts: its text, in pieces.
        first, last: True if the document begins or ends with it.
    """

    texts: list[str]
    first: bool
    last: bool


class Encoded(NamedTuple):
    """A part as token ids.

    Attributes:
        ids: (length,), with the document's end.
        bytes: size of the text in UTF-8.
        keys: hashes of the document, the exact one first; empty if it is not compared.
        draw: a number from 0 to 1 that follows from the content.
        first, last: as of the part.
    """

    ids: np.ndarray
    bytes: int
    keys: list[int]
    draw: float
    first: bool
    last: bool


class Packed(NamedTuple):
    """Parts as they are sent to a process: a few large values.

    Sending hundreds of small values each time would leave gaps in the memory of the sender that are
    not filled again: it would grow with every task.

    Attributes:
        content: the UTF-8 of all their texts, one after the other.
        sizes: bytes of each text.
        parts: of each part the number of its texts, `first` and `last`.
    """

    content: bytes
    sizes: list[int]
    parts: list[tuple[int, bool, bool]]


# Begins to encode parts, and returns a function that waits for them.
Encoder = Callable[[list[Part]], Callable[[], list[Encoded]]]


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Return the tokenizer of a bundle, of the folder of a checkpoint, or of a tokenizer.json."""
    return Tokenizer.from_pretrained(path) if Path(path).is_dir() else Tokenizer.load(path)


@contextlib.contextmanager
def encoder(
    tokenizer: str | os.PathLike[str], dtype: str, near: bool, processes: int
) -> Iterator[Encoder]:
    """Yield an `Encoder`.

    Args:
        tokenizer: see `load_tokenizer`.
        dtype: of the ids.
        near: give documents the hashes that near-duplicates share, too.
        processes: number of processes that encode; 1: this one.

    Raises:
        InputError: a process was killed.
    """
    arguments = (os.fspath(tokenizer), dtype, near)
    if processes == 1:
        coder = _Coder(*arguments)
        yield lambda task: lambda: coder.encode(task)
        return
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(processes, context, _start, arguments)
    try:
        yield lambda task: _waiting(pool.submit(_encode, pack(task)))
    except BrokenProcessPool as error:
        raise InputError(
            "a process that encodes was killed, perhaps for lack of memory.\n"
            "  Repeat the command, with fewer --processes: it goes on."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def encode_pieces(
    pieces: Iterator[Piece], encode: Encoder, *, skip: int = 0, ahead: int = 2
) -> Iterator[Encoded]:
    """Yield the parts of documents in their order, encoded.

    Args:
        pieces: the documents.
        encode: see `encoder`.
        skip: number of parts to leave out at the beginning.
        ahead: tasks that wait for their encoding at most; so memory is bounded.
    """
    parts = _parts(pieces)
    for _ in range(skip):
        next(parts, None)
    waiting: collections.deque[Callable[[], list[Encoded]]] = collections.deque()
    for task in _tasks(parts):
        waiting.append(encode(task))
        while len(waiting) > ahead:
            yield from waiting.popleft()()
    while waiting:
        yield from waiting.popleft()()


def _parts(pieces: Iterator[Piece]) -> Iterator[Part]:
    """Yield documents, and those of more than a million characters in parts."""
    texts: list[str] = []
    size, first = 0, True
    for piece in pieces:
        texts.append(piece.text)
        size += len(piece.text)
        if piece.last or size >= _COMPARED_CHARACTERS:
            yield Part(texts, first, piece.last)
            texts, size, first = [], 0, piece.last


def _tasks(parts: Iterator[Part]) -> Iterator[list[Part]]:
    """Yield parts in groups of at least half a million characters."""
    task: list[Part] = []
    size = 0
    for part in parts:
        task.append(part)
        size += sum(map(len, part.texts))
        if size >= _TASK_CHARACTERS:
            yield task
            task, size = [], 0
    if task:
        yield task


class _Coder:
    """Encodes parts of documents in one process."""

    def __init__(self, tokenizer: str, dtype: str, near: bool) -> None:
        self.tokenizer = load_tokenizer(tokenizer)
        self.byte_lengths = np.array(self.tokenizer.byte_lengths())
        self.dtype, self.near = dtype, near

    def encode(self, task: list[Part]) -> list[Encoded]:
        return [self._part(part) for part in task]

    def _part(self, part: Part) -> Encoded:
        ids: list[int] = []
        for text in part.texts:
            ids += self.tokenizer.encode(text)
        numbers = np.array(ids, "uint32")
        key = exact_key(numbers)
        keys = []
        if part.first and part.last:
            keys = [key, *(band_keys(numbers) if self.near else ())]
        if part.last:
            ids.append(self.tokenizer.end_id)
        array = np.array(ids, self.dtype)
        size = int(self.byte_lengths[array].sum())
        return Encoded(array, size, keys, key / 2**64, part.first, part.last)


# The coder of a process that `encoder` started.
_coder: _Coder | None = None


def _start(*arguments: Any) -> None:
    global _coder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the command
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _coder = _Coder(*arguments)


def _end_with_parent() -> None:
    """End this process after its parent: a parent that is killed cannot do that."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode(task: Packed) -> tuple[np.ndarray, list[tuple[Any, ...]]]:
    """Return the ids of all parts as one array, and of each part their number and the rest."""
    assert _coder is not None
    encoded = _coder.encode(unpack(task))
    ids = np.concatenate([part.ids for part in encoded])
    return ids, [(len(part.ids), *part[1:]) for part in encoded]


def _waiting(
    future: concurrent.futures.Future[tuple[np.ndarray, list[tuple[Any, ...]]]],
) -> Callable[[], list[Encoded]]:
    """Return a function that waits for what `_encode` returns, and makes `Encoded` of it."""

    def wait() -> list[Encoded]:
        ids, others = future.result()
        ends = itertools.accumulate(size for size, *_ in others)
        parts = zip(ends, others, strict=True)
        return [Encoded(ids[end - n : end], *rest) for end, (n, *rest) in parts]

    return wait


def pack(task: list[Part]) -> Packed:
    """Return parts as they are sent. Half characters, which JSON may have, stay what they are."""
    texts = [text.encode("utf-8", "surrogatepass") for part in task for text in part.texts]
    parts = [(len(part.texts), part.first, part.last) for part in task]
    return Packed(b"".join(texts), list(map(len, texts)), parts)


def unpack(task: Packed) -> list[Part]:
    """Return the parts of which `pack` made a task."""
    ends = itertools.accumulate(task.sizes)
    texts = (
        task.content[end - size : end].decode("utf-8", "surrogatepass")
        for size, end in zip(task.sizes, ends, strict=True)
    )
    return [Part(list(itertools.islice(texts, n)), *place) for n, *place in task.parts]
