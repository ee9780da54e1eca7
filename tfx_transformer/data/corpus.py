"""Unlabelled text for pre-training: files become one flat file of token ids, and that blocks.

A corpus may be larger than memory. It is read in pieces of at most `SLICE` characters, and a batch
reads only its own windows of the token file.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO, TypeAlias, cast

import numpy as np

from tfx_transformer import files
from tfx_transformer.arguments import naming
from tfx_transformer.data import encodings
from tfx_transformer.data.batches import Batches, BatchPlan, tf_dataset
from tfx_transformer.data.formats import TableFile, is_table_folder, is_table_name, table_files
from tfx_transformer.data.sources import TableData, is_table, row_error
from tfx_transformer.data.tables import BadRow, read_header, read_table, stream_table
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity
from tfx_transformer.text.tokenizer import SLICE, Tokenizer

Paths: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | TableData"

TEXT_SUFFIXES = (".txt", ".md")
_BLANKS = " \t\r\n"
# Not text: NUL, and what errors="surrogateescape" makes of bytes that are not UTF-8.
_NO_TEXT = re.compile("[\0\udc80-\udcff]")
# Rows of a CSV in memory at a time; a cell can be a whole book.
_CHUNK_ROWS = 100
# Token ids that are counted at a time.
_CHUNK_IDS = 1 << 20


class Piece(NamedTuple):
    """A stretch of a document's text; last: whether the document ends with it; path: its file."""

    text: str
    last: bool
    path: str


@dataclasses.dataclass(frozen=True)
class TokenFile:
    """A stretch of a flat binary file of token ids, documents one after the other.

    path: the file; dtype: of its ids, uint16 or uint32; tokens: number of ids in the stretch,
    document ends included; bytes: size of their text in UTF-8; documents: number of those that end
    in the stretch; files: sources of the text; start: index of the first id; bad_rows: rows of
    tables left out.
    """

    path: Path
    dtype: str
    tokens: int
    bytes: int
    documents: int
    files: tuple[str, ...]
    start: int = 0
    bad_rows: list[BadRow] = dataclasses.field(default_factory=list)

    def __repr__(self) -> str:
        files = f"{self.files[0]}" + f" and {len(self.files) - 1:,} more" * (len(self.files) > 1)
        return (
            f"TokenFile: {quantity(self.tokens, 'token')} of {files}"
            f" ({quantity(self.documents, 'document')}, {self.bytes:,} bytes)\n"
            f"  {self.path}, {self.dtype}, from token {self.start:,}"
        )

    @property
    def rows(self) -> None:
        """None: training uses stretches of ids, not rows of a file."""
        return None

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / self.tokens

    def array(self) -> np.memmap:
        """The ids, (tokens,), as a read-only memory map.

        Raises:
            InputError: the file is gone or has fewer ids.
        """
        offset = self.start * np.dtype(self.dtype).itemsize
        try:
            return np.memmap(self.path, self.dtype, "r", offset, (self.tokens,))
        except (OSError, ValueError, OverflowError) as error:
            raise InputError(
                f"{self.path}: the file of token ids is gone or was cut short.\n"
                f"  {self.tokens:,} ids from number {self.start:,} on are needed: start again."
            ) from error


def read_documents(
    paths: Paths,
    column: str = "",
    *,
    skip_bad_rows: bool = False,
    bad_rows: list[BadRow] | None = None,
) -> Iterator[Piece]:
    """Yield the documents of a corpus piece by piece, with their line ends unchanged.

    A piece has at most `SLICE` characters and ends before a run of blanks or line ends, which no
    match of the tokenizer's pattern crosses. So a document encoded piece by piece has the same ids
    as encoded whole, unless it holds a word, or a run of blanks, longer than that.

    Args:
        paths: a path, several with commas between them, or a list of paths. A folder stands for
            all .txt and .md files below it, sorted by path. In a table (see `formats`) each row is
            a document; any other file is one document, in UTF-8. Or a table in memory, each row of
            which is a document: a DataFrame, a dictionary of columns or a list of dictionaries.
        column: header of the text's column in a table.
        skip_bad_rows: leave out rows of a table that cannot be used.
        bad_rows: a list to append them to.

    Yields: Piece, at least one for each document. Errors are raised when iteration reaches them,
        those of missing files before the first piece.
    Raises: InputError naming the file and the remedy: there is no such file, no text in a folder,
        no column named for a table; a text file is empty, not UTF-8 or holds a NUL character (with
        line and byte); for a table the errors of `tables.stream_table`.
    """
    for path in _find_sources(paths, column):
        if isinstance(path, str | os.PathLike) and not _is_table(path):
            yield from _read_text(Path(path))
            continue
        columns = {"column": column}
        for table in stream_table(
            path, columns, skip_bad_rows=skip_bad_rows, chunk_rows=_CHUNK_ROWS
        ):
            if bad_rows is not None:
                bad_rows += table.bad_rows
            for cell in table.columns["column"]:
                yield from _cut(io.StringIO(cell, newline=""), str(table.path))


def check_documents(paths: Paths | None, column: str = "", *, skip_bad_rows: bool = False) -> None:
    """Read a whole corpus and raise the first error; arguments and errors as for `read_documents`.
    None, or an empty path: there is nothing to check."""
    if paths is None or (isinstance(paths, str | os.PathLike) and not os.fspath(paths)):
        return
    for _ in read_documents(paths, column, skip_bad_rows=skip_bad_rows):
        pass


def sample_texts(
    paths: Paths,
    column: str = "",
    limit_bytes: int = 50_000_000,
    *,
    skip_bad_rows: bool = False,
) -> Iterator[str]:
    """Texts to train a tokenizer on: pieces from all over the corpus, about `limit_bytes` in all.

    If its files are no larger, that is the whole corpus. Otherwise every piece is read and some are
    taken, evenly, so that each file, and so each language, has its share. At most one piece more
    than `limit_bytes` is taken. The first piece is read at once, so that a missing file or column
    is reported before the texts are used.

    Arguments and errors as for `read_documents`.
    """
    total = sum(_size(source, column) for source in _find_sources(paths, column))
    share = limit_bytes / max(limit_bytes, total, 1)
    pieces = iter(read_documents(paths, column, skip_bad_rows=skip_bad_rows))
    first = next(pieces, None)
    return _sample(itertools.chain([] if first is None else [first], pieces), share)


def _sample(pieces: Iterable[Piece], share: float) -> Iterator[str]:
    """Yield the texts of evenly spaced pieces that hold a share of the bytes."""
    seen = taken = 0
    for piece in pieces:
        size = len(piece.text.encode())
        if taken <= share * seen:
            taken += size
            yield piece.text
        seen += size


def write_tokens(
    documents: Iterable[Piece], tokenizer: Tokenizer, path: str | os.PathLike[str]
) -> TokenFile:
    """Write the ids of all documents to a flat binary file, `tokenizer.end_id` after each.

    Ids are uint16 if the vocabulary has at most 65,536 entries, else uint32, in the machine's byte
    order.
    """
    path = Path(path)
    dtype = "uint16" if tokenizer.vocabulary_size <= 65_536 else "uint32"
    byte_lengths = np.array(tokenizer.byte_lengths())
    read: dict[str, None] = {}
    tokens = size = ends = 0
    with files.replacing(path) as unfinished, unfinished.open("wb") as file:
        for piece in documents:
            end = [tokenizer.end_id] if piece.last else []
            ids = np.array(tokenizer.encode(piece.text) + end, dtype)
            file.write(ids.tobytes())
            read[piece.path] = None
            tokens += len(ids)
            size += int(byte_lengths[ids].sum())
            ends += piece.last
    return TokenFile(path, dtype, tokens, size, ends, tuple(read))


def hold_out(tokens: TokenFile, share: float, tokenizer: Tokenizer) -> tuple[TokenFile, TokenFile]:
    """Return the training and validation part: the last `share` of the ids is held out.

    Both are views of the same file. The border may be inside a document, which then counts in the
    part it ends in. At least two ids are held out, so that there is one to predict.

    Raises:
        InputError: the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise InputError(f"the share to hold out is {share}.\n  Expected more than 0, less than 1.")
    held = min(max(round(tokens.tokens * share), 2), tokens.tokens)
    kept = tokens.tokens - held
    ids = tokens.array()
    counts = np.zeros(tokenizer.vocabulary_size, "int64")
    for start in range(kept, tokens.tokens, _CHUNK_IDS):
        counts += np.bincount(ids[start : start + _CHUNK_IDS], minlength=len(counts))
    size, ends = int(counts @ np.array(tokenizer.byte_lengths())), int(counts[tokenizer.end_id])
    training = dataclasses.replace(
        tokens, tokens=kept, bytes=tokens.bytes - size, documents=tokens.documents - ends
    )
    validation = dataclasses.replace(
        tokens, tokens=held, bytes=size, documents=ends, start=tokens.start + kept
    )
    return training, validation


class BlockPlan(BatchPlan):
    """The starts of the blocks of every batch: a function of the number of tokens, seed and epoch.

    A block is `length` ids to read and, one step ahead, `length` ids to predict.

    Shuffled, for training: the blocks of an epoch follow each other from an offset below `length`,
    drawn for (seed, epoch), so that borders move from epoch to epoch. Every epoch has one block
    fewer than fit, which leaves room for the largest offset. In order, for validation: the offset
    is 0, and the last block may reach beyond the end, so that every id but the first is predicted
    exactly once.

    Raises:
        InputError: there are fewer ids than length + 1 (in order: than two), or length is below 1.
    """

    def __init__(
        self, tokens: int, length: int, batch_size: int, *, shuffle: bool = True, seed: int = 0
    ) -> None:
        if length < 1:
            raise InputError(f"the length of a block is {length}.\n  Expected 1 or more.")
        needed = length + 1 if shuffle else 2
        if tokens < needed:
            raise InputError(
                f"the text has {tokens:,} tokens: too few for blocks of length {length:,}.\n"
                f"  At least {needed:,} are needed. Give more text, or choose a smaller length."
            )
        count = max(tokens // length - 1, 1) if shuffle else -(-(tokens - 1) // length)
        super().__init__(np.full(count, length), batch_size, shuffle=shuffle, seed=seed)
        self.length = length
        self.offsets = min(length, tokens - count * length) if shuffle else 1

    def order(self, epoch: int) -> list[np.ndarray]:
        """Return the index of each block's first id, for every batch of an epoch (counted from
        0)."""
        # The length is among the seeds, so that this stream is not the one that permutes blocks.
        random = np.random.default_rng([self.seed, epoch, self.length])
        offset = random.integers(self.offsets)
        return [offset + self.length * indices for indices in super().order(epoch)]

    def name(self, example: int) -> str:
        """The name of a block: its first token, such as "token 120", counted from 0."""
        return f"token {example}"


def blocks(
    tokens: TokenFile, *, length: int, batch_size: int, shuffle: bool = True, seed: int = 0
) -> Batches:
    """Return a `tf.data.Dataset` of batches for `CausalLM.fit` and `evaluate`.

    Each batch is ({"token_ids"}, labels, sample weights): int32, int32 and float32 (batch, length).
    Labels are the ids one step ahead. Weights are 1. Ids are 0 and weigh 0 where the last batch has
    too few blocks, or the last block of a validation set (`shuffle=False`) reaches beyond the end.
    So all batches have one shape, and a step is compiled once. Every iteration over the data set is
    the next epoch; `BlockPlan` says where its blocks begin.
    """
    plan = BlockPlan(tokens.tokens, length, batch_size, shuffle=shuffle, seed=seed)
    ids = tokens.array()

    rows = min(batch_size, len(plan.lengths))

    def batch(starts, host=0, hosts=1):
        # Always the same number of rows, so that a step is compiled for one shape.
        own = len(range(host, rows, hosts))
        windows = np.zeros((own, length + 1), "int32")
        weights = np.zeros((own, length), "float32")
        for row, start in enumerate(starts[host::hosts]):
            window = ids[start : start + length + 1]
            windows[row, : len(window)] = window
            weights[row, : len(window) - 1] = 1
        return {"token_ids": windows[:, :-1]}, windows[:, 1:], weights

    return tf_dataset(plan, batch, rows=rows)


def read_corpus(
    paths: Paths,
    tokenizer: Tokenizer,
    folder: str | os.PathLike[str],
    *,
    column: str = "",
    validation: Paths | None = None,
    share: float = 0.1,
    skip_bad_rows: bool = False,
) -> tuple[TokenFile, TokenFile]:
    """Write the tokens of a corpus to `folder`, and return its training and validation part.

    Args:
        paths, column, skip_bad_rows: see `read_documents`; `TokenFile.bad_rows` lists what was
            left out.
        validation: other files to validate on; None or "": the last `share` of the ids is held out.
    """

    def written(paths: Paths, name: str) -> TokenFile:
        bad_rows: list[BadRow] = []
        documents = read_documents(paths, column, skip_bad_rows=skip_bad_rows, bad_rows=bad_rows)
        tokens = write_tokens(documents, tokenizer, Path(folder, name))
        return dataclasses.replace(tokens, bad_rows=bad_rows)

    training = written(paths, "training.bin")
    if validation is None or (isinstance(validation, str) and not validation):
        return hold_out(training, share, tokenizer)
    return training, written(validation, "validation.bin")


def sample_prefixes(
    tokens: TokenFile, tokenizer: Tokenizer, count: int = 20, length: int = 16
) -> list[str]:
    """Return texts to continue: stretches of `length` ids from evenly spaced places, each from the
    beginning of a line if one is near."""
    ids = tokens.array()
    texts = []
    for start in np.linspace(0, max(len(ids) - 4 * length, 0), count, dtype=int):
        text = tokenizer.decode(ids[start : start + 3 * length])
        _, found, line = text.partition("\n")
        text = line.lstrip() if found and line.strip() else text
        if text := tokenizer.decode(tokenizer.encode(text)[:length]).strip("\ufffd"):
            texts.append(text)
    return list(dict.fromkeys(texts))


def _is_table(path: str | os.PathLike[str]) -> bool:
    return is_table_name(path) or is_table_folder(path)


def _size(source: Path | TableData, column: str) -> int:
    """Bytes of a file, or of the texts of a table in memory."""
    if isinstance(source, str | os.PathLike):
        return os.stat(source).st_size
    table = read_table(source, {"column": column}, skip_bad_rows=True)
    return sum(len(cell.encode()) for cell in table.columns["column"])


def _find_sources(paths: Paths, column: str) -> Sequence[Path | TableData]:
    """Return all files of a corpus, or the one table in memory; raise, before any is read, if a
    file, a folder's texts or the name of a table's column is missing."""
    if is_table(paths):
        if not column:
            raise _column_error(paths)
        return [paths]
    paths = cast("str | os.PathLike[str] | Sequence[str | os.PathLike[str]]", paths)
    options = paths.options() if isinstance(paths, TableFile) else {}
    if isinstance(paths, str | os.PathLike):
        name = os.fspath(paths)
        # A name may have a comma in it.
        paths = [name] if os.path.exists(name) else [part.strip() for part in name.split(",")]
    files: list[Path] = []
    for path in (Path(path) for path in paths if os.fspath(path)):
        if os.path.isdir(path) and not is_table_folder(path):
            files += _find_texts(path)
        elif not os.path.exists(path):
            raise InputError(
                f"{path}: there is no such file or folder.\n"
                "  Check the path. Several paths are separated by commas."
            )
        elif _is_table(path) and not column:
            raise _column_error(path)
        else:
            (file,) = table_files(path, **options)
            files.append(cast("Path", file))
    if not files:
        raise InputError("no text is named.\n  Name a text file, a folder of them, or a table.")
    return files


def _find_texts(folder: Path) -> list[Path]:
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in TEXT_SUFFIXES and path.is_file()
    ]
    if not found:
        raise InputError(
            f"{folder}: there is no {' or '.join(TEXT_SUFFIXES)} file in or below this folder.\n"
            "  Other files can be named one by one."
        )
    return sorted(found)


def _column_error(data: TableData) -> InputError:
    header = read_header(data)
    name = data if isinstance(data, str | os.PathLike) else "the table in memory"
    return InputError(
        f"{name}: which column holds the text?\n"
        f"  The columns there are: {', '.join(map(repr, header))}.\n"
        f"  Name one: {naming('column')}."
    )


def _read_text(path: Path) -> Iterator[Piece]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, piece in enumerate(_cut(file, str(path))):
                if "\0" in piece.text:
                    raise _text_error(path)
                if not piece.text and not number:
                    raise InputError(f"{path}: the file is empty.\n  Leave it out.")
                yield piece
    except UnicodeDecodeError as error:
        raise _text_error(path) from error
    except OSError as error:
        raise InputError(
            f"{path}: the file cannot be read: {error.strerror}.\n  Check the path."
        ) from error


def _cut(file: TextIO, path: str) -> Iterator[Piece]:
    """A document in pieces of at most `SLICE` characters; the last one may be empty."""
    text = ""
    while len(text := text + file.read(SLICE - len(text))) == SLICE:
        run_end = 1 + max(text.rfind(blank) for blank in _BLANKS)
        run_start = len(text[:run_end].rstrip(_BLANKS))
        cut = run_start or SLICE  # no blank: cut between any two characters
        yield Piece(text[:cut], False, path)
        text = text[cut:]
    yield Piece(text, True, path)


def _text_error(path: Path) -> InputError:
    """Return the error that names the first byte that is not text, from 0, and its line, from 1."""
    line, offset = 1, 0
    with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        while text := file.read(SLICE):
            bad = _NO_TEXT.search(text)
            text = text[: bad.start()] if bad else text
            line += text.count("\n")
            offset += len(text.encode(errors="surrogateescape"))
            if bad:
                break
    byte = ord(bad[0]) & 0xFF
    what = f"not UTF-8 text, from byte {offset} of the file on (0x{byte:02x})"
    if not byte:
        what = f"a NUL character, byte {offset} of the file"
    advice = f"{encodings.advise(path, offset)}\nIf the file is not text, leave it out."
    return row_error(f"{path}, line {line}", f"{what}.", advice)
