"""The tokenizer as plain TensorFlow ops, so that a SavedModel takes strings and returns strings."""

from __future__ import annotations

import functools
import re
import sys

import numpy as np
import tensorflow as tf
import tiktoken

from tfx_transformer.errors import InputError
from tfx_transformer.text.tokenizer import SLICE, Tokenizer

# Follows every piece. UTF-8 does not have this byte, so splitting at it cuts nothing else.
_SEPARATOR = b"\xff"
# The only character whose lower case is two characters; one that has as many bytes as these two.
_DOTTED, _THREE_BYTES = "İ", "\ufffd"


class GraphTokenizer(tf.Module):
    """Byte-level BPE on a batch of strings, in core TensorFlow ops only.

    Texts are cut into pieces, equal pieces of the whole batch are encoded once, and one loop merges
    all of them: each turn joins, in every piece, the neighbours that make the token of the lowest
    id. The ids are those of `tiktoken`. The number of turns is the largest number of different
    merges in a piece.

    It works eagerly and in `tf.function`. It can be saved by itself, or as an attribute of a
    `tf.Module` or Keras model; a `keras.export.ExportArchive` must `track` it.

    Args:
        tokenizer: has the tokens, special tokens and split pattern.

    Raises:
        InputError: it is not a byte-level BPE; TensorFlow does not support the split pattern, or
            reads it in another way; or the ids do not follow the merges.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        _check_plain(tokenizer)
        ranks, size = tokenizer.ranks, tokenizer.vocabulary_size
        self._size = size  # as an id: no token
        self._pattern = _re2_pattern(tokenizer.pattern)
        # `tf.strings.lower` ends a text at a NUL, and writes another sigma at the end of a word.
        self._lower = _table(_lower_codes(), tf.int64, default=-1) if tokenizer.lowercase else None
        self._merged = _table(_pair_ids(tokenizer), tf.int64, default=size)
        self._whole = _table(ranks, tf.string, default=size)
        self._byte_ids = tf.constant([ranks[bytes([byte])] for byte in range(256)], tf.int64)
        tokens = {index: token for token, index in ranks.items()}
        self._tokens = tf.constant([tokens.get(index, b"") for index in range(size)])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def encode(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Return the ids of texts, without start or end: `Tokenizer.encode` of each.

        Args:
            texts: string (batch,), UTF-8. Invalid bytes are read as U+FFFD, as many of them as
                `bytes.decode(errors="replace")` makes.

        Returns: int32 (batch, None).
        """
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
        lengths = tf.strings.length(texts, unit="UTF8_CHAR")
        starts = tf.ragged.range((lengths + SLICE - 1) // SLICE) * SLICE
        slices = tf.strings.substr(
            tf.gather(texts, starts.value_rowids()),
            starts.flat_values,
            tf.fill(tf.shape(starts.flat_values), SLICE),
            unit="UTF8_CHAR",
        )
        if self._lower is not None:
            slices = self._to_lower(slices)
        marked = tf.strings.regex_replace(slices, self._pattern, rb"\0" + _SEPARATOR)
        pieces = tf.strings.split(marked, _SEPARATOR)

        unique, index = tf.unique(pieces.flat_values)
        ids = tf.gather(self._encode_pieces(unique), index)
        # (texts, slices, pieces, ids) with the two dimensions in between dissolved
        return starts.with_values(pieces.with_values(tf.cast(ids, tf.int32))).merge_dims(1, 3)

    def decode(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Return the texts of ids: `Tokenizer.decode` of each row.

        Args:
            token_ids: int (batch, length). Special ids (padding, start, end, …) are left out.

        Returns: string (batch,), UTF-8. Invalid bytes become U+FFFD, as many of them as
            `bytes.decode(errors="replace")` makes.

        Raises:
            tf.errors.InvalidArgumentError: an id is negative or outside the vocabulary.
        """
        texts = tf.strings.reduce_join(tf.gather(self._tokens, token_ids), axis=-1)
        return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")

    def begins(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Return the place of the first byte of each character in what the tokens of a text spell.

        Args:
            texts: see `encode`.

        Returns: int64 (batch, None).
        """
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
        if self._lower is not None:
            texts = self._to_lower(texts, dotted=_THREE_BYTES)
        return tf.strings.unicode_decode_with_offsets(texts, "UTF-8")[1]

    def _to_lower(self, texts: tf.Tensor, dotted: str = _DOTTED.lower()) -> tf.Tensor:
        """Return `to_lower` of each text, with `dotted` for each İ."""
        texts = tf.strings.regex_replace(texts, _DOTTED, dotted)
        codes = tf.strings.unicode_decode(texts, "UTF-8")
        flat = codes.flat_values
        found = tf.cast(self._lower.lookup(tf.cast(flat, tf.int64)), tf.int32)
        lower = codes.with_values(tf.where(found < 0, flat, found))
        return tf.strings.unicode_encode(lower, "UTF-8")

    def _encode_pieces(self, pieces: tf.Tensor) -> tf.RaggedTensor:
        """string (pieces,) -> int64 (pieces, None)."""
        # A piece that is a token needs no merge: it enters the loop as one byte with that id.
        whole = self._whole.lookup(pieces)
        unknown = whole == self._size
        spelled = tf.where(unknown, pieces, "?")
        spelling = tf.io.decode_raw(tf.strings.reduce_join(spelled), tf.uint8)
        # The piece of each byte. tf.repeat would build a mask of (pieces, longest piece) for it.
        ends = tf.cumsum(tf.strings.length(spelled))
        rows = tf.searchsorted(ends, tf.range(tf.size(spelling)), side="right")
        ids = tf.where(
            tf.gather(unknown, rows),
            tf.gather(self._byte_ids, tf.cast(spelling, tf.int32)),
            tf.gather(whole, rows),
        )
        ids, rows, _ = tf.while_loop(
            lambda ids, rows, merged: tf.reduce_any(merged < self._size),
            self._merge,
            (ids, rows, self._pairs(ids, rows)),
            shape_invariants=(tf.TensorShape([None]),) * 3,
        )
        return tf.RaggedTensor.from_value_rowids(  # pyright: ignore[reportAttributeAccessIssue]
            ids, tf.cast(rows, tf.int64), nrows=tf.size(pieces, out_type=tf.int64)
        )

    def _pairs(self, ids: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Return the token that ids i and i + 1 make together, int64 (n,); `_size` if none."""
        keys = tf.where(rows[:-1] == rows[1:], ids[:-1] * self._size + ids[1:], -1)
        last = tf.constant([self._size], tf.int64)
        return tf.concat([self._merged.lookup(keys), last], axis=0)[: tf.size(ids)]

    def _merge(
        self, ids: tf.Tensor, rows: tf.Tensor, merged: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Join, in every row, the pairs whose token has the lowest id, from the left."""
        positions = tf.range(tf.size(ids))
        lowest = tf.math.segment_min(merged, rows)
        joins = (merged == tf.gather(lowest, rows)) & (merged < self._size)
        # In a run of overlapping pairs (a a a a) every other pair joins: those an odd number of
        # places after the last position that is not such a pair.
        breaks = tf.concat([[-1], tf.boolean_mask(positions, ~joins)], axis=0)
        before = tf.gather(breaks, tf.cumsum(tf.cast(~joins, tf.int32)))
        joins &= (positions - before) % 2 == 1

        ids = tf.where(joins, merged, ids)
        stays = tf.concat([[True], ~joins[:-1]], axis=0)
        ids, rows = tf.boolean_mask(ids, stays), tf.boolean_mask(rows, stays)
        return ids, rows, self._pairs(ids, rows)


def _check_plain(tokenizer: Tokenizer) -> None:
    """Raise if a tokenizer does more than split and merge, which is all that the graph does."""
    if not tokenizer.is_plain:
        raise InputError(
            "the tokenizer of this checkpoint does not work inside a SavedModel: there, texts are\n"
            "  only split by a pattern and merged in the order of ids. Export to LiteRT instead."
        )


def _pair_ids(tokenizer: Tokenizer) -> dict[int, int]:
    """Return {pair of ids, packed into one number: the id that they merge into}.

    Every token has one pair, although its bytes could also be cut elsewhere into two tokens:
    `merges` makes sure that each token is reached from its bytes by merges of lower ids. Wherever
    a text has the bytes of a token with no merge across their ends, they go through these same
    merges, so no other pair can make the token. For the same reason a merge never makes a pair of
    a lower id possible, and all merges of one id can be done at once.
    """
    ranks, size = tokenizer.ranks, tokenizer.vocabulary_size
    try:
        merges = tokenizer.merges()
    except ValueError as error:
        raise InputError(f"Tokenizer: {error}.\n  Its ids must follow its merges.") from error
    pairs = {ranks[left] * size + ranks[right]: ranks[left + right] for left, right in merges}
    return pairs or {-1: size}  # a table of 256 bytes and no merge may not be empty


def _lower_codes() -> dict[int, int]:
    """Return character code -> that of its lower case, where this is one other character."""
    characters = map(chr, range(sys.maxunicode + 1))
    return {ord(c): ord(c.lower()) for c in characters if c.lower() != c and c != _DOTTED}


def _table(entries: dict, key_dtype: tf.DType, default: int) -> tf.lookup.StaticHashTable:
    keys = tf.constant(list(entries), key_dtype)
    values = tf.constant(list(entries.values()), tf.int64)
    return tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(keys, values), default_value=default
    )


def _re2_pattern(pattern: str) -> str:
    """Return the pattern with each `\\p{…}` written out as the characters it matches in tiktoken.

    The two regular expression engines have tables of different Unicode versions: TensorFlow does
    not know thousands of letters of Unicode 16, and would split elsewhere.
    """
    escapes = set(re.findall(r"\\(.)", pattern, re.DOTALL))
    strange = {f"\\{escape}" for escape in escapes if escape.isalnum() and escape not in "pnrt"}
    try:
        if strange:
            raise ValueError(f"{', '.join(sorted(strange))} would match other characters")
        explicit = re.sub(r"\\[^p]|\\p\{\w+\}|\[(?:\\.|[^\]\\])*\]", _write_out, pattern)
        tf.strings.regex_replace([""], explicit, "")
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        raise InputError(
            f"Tokenizer: its split pattern does not work inside a SavedModel: {error}.\n"
            "  Look-ahead and \\s \\w \\d are not possible there. Export to LiteRT instead, or\n"
            "  train a tokenizer with Tokenizer.train, whose pattern uses none of them."
        ) from error
    return explicit


def _write_out(match: re.Match) -> str:
    """Return the replacement for `re.sub`: ranges for a class in a bracket, and a bracket of ranges
    for a class by itself."""
    found = match[0]
    if found.startswith("["):
        return re.sub(r"\\p\{\w+\}", lambda inner: _ranges(inner[0]), found)
    return f"[{_ranges(found)}]" if found.startswith(r"\p") else found


@functools.cache
def _ranges(unicode_class: str) -> str:
    """Return the characters that tiktoken matches by a class such as `\\p{L}`, as ranges of a
    bracket expression."""
    every = np.r_[0:0xD800, 0xE000:0x110000].astype("<u4").tobytes().decode("utf-32-le")
    ranks = {bytes([byte]): byte for byte in range(256)}
    # tiktoken drops characters that its pattern does not match. Pieces of several characters are
    # faster; the ids are bytes, as nothing is merged.
    only = tiktoken.Encoding(
        "characters", pat_str=f"{unicode_class}{{1,8}}", mergeable_ranks=ranks, special_tokens={}
    )
    found = bytes(only.encode_ordinary(every)).decode()
    codes = np.frombuffer(found.encode("utf-32-le"), "<u4").astype(np.int64)
    ranges = np.split(codes, np.flatnonzero(np.diff(codes) != 1) + 1)
    return "".join(rf"\x{{{run[0]:x}}}-\x{{{run[-1]:x}}}" for run in ranges if len(run))
