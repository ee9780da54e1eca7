"""Scores of simple methods on the same examples; a classifier should be better than these.

The baselines return accuracy and macro F1 (over all classes of the training examples) as
`score_labels` defines them. TF-IDF and pixels take seconds for thousands of examples and tens of
classes; their time grows with both.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfx_transformer.evaluation.image_features import edge_color_features
from tfx_transformer.evaluation.labels import score_labels
from tfx_transformer.evaluation.linear import logistic_regression
from tfx_transformer.evaluation.texts import unspaced_share

PIXEL_EXAMPLES = 3000

# Smallest share of texts without spaces, or with them, for which terms of that kind are used.
_FEW = 0.05

# Strengths of the ridge to choose from, and the fewest examples for a choice.
_STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0)
_FEWEST_TO_CHOOSE = 12

# Texts that are compared with all training texts at a time.
_COMPARED = 256


def majority_baseline(
    train_ids: np.ndarray, test_ids: np.ndarray, names: Sequence[str]
) -> dict[str, float | str]:
    """Return the scores of always predicting the most frequent training label.

    Args:
        train_ids, test_ids: int (n,) and (m,), ids from 0 to C - 1.
        names: the C labels.

    Returns: label (the first of equally frequent ones), accuracy, macro_f1.
    """
    most = majority_id(train_ids)
    scores = predicted_scores(np.full(len(test_ids), most), test_ids, len(names))
    return {"label": names[most]} | scores


def majority_id(train_ids: np.ndarray) -> int:
    """Return the most frequent class of the training examples, the first of equal ones."""
    return int(np.bincount(train_ids).argmax())


def tfidf_baseline(
    train_texts: Sequence[str],
    train_ids: np.ndarray,
    test_texts: Sequence[str],
    test_ids: np.ndarray,
) -> dict[str, float]:
    """Return the scores of `tfidf_labels`.

    Args:
        train_texts, train_ids, test_texts: as for `tfidf_labels`.
        test_ids: int (m,), ids from 0 to C - 1.

    Returns: accuracy, macro_f1.

    Raises: ValueError as `tfidf_labels`.
    """
    predicted = tfidf_labels(train_texts, train_ids, test_texts)
    return predicted_scores(predicted, test_ids, 1 + int(np.max(train_ids)))


def tfidf_labels(
    train_texts: Sequence[str], train_ids: np.ndarray, test_texts: Sequence[str]
) -> np.ndarray:
    """Return the predictions, int (m,), of scikit-learn's logistic regression (C=10) on TF-IDF.

    Terms are words and pairs of words for texts with spaces, one to three characters for texts
    without; both if each kind is at least 5 % of the texts. They weigh 1 + ln(frequency), times the
    inverse document frequency.

    Args:
        train_texts, test_texts: n and m texts, not all empty.
        train_ids: int (n,), ids from 0 to C - 1, two or more of them.

    Raises: ValueError if the training examples are all of one class.
    """
    train, test = _tfidf(train_texts, test_texts)
    return _logistic_regression(train, train_ids, test, C=10)


def tfidf_numbers(
    train_texts: Sequence[str], train_numbers: Sequence[float], test_texts: Sequence[str]
) -> np.ndarray:
    """Return the predictions, float (m,), of scikit-learn's ridge regression on TF-IDF.

    Terms are those of `tfidf_labels`; the strength of the ridge is the best of five in three-fold
    cross-validation on the training texts, or 1 for fewer than 12 texts.

    Args:
        train_texts, test_texts: n and m texts, not all empty.
        train_numbers: float (n,).
    """
    from sklearn.linear_model import Ridge, RidgeCV
    from sklearn.model_selection import KFold

    train, test = _tfidf(train_texts, test_texts)
    numbers = np.asarray(train_numbers, "float64")
    if len(numbers) < _FEWEST_TO_CHOOSE:
        return Ridge().fit(train, numbers).predict(test)
    folds = KFold(3, shuffle=True, random_state=0)
    return RidgeCV(_STRENGTHS, cv=folds).fit(train, numbers).predict(test)


def _tfidf(train_texts: Sequence[str], test_texts: Sequence[str]) -> tuple[Any, Any]:
    """Return the sparse TF-IDF vectors of training and test texts; see `tfidf_labels`."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
    characters = TfidfVectorizer(sublinear_tf=True, analyzer="char", ngram_range=(1, 3), min_df=2)
    share = unspaced_share(train_texts)
    kinds = [words] * (share <= 1 - _FEW) + [characters] * (share >= _FEW)
    vectorizer = make_union(*kinds)
    try:
        train = vectorizer.fit_transform(train_texts)
    except ValueError:  # no terms: texts such as "7" or "?", or of one kanji each
        vectorizer = TfidfVectorizer(analyzer="char")
        train = vectorizer.fit_transform(train_texts)
    return train, vectorizer.transform(test_texts)


def nearest_texts(train_texts: Sequence[str], test_texts: Sequence[str]) -> np.ndarray:
    """Return int (m,): for each text the index of the training text with the largest cosine of
    TF-IDF vectors, the first of equal ones. Terms are those of `tfidf_labels`.

    Args:
        train_texts, test_texts: n and m texts, not all empty.
    """
    from sklearn.preprocessing import normalize

    vectors: Any = [normalize(one) for one in _tfidf(train_texts, test_texts)]
    train, test = vectors
    parts = [test[start : start + _COMPARED] for start in range(0, len(test_texts), _COMPARED)]
    return np.concatenate([(part @ train.T).toarray().argmax(axis=1) for part in parts])


def pixel_baseline(
    train_images: np.ndarray,
    train_ids: np.ndarray,
    test_images: np.ndarray,
    test_ids: np.ndarray,
    seed: int = 0,
) -> dict[str, float]:
    """Return the scores of `pixel_labels`.

    Args:
        train_images, train_ids, test_images, seed: as for `pixel_labels`.
        test_ids: int (m,), ids from 0 to C - 1.

    Returns: accuracy, macro_f1.

    Raises: ValueError as `pixel_labels`.
    """
    predicted = pixel_labels(train_images, train_ids, test_images, seed)
    return predicted_scores(predicted, test_ids, 1 + int(np.max(train_ids)))


def pixel_labels(
    train_images: np.ndarray, train_ids: np.ndarray, test_images: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Return the predictions, int (m,), of logistic regression (C=0.001) on the pixels of at most
    3,000 training images.

    Args:
        train_images, test_images: 0 to 255, (n, height, width, channels) and (m, height, width,
            channels), of a small size: 32 x 32 is 3,072 numbers an image.
        train_ids: int (n,), ids from 0 to C - 1, two or more of them.
        seed: draws the training images, if there are more.

    Raises: ValueError if the training examples are all of one class.
    """
    chosen = np.random.default_rng(seed).permutation(len(train_images))[:PIXEL_EXAMPLES]
    train, test = (
        np.asarray(images, dtype=np.float32).reshape(len(images), -1) / 255
        for images in (np.asarray(train_images)[chosen], test_images)
    )
    return _logistic_regression(train, np.asarray(train_ids)[chosen], test, C=1e-3)


def edge_color_labels(
    train_images: np.ndarray, train_ids: np.ndarray, test_images: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Return the predictions, int (m,), of logistic regression (C=0.1) on edges and colours
    (`edge_color_features`) of at most 3,000 training images.

    Args:
        train_images, train_ids, test_images, seed: as for `pixel_labels`; three channels, sides
            multiples of 8 from 16.

    Raises: ValueError if the training examples are all of one class.
    """
    chosen = np.random.default_rng(seed).permutation(len(train_images))[:PIXEL_EXAMPLES]
    train = edge_color_features(np.asarray(train_images)[chosen])
    test = edge_color_features(test_images)
    return _logistic_regression(train, np.asarray(train_ids)[chosen], test, C=0.1)


def predicted_scores(predicted: np.ndarray, truth: np.ndarray, classes: int) -> dict[str, float]:
    """Return the accuracy and macro F1 of predicted classes, int (m,)."""
    scores = score_labels(np.eye(classes)[predicted], truth, range(classes))
    return {name: scores[name] for name in ("accuracy", "macro_f1")}


def _logistic_regression(train, train_ids, test, *, C: float) -> np.ndarray:
    return logistic_regression(train, train_ids, C=C, max_iter=1000).predict(test)
