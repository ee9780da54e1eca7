"""Temperature scaling, which calibrates a classifier's probabilities, and thresholds for labels.

softmax(z / T), or sigmoid(z / T) of each label, with the T that makes held-out labels most probable
(Guo et al. 2017, section 4.2). The order of the labels stays. A threshold is the probability from
which on a label is reliable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfx_transformer.evaluation.labels import calibration_bins

# Held-out examples below which a temperature is not fitted, and its limits.
FEWEST = 30
_LOWEST, _HIGHEST = 0.05, 20.0
_STEPS = 60
_FOLDS = 5
# Share of held-out examples above a threshold that must be right, and the fewest to judge by.
RELIABLE = 0.95
_FEWEST_ABOVE = 10
# Probabilities that float32 rounds to 0 or 1.
_SMALLEST = 1e-12


def fit_temperature(
    probabilities: np.ndarray, truth: np.ndarray, multi_label: bool = False
) -> float:
    """Return the temperature with the lowest cross-entropy, from 0.05 to 20, to three digits.

    The target of a true label is (n + 1) / (n + 2) instead of 1, and the other labels share the
    rest, as in Platt (1999), section 2.2: so the temperature is finite if all n examples are right.

    Args:
        probabilities: float (n, C), from the classifier.
        truth: int (n,), ids from 0 to C - 1; with `multi_label` (n, C), nonzero where the example
            has the label.
        multi_label: True if each label has a probability of its own.

    Returns: 1.0 if there are fewer than 30 examples, or unless the temperature lowers the plain
        cross-entropy both of all examples and in five-fold cross-validation: a calibrated model
        stays as it is.
    """
    probabilities, truth = np.asarray(probabilities, np.float64), np.asarray(truth)
    if len(probabilities) < FEWEST:
        return 1.0
    temperature = _fit(probabilities, truth, multi_label)
    before = _log_loss(probabilities, truth, multi_label)
    after = _log_loss(scale(probabilities, temperature, multi_label), truth, multi_label)
    apart = _log_loss(_cross_fit(probabilities, truth, multi_label), truth, multi_label)
    return temperature if max(after, apart) < before else 1.0


def _cross_fit(probabilities: np.ndarray, truth: np.ndarray, multi_label: bool) -> np.ndarray:
    """Return the probabilities of each fifth of the examples at the temperature that fits the
    others, as for examples that the temperature has not seen."""
    order = np.random.default_rng(0).permutation(len(probabilities))
    found = np.empty_like(probabilities)
    for fold in range(_FOLDS):
        apart = order[fold::_FOLDS]
        others = np.setdiff1d(order, apart)
        temperature = _fit(probabilities[others], truth[others], multi_label)
        found[apart] = scale(probabilities[apart], temperature, multi_label)
    return found


def _log_loss(probabilities: np.ndarray, truth: np.ndarray, multi_label: bool) -> float:
    return calibration_scores(probabilities, truth, multi_label)["log_loss"]


def _fit(probabilities: np.ndarray, truth: np.ndarray, multi_label: bool) -> float:
    """Return the temperature with the lowest smoothed cross-entropy."""
    logits, targets = _problem(probabilities, truth, multi_label)

    def slope(factor: float) -> float:
        """The derivative of the cross-entropy by 1 / T, which rises."""
        scaled = factor * logits
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        expected = (powers * logits).sum(axis=1) / powers.sum(axis=1)
        return float(np.mean(expected - (targets * logits).sum(axis=1)))

    low, high = np.log(1 / _HIGHEST), np.log(1 / _LOWEST)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(np.exp(middle)) > 0 else (middle, high)
    return float(f"{np.exp(-(low + high) / 2):.3g}")


def scale(probabilities: np.ndarray, temperature: float, multi_label: bool = False) -> np.ndarray:
    """Return the probabilities at a temperature, float64 (n, C).

    Args:
        probabilities: float (n, C), at temperature 1.
        temperature: above 0.
        multi_label: True if each label has a probability of its own.
    """
    known = np.clip(np.asarray(probabilities, np.float64), _SMALLEST, 1.0)
    powers = known ** (1 / temperature)
    if not multi_label:
        return powers / powers.sum(axis=1, keepdims=True)
    others = np.clip(1 - known, _SMALLEST, 1.0) ** (1 / temperature)
    return powers / (powers + others)


def calibration_scores(
    probabilities: np.ndarray, truth: np.ndarray, multi_label: bool = False
) -> dict[str, float]:
    """Return "calibration_error" (expected, 15 bins) and "log_loss" (nats) of a classifier's
    decisions: one label for each example, or with `multi_label` yes or no for each label.

    Args: as for `fit_temperature`.
    """
    probabilities, truth = _decisions(probabilities, truth, multi_label)
    of_truth = np.clip(probabilities[np.arange(len(truth)), truth], _SMALLEST, None)
    return {
        "calibration_error": round(calibration_bins(probabilities, truth).error(), 4),
        "log_loss": round(float(-np.log(of_truth).mean()), 4),
    }


def reliability(
    probabilities: np.ndarray, truth: np.ndarray, multi_label: bool = False
) -> list[list[float]]:
    """Return [mean confidence, share that is right, count] of each bin that has examples; arguments
    as for `fit_temperature`."""
    bins = calibration_bins(*_decisions(probabilities, truth, multi_label))
    rows = zip(bins.confidence, bins.accuracy, bins.count, strict=True)
    return [[round(float(c), 4), round(float(a), 4), int(n)] for c, a, n in rows if n]


def fit_thresholds(
    probabilities: np.ndarray, truth: np.ndarray, names: Sequence[str], multi_label: bool = False
) -> dict[str, Any] | None:
    """Return a threshold for each label, fitted on held-out examples.

    For one label an example: the lowest probability from which on at least 95 % of the examples
    that get this label, ten or more, are right. A label that fewer than ten examples get has the
    threshold of all labels together. 1 if no probability is high enough: such answers are left
    open.

    For several labels at once: the threshold with the highest F1 of the label; 0.5 for a label that
    fewer than ten examples have.

    Args:
        probabilities, truth, multi_label: as for `fit_temperature`.
        names: of the C labels.

    Returns: "labels", name -> threshold; "count" of the examples; "answered", the number that get a
        label; "right", the number of these that are right. None for fewer than 30 examples.
    """
    probabilities, truth = np.asarray(probabilities, np.float64), np.asarray(truth)
    if len(probabilities) < FEWEST:
        return None
    if multi_label:
        has = truth != 0
        found = np.array([_best_f1(p, h) for p, h in zip(probabilities.T, has.T, strict=True)])
        given = probabilities >= found
        answered = given.any(axis=1)
        right = (given == has).all(axis=1) & answered
    else:
        label, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
        hits = label == truth
        together = _reliable_from(confidence, hits)
        found = np.full(len(names), together)
        for place in range(len(names)):
            mine = label == place
            if mine.sum() >= _FEWEST_ABOVE:
                found[place] = _reliable_from(confidence[mine], hits[mine])
        answered = confidence >= found[label]
        right = hits & answered
    return {
        "labels": dict(zip(names, found.tolist(), strict=True)),
        "count": len(probabilities),
        "answered": int(answered.sum()),
        "right": int(right.sum()),
    }


def _reliable_from(confidence: np.ndarray, hits: np.ndarray) -> float:
    """Return the lowest confidence from which on enough examples are right, or 1.0."""
    confidence = _below(confidence)  # a threshold takes in all that is equal to it after rounding
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    counts = np.arange(1, len(order) + 1)
    # Examples of equal confidence are above a threshold together.
    is_last = np.append(ordered[1:] < ordered[:-1], True)
    good = is_last & (counts >= _FEWEST_ABOVE)
    good &= np.cumsum(hits[order]) >= RELIABLE * counts - 1e-9
    return float(ordered[np.flatnonzero(good)[-1]]) if good.any() else 1.0


def _best_f1(probabilities: np.ndarray, has: np.ndarray) -> float:
    """Return the lowest threshold with the highest F1 of a label."""
    if has.sum() < _FEWEST_ABOVE:
        return 0.5
    candidates = np.unique(_below(probabilities))
    order = np.sort(probabilities)
    given = len(order) - np.searchsorted(order, candidates)
    hits = has.sum() - np.searchsorted(np.sort(probabilities[has]), candidates)
    return float(candidates[np.argmax(2 * hits / (given + has.sum()))])


def _below(values: np.ndarray) -> np.ndarray:
    """Return thresholds: values rounded down to four decimals, so that each reaches its own."""
    return np.floor(values * 1e4) / 1e4


def _decisions(
    probabilities: np.ndarray, truth: np.ndarray, multi_label: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities and truth of a classifier's choices, float (m, K) and int (m,). With
    `multi_label`, each label of each example is a choice between no and yes (K = 2)."""
    probabilities = np.asarray(probabilities, np.float64)
    if not multi_label:
        return probabilities, np.asarray(truth)
    flat = probabilities.ravel()
    return np.stack([1 - flat, flat], 1), np.ravel(truth).astype(bool) * 1


def _problem(
    probabilities: np.ndarray, truth: np.ndarray, multi_label: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and smoothed targets of the choices of `_decisions`, both float (m, K)."""
    probabilities, ids = _decisions(probabilities, truth, multi_label)
    logits = np.log(np.clip(probabilities, _SMALLEST, None))
    count, classes = logits.shape
    rest = 1 / (count + 2)
    targets = np.full((count, classes), rest / (classes - 1))
    targets[np.arange(count), ids] = 1 - rest
    return logits, targets
