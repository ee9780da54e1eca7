"""Writes a folder of tokens, by several processes; an interrupted writing goes on.

The ids of a document are those of `corpus.write_tokens`; `token_folder` reads the folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tfx_transformer import files
from tfx_transformer.data import remote
from tfx_transformer.data.key_set import KeySet
from tfx_transformer.data.tables import BadRow
from tfx_transformer.data.token_encoding import (
    Encoded,
    Encoder,
    encode_pieces,
    encoder,
    load_tokenizer,
)
from tfx_transformer.data.token_folder import (
    INDEX,
    PROGRESS,
    TOKENIZER,
    TRAINING,
    VALIDATION,
    identity,
)
from tfx_transformer.errors import InputError
from tfx_transformer.json_files import read_object

_KEYS, _LOCK = ".keys.bin", ".lock"
# Sets of the hashes of written documents and of validation documents; keys that are read at once.
_SEEN, _HELD_OUT, _CHUNK_KEYS = ".seen.sqlite", ".held_out.sqlite", 1 << 16
# Seconds between two records of the progress.
_RECORD_SECONDS = 10.0


class Source(NamedTuple):
    """Files of a mixture; weight: how often each document is written, 0.5 for every second one."""

    paths: str
    weight: float = 1.0


@dataclasses.dataclass
class Counts:
    """Counts of what is written and of what is left out.

    Attributes:
        tokens: ids written, ends of documents included.
        bytes: size of their text in UTF-8.
        documents: documents written.
        duplicates, near_duplicates: documents left out since an earlier one is equal, or nearly.
        in_validation: documents left out since they are in the validation text.
        thinned: documents left out by the weight of their source.
        bad_rows: rows of tables that cannot be used.
    """

    tokens: int = 0
    bytes: int = 0
    documents: int = 0
    duplicates: int = 0
    near_duplicates: int = 0
    in_validation: int = 0
    thinned: int = 0
    bad_rows: int = 0

    def add(self, part: Encoded) -> None:
        """Count a part that is written."""
        self.tokens += len(part.ids)
        self.bytes += part.bytes
        self.documents += part.last


@dataclasses.dataclass
class _Progress:
    """The place of an unfinished writing.

    Attributes:
        turn: pass over the sources, from 0.
        source: number of the source, from 0.
        parts: parts of the source that are done.
        keys: hashes in the file of keys.
        turn_keys: those of earlier turns.
        thinning: True within a long document that is left out by weight.
    """

    turn: int = 0
    source: int = 0
    parts: int = 0
    keys: int = 0
    turn_keys: int = 0
    thinning: bool = False


class TokenWriter:
    """Writes a folder of tokens.

    One process reads the documents in their order, and several encode them. The result depends
    neither on their number nor on interruptions: every 10 seconds the ids are flushed to disk, and
    then the place in the sources is recorded.

    Args:
        folder: folder to write, new or with an interrupted writing of the same settings.
        tokenizer: a bundle, the folder of a checkpoint, or a tokenizer.json.
        sources: what to read.
        column, skip_bad_rows: see `corpus.read_documents`.
        validation: files to validate on; their documents are left out of the training part.
        near: leave out near-duplicates too, not only exact ones.
        processes: number of processes that encode; 1: this one.

    Raises:
        InputError: a weight is not positive, or the tokenizer cannot be read.
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
        self.tokenizer_path = Path(tokenizer)
        self.tokenizer = load_tokenizer(tokenizer)
        self.dtype = "uint16" if self.tokenizer.vocabulary_size <= 65_536 else "uint32"
        self.reading = {"column": column, "skip_bad_rows": skip_bad_rows}
        self.validation, self.near, self.processes = validation, near, processes
        self.counts, self.progress = Counts(), _Progress()
        self._bad_rows: list[BadRow] = []

    def write(self, say: Callable[[Counts], None] = lambda counts: None) -> dict[str, Any]:
        """Write the folder, or the rest of it, and return its index.

        Args:
            say: is called with the counts whenever the progress is recorded.

        Raises:
            InputError: the folder has tokens or files of something else, an interrupted writing
                had other settings, or another process writes there; or as in `remote.read_all`.
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
                f"{self.folder}: another command, process {held.process}, is writing it now.\n"
                "  Wait for its end, or choose another folder."
            ) from held
        try:
            return self._write(say)
        finally:
            lock.release()

    def _write(self, say: Callable[[Counts], None]) -> dict[str, Any]:
        settings = self._settings()
        self._restore(settings)
        with (
            contextlib.closing(KeySet(self.folder / _SEEN)) as self._seen,
            contextlib.closing(KeySet(self.folder / _HELD_OUT)) as self._held_out,
            encoder(self.tokenizer_path, self.dtype, self.near, self.processes) as encode,
        ):
            self._restore_keys()
            held_out = self._write_validation(encode) if self.validation else None
            training, hashes = self.folder / TRAINING, self.folder / _KEYS
            with training.open("ab") as ids, hashes.open("ab") as keys:
                self._write_training(encode, ids, keys, settings, say)
        self.tokenizer.save(self.folder / TOKENIZER)
        index = {
            "dtype": self.dtype,
            "sources": [source.paths for source in self.sources],
            "settings": settings,
            "training": dataclasses.asdict(self.counts),
        }
        index |= {"validation": dataclasses.asdict(held_out)} if held_out else {}
        files.write(self.folder / INDEX, json.dumps(index, indent=2) + "\n")
        for name in (PROGRESS, _KEYS):
            (self.folder / name).unlink(missing_ok=True)
        return index

    def _write_training(
        self,
        encode: Encoder,
        ids: BinaryIO,
        keys: BinaryIO,
        settings: dict[str, Any],
        say: Callable[[Counts], None],
    ) -> None:
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

    def _take(self, part: Encoded, share: float, ids: BinaryIO, keys: BinaryIO) -> None:
        """Write a part, or count why it is left out: once, in the first turn."""
        counts, first_turn = self.counts, not self.progress.turn
        if not self._held_out.isdisjoint(part.keys):
            counts.in_validation += first_turn
            return
        if part.first:
            self.progress.thinning = part.draw >= share
        # A document that is never written has no duplicates. In a later turn it was written before.
        if self.progress.thinning and first_turn:
            counts.thinned += part.last
            return
        if not self._seen.isdisjoint(part.keys):
            exact = part.keys[0] in self._seen
            counts.duplicates += exact and first_turn
            counts.near_duplicates += not exact and first_turn
            return
        self._seen.update(part.keys)
        keys.write(np.array(part.keys, "<u8").tobytes())
        self.progress.keys += len(part.keys)
        if not self.progress.thinning:
            ids.write(part.ids.tobytes())
            counts.add(part)

    def _write_validation(self, encode: Encoder) -> Counts:
        counts = Counts()
        with files.replacing(self.folder / VALIDATION) as unfinished, unfinished.open("wb") as file:
            for part in self._encoded(encode, self.validation, 0):
                self._held_out.update(part.keys)
                file.write(part.ids.tobytes())
                counts.add(part)
        counts.bad_rows = len(self._bad_rows)
        return counts

    def _encoded(self, encode: Encoder, paths: str, skip: int) -> Iterator[Encoded]:
        """Yield the parts of files in their order, from number `skip` on, encoded."""
        self._bad_rows = []
        pieces = remote.read_all(paths, **self.reading, bad_rows=self._bad_rows)
        return encode_pieces(pieces, encode, skip=skip, ahead=2 * self.processes)

    def _settings(self) -> dict[str, Any]:
        """Return the settings that the ids depend on; for each file its name, size and time of
        change."""
        names = [source.paths for source in self.sources]
        names += [self.validation] if self.validation else []
        return {
            "tokenizer": identity(self.tokenizer),
            "weights": [source.weight for source in self.sources],
            "files": [_state(name, self.folder) for name in names],
            "near": self.near,
            "held_out": bool(self.validation),
            **self.reading,
        }

    def _record(self, ids: BinaryIO, keys: BinaryIO, settings: dict[str, Any]) -> None:
        for file in (ids, keys):
            file.flush()
            os.fsync(file.fileno())
        self._save_progress(settings)

    def _save_progress(self, settings: dict[str, Any]) -> None:
        state = {
            "settings": settings,
            "counts": dataclasses.asdict(self.counts),
            "progress": dataclasses.asdict(self.progress),
        }
        files.write(self.folder / PROGRESS, json.dumps(state))

    def _restore(self, settings: dict[str, Any]) -> None:
        """Go back to the last record: cut off what was written after it.

        Raises:
            InputError: the record is of other settings or damaged, a file is shorter than it was,
                or the folder has files of something else.
        """
        if (self.folder / PROGRESS).is_file():
            self._read_record(settings)
        else:
            self._check_new()
        self._save_progress(settings)  # from now on the folder is known as an unfinished one
        at = self.progress
        for name, size in (
            (TRAINING, self.counts.tokens * np.dtype(self.dtype).itemsize),
            (_KEYS, 8 * at.keys),
        ):
            with (self.folder / name).open("ab") as file:
                if file.tell() < size:
                    raise InputError(
                        f"{self.folder / name}: the file was cut short after an interruption.\n"
                        "  Remove the folder, and repeat the command."
                    )
                file.truncate(size)

    def _restore_keys(self) -> None:
        """Add the hashes of this turn to the set of those seen."""
        at = self.progress
        for start in range(at.turn_keys, at.keys, _CHUNK_KEYS):
            count = min(_CHUNK_KEYS, at.keys - start)
            self._seen.update(
                np.fromfile(self.folder / _KEYS, "<u8", count, offset=8 * start).tolist()
            )

    def _read_record(self, settings: dict[str, Any]) -> None:
        record = read_object(self.folder / PROGRESS)
        try:
            same = record["settings"] == json.loads(json.dumps(settings))
            counts, progress = Counts(**record["counts"]), _Progress(**record["progress"])
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{self.folder / PROGRESS}: not the record of an interrupted writing.\n"
                "  Remove the folder, and repeat the command."
            ) from error
        if same:
            self.counts, self.progress = counts, progress
        elif progress != _Progress():  # else nothing was written, and other settings may begin
            raise InputError(
                f"{self.folder}: an interrupted writing had other settings, or its files have "
                "changed.\n  Repeat that command, or remove the folder."
            )

    def _check_new(self) -> None:
        """Raise if the folder is another one, such as a run or a bundle: nothing is overwritten."""
        for name in (TRAINING, VALIDATION, TOKENIZER):
            if (self.folder / name).exists():
                raise InputError(
                    f"{self.folder}: it has a file {name} already, which is not of an interrupted "
                    "writing.\n  Choose another folder."
                )


def _state(paths: str, left_out: Path) -> list[Any]:
    """Return the names of all files of a source with their sizes and times of change, or with what
    `remote.state` returns. Files below the folder `left_out`, which is being written, are not among
    them."""
    found = []
    left_out = left_out.resolve()
    for name in remote.names_of(paths):
        if remote.is_address(name):
            found += remote.state(name)
            continue
        path = Path(name)
        inner = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in inner:
            if file.exists() and left_out not in file.resolve().parents:
                state = file.stat()
                found.append([str(file.absolute()), state.st_size, state.st_mtime_ns])
    return found
