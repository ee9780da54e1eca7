"""Scores of numbers against a calculation by hand and scikit-learn; intervals, baseline, words."""

import numpy as np
import pytest
from sklearn import metrics

from tfx_transformer.evaluation.baselines import tfidf_numbers
from tfx_transformer.evaluation.conclusion import Conclusion, conclude_numbers
from tfx_transformer.evaluation.numbers import (
    finite_scores,
    number_intervals,
    score_numbers,
    worst_mistakes,
)


def test_scores_by_hand():
    scores = score_numbers([2, 3, 7], [1, 5, 6])  # errors 1, -2, 1; mean 4, spread 9 + 1 + 4
    assert scores == {"mae": 4 / 3, "r2": 1 - 6 / 14, "spearman": 1.0, "count": 3}
    assert score_numbers([1, 2, 3], [3, 2, 1])["spearman"] == -1


def test_scores_are_those_of_scikit_learn():
    random = np.random.default_rng(5)
    truth = random.normal(1000, 30, 53)
    predicted = truth + random.normal(5, 20, 53)
    scores = score_numbers(predicted, truth)
    assert np.isclose(scores["mae"], metrics.mean_absolute_error(truth, predicted))
    assert np.isclose(scores["r2"], metrics.r2_score(truth, predicted))
    intervals = number_intervals(predicted, truth)
    for name, (low, high) in intervals.items():
        assert low < scores[name] < high
    # A mean of n values: its error is about their deviation / sqrt(n).
    errors = np.abs(predicted - truth)
    low, high = intervals["mae"]
    assert np.isclose(high - low, 2 * 1.96 * errors.std() / 53**0.5, rtol=0.15)


def test_what_is_not_defined_is_none():
    scores = score_numbers([1, 2], [3, 3])
    assert np.isnan(scores["r2"]) and np.isnan(scores["spearman"])
    assert finite_scores(scores) == {"mae": 1.5, "r2": None, "spearman": None, "count": 2}
    assert number_intervals([1, 2], [3, 3])["r2"] is None
    for predicted, truth in (([1], [1, 2]), ([], []), ([np.nan], [1])):
        with pytest.raises(ValueError):
            score_numbers(predicted, truth)


def test_the_farthest_predictions_come_first():
    rows = worst_mistakes(["a", "b", "c"], [1.0, 10.0, 5.0], [1.5, 3.0, 9.0], 2)
    assert [row["input"] for row in rows] == ["b", "c"]
    assert [row["error"] for row in rows] == [7.0, -4.0]


def test_the_linear_model_learns_what_words_are_worth():
    train = [f"{'red ' * (i % 2)}{'big ' * (i % 3 == 0)}thing {i}" for i in range(60)]
    numbers = [100.0 + 50 * (i % 2) + 20 * (i % 3 == 0) for i in range(60)]
    small, red, both = tfidf_numbers(train, numbers, ["thing", "red thing", "red big thing"])
    assert small < red < both and abs(red - small - 50) < 20
    (alone,) = tfidf_numbers(["a b", "c d"], [1.0, 3.0], ["x y"])
    assert np.isclose(alone, 2.0)


def test_the_conclusion_knows_that_less_is_better():
    random = np.random.default_rng(1)
    truth = random.normal(0, 100, 200)
    near, far = truth + random.normal(0, 10, 200), truth + random.normal(0, 40, 200)
    better = conclude_numbers(near, truth, {"mean": np.zeros(200), "ridge": far}, "base/x")
    assert better.verdict == "better" and better.baseline == "ridge"
    english, japanese = better.sentences("en")[0], better.sentences("ja")[0]
    score, other = np.abs(near - truth).mean(), np.abs(far - truth).mean()
    assert f"mean absolute error is smaller by {other - score:.1f}" in english
    assert f"{score:.2f} against {other:.1f}" in english
    assert f"平均絶対誤差が{other - score:.1f}小さく" in japanese
    worse = conclude_numbers(far, truth, {"mean": np.zeros(200), "ridge": near}, "base/x")
    assert worse.verdict == "worse" and "larger by" in worse.sentences("en")[0]
    assert "--base base/x" in worse.sentences("en")[1]
    same = conclude_numbers(near, truth, {"mean": near[::-1], "ridge": near})
    assert same.verdict == "no better"
    assert "difference of 0.00 (95 %: 0.00 to 0.00)" in same.sentences("en")[0]
    assert Conclusion.from_dict(better.to_dict()) == better


def test_an_error_is_uncertain_by_its_own_size():
    truth = np.arange(9.0)
    few = conclude_numbers(truth + np.array([0, 1, 0, 5, 0, 0, 2, 0, 0]), truth, {})
    assert any("Few rows are held out" in sentence for sentence in few.sentences("en"))
    many = np.arange(900.0)
    sure = conclude_numbers(many + np.tile([1.0, -1.2, 1.1], 300), many, {})
    assert len(sure.sentences("en")) == 2
