"""Texts cut into tokens by several tokenizers, to compare them: ours, tiktoken's, Hugging Face's.

For every tokenizer, a split gives the bytes of the text that each token stands for. Nothing here
opens a network connection.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import tiktoken

from tfx_transformer import json_files
from tfx_transformer.errors import InputError
from tfx_transformer.text import split_patterns
from tfx_transformer.text.tokenizer import SLICE, Tokenizer, read_text, to_lower

BYTES = "bytes"

_LOADING = threading.Lock()


class Split(NamedTuple):
    """Tokens of a text. ids: one per token; ends: the end of each in the text's UTF-8, ascending,
    the last one its length."""

    ids: Sequence[int]
    ends: Sequence[int]


class Token(NamedTuple):
    """One token of a text; data: the bytes it stands for, which may be part of a character."""

    id: int
    data: bytes

    def shown(self) -> str:
        """Readable text: a byte that is not a character by itself is \\xNN."""
        return visible(self.data.decode(errors="backslashreplace"))

    def is_part(self) -> bool:
        """Return True if the token begins or ends within a character."""
        try:
            self.data.decode()
        except UnicodeDecodeError:
            return True
        return False


@dataclasses.dataclass(frozen=True)
class Splitter:
    """A tokenizer by its name. split: text without lone surrogates -> Split, never with tokens for
    the start or the end of a text."""

    name: str
    vocabulary_size: int
    split: Callable[[str], Split]


def clean(text: str) -> str:
    """Return the text with U+FFFD for every lone surrogate, which no UTF-8 can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def visible(text: str) -> str:
    """Return the text with invisible characters spelled out, such as \\n, so that it cannot control
    a terminal; spaces stay."""
    return "".join(c if c.isprintable() or c == "\u3000" else repr(c)[1:-1] for c in text)


def tokens_of(text: str, split: Split, limit: int | None = None) -> list[Token]:
    """Return the first `limit` tokens of a text, or all; their `data` join to its UTF-8."""
    data = text.encode()
    ends = itertools.islice(split.ends, limit)
    cuts = itertools.pairwise(itertools.chain([0], ends))
    return [
        Token(index, data[start:end])
        for index, (start, end) in zip(split.ids, cuts, strict=limit is None)
    ]


def byte_splitter() -> Splitter:
    """Return the splitter with one token per byte, the most that a byte-level BPE can need."""
    return Splitter(BYTES, 256, _split_bytes)


def _split_bytes(text: str) -> Split:
    data = text.encode()
    return Split(data, range(1, len(data) + 1))


def tiktoken_splitter(name: str, encoding: tiktoken.Encoding) -> Splitter:
    """Return the splitter of a tiktoken encoding: of a `Tokenizer`, or of `offline_encoding`.

    Ids are those of `encode_ordinary`: a special token written in a text is text. Long texts are
    encoded in slices of `SLICE` characters, as by `Tokenizer.encode`.
    """

    def split(text: str) -> Split:
        ids: list[int] = []
        for start in range(0, len(text), SLICE):
            ids += split_patterns.encode(encoding, text[start : start + SLICE], known=True)
        lengths = (len(encoding.decode_single_token_bytes(index)) for index in ids)
        return Split(ids, list(itertools.accumulate(lengths)))

    return Splitter(name, encoding.n_vocab, split)


def tokenizer_splitter(name: str, tokenizer: Tokenizer) -> Splitter:
    """Return the splitter of one of our tokenizers, also that of a checkpoint.

    Raises:
        InputError: it cannot say which bytes its tokens stand for (Marian).
    """
    if not tokenizer.is_plain:
        return _hugging_face_splitter(name, tokenizer.to_json(), name)
    if tokenizer.lowercase:
        return _lower_case_splitter(name, tokenizer)
    return tiktoken_splitter(name, tokenizer.tiktoken)


def _lower_case_splitter(name: str, tokenizer: Tokenizer) -> Splitter:
    """Return the splitter of a tokenizer that reads texts in lower case.

    A character may have more or fewer bytes in lower case. Its bytes in the text are divided evenly
    among them.
    """
    lengths = tokenizer.byte_lengths()

    def split(text: str) -> Split:
        ids = tokenizer.encode(text)
        places = [0]  # in the text, of each byte in lower case and of the end
        for character in text:
            start, size = places[-1], len(character.encode())
            lower = len(to_lower(character).encode())
            places += [start + size * n // lower for n in range(1, lower + 1)]
        ends = itertools.accumulate(lengths[index] for index in ids)
        return Split(ids, [places[end] for end in ends])

    return Splitter(name, tokenizer.vocabulary_size, split)


def offline_encoding(name: str) -> tiktoken.Encoding:
    """Return a tiktoken encoding whose vocabulary is on this machine.

    tiktoken would download a vocabulary at its first use; here it finds what its cache holds
    (`TIKTOKEN_CACHE_DIR`, else a temporary folder) or a plug-in brings, and nothing else.

    Raises:
        InputError: there is no encoding of that name, or its vocabulary is not here; the message
            says how to get it.
    """
    names = tiktoken.list_encoding_names()
    if name not in names:
        raise InputError(
            f"--encoding {name}: tiktoken has no encoding of that name.\n"
            f"  It has {', '.join(names)}; {BYTES!r} counts one token a byte."
        )
    try:
        with _offline():
            return tiktoken.get_encoding(name)
    except _NotHereError as error:
        raise InputError(
            f"--encoding {name}: its vocabulary is not on this machine, and is not downloaded.\n"
            f"  Looked for {error} in {_cache_folder() or 'no folder: the cache is switched off'}."
            "\n  On a machine with a network connection run\n"
            f"  TIKTOKEN_CACHE_DIR=vocabularies python -c"
            f" \"import tiktoken; tiktoken.get_encoding('{name}')\"\n"
            "  then copy the folder here and set TIKTOKEN_CACHE_DIR to its path."
        ) from error


class _NotHereError(Exception):
    """A file that tiktoken would download."""


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Let tiktoken read files and its cache, but raise _NotHereError where it would download.

    Every vocabulary that is not in the cache comes through `tiktoken.load.read_file`.
    """
    import tiktoken.load

    read_file = tiktoken.load.read_file

    def read_local_file(path: str) -> bytes:
        if "://" in path:
            raise _NotHereError(path)
        return read_file(path)

    with _LOADING:
        tiktoken.load.read_file = read_local_file
        try:
            yield
        finally:
            tiktoken.load.read_file = read_file


def _cache_folder() -> str:
    """Return tiktoken's folder of downloads, by its own rule; "" if it keeps none."""
    default = os.path.join(tempfile.gettempdir(), "data-gym-cache")
    return os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR", default))


def hugging_face_splitter(name: str, path: str | os.PathLike) -> Splitter:
    """Return the splitter of a `tokenizer.json` of Hugging Face `tokenizers`, without its limits on
    length.

    Text that such a tokenizer drops (BERT: blanks) counts for the token after it. If several tokens
    stand for one character, its bytes are divided among them: exactly for a byte-level tokenizer,
    else evenly.

    Raises:
        InputError: the file cannot be read, or is not a tokenizer.json.
    """
    text = read_text(Path(path))
    json_files.check(text, path)
    return _hugging_face_splitter(name, text, path)


def _hugging_face_splitter(name: str, text: str, path: str | os.PathLike) -> Splitter:
    """Return the splitter of a `tokenizer.json` given as text; an error names `path`."""
    import tokenizers

    try:
        tokenizer = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # what `tokenizers` raises is a plain Exception
        raise InputError(
            f"{path}: not a tokenizer.json ({error}).\n"
            "  Expected a file that Hugging Face `tokenizers` writes, such as a bundle's."
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    byte_level = isinstance(tokenizer.decoder, tokenizers.decoders.ByteLevel)

    def split(text: str) -> Split:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        # A byte-level token is written with one character per byte.
        ends = list(itertools.accumulate(map(len, encoding.tokens))) if byte_level else []
        if ends[-1:] != [len(text.encode())]:  # not, or a blank was put before the text
            ends = _ends_by_characters(text, encoding.offsets)
        return Split(encoding.ids, ends)

    return Splitter(name, tokenizer.get_vocab_size(), split)


def _ends_by_characters(text: str, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Return the byte ends of tokens from their offsets in characters."""
    at = [0, *itertools.accumulate(len(character.encode()) for character in text)]
    ends: list[int] = []
    last = 0
    for (_, end), group in itertools.groupby(offsets):
        count = len(list(group))
        start, last = last, max(last, at[end])
        ends += [start + (last - start) * n // count for n in range(1, count + 1)]
    if ends:
        ends[-1] = at[-1]  # text that was dropped after the last token
    return ends
