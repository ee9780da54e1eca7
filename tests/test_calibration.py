"""Temperatures, against scipy's minimum of the cross-entropy and numbers by hand."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax
from sklearn.metrics import f1_score, log_loss
from tiny_models import tiny_encoder

from tfx_transformer.errors import InputError
from tfx_transformer.evaluation.calibration import (
    calibration_scores,
    fit_temperature,
    fit_thresholds,
    reliability,
    scale,
)
from tfx_transformer.models.encoders import Classifier
from tfx_transformer.prediction.answers import PREDICTIONS
from tfx_transformer.prediction.classification import Labels, read_thresholds


def drawn(count, classes, sharpness, seed=0):
    """Logits, and truth that is as probable as logits / sharpness say."""
    random = np.random.default_rng(seed)
    logits = 3 * random.normal(size=(count, classes))
    chances = softmax(logits / sharpness, axis=1)
    return logits, np.array([random.choice(classes, p=row) for row in chances])


def smoothed_loss(temperature, logits, truth):
    """The cross-entropy with Platt's targets, written out."""
    count, classes = logits.shape
    total = 0.0
    for row, label in zip(log_softmax(logits / temperature, axis=1), truth, strict=True):
        for index, value in enumerate(row):
            share = (count + 1) / (count + 2) if index == label else 1 / (count + 2) / (classes - 1)
            total -= share * value
    return total / count


@pytest.mark.parametrize("sharpness", [0.4, 2.5])
@pytest.mark.parametrize(("count", "classes"), [(31, 2), (97, 5), (401, 3)])
def test_the_temperature_is_where_the_cross_entropy_is_lowest(count, classes, sharpness):
    logits, truth = drawn(count, classes, sharpness)
    expected = minimize_scalar(
        smoothed_loss, (0.05, 20), args=(logits, truth), bounds=(0.05, 20), method="bounded"
    ).x
    found = fit_temperature(softmax(logits, axis=1), truth)
    assert found == pytest.approx(expected, rel=5e-3), "three digits of it"


def test_many_examples_show_the_true_temperature():
    logits, truth = drawn(20_011, 4, 1.7, seed=5)
    probabilities = softmax(logits, axis=1).astype("float32")
    temperature = fit_temperature(probabilities, truth)
    assert temperature == pytest.approx(1.7, abs=0.06)
    losses = [log_loss(truth, softmax(logits / t, axis=1)) for t in (1.0, temperature)]
    before = calibration_scores(probabilities, truth)
    after = calibration_scores(scale(probabilities, temperature), truth)
    assert (before["log_loss"], after["log_loss"]) == pytest.approx(losses, abs=1e-4)
    assert after["calibration_error"] < 0.015 < 0.05 < before["calibration_error"]


def test_several_labels_have_one_temperature():
    random = np.random.default_rng(3)
    logits = 4 * random.normal(size=(5_003, 3))
    truth = random.random(logits.shape) < expit(logits / 2.2)
    temperature = fit_temperature(expit(logits), truth, multi_label=True)
    assert temperature == pytest.approx(2.2, abs=0.1)
    scaled = scale(expit(logits), temperature, multi_label=True)
    np.testing.assert_allclose(scaled, expit(logits / temperature), atol=1e-6)


def test_where_all_are_right_the_temperature_is_finite_and_by_hand():
    # Logits 1 and 0, always right: sigmoid(1 / T) = (n + 1) / (n + 2), so 1 / T = ln(n + 1).
    probabilities = np.tile(softmax([1.0, 0.0]), (44, 1))
    assert fit_temperature(probabilities, np.zeros(44, int)) == pytest.approx(
        1 / math.log(45), rel=3e-3
    )


def test_a_temperature_that_makes_nothing_better_is_left_out():
    # Platt's targets want less confidence than the one minimum of the plain cross-entropy has.
    logits, truth = drawn(61, 3, 1.0, seed=2)
    known = {"bounds": (0.05, 20), "method": "bounded"}
    best = minimize_scalar(lambda t: log_loss(truth, softmax(logits / t, axis=1)), **known).x
    probabilities = softmax(logits / best, axis=1)
    assert minimize_scalar(smoothed_loss, args=(logits / best, truth), **known).x > 1.01
    assert fit_temperature(probabilities, truth) == 1.0


def test_few_examples_show_nothing():
    logits, truth = drawn(29, 3, 2.5)
    assert fit_temperature(softmax(logits, axis=1), truth) == 1.0


def test_scores_of_a_calibration_by_hand():
    probabilities = np.array([[0.7, 0.3], [0.9, 0.1], [0.6, 0.4]])
    truth = [0, 1, 0]
    assert calibration_scores(probabilities, truth) == {
        "calibration_error": round((0.3 + 0.9 + 0.4) / 3, 4),
        "log_loss": round(-math.log(0.7 * 0.1 * 0.6) / 3, 4),
    }
    # Two labels of one example, decided yes with 0.8 and no with 0.9: one right, one wrong.
    found = calibration_scores(np.array([[0.8, 0.1]]), np.array([[1, 1]]), multi_label=True)
    assert found == {
        "calibration_error": round((0.2 + 0.9) / 2, 4),
        "log_loss": round(-math.log(0.8 * 0.1) / 2, 4),
    }


@given(st.floats(0.05, 20), st.integers(0, 2**32 - 1))
def test_labels_stay_what_they_are(temperature, seed):
    probabilities = softmax(np.random.default_rng(seed).normal(size=(5, 7)), axis=1)
    scaled = scale(probabilities, temperature)
    assert (scaled.argsort(axis=1) == probabilities.argsort(axis=1)).all()
    np.testing.assert_allclose(scaled.sum(axis=1), 1)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_models_logits_are_divided(multi_label):
    model = tiny_encoder(Classifier, num_classes=3, multi_label=multi_label)
    ids = np.arange(1, 12, dtype="int32").reshape(1, 11)
    before = np.asarray(model(ids))
    model.divide_logits(2.5)
    np.testing.assert_allclose(np.asarray(model(ids)), before / 2.5, rtol=1e-5, atol=1e-6)


def test_a_calibrated_model_mostly_stays_as_it_is():
    # The rows of a fifth show that a temperature of the others is only noise.
    kept = [fit_temperature(softmax(z, axis=1), t) == 1 for z, t in
            (drawn(61, 4, 1.0, seed) for seed in range(40))]  # fmt: skip
    assert np.mean(kept) > 0.7
    changed = [fit_temperature(softmax(z, axis=1), t) > 1 for z, t in
               (drawn(61, 4, 2.5, seed) for seed in range(10))]  # fmt: skip
    assert all(changed), "that one is far too sure"


# Thresholds


def one_label(*rows):
    """Probabilities of two labels and the truth: rows of (confidence in label 0, right)."""
    probabilities = np.array([[p, 1 - p] for p, _ in rows])
    return probabilities, np.array([0 if right else 1 for _, right in rows])


def test_a_threshold_by_hand():
    # 19 right ones from 0.99 to 0.81, then a wrong one: 19 of 20 are 95 %. Then wrong ones only.
    rows = [(0.99 - n / 100, True) for n in range(19)] + [(0.8, False)]
    rows += [(0.79 - n / 100, False) for n in range(12)]
    found = fit_thresholds(*one_label(*rows), ["a", "b"])
    assert found["labels"]["a"] == 0.8
    assert (found["count"], found["answered"], found["right"]) == (32, 20, 19)
    # Of the other label there are none: it gets the threshold of all together.
    assert found["labels"]["b"] == 0.8


def test_a_label_that_is_never_reliable_stays_open():
    rows = [(0.9 - n / 1000, n % 2 == 0) for n in range(40)]
    assert fit_thresholds(*one_label(*rows), ["a", "b"])["labels"] == {"a": 1.0, "b": 1.0}


def test_equal_confidences_are_above_a_threshold_together():
    rows = [(0.9, True)] * 15 + [(0.9, False)] * 20
    assert fit_thresholds(*one_label(*rows), ["a", "b"])["labels"]["a"] == 1.0


def test_few_examples_have_no_thresholds():
    rows = [(0.9, True)] * 29
    assert fit_thresholds(*one_label(*rows), ["a", "b"]) is None


@given(st.integers(0, 2**32 - 1), st.integers(30, 200))
@example(187, 148)  # two confidences that differ in the fifth decimal, one right
def test_what_is_above_a_threshold_is_reliable(seed, count):
    logits, truth = drawn(count, 3, 1.5, seed)
    probabilities = softmax(logits, axis=1)
    labels = fit_thresholds(probabilities, truth, ["a", "b", "c"])["labels"]
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    for place, name in enumerate(labels):
        mine = predicted == place
        above = mine & (confidence >= labels[name])
        if mine.sum() >= 10 and above.any():
            assert above.sum() >= 10 and np.mean(truth[above] == place) >= 0.95 - 1e-9


def test_thresholds_of_several_labels_have_the_best_f1():
    random = np.random.default_rng(8)
    truth = random.random((307, 2)) < [0.2, 0.02]
    probabilities = np.clip(0.25 * truth + 0.3 * random.random(truth.shape), 0, 1)
    labels = fit_thresholds(probabilities, truth, ["a", "rare"], multi_label=True)["labels"]
    assert labels["rare"] == 0.5, "fewer than ten examples have it"
    scores = {t: f1_score(truth[:, 0], probabilities[:, 0] >= t) for t in probabilities[:, 0]}
    found = f1_score(truth[:, 0], probabilities[:, 0] >= labels["a"])
    assert found == pytest.approx(max(scores.values())) and found > scores[max(scores)]


def test_a_label_below_its_own_threshold_is_left_open():
    class Model:
        labels = Labels(["a", "b"], thresholds={"a": 0.9, "b": 0.6})

        def classify(self, inputs):
            return self.labels.classifications(np.array(inputs))

    inputs = [[0.8, 0.2], [0.95, 0.05], [0.3, 0.7], [0.45, 0.55]]
    answer = PREDICTIONS["classification"].answer
    assert [label for label, _ in answer(Model(), inputs, "auto")] == ["", "a", "b", ""]
    assert [label for label, _ in answer(Model(), inputs, 0.6)] == ["a", "a", "b", ""]
    Model.labels = Labels(["a", "b"], True, {"a": 0.9, "b": 0.1})
    assert [label for label, _ in answer(Model(), inputs, "auto")] == ["b", "a", "b", "b"]
    Model.labels = Labels(["a", "b"])
    with pytest.raises(InputError, match="has no thresholds"):
        answer(Model(), inputs, "auto")


@pytest.mark.parametrize(
    "found", [None, [], {"labels": []}, {"labels": {"a": 0.5}}, {"labels": {"a": 0.5, "b": "x"}},
              {"labels": {"a": 0.5, "b": True}}, {"labels": {"a": 0.5, "b": 1.5}}]
)  # fmt: skip
def test_thresholds_of_a_damaged_bundle_are_none(found):
    assert read_thresholds({"thresholds": found}, ["a", "b"]) is None


def test_a_reliability_diagram_by_hand():
    probabilities = np.array([[0.7, 0.3], [0.9, 0.1], [0.69, 0.31]])
    # Bins of a fifteenth: 0.7 and 0.69 share one, 0.9 is in another.
    assert reliability(probabilities, [0, 1, 1]) == [[0.695, 0.5, 2], [0.9, 0.0, 1]]
