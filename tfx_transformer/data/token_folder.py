"""A corpus that is tokenized once: a folder with a file of token ids that several runs read.

`TokenWriter` writes it with several processes, and goes on after an interruption. The ids are those
of `corpus.write_tokens`; a folder is read by `read_token_folder`.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import math
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer import files
from tfx_transformer.data.corpus import Piece, TokenFile, hold_out, read_documents
from tfx_transformer.data.near_duplicates import band_keys, exact_key
from tfx_transformer.data.tables import BadRow
from tfx_transformer.errors import InputError
from tfx_transformer.json_files import read_object
from tfx_transformer.text.tokenizer import Tokenizer

INDEX, IDS, TOKENIZER = "tokens.json", "training.bin", "tokenizer.json"
VALIDATION = "validation.bin"
_PROGRESS, _KEYS, _LOCK = ".progress.json", ".keys.bin", ".lock"
# Characters that one task of a process encodes, and that a document may have to be compared.
_TASK_CHARACTERS, _COMPARED_CHARACTERS = 500_000, 1_000_000
# Seconds between two records of the progress.
_RECORD_SECONDS = 10.0


class Source(NamedTuple):
    """Files of a mixture; weight: how often each document is written, 0.5 for every second one."""

    paths: str
    weight: float = 1.0


class Part(NamedTuple):
    """A document, or, of one that is too long to be compared, the next part."""

    texts: list[str]
    first: bool
    last: bool


class Encoded(NamedTuple):
    """A part as ids. keys: its hashes, the exact one first, empty if it is not compared; draw: from
    0 to 1, by its content; first, last: of its document."""

    ids: np.ndarray
    bytes: int
    keys: list[int]
    draw: float
    first: bool
    last: bool


@dataclasses.dataclass
class Counts:
    """What was written and left out: tokens with document ends, bytes of text, documents; thinned:
    documents, by weight; bad_rows: rows of tables that cannot be used."""

    tokens: int = 0
    bytes: int = 0
    documents: int = 0
    duplicates: int = 0
    near_duplicates: int = 0
    in_validation: int = 0
    thinned: int = 0
    bad_rows: int = 0


@dataclasses.dataclass
class _Progress:
    """Where the writing stands. turn: pass over the sources, from 0; source, parts: the place in
    it; keys: hashes in the file of keys; turn_keys: those of earlier turns; thinning: whether a
    long document is being left out."""

    turn: int = 0
    source: int = 0
    parts: int = 0
    keys: int = 0
    turn_keys: int = 0
    thinning: bool = False


def identity(tokenizer: Tokenizer) -> str:
    """Return the SHA-256 of a tokenizer: equal ones write the same ids."""
    return hashlib.sha256(tokenizer.to_json().encode()).hexdigest()


def read_token_folder(
    folder: str | os.PathLike[str], tokenizer: Tokenizer, share: float = 0.1
) -> tuple[TokenFile, TokenFile]:
    """Return the training and the validation part of what `tfx-transformer tokenize` wrote.

    Args:
        folder: the folder.
        tokenizer: the tokenizer of the model.
        share: share of the ids to hold out, if the folder was written without --validation.

    Raises:
        InputError: it is not such a folder, is unfinished, was cut short, or has the ids of another
            tokenizer.
    """
    index = _read_index(Path(folder))
    try:
        training = _part(Path(folder, IDS), index, index["training"])
        held = index.get("validation")
        validation = _part(Path(folder, VALIDATION), index, held) if held else None
        written_by = index["settings"]["tokenizer"]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{Path(folder, INDEX)}: not an index of tokens.\n  Write the folder again."
        ) from error
    if written_by != identity(tokenizer):
        raise InputError(
            f"{folder}: its ids are those of another tokenizer than the model's.\n"
            f"  Write it with the tokenizer of the base, or begin a new model without a base."
        )
    return (training, validation) if validation else hold_out(training, share, tokenizer)


def _part(path: Path, index: dict[str, Any], counts: dict[str, Any]) -> TokenFile:
    tokens = TokenFile(
        path,
        index["dtype"],
        counts["tokens"],
        counts["bytes"],
        counts["documents"],
        tuple(index["sources"]),
    )
    if not tokens.tokens:
        raise InputError(f"{path}: there are no tokens.\n  Write the folder from more text.")
    tokens.array()  # raises if the file was cut short
    return tokens


def check_token_folder(
    folder: str | os.PathLike[str], text: object = None, validation: object = None
) -> None:
    """Raise if a folder of tokens is not finished, or other text is given as well.

    Args:
        folder: the folder.
        text, validation: what a person named beside it.
    """
    if text or validation:
        raise InputError(
            f"there is text beside the tokens of {folder}.\n  Give one or the other: a folder of "
            "tokens has its own validation part."
        )
    _read_index(Path(folder))


def _read_index(folder: Path) -> dict[str, Any]:
    if not (folder / INDEX).is_file():
        unfinished = (folder / _PROGRESS).is_file()
        what = "its writing was interrupted" if unfinished else f"it has no {INDEX}"
        remedy = "Repeat the command" if unfinished else "Write one: `tfx-transformer tokenize`"
        raise InputError(f"{folder}: not a finished folder of tokens: {what}.\n  {remedy}.")
    return read_object(folder / INDEX)


class TokenWriter:
    """Writes a folder of tokens.

    The documents are read in their order by one process, and encoded by several. The result does
    not depend on their number, nor on interruptions: every 10 seconds the ids are flushed, and the
    place in the sources is recorded after them.

    Args:
        folder: folder to write, new or with an interrupted writing of the same settings.
        tokenizer: file of the tokenizer.
        sources: what to read.
        column, skip_bad_rows: see `read_documents`.
        validation: files to validate on; their documents are left out of the training part.
        near: leave out near-duplicates too, not only exact ones.
        processes: how many processes encode; 1: this one.

    Raises:
        InputError: the folder has other tokens, or a weight is not positive.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        tokenizer: str | os.PathLike[str],
        sources: Sequence[Source],
        *,
        column: str = "",
        skip_bad_rows: bool = False,
        validation: str = "",
        near: bool = False,
        processes: int = 1,
    ) -> None:
        for source in sources:
            if not (source.weight > 0 and math.isfinite(source.weight)):
                raise InputError(
                    f"the weight of {source.paths} is {source.weight:g}.\n  Expected more than 0."
                )
        if processes < 1:
            raise InputError(f"the number of processes is {processes}.\n  Expected 1 or more.")
        self.folder, self.sources = Path(folder), list(sources)
        self.tokenizer_file = Path(tokenizer)
        self.tokenizer = Tokenizer.load(self.tokenizer_file)
        self.dtype = "uint16" if self.tokenizer.vocabulary_size <= 65_536 else "uint32"
        self.reading = {"column": column, "skip_bad_rows": skip_bad_rows}
        self.validation, self.near, self.processes = validation, near, processes
        self.counts, self.progress = Counts(), _Progress()
        self._bad_rows: list[BadRow] = []
        self._held: set[int] = set()
        self._seen: set[int] = set()

    def write(self, say: Callable[[Counts], None] = lambda counts: None) -> dict[str, Any]:
        """Write the folder, or the rest of it, and return its index.

        Args:
            say: is called with the counts whenever the progress is recorded.
        """
        if (self.folder / INDEX).is_file():
            raise InputError(
                f"{self.folder}: there are tokens already.\n  Name another folder, or remove it."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = files.Lock(self.folder / _LOCK)
        try:
            lock.hold()
        except files.Held as held:
            raise InputError(
                f"{self.folder}: process {held.process} writes it.\n  Wait until it has ended."
            ) from held
        try:
            return self._write(say)
        finally:
            lock.release()

    def _write(self, say: Callable[[Counts], None]) -> dict[str, Any]:
        settings = self._settings()
        self._restore(settings)
        with self._encoder() as encode:
            held = self._write_validation(encode) if self.validation else None
            with (self.folder / IDS).open("ab") as ids, (self.folder / _KEYS).open("ab") as keys:
                self._write_training(encode, ids, keys, settings, say)
        self.tokenizer.save(self.folder / TOKENIZER)
        index = {
            "dtype": self.dtype,
            "sources": [source.paths for source in self.sources],
            "settings": settings,
            "training": dataclasses.asdict(self.counts),
        }
        index |= {"validation": dataclasses.asdict(held)} if held else {}
        files.write(self.folder / INDEX, json.dumps(index, indent=2) + "\n")
        for name in (_PROGRESS, _KEYS):
            (self.folder / name).unlink(missing_ok=True)
        return index

    def _write_training(self, encode, ids, keys, settings, say) -> None:
        recorded = time.monotonic()
        at = self.progress
        turns = max(math.ceil(source.weight) for source in self.sources)
        while at.turn < turns:
            for number in range(at.source, len(self.sources)):
                at.source = number
                share = self.sources[number].weight - at.turn
                if share > 0:
                    for part in self._encoded(encode, self.sources[number].paths, at.parts):
                        at.parts += 1
                        self._take(part, share, ids, keys)
                        if time.monotonic() - recorded >= _RECORD_SECONDS:
                            self._record(ids, keys, settings)
                            say(self.counts)
                            recorded = time.monotonic()
                    # A source is read from its beginning, after an interruption too.
                    self.counts.bad_rows += 0 if at.turn else len(self._bad_rows)
                at.parts = 0
            # A document that is written twice is not a duplicate of itself.
            self._seen.clear()
            at.turn, at.source, at.turn_keys = at.turn + 1, 0, at.keys
        self._record(ids, keys, settings)

    def _take(self, part: Encoded, share: float, ids, keys) -> None:
        """Write a part, or count why it is left out."""
        counts = self.counts
        if part.keys:
            if not self._held.isdisjoint(part.keys):
                counts.in_validation += not self.progress.turn
                return
            if not self._seen.isdisjoint(part.keys):
                exact = part.keys[0] in self._seen
                counts.duplicates += exact and not self.progress.turn
                counts.near_duplicates += not exact and not self.progress.turn
                return
            self._seen.update(part.keys)
            keys.write(np.array(part.keys, "<u8").tobytes())
            self.progress.keys += len(part.keys)
        if part.first:
            self.progress.thinning = part.draw >= share
        if self.progress.thinning:
            counts.thinned += part.last and not self.progress.turn
            return
        ids.write(part.ids.tobytes())
        counts.tokens += len(part.ids)
        counts.bytes += part.bytes
        counts.documents += part.last

    def _write_validation(self, encode) -> Counts:
        held = Counts()
        with files.replacing(self.folder / VALIDATION) as unfinished, unfinished.open("wb") as file:
            for part in self._encoded(encode, self.validation, 0):
                self._held.update(part.keys)
                file.write(part.ids.tobytes())
                held.tokens += len(part.ids)
                held.bytes += part.bytes
                held.documents += part.last
        return held

    def _encoded(self, encode, paths: str, skip: int) -> Iterator[Encoded]:
        """Yield the parts of files in their order, from number `skip` on, encoded."""
        self._bad_rows = []
        parts = _parts(read_documents(paths, **self.reading, bad_rows=self._bad_rows))
        for _ in range(skip):
            next(parts, None)
        waiting: collections.deque[Callable[[], list[Encoded]]] = collections.deque()
        for task in _tasks(parts):
            waiting.append(encode(task))
            # Bounded, so that reading does not run ahead of encoding: memory stays flat.
            while len(waiting) > 2 * self.processes:
                yield from waiting.popleft()()
        while waiting:
            yield from waiting.popleft()()

    @contextlib.contextmanager
    def _encoder(self) -> Iterator[Callable[[list[Part]], Callable[[], list[Encoded]]]]:
        """Yield a function that begins to encode parts, and returns one that waits for them."""
        arguments = (str(self.tokenizer_file), self.dtype, self.near)
        if self.processes == 1:
            coder = _Coder(*arguments)
            yield lambda task: lambda: coder.encode(task)
            return
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(
            self.processes, context, _start, arguments
        ) as pool:
            yield lambda task: pool.submit(_encode, task).result

    def _settings(self) -> dict[str, Any]:
        """Return what decides about the tokens; sources by name, size and time of change."""
        names = [source.paths for source in self.sources] + [self.validation] * bool(
            self.validation
        )
        return {
            "tokenizer": identity(self.tokenizer),
            "weights": [source.weight for source in self.sources],
            "files": [_state(name) for name in names],
            "near": self.near,
            "held_out": bool(self.validation),
            **self.reading,
        }

    def _record(self, ids, keys, settings: dict[str, Any]) -> None:
        for file in (ids, keys):
            file.flush()
            os.fsync(file.fileno())
        state = {
            "settings": settings,
            "counts": dataclasses.asdict(self.counts),
            "progress": dataclasses.asdict(self.progress),
        }
        files.write(self.folder / _PROGRESS, json.dumps(state))

    def _restore(self, settings: dict[str, Any]) -> None:
        """Go back to the last record: cut off what was written after it."""
        if (self.folder / _PROGRESS).is_file():
            state = read_object(self.folder / _PROGRESS)
            if state["settings"] != json.loads(json.dumps(settings)):
                raise InputError(
                    f"{self.folder}: an interrupted writing had other settings, or its files have "
                    "changed.\n  Repeat that command, or remove the folder."
                )
            self.counts = Counts(**state["counts"])
            self.progress = _Progress(**state["progress"])
        at = self.progress
        for name, size in (
            (IDS, self.counts.tokens * np.dtype(self.dtype).itemsize),
            (_KEYS, 8 * at.keys),
        ):
            with (self.folder / name).open("ab") as file:
                file.truncate(size)
        count = at.keys - at.turn_keys
        self._seen = set(
            np.fromfile(self.folder / _KEYS, "<u8", count, offset=8 * at.turn_keys).tolist()
        )


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
        self.tokenizer = Tokenizer.load(tokenizer)
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
        near = self.near and part.first and part.last
        keys = [key, *(band_keys(numbers) if near else ())]
        if part.last:
            ids.append(self.tokenizer.end_id)
        array = np.array(ids, self.dtype)
        size = int(self.byte_lengths[array].sum())
        compared = part.first and part.last
        return Encoded(array, size, keys * compared, key / 2**64, part.first, part.last)


_coder: _Coder | None = None


def _start(*arguments: Any) -> None:
    global _coder
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _coder = _Coder(*arguments)


def _end_with_parent() -> None:
    """End this process when the one that started it has ended: a killed one cannot do that."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode(task: list[Part]) -> list[Encoded]:
    assert _coder is not None
    return _coder.encode(task)


def _state(paths: str) -> list[Any]:
    """Return the names of all files of a source with their sizes and times of change."""
    found = []
    names = [paths] if os.path.exists(paths) else [part.strip() for part in paths.split(",")]
    for name in filter(None, names):
        path = Path(name)
        inner = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in inner:
            if file.exists():
                state = file.stat()
                found.append([str(file.absolute()), state.st_size, state.st_mtime_ns])
    return found
