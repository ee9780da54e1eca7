"""Vectors of documents and words, their distances, and their places on a map.

NumPy; scikit-learn's vectorizers count the words of texts. Distances are computed in float64.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity, short_list
from tfx_transformer.text.tokenizer import Tokenizer

# Kanji, kana and their marks: scripts that Japanese and Chinese write without spaces.
_UNSPACED = r"\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_RUNS = re.compile(rf"[{_UNSPACED}]+|[^\W{_UNSPACED}]+")
_BEGINS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_LONGEST_GRAM = 3


# Angle and distance


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a_i · b_j for every row of a (n, d) and of b (m, d): float64 (n, m)."""
    return _float(a) @ _float(b).T


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a_i · b_j / (|a_i| |b_j|), from -1 to 1: float64 (n, m). A zero vector has no direction; its
    cosine with every vector is 0."""
    return np.clip(unit(a) @ unit(b).T, -1, 1)


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """arccos(cosine) in degrees, from 0 to 180: float64 (n, m)."""
    return np.degrees(np.arccos(cosine(a, b)))


def euclidean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a_i - b_j|: float64 (n, m). Computed from differences: |a|² - 2 a·b + |b|² loses all digits
    where the vectors are close."""
    b = _float(b)
    return _rows(a, b, lambda row: np.linalg.norm(b - row, axis=1))


def manhattan(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The sum of |a_ik - b_jk| over k: float64 (n, m)."""
    b = _float(b)
    return _rows(a, b, lambda row: np.abs(b - row).sum(axis=1))


MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "cosine": cosine,
    "angle": angle,
    "euclidean": euclidean,
    "dot": dot,
    "manhattan": manhattan,
}
# With the other measures the smallest value is the nearest.
LARGEST_IS_NEAREST = frozenset({"cosine", "dot"})


def unit(vectors: np.ndarray) -> np.ndarray:
    """The rows divided by their lengths, float64 (n, d); a row of zeros stays."""
    vectors = _float(vectors)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def nearest(
    queries: np.ndarray, vectors: np.ndarray, count: int = 5, measure: str = "cosine"
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest vectors of each query, the nearest first; among equals the earlier row first.

    Args:
        queries: (n, d).
        vectors: (m, d).
        count: number of neighbours; all vectors if there are fewer.
        measure: a key of `MEASURES`.

    Returns: row numbers, int64 (n, min(count, m)), and the measure's values, float64 of that shape.
    """
    values = MEASURES[measure](queries, vectors)
    keys = -values if measure in LARGEST_IS_NEAREST else values
    indices = np.argsort(keys, axis=1, kind="stable")[:, :count]
    return indices, np.take_along_axis(values, indices, axis=1)


# Maps and ranks


def principal_components(vectors: np.ndarray, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """The vectors projected on the directions in which they vary most (Pearson 1901).

    X - mean = U S V^T;  points = U S

    The sign of each direction makes its largest coefficient positive, as in scikit-learn's PCA.
    With fewer vectors or dimensions than `count`, the missing directions are 0.

    Args:
        vectors: (n, d).

    Returns: points, float64 (n, count), and the share of the variance along each direction,
        float64 (count,).
    """
    vectors = _float(vectors)
    left, lengths, right = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    strongest = right[np.arange(len(right)), np.abs(right).argmax(axis=1)]
    points = left * lengths * np.where(strongest < 0, -1, 1)
    share = lengths**2 / (np.sum(lengths**2) or 1)
    missing = max(0, count - len(lengths))
    return np.pad(points[:, :count], [(0, 0), (0, missing)]), np.pad(share[:count], (0, missing))


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation: Pearson's of the ranks, equal values sharing their mean rank.

    Returns: -1 to 1; NaN where either side is constant or holds a NaN.
    Raises: ValueError if the lengths differ.
    """
    x, y = _float(a), _float(b)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"spearman: the values have shapes {x.shape} and {y.shape}.")
    if np.isnan(x).any() or np.isnan(y).any() or not np.ptp(x) or not np.ptp(y):
        return float("nan")
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


# Documents and words


def terms(text: str) -> list[str]:
    """Return the terms that `DocumentVectors` counts in a text, in any mixture of scripts.

    Where spaces or signs separate words: the words, in lower case. Where nothing does (Japanese,
    Chinese): every run of 1 to 3 characters; that covers most words without a dictionary.
    Characters are brought to one width first (Unicode NFKC).

    >>> terms("Cats ａｎｄ 猫が。")
    ['cats', 'and', '猫', 'が', '猫が']
    """
    found = []
    for run in _RUNS.findall(unicodedata.normalize("NFKC", text).casefold()):
        found += _grams(run) if _BEGINS_UNSPACED.match(run) else [run]
    return found


def _grams(run: str) -> list[str]:
    return [
        run[start : start + size]
        for size in range(1, _LONGEST_GRAM + 1)
        for start in range(len(run) - size + 1)
    ]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


def _characters(text: str) -> list[str]:
    return _grams(" ".join(unicodedata.normalize("NFKC", text).casefold().split()))


ANALYZERS: dict[str, Callable[[str], list[str]]] = {
    "auto": terms,
    "words": _words,
    "characters": _characters,
}


class DocumentVectors:
    """Texts as vectors with one dimension per word, by scikit-learn's vectorizers.

    count:   c_w = how often w is in the text (bag of words)
    tf_idf:  v / |v|,  v_w = c_w (1 + ln((1 + n) / (1 + n_w)))

    n is the number of fitted texts, n_w the number of them that hold w. `fit` makes it; words that
    no fitted text holds are not counted.

    Attributes:
        words: the word of each dimension.
    """

    def __init__(self, vectorizer: Any) -> None:
        self._vectorizer = vectorizer
        self.words: list[str] = vectorizer.get_feature_names_out().tolist()

    def __repr__(self) -> str:
        return f"DocumentVectors: {quantity(len(self.words), 'word')}, {short_list(self.words)}"

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        weighting: Literal["count", "tf_idf"] = "count",
        analyzer: Literal["auto", "words", "characters"] = "auto",
        max_words: int | None = None,
    ) -> DocumentVectors:
        """Learns the words of the texts, and for "tf_idf" how many texts hold each.

        Args:
            texts: a sample of the texts to come.
            weighting: "count" or "tf_idf".
            analyzer: "auto" (see `terms`), "words", or "characters" (1 to 3 of them, whatever the
                script; blanks count).
            max_words: keep only the most frequent; None: all.

        Raises:
            InputError: the texts hold no word.
        """
        from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

        vectorizer = {"count": CountVectorizer, "tf_idf": TfidfVectorizer}[weighting](
            analyzer=ANALYZERS[analyzer], max_features=max_words, dtype=np.float64
        )
        try:
            return cls(vectorizer.fit(texts))
        except ValueError as error:
            raise InputError(
                f"there is no word in {quantity(len(texts), 'text')}.\n"
                "  Expected letters or digits in one text or more."
            ) from error

    def transform(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (texts, words)."""
        return self._vectorizer.transform(texts).astype(np.float32).toarray()

    def cosines(self, first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        """The cosine of each text with its partner, float64 (n,); 0 where either holds no known
        word. Works on sparse matrices: a row needs no more memory than its text."""
        from sklearn.preprocessing import normalize

        both = (first, second)
        a, b = (cast("Any", normalize(self._vectorizer.transform(texts))) for texts in both)
        return np.asarray(a.multiply(b).sum(axis=1)).ravel()

    def all_cosines(self, first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        """The cosine of each first text with each second one, float64 (n, m); see `cosines`."""
        from sklearn.preprocessing import normalize

        both = (first, second)
        a, b = (cast("Any", normalize(self._vectorizer.transform(texts))) for texts in both)
        return (a @ b.T).toarray()


def word_vectors(
    table: np.ndarray, tokenizer: Tokenizer, words: Sequence[str], leading_space: bool = True
) -> np.ndarray:
    """Words as vectors: the mean of the embedding table's rows of a word's tokens.

    Args:
        table: float (vocabulary, d), a model's embedding table.
        words: one or more tokens each.
        leading_space: True: the word as inside a sentence, with the space that belongs to its first
            token (" cat"); False: as at the start of one ("cat"), which is another token. Words in
            kanji or kana get no space either way.

    Returns: float32 (words, d).
    Raises:
        InputError: a word is empty.
    """
    vectors = []
    for number, word in enumerate(map(str.strip, words), 1):
        if not word:
            raise InputError(f"word {number} is empty.\n  Expected a letter or more.")
        spaced = leading_space and not _BEGINS_UNSPACED.match(word)
        vectors.append(np.asarray(table)[tokenizer.encode(" " * spaced + word)].mean(axis=0))
    return np.array(vectors, "float32")


def _float(values) -> np.ndarray:
    return np.asarray(values, "float64")


def _rows(a, b: np.ndarray, distances: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """float64 (n, m): distances(row) of every row of a, without (n, m, d) numbers at once."""
    return np.array([distances(row) for row in _float(a)]).reshape(len(a), len(b))
