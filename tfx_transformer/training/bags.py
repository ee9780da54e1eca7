"""The bag of tokens of a new embedder: it begins as TF-IDF on parts of words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfx_transformer.data.sentence_pair import SentencePairs
from tfx_transformer.models.encoders import Embedder
from tfx_transformer.text.scripts import UNSPACED
from tfx_transformer.text.tokenizer import Tokenizer

# Shortest and longest part of a token, in characters: with spaces between words, and without.
_SPACED = (2, 3)
_UNSPACED = (1, 2)
# Weight of a token without a letter or digit.
_SIGNS = 0.3
# Before the part that is a whole token.
_WHOLE = "\0"
_WITHOUT_SPACES = re.compile(f"[{UNSPACED}]")
# Most characters of a token that are read; parts whose vectors are drawn at once, and texts whose
# parts are counted at once.
_LONGEST = 40
_PARTS = 1 << 15
_TEXTS = 10_000


def begin_bag(model: Embedder, tokenizer: Tokenizer, train: SentencePairs, seed: int = 0) -> None:
    """Set the vectors of a model's bag of tokens, so that the cosine of two texts is, nearly, that
    of TF-IDF on parts of words; do nothing for a model without a bag.

    B_t = c w_t sum_p ln((1 + n) / (1/2 + n_p)) R_p,  p the parts of token t

    The parts of a token are its runs of 2 or 3 letters, in lower case and with a space at each end
    of the word, and the whole token; in scripts without spaces, its runs of 1 or 2 characters and
    the whole token. n is the number of texts, n_p of those with the part. The R_p are normal
    noise: a random projection keeps cosines up to about width^-0.5 (Johnson and Lindenstrauss
    1984). w is 0.3 for tokens without a letter or digit, and 1 for all others. c makes the mean
    length of a vector 1.

    Args:
        model: a new model, before its training.
        tokenizer: its tokenizer.
        train: the training pairs.
        seed: draws the R_p.
    """
    if model.bag is None:
        return
    rows = [tokenizer.encode(text) for text in train.texts()]
    table: Any = model.bag.table
    vectors = token_vectors(_texts_of(tokenizer), rows, table.output_dim, seed)
    missing = table.input_dim - len(vectors)  # a model may have room for more tokens
    table.embeddings.assign(np.pad(vectors, ((0, missing), (0, 0))))


def token_vectors(
    tokens: Sequence[str], rows: Sequence[Sequence[int]], width: int, seed: int = 0
) -> np.ndarray:
    """Return the vector of each token, float32 (tokens, width); see `begin_bag`.

    Args:
        tokens: text of each token by its id, "" for special tokens.
        rows: token ids of each text.
        width: width of the vectors.
        seed: draws the random projection.
    """
    from scipy.sparse import csr_matrix

    numbers: dict[str, int] = {}
    parts = [[numbers.setdefault(p, len(numbers)) for p in token_parts(t)] for t in tokens]
    counts = _sparse(parts, max(len(numbers), 1))
    found = np.zeros(counts.shape[1], np.int64)
    for start in range(0, len(rows), _TEXTS):
        some = [sorted(set(row)) for row in rows[start : start + _TEXTS]]
        inside: Any = _sparse(some, len(tokens)) @ counts
        found += np.bincount(inside.indices, minlength=len(found))
    rarity = np.log((1 + len(rows)) / (0.5 + found))
    of_tokens = np.where([any(map(str.isalnum, token)) for token in tokens], 1, _SIGNS)
    weighted = csr_matrix(counts.multiply(rarity).multiply(of_tokens[:, None]), dtype="float32")
    random = np.random.default_rng(seed)
    vectors = np.zeros((len(tokens), width), "float32")
    for start in range(0, counts.shape[1], _PARTS):
        block = weighted[:, start : start + _PARTS]
        vectors += block @ random.standard_normal((block.shape[1], width), "float32")
    lengths = np.linalg.norm(vectors, axis=1)
    return vectors / (lengths[lengths > 0].mean() if lengths.any() else 1)


def token_parts(token: str) -> list[str]:
    """Return the parts of a token, repeated ones too.

    Args:
        token: its text; a space at its beginning says that a word begins there.

    Returns: runs of characters, and the token in lower case behind a NUL.
    """
    text = unicodedata.normalize("NFKC", token).lower()[:_LONGEST]
    word = text.strip()
    if not word:
        return []
    whole = _WHOLE + word
    least, most = _UNSPACED
    if not _WITHOUT_SPACES.search(word):
        least, most = _SPACED
        begins = text[0] == " "
        word = " " * begins + word + " " * (begins or not word[0].isalpha())
    sizes = range(least, most + 1)
    found = [word[i : i + size] for size in sizes for i in range(len(word) - size + 1)]
    return [part for part in found if not part.isspace()] + [whole]


def _texts_of(tokenizer: Tokenizer) -> list[str]:
    """Return the text of each token by its id, "" for special tokens and parts of a character."""
    ids = range(tokenizer.vocabulary_size)
    return [tokenizer.decode_bytes([index]).decode("utf-8", "ignore") for index in ids]


def _sparse(rows: Sequence[Sequence[int]], columns: int) -> Any:
    """Return how often each number is in each row, sparse float32 (rows, columns)."""
    from scipy.sparse import csr_matrix

    starts = np.cumsum([0, *map(len, rows)])
    flat = np.fromiter((number for row in rows for number in row), np.int64, starts[-1])
    shape = (len(rows), columns)
    return csr_matrix((np.ones(len(flat), "float32"), flat, starts), shape)
