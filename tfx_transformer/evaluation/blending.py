"""The factors on the logits of two classifiers, fitted on held-out examples; in doubt only the
linear one answers, or both have equal factors."""

from __future__ import annotations

import numpy as np

# Held-out examples below which nothing is fitted.
FEWEST = 30
_STEPS = 50


def blend(
    deep: np.ndarray, linear: np.ndarray, truth: np.ndarray, even: bool = False
) -> tuple[float, float]:
    """Return (a, b), both 0 or more, for which softmax(a * deep + b * linear) makes the labels of
    held-out examples most probable.

    It is (0, b') for b' * linear alone, unless the blend's mean log-loss is lower by more than one
    standard error; (0, 1) for fewer than 30 examples. It is (a', 0) where b would be below 0. The
    target of a true label is (n + 1) / (n + 2), see `calibration.fit_temperature`.

    With `even` both factors are equal, (c, c), unless the factors above have a lower mean log-loss
    by more than one standard error.

    Args:
        deep, linear: logits, float (n, C).
        truth: int (n,), ids from 0 to C - 1.
        even: prefer equal factors.
    """
    count, classes = deep.shape
    if count < FEWEST:
        return 0.0, 1.0
    targets = np.full((count, classes), 1 / (count + 2) / (classes - 1))
    targets[np.arange(count), truth] = 1 - 1 / (count + 2)
    both = np.stack([_centre(deep), _centre(linear)])
    (a, b), losses = _factors(both, targets)
    if even:
        (c,), equal = _fit(both.sum(axis=0, keepdims=True), targets)
        if c > 0 and not _is_lower(losses, equal):
            return float(c), float(c)
    return a, b


def _factors(both: np.ndarray, targets: np.ndarray) -> tuple[tuple[float, float], np.ndarray]:
    """Return the factors without `even`, and the log-loss of each example."""
    (alone,), losses = _fit(both[1:], targets)
    if alone < 0:
        alone, losses = 0.0, np.full(len(targets), np.log(targets.shape[1]))
    (a, b), blended = _fit(both, targets)
    if b < 0:
        ((a,), blended), b = _fit(both[:1], targets), 0.0
    if a < 0 or not _is_lower(blended, losses):
        return (0.0, float(alone)), losses
    return (float(a), float(b)), blended


def _is_lower(losses: np.ndarray, others: np.ndarray) -> bool:
    """Return True if losses are lower than others by more than one standard error."""
    gains = others - losses
    return bool(gains.mean() > gains.std() / np.sqrt(len(gains)))


def _fit(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the factors of logits, (m, n, C), with the least cross-entropy, float (m,), and the
    cross-entropy of each example, float (n,), by Newton's method with halved steps."""
    factors = np.full(len(logits), 1 / len(logits))
    losses, logs = _losses(factors, logits, targets)
    for _ in range(_STEPS):
        p = np.exp(logs)
        slope = ((p - targets) * logits).sum(axis=2).mean(axis=1)
        apart = logits - (p * logits).sum(axis=2, keepdims=True)
        curvature = np.einsum("inc,jnc->ij", p * apart, apart) / len(losses)
        step = np.linalg.solve(curvature + 1e-9 * np.eye(len(factors)), slope)
        while (found := _losses(factors - step, logits, targets))[0].mean() > losses.mean():
            step = step / 2
            if np.abs(step).max() < 1e-9:
                return factors, losses
        factors = factors - step
        losses, logs = found
    return factors, losses


def _losses(factors, logits, targets):
    z = np.tensordot(factors, logits, 1)
    z = z - z.max(axis=1, keepdims=True)
    logs = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -(targets * logs).sum(axis=1), logs


def _centre(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    return logits - logits.mean(axis=1, keepdims=True)
