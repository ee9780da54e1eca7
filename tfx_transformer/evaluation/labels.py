"""Scores of predicted labels: accuracy, F1, and the calibration of probabilities.

Precision, recall and F1 are scikit-learn's with `zero_division=0`: a class that was never predicted
has precision 0, and a class without a test example has recall 0. Both have F1 0 and count in the
macro average, which is over all classes, not only over those in the test.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BINS = 15  # as in Guo et al. (2017), section 5


class CalibrationBins(NamedTuple):
    """The examples by confidence; bin m of M holds those in ((m - 1) / M, m / M].

    Attributes:
        count: int (M,), examples in each bin.
        confidence: float64 (M,), their mean highest probability; NaN in an empty bin.
        accuracy: float64 (M,), the share of them that is right; NaN in an empty bin.
    """

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    def error(self) -> float:
        """The expected calibration error, sum_m count_m / n |accuracy_m - confidence_m|
        (Guo et al. 2017, equation 3)."""
        gaps = np.nan_to_num(abs(self.accuracy - self.confidence))
        return float(gaps @ self.count / self.count.sum())


def score_labels(probabilities: np.ndarray, truth: np.ndarray, names: Sequence[str]) -> dict:
    """Return the scores of a classifier that chooses the label of the highest probability.

    Args:
        probabilities: float (n, C).
        truth: int (n,), ids from 0 to C - 1.
        names: the C labels, distinct.

    Returns:
        accuracy: share that is right.
        macro_f1: mean F1 of all C classes.
        calibration_error: expected calibration error of the highest probability, 15 bins.
        log_loss: mean -ln of the true label's probability, in nats; absent if infinite, that is, if
            a true label has probability 0.
        count: n.
        per_class: for each name a dict of precision, recall, f1, and count of test examples.

    Raises: ValueError if there is no example, the shapes disagree, a value is not a probability or
        an id is not a class.
    """
    probabilities, truth = validate(probabilities, truth)
    classes = probabilities.shape[1]
    _check_names(names, classes)
    predicted = probabilities.argmax(axis=1)
    hits = truth[predicted == truth]
    per_class = _per_class(
        names, *(np.bincount(ids, minlength=classes) for ids in (hits, predicted, truth))
    )
    scores = {
        "accuracy": float(np.mean(predicted == truth)),
        "macro_f1": _macro_f1(per_class),
        "calibration_error": calibration_bins(probabilities, truth).error(),
    }
    of_truth = probabilities[np.arange(len(truth)), truth]
    if of_truth.all():
        scores["log_loss"] = float(-np.log(of_truth).mean())
    return scores | {"count": len(truth), "per_class": per_class}


def score_multi_label(
    probabilities: np.ndarray, truth: np.ndarray, names: Sequence[str], threshold: float = 0.5
) -> dict:
    """Return the scores of a classifier whose examples have any number of labels.

    Args:
        probabilities: float (n, C), one for each label.
        truth: (n, C), nonzero where the example has the label.
        names: the C labels, distinct.
        threshold: a label is predicted if its probability is at least this.

    Returns:
        micro_f1: F1 of all (example, label) decisions together.
        macro_f1: mean F1 of all C labels.
        exact_match: share of the examples whose labels are all right and complete.
        count: n.
        per_class: as in `score_labels`.

    Raises: ValueError if there is no example, the shapes disagree or a value is not a probability.
    """
    probabilities = _check_probabilities(probabilities)
    _check_names(names, probabilities.shape[1])
    truth = np.asarray(truth) != 0
    if truth.shape != probabilities.shape:
        raise ValueError(
            f"probabilities of shape {probabilities.shape} do not fit truth of shape {truth.shape}."
            "\n  Expected (examples, labels) of both."
        )
    predicted = probabilities >= threshold
    hits, guesses, count = (
        decisions.sum(axis=0) for decisions in (predicted & truth, predicted, truth)
    )
    per_class = _per_class(names, hits, guesses, count)
    return {
        "micro_f1": float(_ratio(2 * hits.sum(), guesses.sum() + count.sum())),
        "macro_f1": _macro_f1(per_class),
        "exact_match": float(np.mean((predicted == truth).all(axis=1))),
        "count": len(truth),
        "per_class": per_class,
    }


def labelled_right(
    probabilities: np.ndarray, truth: np.ndarray, multi_label: bool = False
) -> np.ndarray:
    """Return bool (n,): True for each example with the right label, or all labels right.

    Args:
        probabilities: float (n, C).
        truth: int (n,), ids; with `multi_label` (n, C), nonzero where the example has the label.
        multi_label: True if each label has a probability of its own.
    """
    if multi_label:
        return ((probabilities >= 0.5) == (np.asarray(truth) != 0)).all(axis=1)
    return probabilities.argmax(axis=1) == truth


def with_labels(
    probabilities: np.ndarray, names: Sequence[str], wanted: Sequence[str]
) -> np.ndarray:
    """Return the probabilities of the wanted labels, float (n, wanted); 0 for an unknown label.

    Args:
        probabilities: float (n, names).
        names: of their labels.
        wanted: names of the labels to return.
    """
    found = np.zeros((len(probabilities), len(wanted)))
    for place, name in enumerate(wanted):
        if name in names:
            found[:, place] = probabilities[:, names.index(name)]
    return found


def calibration_bins(probabilities: np.ndarray, truth: np.ndarray) -> CalibrationBins:
    """Return the examples in 15 bins of equal width by their highest probability.

    Arguments and errors as for `score_labels`.
    """
    probabilities, truth = validate(probabilities, truth)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    inner_edges = np.linspace(0, 1, BINS + 1)[1:-1]
    bins = np.searchsorted(inner_edges, confidence)  # on an edge: the bin below, as the paper
    count, total, hits = (
        np.bincount(bins, weights, minlength=BINS) for weights in (None, confidence, right)
    )
    with np.errstate(invalid="ignore"):
        return CalibrationBins(count, total / count, hits / count)


def validate(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 (n, C) and int (n,); raise ValueError as documented in `score_labels`."""
    probabilities, truth = _check_probabilities(probabilities), np.asarray(truth)
    if truth.shape != probabilities.shape[:1]:
        raise ValueError(
            f"probabilities of shape {probabilities.shape} do not fit truth of shape {truth.shape}."
            "\n  Expected (examples, classes) and (examples,)."
        )
    classes = probabilities.shape[1]
    outside = np.flatnonzero((truth < 0) | (truth >= classes))
    if outside.size:
        raise ValueError(
            f"row {outside[0]} of the truth is class {truth[outside[0]]}, which does not exist.\n"
            f"  The {classes} columns of the probabilities are the classes 0 to {classes - 1}."
        )
    return probabilities, truth


def _check_probabilities(probabilities: np.ndarray) -> np.ndarray:
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or not probabilities.size:
        raise ValueError(
            f"the probabilities have shape {probabilities.shape}.\n"
            "  Expected (examples, classes), at least one of each."
        )
    # Rounding puts the sum of a float32 softmax, and so its largest value, a little above 1.
    bad = np.flatnonzero(~((probabilities >= 0) & (probabilities < 1.001)).all(axis=1))
    if bad.size:
        raise ValueError(
            f"row {bad[0]} of the probabilities holds a value that is not between 0 and 1.\n"
            "  Expected probabilities, not logits. Where it is NaN, the model has diverged."
        )
    return probabilities


def _check_names(names: Sequence[str], classes: int) -> None:
    if len(names) != classes or len(set(names)) != classes:
        raise ValueError(
            f"{len(set(names))} distinct names do not fit {classes} columns of probabilities.\n"
            "  Expected one distinct name per column."
        )


def _per_class(
    names: Sequence[str], hits: np.ndarray, guesses: np.ndarray, count: np.ndarray
) -> dict[str, dict[str, float | int]]:
    """Return the scores of each class, from the numbers of right predictions, predictions and true
    examples, each int (C,)."""
    table = zip(
        _ratio(hits, guesses).tolist(),
        _ratio(hits, count).tolist(),
        _ratio(2 * hits, guesses + count).tolist(),
        count.tolist(),
        strict=True,
    )
    columns = ("precision", "recall", "f1", "count")
    return {
        name: dict(zip(columns, row, strict=True)) for name, row in zip(names, table, strict=True)
    }


def _macro_f1(per_class: dict[str, dict[str, float | int]]) -> float:
    return float(np.mean([scores["f1"] for scores in per_class.values()]))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, 0 where both are 0."""
    return part / np.maximum(whole, 1)
