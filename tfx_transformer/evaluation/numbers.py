"""Scores of predicted numbers, their intervals, and the largest errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from tfx_transformer.evaluation.intervals import Interval, bootstrap_interval
from tfx_transformer.vectors import spearman

Numbers: TypeAlias = Sequence[float] | np.ndarray


def score_numbers(predicted: Numbers, truth: Numbers) -> dict[str, float]:
    """Return scores of predicted numbers, as scikit-learn and SciPy define them.

    Args:
        predicted, truth: float (n,), n >= 1.

    Returns: "mae", the mean absolute error in the unit of the data; "r2",
        1 - Σ(y - ŷ)² / Σ(y - ȳ)², which is 1 at best and 0 for always predicting the mean ȳ, NaN if
        all true numbers are equal; "spearman", the correlation of the ranks, NaN if one side is
        constant; "count".

    Raises:
        ValueError: the lengths differ, there is no number, or one is not finite.
    """
    predicted, truth = _check(predicted, truth)
    errors = predicted - truth
    spread = float(((truth - truth.mean()) ** 2).sum())
    return {
        "mae": float(np.abs(errors).mean()),
        "r2": 1 - float((errors**2).sum()) / spread if np.ptp(truth) else float("nan"),
        "spearman": float(spearman(predicted, truth)),
        "count": len(truth),
    }


def number_intervals(
    predicted: Numbers, truth: Numbers, seed: int = 0
) -> dict[str, Interval | None]:
    """Return the 95 % bootstrap intervals of the scores of `score_numbers`; None for a score that
    is NaN in a resample."""
    predicted, truth = _check(predicted, truth)

    def interval(measure: str) -> Interval | None:
        return bootstrap_interval(
            lambda rows: score_numbers(predicted[rows], truth[rows])[measure], len(truth), seed
        )

    return {measure: interval(measure) for measure in ("mae", "r2", "spearman")}


def finite_scores(scores: Mapping[str, float], digits: int = 6) -> dict[str, float | None]:
    """Return scores as JSON values, rounded to `digits`; None for values that are not finite."""
    return {
        name: value if isinstance(value, int) else _round(value, digits)
        for name, value in scores.items()
    }


def worst_mistakes(
    inputs: Sequence[str], predicted: Numbers, truth: Numbers, count: int = 50
) -> list[dict[str, str | float]]:
    """Return the predictions with the largest errors, the largest first.

    Args:
        inputs: n texts.
        predicted, truth: float (n,).
        count: most predictions to return.

    Returns: for each its input, target (the true number), prediction and error (prediction minus
        target).
    """
    predicted, truth = _check(predicted, truth)
    if len(inputs) != len(truth):
        raise ValueError(f"{len(inputs)} inputs do not fit the truth of {len(truth)} examples.")
    errors = predicted - truth
    order = np.argsort(-np.abs(errors), kind="stable")[:count].tolist()
    return [
        {
            "input": inputs[i],
            "target": float(truth[i]),
            "prediction": float(f"{predicted[i]:.7g}"),
            "error": float(f"{errors[i]:.7g}"),
        }
        for i in order
    ]


def _round(value: float, digits: int) -> float | None:
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None


def _check(predicted: Numbers, truth: Numbers) -> tuple[np.ndarray, np.ndarray]:
    predicted, truth = (np.asarray(values, "float64") for values in (predicted, truth))
    if predicted.shape != truth.shape or truth.ndim != 1 or not len(truth):
        raise ValueError(f"predicted {predicted.shape} and true {truth.shape} numbers do not fit.")
    if not (np.isfinite(predicted).all() and np.isfinite(truth).all()):
        raise ValueError("a number is not finite.")
    return predicted, truth
