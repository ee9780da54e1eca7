"""SentencePiece model files: their pieces, and how they normalize a text (Kudo & Richardson 2018).

The fields are those of `sentencepiece_model.proto`; what is not needed here is skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

# Kinds of pieces.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE = 1, 2

SPACE = "▁"

# XLM-V, the largest of real models, has 901,629 pieces in 18 MB; pieces have 16 characters, those a
# user defines some more.
MAX_BYTES = 32 * 1024 * 1024
_MAX_FIELDS = 1 << 20
_MAX_PIECE = 256


class Piece(NamedTuple):
    """One piece of the vocabulary; its id is its place."""

    text: str
    score: float
    kind: int


class Model(NamedTuple):
    """What a file says. kind: `UNIGRAM` or `BPE`. charsmap: how characters are replaced, see
    `Normalizer`; may be empty."""

    pieces: list[Piece]
    kind: int
    byte_fallback: bool
    unknown_id: int
    charsmap: bytes
    dummy_prefix: bool
    no_extra_spaces: bool


def read_model(data: bytes) -> Model:
    """Reads a serialized `ModelProto`.

    Raises:
        ValueError: it is none.
    """
    pieces, trainer, normalizer = [], {}, {}
    for field, value in _fields(data):
        if field == 1:
            piece = dict(_fields(_bytes(value)))
            score = struct.unpack("<f", _bytes(piece.get(2, bytes(4))))[0]
            text = _bytes(piece.get(1, b"")).decode("utf-8")
            if len(text) > _MAX_PIECE:
                raise ValueError(f"a piece has more than {_MAX_PIECE} characters")
            pieces.append(Piece(text, score, piece.get(3, NORMAL)))
        elif field == 2:
            trainer = dict(_fields(_bytes(value)))
        elif field == 3:
            normalizer = dict(_fields(_bytes(value)))
    if not pieces:
        raise ValueError("there are no pieces")
    unknown = [i for i, piece in enumerate(pieces) if piece.kind == UNKNOWN]
    if len(unknown) != 1:
        raise ValueError("there is not exactly one unknown piece")
    return Model(
        pieces=pieces,
        kind=trainer.get(3, UNIGRAM),
        byte_fallback=bool(trainer.get(35, 0)),
        unknown_id=unknown[0],
        charsmap=_bytes(normalizer.get(2, b"")),
        dummy_prefix=bool(normalizer.get(3, 1)),
        no_extra_spaces=bool(normalizer.get(4, 1)),
    )


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a field is a number instead of bytes")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of the fields of a message, as protocol buffers are encoded: a number for
    a varint, else the bytes."""
    at = count = 0
    while at < len(data):
        count += 1
        if count > _MAX_FIELDS:
            raise ValueError(f"there are more than {_MAX_FIELDS:,} fields")
        key, at = _varint(data, at)
        field, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield field, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field has the unknown wire type {kind}")
        if at + size > len(data):
            raise ValueError("a field goes beyond the end")
        yield field, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number does not end")


class Normalizer:
    """Texts as SentencePiece cuts them: characters replaced, spaces as `▁`.

    The longest stretch that `charsmap` knows is replaced at each place. `charsmap` is a double
    array trie of UTF-8 (Darts: a unit holds offset, label and whether a value follows) behind its
    size in bytes, then the replacements, each ended by NUL; a value is where one begins.

    Raises:
        ValueError: `charsmap` is cut off.
    """

    def __init__(self, model: Model) -> None:
        data = model.charsmap
        size = int.from_bytes(data[:4], "little") if data else 0
        if size % 4 or 4 + size > len(data) + 4 * (not data):
            raise ValueError("the map of characters is cut off")
        self._units = struct.unpack(f"<{size // 4}I", data[4 : 4 + size])
        self._replacements = data[4 + size :]
        self._dummy_prefix = model.dummy_prefix
        self._no_extra_spaces = model.no_extra_spaces
        self._plain: set[str] = set()  # characters that begin nothing that is replaced

    def __call__(self, text: str) -> str:
        """The text with characters replaced, extra spaces left out and `▁` before it and for every
        space, as far as the model wants these."""
        parts, after_space = [], self._no_extra_spaces
        for part in self._replaced(text):
            if after_space:
                part = part.lstrip(" ")
            if part:
                parts.append(part)
                after_space = self._no_extra_spaces and part.endswith(" ")
        normalized = "".join(parts).replace(" ", SPACE)
        if self._no_extra_spaces:
            normalized = normalized.rstrip(SPACE)
        # What is empty but for spaces has no prefix, and what is taken from the end may be it.
        return f"{SPACE}{normalized}" if normalized and self._dummy_prefix else normalized

    def _replaced(self, text: str) -> Iterator[str]:
        at = 0
        while at < len(text):
            character = text[at]
            if character in self._plain:
                yield character
                at += 1
                continue
            length, replacement = self._longest(text, at)
            yield replacement if length else character
            at += length or 1

    def _longest(self, text: str, at: int) -> tuple[int, str]:
        """The longest stretch from a place on that is replaced, in characters, and by what."""
        units = self._units
        if not units:
            return 0, ""
        found, value, node = 0, 0, _offset(units[0])
        for length, character in enumerate(text[at : at + 64], start=1):
            for byte in character.encode():
                place = node ^ byte
                if place >= len(units) or units[place] & 0x800000FF != byte:
                    if length == 1:
                        self._plain.add(character)
                    return found, self._replacement(value) if found else ""
                unit = units[place]
                node = place ^ _offset(unit)
            if unit >> 8 & 1 and node < len(units):
                found, value = length, units[node] & 0x7FFFFFFF
        return found, self._replacement(value) if found else ""

    def _replacement(self, start: int) -> str:
        return self._replacements[start : self._replacements.index(0, start)].decode("utf-8")


def _offset(unit: int) -> int:
    return unit >> 10 << ((unit & 0x200) >> 6)
