"""Temperature scaling: one number that makes a classifier's probabilities mean what they say.

softmax(z / T), or sigmoid(z / T) of each label, with the T that makes held-out labels most probable
(Guo et al. 2017, section 4.2). The order of the labels stays.
"""

from __future__ import annotations

import numpy as np

from tfx_transformer.evaluation.labels import calibration_bins

# Held-out examples below which a temperature is not fitted, and its limits.
FEWEST = 30
_LOWEST, _HIGHEST = 0.05, 20.0
_STEPS = 60
# Probabilities that float32 rounds to 0 or 1.
_SMALLEST = 1e-12


def fit_temperature(
    probabilities: np.ndarray, truth: np.ndarray, multi_label: bool = False
) -> float:
    """Return the temperature with the lowest cross-entropy, from 0.05 to 20, three digits of it.

    A true label counts (n + 1) / (n + 2) instead of 1, and the others share the rest, as in Platt
    (1999), section 2.2: so it is finite where all n examples are right.

    Args:
        probabilities: float (n, C), as the classifier gives them.
        truth: int (n,), ids from 0 to C - 1; of several labels (n, C), nonzero where the example
            has the label.
        multi_label: True if each label has a probability of its own.

    Returns: 1.0 if there are fewer than 30 examples, or if the temperature found does not lower the
        plain cross-entropy.
    """
    if len(probabilities) < FEWEST:
        return 1.0
    logits, targets = _problem(np.asarray(probabilities, np.float64), truth, multi_label)

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
    temperature = float(f"{np.exp(-(low + high) / 2):.3g}")
    losses = [
        calibration_scores(scale(probabilities, t, multi_label), truth, multi_label)["log_loss"]
        for t in (1.0, temperature)
    ]
    return temperature if losses[1] < losses[0] else 1.0


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
    """Return "calibration_error" (expected, 15 bins) and "log_loss" (nats) of what a classifier
    decides: a label for each example, or of several labels yes or no to each.

    Args: as of `fit_temperature`.
    """
    probabilities = np.asarray(probabilities, np.float64)
    if multi_label:
        flat = probabilities.ravel()
        probabilities, truth = np.stack([1 - flat, flat], 1), np.ravel(truth).astype(bool) * 1
    of_truth = np.clip(probabilities[np.arange(len(truth)), truth], _SMALLEST, None)
    return {
        "calibration_error": round(calibration_bins(probabilities, truth).error(), 4),
        "log_loss": round(float(-np.log(of_truth).mean()), 4),
    }


def _problem(
    probabilities: np.ndarray, truth: np.ndarray, multi_label: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and target shares, both float (m, K); of several labels each label of each
    example is a choice between two."""
    if multi_label:
        flat, ids = probabilities.ravel(), np.ravel(truth).astype(bool) * 1
        probabilities = np.stack([1 - flat, flat], 1)
    else:
        ids = np.asarray(truth)
    logits = np.log(np.clip(probabilities, _SMALLEST, None))
    count, classes = logits.shape
    rest = 1 / (count + 2)
    targets = np.full((count, classes), rest / (classes - 1))
    targets[np.arange(count), ids] = 1 - rest
    return logits, targets
