"""Scores of labels, against scikit-learn, a second computation by loops, and numbers by hand."""

import csv
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import metrics

from tfx_transformer.evaluation import (
    majority_baseline,
    most_confident_mistakes,
    pixel_baseline,
    score_labels,
    score_multi_label,
    tfidf_baseline,
)
from tfx_transformer.evaluation.labels import calibration_bins

NAMES = ["bird", "cat", "dog"]
# Two of four are right; "dog" is never predicted.
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3]])
TRUTH = np.array([0, 1, 1, 2])


def names_of(classes):
    return [f"class {number}" for number in range(classes)]


def softmax(logits):
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


@st.composite
def predictions(draw):
    """float (n, C) and int (n,), where classes may be absent from the truth or the predictions."""
    classes, count = draw(st.integers(1, 7)), draw(st.integers(1, 31))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    known = draw(st.integers(1, classes))
    logits = draw(st.sampled_from([0.1, 2, 30])) * generator.normal(size=(count, classes))
    logits[:, draw(st.integers(0, classes - 1))] += draw(st.sampled_from([0, 200]))
    return softmax(logits), generator.integers(0, known, count)


# One label


def test_scores_by_hand():
    scores = score_labels(PROBABILITIES, TRUTH, NAMES)
    assert scores.pop("per_class") == {
        "bird": {"precision": 1 / 2, "recall": 1.0, "f1": pytest.approx(2 / 3), "count": 1},
        "cat": {"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "count": 2},
        "dog": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "count": 1},
    }
    assert scores == {
        "accuracy": 0.5,
        "macro_f1": pytest.approx((2 / 3 + 1 / 2 + 0) / 3),
        # 0.7 and 0.8 are right, each alone in its bin; both of 0.5 are wrong.
        "calibration_error": pytest.approx((0.3 + 0.2 + 2 * 0.5) / 4),
        "log_loss": pytest.approx(-math.log(0.7 * 0.3 * 0.8 * 0.3) / 4),
        "count": 4,
    }


@given(predictions())
@settings(max_examples=60)
def test_scores_are_scikit_learns(case):
    probabilities, truth = case
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    scores = score_labels(probabilities, truth, names_of(classes))
    exactly = {"abs": 1e-9, "rel": 0}
    known = {"labels": range(classes), "zero_division": 0}
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted), **exactly)
    macro_f1 = metrics.f1_score(truth, predicted, average="macro", **known)
    assert scores["macro_f1"] == pytest.approx(macro_f1, **exactly)
    table = np.array([list(row.values()) for row in scores["per_class"].values()]).T
    expected = metrics.precision_recall_fscore_support(truth, predicted, **known)
    np.testing.assert_allclose(table, np.array(expected), rtol=0, atol=1e-9)
    if classes > 1 and probabilities[np.arange(len(truth)), truth].min() > 1e-12:
        log_loss = metrics.log_loss(truth, probabilities, labels=range(classes))
        assert scores["log_loss"] == pytest.approx(log_loss, **exactly)


def calibration_error_by_loops(probabilities, truth):
    """Guo et al. (2017), equations 2 and 3, with the bins of section 2 written out."""
    total = 0.0
    for m in range(1, 16):
        inside = [
            (max(row), list(row).index(max(row)) == label)
            for row, label in zip(probabilities, truth, strict=True)
            if np.linspace(0, 1, 16)[m - 1] < max(row) <= np.linspace(0, 1, 16)[m]
        ]
        if inside:
            confidence = math.fsum(probability for probability, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            total += len(inside) / len(truth) * abs(accuracy - confidence)
    return total


@given(predictions())
@example((np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.4], [0.5, 0.5]]), np.array([0, 1, 1, 1])))
@settings(max_examples=60)
def test_calibration_error_is_guos(case):
    # A softmax may round to a little more than 1, which lies in no bin of the paper.
    probabilities, truth = np.minimum(case[0], 1), case[1]
    error = score_labels(probabilities, truth, names_of(probabilities.shape[1]))
    expected = calibration_error_by_loops(probabilities, truth)
    assert error["calibration_error"] == pytest.approx(expected, abs=1e-9)


def test_the_edge_of_two_bins_belongs_to_the_lower_one():
    edge = 12 / 15
    probabilities = np.array([[edge, 1 - edge], [np.nextafter(edge, 1), 1 - edge], [1.0, 0.0]])
    bins = calibration_bins(probabilities, np.array([0, 0, 1]))
    assert bins.count.tolist() == [0] * 11 + [1, 1, 0, 1]
    assert np.isnan(bins.accuracy[:11]).all()
    assert bins.accuracy[[11, 12, 14]].tolist() == [1, 1, 0]


def test_an_impossible_label_leaves_the_log_loss_out():
    scores = score_labels(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]), ["a", "b"])
    assert "log_loss" not in scores
    assert scores["calibration_error"] == 0.5


def test_float32_scores_are_plain_numbers():
    scores = score_labels(PROBABILITIES.astype(np.float32), TRUTH.astype(np.int32), NAMES)
    assert json.loads(json.dumps(scores)) == scores
    expected = score_labels(PROBABILITIES, TRUTH, NAMES)
    assert scores["log_loss"] == pytest.approx(expected["log_loss"], abs=1e-6)


# Several labels


def test_scores_of_several_labels_by_hand():
    probabilities = np.array([[0.9, 0.5, 0.1], [0.4, 0.6, 0.2], [0.1, 0.2, 0.49], [0.8, 0.9, 0.1]])
    truth = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0]])
    scores = score_multi_label(probabilities, truth, NAMES)
    assert scores["per_class"] == {
        "bird": {"precision": 1.0, "recall": 2 / 3, "f1": pytest.approx(4 / 5), "count": 3},
        "cat": {"precision": 2 / 3, "recall": 1.0, "f1": pytest.approx(4 / 5), "count": 2},
        "dog": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "count": 0},
    }
    assert scores["micro_f1"] == pytest.approx(2 * 4 / (5 + 5))
    assert scores["macro_f1"] == pytest.approx((4 / 5 + 4 / 5 + 0) / 3)
    assert (scores["exact_match"], scores["count"]) == (0.5, 4)
    assert json.loads(json.dumps(scores)) == scores
    # From 0.7 on, "bird" of rows 0 and 3 and "cat" of row 3 are left.
    assert score_multi_label(probabilities, truth, NAMES, threshold=0.7)["exact_match"] == 0.25


@given(st.integers(1, 23), st.integers(1, 5), st.integers(0, 2**32 - 1), st.floats(0, 1))
@settings(max_examples=40)
def test_scores_of_several_labels_are_scikit_learns(count, classes, seed, threshold):
    generator = np.random.default_rng(seed)
    probabilities = generator.random((count, classes))
    truth = (generator.random((count, classes)) < generator.random(classes)).astype(np.float32)
    predicted = (probabilities >= threshold).astype(int)
    scores = score_multi_label(probabilities, truth, names_of(classes), threshold)
    # scikit-learn takes one column for one label per example; a second, empty one says what it is.
    columns = [np.pad(array, ((0, 0), (0, 1))) for array in (truth.astype(int), predicted)]
    known = {"labels": range(classes), "zero_division": 0}
    for average in ("micro", "macro"):
        expected = metrics.f1_score(*columns, average=average, **known)
        assert scores[f"{average}_f1"] == pytest.approx(expected, abs=1e-9)
    assert scores["exact_match"] == pytest.approx(metrics.accuracy_score(*columns), abs=1e-9)
    table = np.array([list(row.values()) for row in scores["per_class"].values()]).T
    expected = metrics.precision_recall_fscore_support(*columns, **known)
    np.testing.assert_allclose(table, np.array(expected), rtol=0, atol=1e-9)


# What is refused


@pytest.mark.parametrize(
    ("probabilities", "truth", "names", "message"),
    [
        (PROBABILITIES[:0], TRUTH[:0], NAMES, r"shape \(0, 3\)"),
        (PROBABILITIES[0], TRUTH, NAMES, r"shape \(3,\)"),
        (PROBABILITIES, TRUTH[:3], NAMES, r"\(4, 3\) do not fit truth of shape \(3,\)"),
        (PROBABILITIES, [0, 1, 3, 2], NAMES, "row 2 of the truth is class 3"),
        (PROBABILITIES, [0, 1, 1, -1], NAMES, "row 3 of the truth is class -1"),
        (np.log(PROBABILITIES), TRUTH, NAMES, "row 0 .*not between 0 and 1.\n.*not logits"),
        (np.where(TRUTH[:, None] == 2, np.nan, PROBABILITIES), TRUTH, NAMES, "row 3 .*diverged"),
        (PROBABILITIES, TRUTH, NAMES[:2], "2 distinct names do not fit 3"),
        (PROBABILITIES, TRUTH, ["cat", "cat", "dog"], "2 distinct names do not fit 3"),
    ],
)
def test_what_is_no_prediction_is_refused_and_named(probabilities, truth, names, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        score_labels(probabilities, truth, names)


@pytest.mark.parametrize(
    ("truth", "message"), [(np.zeros((4, 2)), r"\(4, 2\)"), (TRUTH, r"truth of shape \(4,\)")]
)
def test_truth_that_does_not_fit_several_labels(truth, message):
    with pytest.raises(ValueError, match=message):
        score_multi_label(PROBABILITIES, truth, NAMES)


# Mistakes


def test_the_surest_mistakes_come_first():
    probabilities = np.array([[0.6, 0.4], [0.1, 0.9], [0.9, 0.1], [0.2, 0.8], [0.1, 0.9]])
    texts = ["a", "二", "c", "d", "e"]
    truth = [1, 0, 0, 0, 0]
    found = most_confident_mistakes(texts, probabilities, truth, ["no", "はい"])
    assert [row["input"] for row in found] == ["二", "e", "d", "a"]  # equal ones as in the file
    assert found[0] == {"input": "二", "label": "no", "predicted": "はい", "probability": 0.9}
    assert found[3] == {"input": "a", "label": "はい", "predicted": "no", "probability": 0.6}
    assert most_confident_mistakes(texts, probabilities, truth, ["no", "はい"], 2) == found[:2]
    assert most_confident_mistakes(texts, probabilities, [0, 1, 0, 1, 1], ["no", "はい"]) == []


def test_mistakes_of_one_probability_stand_as_in_the_file():
    probabilities = np.tile([[0.3, 0.7], [0.1, 0.9]], (101, 1))
    found = most_confident_mistakes(range(202), probabilities, [0] * 202, ["a", "b"], 150)
    assert [row["input"] for row in found] == [*range(1, 202, 2), *range(0, 98, 2)]


def test_mistakes_need_an_input_each():
    with pytest.raises(ValueError, match="3 inputs do not fit the truth of 4"):
        most_confident_mistakes(["a", "b", "c"], PROBABILITIES, TRUTH, NAMES)


# Baselines


def test_the_majority_is_that_of_the_training_examples():
    scores = majority_baseline(np.array([0, 1, 1, 2]), np.array([1, 1, 0, 0, 0]), NAMES)
    assert scores == {
        "label": "cat",
        "accuracy": 2 / 5,
        "macro_f1": pytest.approx((0 + 2 * 2 / (5 + 2) + 0) / 3),
    }


def test_word_pairs_tell_texts_of_the_same_words_apart():
    pairs = [("dog bites man", 0), ("man bites dog", 1)] * 5
    texts, ids = zip(*pairs, strict=True)
    scores = tfidf_baseline(texts, ids, ["a dog bites a man", "the man bites the dog"], [0, 1])
    assert scores == {"accuracy": 1.0, "macro_f1": 1.0}


def test_texts_without_spaces_are_told_apart_by_characters():
    """No two of them share what stands between their spaces."""
    train = [
        "私は猫が好きです。",
        "猫はかわいいですね。",
        "私は犬が嫌いです。",
        "犬はこわいですね。",
    ]
    test = ["昨日、猫を見ました。", "今日、犬を見ました。"]
    assert tfidf_baseline(train, [0, 0, 1, 1], test, [0, 1])["accuracy"] == 1.0


@pytest.mark.parametrize("texts", [["1", "2", "1", "2"], ["?", "!", "?", "!"], ["猫", "犬"] * 2])
def test_texts_without_a_word_do_not_stop_the_baseline(texts):
    assert tfidf_baseline(texts, [0, 1, 0, 1], texts, [0, 1, 0, 1])["accuracy"] == 1.0


def test_in_two_languages_words_and_characters_count():
    cats = ["a cat sleeps here", "the cat meows", "猫がよく眠る", "この猫は鳴いた"]
    dogs = ["a dog sleeps here", "the dog barks", "犬がよく眠る", "この犬は吠えた"]
    test = ["子猫たちが走る", "小犬たちが走る", "one cat", "one dog"]
    for some in (cats + dogs, cats + dogs + ["a plain cat", "a plain dog"] * 20):
        ids = [int(text in dogs or text.endswith("dog")) for text in some]
        assert tfidf_baseline(some, ids, test, [0, 1, 0, 1])["accuracy"] == 1.0
    # One text among fifty is no language of its own.
    rare = ["a plain cat", "a plain dog"] * 24 + ["猫がよく眠る", "犬がよく眠る"]
    assert tfidf_baseline(rare, [0, 1] * 25, test[:2], [0, 1])["accuracy"] == 0.5


def test_a_baseline_counts_the_classes_that_the_test_lacks():
    texts = ["red apple", "blue sky", "green grass"]
    scores = tfidf_baseline(texts * 3, [0, 1, 2] * 3, texts[:2], [0, 1])
    assert scores == {"accuracy": 1.0, "macro_f1": pytest.approx(2 / 3)}


@pytest.mark.parametrize(
    ("folder", "accuracy", "macro_f1"),
    [
        ("classification_en/sst2", 0.813, 0.813),
        ("classification_ja/amazon_counterfactual_ja", 0.934, 0.770),
    ],
)
def test_tf_idf_reaches_what_is_known(shared_data, folder, accuracy, macro_f1):
    """The figures of the data's README, words in English and characters in Japanese."""

    def read(name):
        with (shared_data / folder / name).open(encoding="utf-8", newline="") as file:
            return zip(*((row["text"], row["label"]) for row in csv.DictReader(file)), strict=True)

    (texts, labels), (test_texts, test_labels) = read("train.csv"), read("test.csv")
    names = sorted(set(labels))
    ids, test_ids = (np.searchsorted(names, column) for column in (labels, test_labels))
    scores = tfidf_baseline(texts, ids, test_texts, test_ids)
    assert scores["accuracy"] == pytest.approx(accuracy, abs=0.003)
    assert scores["macro_f1"] == pytest.approx(macro_f1, abs=0.005)


def test_pixels_tell_bright_from_dark_and_the_draw_is_seeded():
    generator = np.random.default_rng(3)
    ids = generator.integers(0, 2, 3011)
    images = generator.integers(0, 156, (3011, 3, 5, 3), dtype=np.uint8)
    images[ids == 1] += 100
    scores = pixel_baseline(images, ids, images[:101], ids[:101], seed=7)
    assert scores == pixel_baseline(images, ids, images[:101], ids[:101], seed=7)
    assert scores["accuracy"] > 0.95


def test_pixels_train_on_three_thousand_images_at_most(monkeypatch):
    from sklearn.linear_model import LogisticRegression

    seen = []
    fit = LogisticRegression.fit
    monkeypatch.setattr(
        LogisticRegression, "fit", lambda self, x, y: seen.append(x.shape) or fit(self, x, y)
    )
    images, ids = np.arange(3011, dtype=np.uint8).reshape(-1, 1, 1, 1), np.arange(3011) % 2
    pixel_baseline(images, ids, images, ids)
    assert seen == [(3000, 1)]


def test_importing_the_scores_imports_nothing_heavy():
    program = (
        "import sys, tfx_transformer.evaluation;"
        "names = {'sklearn', 'scipy', 'pandas', 'sacrebleu', 'tensorflow', 'keras'};"
        "print(sorted(names & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
