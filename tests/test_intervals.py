"""Confidence intervals: published numbers, scikit-learn's F1, and how often they hold."""

import numpy as np
import pytest
import sacrebleu
from sklearn.metrics import f1_score

from tfx_transformer.evaluation import (
    bootstrap_interval,
    macro_f1_interval,
    mean_interval,
    proportion_interval,
)
from tfx_transformer.evaluation.intervals import bleu_interval, chrf_interval


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [  # Newcombe (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_of_a_share(hits, count, low, high):
    found = proportion_interval(hits, count)
    assert found == pytest.approx((low, high), abs=5e-5)
    mirrored = proportion_interval(count - hits, count)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


@pytest.mark.parametrize(("hits", "count"), [(0, 0), (3, 2), (-1, 5)])
def test_of_no_share(hits, count):
    with pytest.raises(ValueError, match="Expected 0 ≤ hits ≤ count"):
        proportion_interval(hits, count)


def test_of_a_mean():
    values = np.random.default_rng(3).normal(5, 2, 400)
    half = 1.96 * values.std() / 20
    low, high = mean_interval(values)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    assert mean_interval([1.0]) is None
    assert mean_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)
    assert bootstrap_interval(lambda chosen: float("nan"), 7) is None


def test_of_macro_f1_by_resampled_examples():
    """The matrix is drawn from; scikit-learn scores examples that are drawn one by one."""
    random = np.random.default_rng(5)
    truth = random.integers(0, 3, 113)
    predicted = np.where(random.random(113) < 0.7, truth, random.integers(0, 3, 113))
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (truth, predicted), 1)
    drawn = [random.integers(0, 113, 113) for _ in range(700)]
    scores = [f1_score(truth[d], predicted[d], average="macro", zero_division=0) for d in drawn]
    found = macro_f1_interval(counts)
    assert found == pytest.approx(np.percentile(scores, [2.5, 97.5]), abs=0.015)
    assert found == macro_f1_interval(counts), "the same seed draws the same"
    assert macro_f1_interval(np.array([[1, 0], [0, 0]])) is None


WRITTEN = ["the cat sat on the mat", "a dog barks", "it rains in the north today", "no"] * 7
REFERENCES = ["the cat sat on a mat", "the dog barks", "it rains in the south today", "yes"] * 7


@pytest.mark.parametrize(
    ("found", "metric"),
    [
        (bleu_interval(WRITTEN, REFERENCES, "13a"), sacrebleu.metrics.BLEU()),
        (chrf_interval(WRITTEN, REFERENCES), sacrebleu.metrics.CHRF()),
    ],
    ids=["bleu", "chrf"],
)
def test_of_corpus_scores_as_sacrebleu(found, metric):
    score = metric.corpus_score(WRITTEN, [REFERENCES], n_bootstrap=1000)
    assert (found.high - found.low) / 2 == pytest.approx(score._ci, rel=0.05)
    assert found.low < score.score < found.high


def test_of_corpus_scores_that_are_all_the_same():
    """sacrebleu's own interval fails on a mixture of float and float32."""
    assert chrf_interval(["", "x", ""], ["猫", "犬", "x"]).low == 0
    assert chrf_interval(["a b"] * 3, ["a b"] * 3) == (100, 100)
    assert bleu_interval(["a"], ["a"], "13a") is None
