"""Logistic regression on n-grams of tokens or on vectors, fitted to convergence by scikit-learn."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

# Ids that a key of an n-gram has room for: three of them and a size make 62 bits.
_IDS = 1 << 20
SIZES = (1, 2, 3)

_STEPS = 200
# Least squared norm of a text, as in `NGramLogits`.
_LEAST = 1e-6

# For the choice of settings: folds, the fewest and most texts, the most texts times classes, and
# the gradient at which a fit ends.
_FOLDS = 3
_FEWEST_TEXTS = 30
MOST_TEXTS = 5_000
_MOST_NUMBERS = 200_000
_ROUGH = 1e-3
_STRENGTHS = (3.0, 10.0, 30.0, 100.0)
_VECTOR_STRENGTHS = (1.0, *_STRENGTHS)
# For too few vectors to choose from.
_VECTOR_STRENGTH = 3.0

# The last choices of settings, by a digest of the texts: a run that has chosen a vocabulary by them
# fits its linear classifier to the same texts.
_CHOICES: dict[bytes, tuple[NGramSettings, float]] = {}
_MOST_CHOICES = 16


@dataclasses.dataclass(frozen=True)
class NGramSettings:
    """The n-grams that a linear classifier uses, and how strongly it is fitted.

    longest: tokens of the longest n-grams, 1 to 3.
    fewest: n-grams in fewer training texts are not used.
    floor: rarity of an n-gram that every text has.
    strength: C, the inverse strength of the L2 penalty.
    """

    longest: int = 3
    fewest: int = 1
    floor: float = 0.0
    strength: float = 10.0


# The n-grams to choose from. With floor 1 the rarity is about scikit-learn's.
_KINDS = tuple(
    NGramSettings(longest, fewest, floor)
    for longest in (3, 2)
    for fewest, floor in ((1, 0.0), (2, 1.0))
)


@dataclasses.dataclass(frozen=True)
class NGramWeights:
    """A linear classifier of a bag of n-grams.

    logits = sum_i r[b_i] W[b_i] / sqrt(sum_i r[b_i]^2) + c,  over the buckets b_i of a text

    rarity: r, float32 (buckets,), 0 for buckets that are not used; kernel: W, float32 (buckets, C);
    bias: c, float32 (C,); longest: tokens of the longest n-grams.
    """

    rarity: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    longest: int = 3

    def logits(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """Return the logits of texts, float32 (n, C); rows: the buckets of each, int (n-grams,)."""
        found = np.tile(self.bias, (len(rows), 1))
        for logits, row in zip(found, rows, strict=True):
            rarity = self.rarity[row]
            logits += rarity @ self.kernel[row] / np.sqrt(max(rarity @ rarity, _LEAST))
        return found


def ngram_keys(ids: Sequence[int]) -> np.ndarray:
    """Return a number for each n-gram of a text, int64 (3, length): its tokens, pairs and triples,
    each at its last token, with zeros before the first token. Equal numbers are equal n-grams.

    Args:
        ids: token ids of the text, below 2^20.
    """
    tokens = np.asarray(ids, np.int64)
    before = [np.concatenate([np.zeros(back, np.int64), tokens])[: len(tokens)] for back in (1, 2)]
    pairs = tokens + _IDS * before[0]
    triples = pairs + _IDS**2 * before[1]
    return 4 * np.stack([tokens, pairs, triples]) + np.array(SIZES)[:, None]


def used_keys(keys: Sequence[np.ndarray], settings: NGramSettings) -> np.ndarray:
    """Return the n-grams that a classifier uses, ascending; keys: those of the training texts."""
    found = [np.unique(row[: settings.longest]) for row in keys]
    different, texts = np.unique(np.concatenate(found), return_counts=True)
    return different[texts >= settings.fewest]


def choose_settings(
    keys: Sequence[np.ndarray], ids: np.ndarray, balanced: bool = False
) -> tuple[NGramSettings, float]:
    """Return the settings with the least log-loss in three-fold cross-validation, and that loss.

    First the n-grams are chosen, with C=10: up to triples or up to pairs; either all, with a
    rarity down to 0, or those in two texts or more, with a rarity down to 1. Then C is chosen: 3,
    10, 30 or 100. At most 5,000 texts, or 200,000 / classes, decide. Nothing is chosen, and the
    loss is 0, from fewer than 30 texts, of one class, or of classes of one text each. The last
    choices are kept: the same texts are not compared again.

    Args:
        keys: n-grams of each text, see `ngram_keys`.
        ids: int (texts,), class of each.
        balanced: as for `fit_ngrams`.
    """
    ids = np.asarray(ids)
    most = min(MOST_TEXTS, max(_MOST_NUMBERS // len(np.unique(ids)), _FEWEST_TEXTS))
    drawn = np.random.default_rng(0).permutation(len(keys))[:most]
    ids = ids[drawn]
    of_class = np.unique(ids, return_counts=True)[1]
    if len(drawn) < _FEWEST_TEXTS or len(of_class) < 2 or of_class.max() < 2:
        return NGramSettings(), 0.0
    rows = [keys[text] for text in drawn]
    known = _digest(rows, ids, balanced)
    if known not in _CHOICES:
        _CHOICES[known] = _compare_settings(rows, ids, balanced)
        if len(_CHOICES) > _MOST_CHOICES:
            del _CHOICES[next(iter(_CHOICES))]
    return _CHOICES[known]


def _digest(rows: Sequence[np.ndarray], ids: np.ndarray, balanced: bool) -> bytes:
    """Return a digest of all that decides in `_compare_settings`."""
    total = hashlib.sha256(bytes([balanced]))
    total.update(np.array([row.shape[1] for row in rows], np.int64).tobytes())
    for values in (ids, *rows):
        total.update(np.ascontiguousarray(values, np.int64).tobytes())
    return total.digest()


def _compare_settings(
    rows: Sequence[np.ndarray], ids: np.ndarray, balanced: bool
) -> tuple[NGramSettings, float]:
    """Return the settings with the least loss on all these texts; see `choose_settings`."""
    counts = [_count([row[size - 1] for row in rows])[0] for size in SIZES]
    loss = functools.partial(_cross_validate, counts, ids, balanced)
    losses = {settings: loss(settings) for settings in _KINDS}
    best = min(_KINDS, key=losses.__getitem__)
    others = [dataclasses.replace(best, strength=strength) for strength in _STRENGTHS]
    losses |= {settings: loss(settings) for settings in others if settings not in losses}
    best = min(others, key=losses.__getitem__)
    return best, losses[best]


def fit_ngrams(
    rows: Sequence[np.ndarray],
    ids: np.ndarray,
    classes: int,
    buckets: int,
    settings: NGramSettings = NGramSettings(),  # noqa: B008
    used: np.ndarray | None = None,
    balanced: bool = False,
) -> NGramWeights:
    """Return the classifier that fits texts best, with an L2 penalty on W.

    r[b] = ln((1 + texts) / (1/2 + texts with b)) + floor

    Args:
        rows: the buckets of all n-grams of each text, int (n-grams,).
        ids: int (texts,), classes from 0 to C - 1, two or more of them.
        classes: C.
        buckets: size of the table.
        settings: C and the floor of the rarity; `longest` is noted in the result.
        used: the buckets whose rarity is not 0; None: all that `settings.fewest` texts have.
        balanced: give all classes the same total weight, instead of all texts.
    """
    counts, columns = _count(rows)
    rarity = _rarity(counts, settings)
    if used is not None:
        rarity = _rarity(counts, dataclasses.replace(settings, fewest=1))
        rarity[~np.isin(columns, used)] = 0
    model = _fit(_features([counts], [rarity]), ids, settings.strength, balanced)
    coefficients, intercepts = _of_each_class(model)
    weights = NGramWeights(
        np.zeros(buckets, "float32"),
        np.zeros((buckets, classes), "float32"),
        np.full(classes, min(intercepts) - 10, "float32"),  # for classes without a text
        settings.longest,
    )
    weights.rarity[columns] = rarity
    weights.kernel[np.ix_(columns[rarity > 0], model.classes_)] = coefficients.T
    weights.bias[model.classes_] = intercepts
    return weights


def choose_strength(
    vectors: np.ndarray, mirrored: np.ndarray, ids: np.ndarray, balanced: bool = False
) -> tuple[float, bool]:
    """Return C of `fit_vectors`, and True if mirrored examples are to be fitted too: those with the
    least log-loss in three-fold cross-validation.

    First it is chosen, with C=3, whether mirrored examples help to label the others; then C: 1, 3,
    10, 30 or 100. It is 3, with mirrored ones, for fewer than 30 examples, of one class, or of
    classes of one example each.

    Args:
        vectors: float (n, width).
        mirrored: float (n, width), the vectors of the same examples mirrored.
        ids: int (n,), class of each.
        balanced: as for `fit_vectors`.
    """
    of_class = np.unique(ids, return_counts=True)[1]
    if len(ids) < _FEWEST_TEXTS or len(of_class) < 2 or of_class.max() < 2:
        return _VECTOR_STRENGTH, True
    length = max(float(np.linalg.norm(vectors, axis=1).mean()), 1e-6)
    parts = vectors / length, mirrored / length

    @functools.cache
    def loss(strength: float, both: bool) -> float:
        losses = []
        for inside, outside in _folds(ids):
            if not len(outside) or len(np.unique(ids[inside])) < 2:
                continue
            used = parts[: 1 + both]
            before = np.concatenate([part[inside] for part in used])
            truth = np.tile(ids[inside], len(used))
            model = _fit(before, truth, strength, balanced, _ROUGH)
            losses.append(_log_losses(model, parts[0][outside], ids[outside]))
        return float(np.concatenate(losses).mean())

    both = loss(_VECTOR_STRENGTH, True) < loss(_VECTOR_STRENGTH, False)
    return min(_VECTOR_STRENGTHS, key=lambda strength: loss(strength, both)), both


def fit_vectors(
    vectors: np.ndarray,
    ids: np.ndarray,
    classes: int,
    balanced: bool = False,
    strength: float = NGramSettings.strength,
) -> tuple[np.ndarray, np.ndarray]:
    """Return W and c of the logits vectors @ W + c that fit best: float32 (width, C), (C,).

    The L2 penalty is for vectors of mean length 1, so the scale of the vectors does not matter.

    Args:
        vectors: float (n, width).
        ids: int (n,), classes from 0 to C - 1, two or more of them.
        classes: C.
        balanced: give all classes the same total weight, instead of all vectors.
        strength: C, the inverse strength of the penalty.
    """
    length = max(float(np.linalg.norm(vectors, axis=1).mean()), 1e-6)
    model = _fit(vectors / length, ids, strength, balanced)
    coefficients, intercepts = _of_each_class(model)
    kernel = np.zeros((vectors.shape[1], classes), "float32")
    bias = np.full(classes, min(intercepts) - 10, "float32")  # for classes without a vector
    kernel[:, model.classes_] = coefficients.T / length
    bias[model.classes_] = intercepts
    return kernel, bias


def _cross_validate(
    counts: Sequence[Any], ids: np.ndarray, balanced: bool, settings: NGramSettings
) -> float:
    """Return the mean log-loss of texts by classifiers of the other texts."""
    losses = []
    for inside, outside in _folds(ids):
        if not len(outside) or len(np.unique(ids[inside])) < 2:
            continue
        used = counts[: settings.longest]
        rarities = [_rarity(count[inside], settings) for count in used]
        before, after = (
            _features([count[texts] for count in used], rarities) for texts in (inside, outside)
        )
        model = _fit(before, ids[inside], settings.strength, balanced, _ROUGH)
        losses.append(_log_losses(model, after, ids[outside]))
    return float(np.concatenate(losses).mean())


def _log_losses(model: Any, features: Any, ids: np.ndarray) -> np.ndarray:
    """Return the log-loss of each example."""
    places = np.searchsorted(model.classes_, ids)
    chances = model.predict_proba(features)[np.arange(len(places)), places]
    return -np.log(np.maximum(chances, 1e-9))


def _folds(ids: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the texts of training and those of validation, with about the same share of every
    class. Validation has no text of a class that training lacks."""
    order = np.random.default_rng(0).permutation(len(ids))
    order = order[np.argsort(ids[order], kind="stable")]
    for fold in range(_FOLDS):
        is_outside = np.arange(len(ids)) % _FOLDS == fold
        inside, outside = order[~is_outside], order[is_outside]
        yield inside, outside[np.isin(ids[outside], ids[inside])]


def _count(rows: Sequence[np.ndarray]) -> tuple[Any, np.ndarray]:
    """Return the counts of n-grams, sparse (texts, different ones), and the n-gram of each column,
    ascending."""
    from scipy.sparse import csr_matrix

    found = [np.unique(row, return_counts=True) for row in rows]
    names, columns = np.unique(np.concatenate([row for row, _ in found]), return_inverse=True)
    counts = np.concatenate([count for _, count in found]).astype(np.float64)
    starts = np.concatenate([[0], np.cumsum([len(row) for row, _ in found])])
    return csr_matrix((counts, columns, starts), (len(rows), len(names))), names


def _rarity(counts: Any, settings: NGramSettings) -> np.ndarray:
    """Return the rarity of each n-gram, float (n-grams,); 0 for those in too few texts."""
    texts = np.bincount(counts.indices, minlength=counts.shape[1])
    rarity = np.log((1 + counts.shape[0]) / (0.5 + texts)) + settings.floor
    return np.where(texts >= max(settings.fewest, 1), rarity, 0.0)


def _features(counts: Sequence[Any], rarities: Sequence[np.ndarray]) -> Any:
    """Return the weighted counts of n-grams divided by the norm of each text, sparse."""
    from scipy.sparse import diags, hstack

    pairs = list(zip(counts, rarities, strict=True))
    squares = sum(count @ rarity**2 for count, rarity in pairs)
    weighted = [count[:, rarity > 0] @ diags(rarity[rarity > 0]) for count, rarity in pairs]
    scale: Any = diags(1 / np.sqrt(np.maximum(squares, _LEAST)))
    return (scale @ hstack(weighted)).tocsr()


def _fit(features: Any, ids: np.ndarray, strength: float, balanced: bool, end: float = 1e-4) -> Any:
    weight = "balanced" if balanced else None
    options = {"max_iter": _STEPS, "tol": end, "class_weight": weight}
    return logistic_regression(features, ids, C=strength, **options)


def logistic_regression(features: Any, ids: Any, **options: Any) -> Any:
    """Return scikit-learn's `LogisticRegression` with these options, fitted in one thread: several
    mostly wait for each other, and keep the cores from other work.

    Args:
        features: sparse or dense, (n, width).
        ids: the n classes.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return LogisticRegression(**options).fit(features, ids)


def _of_each_class(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the coefficients of each of the K classes that occur, (K, width), and its intercept,
    (K,)."""
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn keeps those of the second class only
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    return coefficients, intercepts
