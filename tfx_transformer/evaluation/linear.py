"""Logistic regression on hashed n-grams or on vectors, fitted to convergence by scikit-learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

# Inverse strength of the L2 penalty, as in `baselines.tfidf_labels`.
_C = 10.0
_STEPS = 200


@dataclasses.dataclass(frozen=True)
class NGramWeights:
    """A linear classifier of a bag of n-grams.

    logits = sum_i r[b_i] W[b_i] / sqrt(sum_i r[b_i]^2) + c,  over the buckets b_i of a text

    rarity: r, float32 (buckets,), 0 for buckets in no training text; kernel: W, float32 (buckets,
    C); bias: c, float32 (C,).
    """

    rarity: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray

    def logits(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """Return the logits of texts, float32 (n, C); rows: the buckets of each, int (n-grams,)."""
        found = np.tile(self.bias, (len(rows), 1))
        for logits, row in zip(found, rows, strict=True):
            rarity = self.rarity[row]
            logits += rarity @ self.kernel[row] / np.sqrt(max(rarity @ rarity, 1e-6))
        return found


def fit_ngrams(
    rows: Sequence[np.ndarray],
    ids: np.ndarray,
    classes: int,
    buckets: int,
    balanced: bool = False,
) -> NGramWeights:
    """Return the classifier that fits texts best, with an L2 penalty on W (C=10).

    r[b] = ln((1 + texts) / (1/2 + texts with b)), almost 0 for a bucket that every text has.

    Args:
        rows: the buckets of all n-grams of each text, int (n-grams,).
        ids: int (texts,), classes from 0 to C - 1, two or more of them.
        classes: C.
        buckets: size of the table.
        balanced: give all classes the same total weight, instead of all texts.
    """
    from scipy.sparse import csr_matrix

    found = [np.unique(row, return_counts=True) for row in rows]
    used, columns = np.unique(np.concatenate([b for b, _ in found]), return_inverse=True)
    counts = np.concatenate([count for _, count in found])
    starts = np.concatenate([[0], np.cumsum([len(b) for b, _ in found])])
    rarity = np.log((1 + len(rows)) / (0.5 + np.bincount(columns)))
    values = counts * rarity[columns]
    squares = np.add.reduceat(values * rarity[columns], starts[:-1])
    values = values / np.sqrt(np.repeat(squares, np.diff(starts)))
    features = csr_matrix((values, columns, starts), (len(rows), len(used)))
    known, coefficients, intercepts = _fit_logistic(features, ids, balanced)
    weights = NGramWeights(
        np.zeros(buckets, "float32"),
        np.zeros((buckets, classes), "float32"),
        np.full(classes, min(intercepts) - 10, "float32"),  # for classes without a text
    )
    weights.rarity[used] = rarity
    weights.kernel[np.ix_(used, known)] = coefficients.T
    weights.bias[known] = intercepts
    return weights


def fit_vectors(
    vectors: np.ndarray, ids: np.ndarray, classes: int, balanced: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return W and c of the logits vectors @ W + c that fit best: float32 (width, C), (C,).

    The L2 penalty (C=10) is for vectors of mean length 1, so the scale of the vectors does not
    matter.

    Args:
        vectors: float (n, width).
        ids: int (n,), classes from 0 to C - 1, two or more of them.
        classes: C.
        balanced: give all classes the same total weight, instead of all vectors.
    """
    length = max(float(np.linalg.norm(vectors, axis=1).mean()), 1e-6)
    known, coefficients, intercepts = _fit_logistic(vectors / length, ids, balanced)
    kernel = np.zeros((vectors.shape[1], classes), "float32")
    bias = np.full(classes, min(intercepts) - 10, "float32")  # for classes without a vector
    kernel[:, known] = coefficients.T / length
    bias[known] = intercepts
    return kernel, bias


def _fit_logistic(
    features: Any, ids: np.ndarray, balanced: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the K classes that occur, the coefficients of each, (K, width), and its intercept,
    (K,)."""
    from sklearn.linear_model import LogisticRegression

    weight = "balanced" if balanced else None
    model = LogisticRegression(C=_C, max_iter=_STEPS, class_weight=weight).fit(features, ids)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn keeps those of the second class only
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    return model.classes_, coefficients, intercepts
