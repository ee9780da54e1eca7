"""Confidence intervals of scores, which a limited number of examples makes uncertain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

# The normal quantile of a two-sided interval of 95 %.
_Z = 1.959963984540054
# Most numbers that resampling draws: many examples need few resamples.
_DRAWS = 20_000_000
_RESAMPLES = 1000
_FEWEST = 100


class Interval(NamedTuple):
    """A confidence interval of 95 %, on the scale of its score."""

    low: float
    high: float


def proportion_interval(hits: int, count: int) -> Interval:
    """Return Wilson's interval of a share (Wilson 1927; Brown et al. 2001, equation 4).

    (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n),  p = hits / count, n = count, z = 1.96

    Args:
        hits: examples that are right.
        count: all examples.

    Raises:
        ValueError: there is no example, or there are more hits than examples.
    """
    if not 0 <= hits <= count or not count:
        raise ValueError(
            f"{hits} hits of {count} examples.\n  Expected 0 ≤ hits ≤ count, count > 0."
        )
    share, square = hits / count, _Z**2 / count
    middle = share + square / 2
    half = _Z * np.sqrt(share * (1 - share) / count + square / (4 * count))
    low, high = ((middle + side * half) / (1 + square) for side in (-1, 1))
    return Interval(float(max(low, 0.0)), float(min(high, 1.0)))


def paired_difference(ours: np.ndarray, theirs: np.ndarray) -> Interval:
    """Return the interval of the difference of two shares of the same examples, ours minus theirs.

    The hybrid score interval of Newcombe (1998, Statistics in Medicine 17, 2635), method 10 without
    its continuity correction. Unlike a bootstrap interval, it is valid for few examples too.

    Args:
        ours, theirs: bool (n,), n >= 1, True for each example that is right.
    """
    ours, theirs = np.asarray(ours, bool), np.asarray(theirs, bool)
    p, q = float(ours.mean()), float(theirs.mean())
    p_low, p_high = proportion_interval(int(ours.sum()), len(ours))
    q_low, q_high = proportion_interval(int(theirs.sum()), len(theirs))
    spread = np.sqrt(p * (1 - p) * q * (1 - q))
    phi = float((np.mean(ours & theirs) - p * q) / spread) if spread else 0.0
    below = _third_side(p - p_low, q_high - q, phi)
    above = _third_side(p_high - p, q - q_low, phi)
    return Interval(max(p - q - below, -1.0), min(p - q + above, 1.0))


def bootstrap_interval(
    score: Callable[[np.ndarray], float], count: int, seed: int = 0
) -> Interval | None:
    """Return the percentile interval of a score over resampled examples (Efron 1979).

    Args:
        score: (int (count,), indices of examples, some repeated) -> their score.
        count: number of examples.
        seed: draws the resamples: 1,000, or fewer for more than 20,000 examples.

    Returns: None if there are fewer than two examples, or a resample has no score.
    """
    if count < 2:
        return None
    random = np.random.default_rng(seed)
    resamples = int(np.clip(_DRAWS // count, _FEWEST, _RESAMPLES))
    scores = [score(random.integers(0, count, count)) for _ in range(resamples)]
    return percentile_interval(np.asarray(scores))


def mean_interval(values: Sequence[float], seed: int = 0) -> Interval | None:
    """Return the bootstrap interval of a mean over examples."""
    numbers = np.asarray(values, np.float64)
    return bootstrap_interval(lambda chosen: numbers[chosen].mean(), len(numbers), seed)


def macro_f1_interval(counts: np.ndarray, seed: int = 0) -> Interval | None:
    """Return the bootstrap interval of macro-F1.

    Args:
        counts: int (C, C), number of examples of each label (row) by predicted label (column).

    Returns: None if there are fewer than two examples.
    """
    counts = np.asarray(counts)
    total, classes = int(counts.sum()), len(counts)
    if total < 2:
        return None
    # Drawing examples with replacement draws the cells of this matrix from a multinomial.
    resamples = int(np.clip(_DRAWS // classes**2, _FEWEST, _RESAMPLES))
    shares = counts.ravel() / total
    drawn = np.random.default_rng(seed).multinomial(total, shares, resamples)
    drawn = drawn.reshape(-1, classes, classes)
    hits = np.diagonal(drawn, axis1=1, axis2=2)
    both = drawn.sum(axis=1) + drawn.sum(axis=2)
    return percentile_interval((2 * hits / np.maximum(both, 1)).mean(axis=1))


def bleu_interval(
    written: Sequence[str], references: Sequence[str], tokenize: str
) -> Interval | None:
    """Return the bootstrap interval (Koehn 2004) of BLEU, within 0 and 100; None if there are fewer
    than two texts.

    Args:
        written, references, tokenize: as for `texts.score_texts`.
    """
    drawn = bleu_samples(written, references, tokenize)
    return None if drawn is None else percentile_interval(drawn)


def bleu_samples(
    written: Sequence[str], references: Sequence[str], tokenize: str
) -> np.ndarray | None:
    """Return the BLEU of 1,000 resamples of texts, float (1000,); the resamples depend only on the
    number of texts. None if there are fewer than two texts. Arguments as for `bleu_interval`."""
    import sacrebleu

    return _corpus_samples(sacrebleu.metrics.BLEU(tokenize=tokenize), written, references)


def chrf_interval(written: Sequence[str], references: Sequence[str]) -> Interval | None:
    """Return the bootstrap interval of chrF, as `bleu_interval` that of BLEU."""
    import sacrebleu

    drawn = _corpus_samples(sacrebleu.metrics.CHRF(), written, references)
    return None if drawn is None else percentile_interval(drawn)


def _corpus_samples(
    metric: Any, written: Sequence[str], references: Sequence[str]
) -> np.ndarray | None:
    from sacrebleu.significance import _bootstrap_resample

    if len(written) < 2:
        return None
    # `corpus_score(n_bootstrap=…)` fails if some scores are float32 and others 0.0.
    statistics = metric._extract_corpus_statistics(written, [references])
    _, scores = _bootstrap_resample(statistics, metric, _RESAMPLES)
    return np.array([float(score.score) for score in scores])


def _third_side(a: float, b: float, cosine: float) -> float:
    """Return the third side of a triangle from two sides and the cosine of the angle between."""
    return float(np.sqrt(max(a * a - 2 * cosine * a * b + b * b, 0.0)))


def percentile_interval(scores: np.ndarray) -> Interval | None:
    """Return the middle 95 % of resampled scores; None if one of them is not finite."""
    if not np.isfinite(scores).all():
        return None
    return Interval(*np.percentile(scores, [2.5, 97.5]).tolist())
