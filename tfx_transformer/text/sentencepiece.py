"""SentencePiece model files: their pieces, and how they normalize a text (Kudo & Richardson 2018).

The fields are those of `sentencepiece_model.proto`; others are skipped. They are read here, because
the package `sentencepiece` does not give the kind of the model and its map of characters, and its
protocol buffers cannot be loaded together with those of `transformers`, which have the same name.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tfx_transformer.errors import InputError

# Kinds of pieces.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE = 1, 2

# XLM-V, the largest of real models, has 901,629 pieces in 18 MB. Pieces have up to 16 characters,
# pieces that a user defines some more.
MAX_BYTES = 32 * 1024 * 1024
_MAX_FIELDS = 1 << 20
_MAX_PIECE = 256


class Piece(NamedTuple):
    """One piece of the vocabulary; its id is its place."""

    text: str
    score: float
    kind: int


class Model(NamedTuple):
    """The content of a file. kind: `UNIGRAM` or `BPE`. charsmap: how characters are replaced, as
    `tokenizers` has it in "precompiled_charsmap"; may be empty."""

    pieces: list[Piece]
    kind: int
    byte_fallback: bool
    unknown_id: int
    charsmap: bytes
    dummy_prefix: bool


def read_model(data: bytes) -> Model:
    """Reads a serialized `ModelProto`.

    Raises:
        ValueError: the data are not a valid model.
    """
    pieces, trainer, normalization = [], {}, {}
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
            normalization = dict(_fields(_bytes(value)))
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
        charsmap=_bytes(normalization.get(2, b"")),
        dummy_prefix=bool(normalization.get(3, 1)),
    )


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a field is a number instead of bytes")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protocol buffer: the value of a varint is a number,
    else it is bytes."""
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
    """Return a number of seven bits a byte, and the place after it."""
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


def normalizer(data: bytes) -> Callable[[str], str]:
    """Return the function by which SentencePiece normalizes a text before it cuts it: characters
    replaced as the model says, extra spaces left out, `▁` for a space.

    Args:
        data: a serialized `ModelProto`.

    Raises:
        ValueError: SentencePiece refuses it.
        InputError: the package is not installed.
    """
    try:
        import sentencepiece
    except ImportError as error:
        raise InputError(
            "this tokenizer needs SentencePiece.\n  pip install sentencepiece"
        ) from error
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=data).normalize
    except RuntimeError as error:
        raise ValueError(f"SentencePiece refuses it: {error}") from error
