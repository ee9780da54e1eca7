"""A linear classifier of n-grams: how it is fitted, its share, and the model it becomes part of."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from tiny_models import tiny_encoder

import tfx_transformer as tfx
from tfx_transformer.evaluation.blending import blend
from tfx_transformer.evaluation.linear import fit_ngrams
from tfx_transformer.training import classifier_defaults, fill_in
from tfx_transformer.training.linear import bucket_count, hash_ngrams, join

CLASSES, BUCKETS = 3, 53
# Left by version 0.1.
INTERRUPTED = Path(__file__).parent / "faults" / "interrupted" / "old"


@pytest.fixture(scope="module")
def texts():
    """Buckets of texts, and their classes, which the buckets say something of."""
    random = np.random.default_rng(5)
    ids = random.integers(0, CLASSES, 41)
    rows = [random.integers(0, 20, 7) + 11 * random.integers(0, 2, 7) * label for label in ids]
    return rows, ids


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_rarity_by_hand():
    weights = fit_ngrams([np.array([1, 1, 4]), np.array([4, 6])], np.array([0, 1]), 2, 7)
    wanted = np.zeros(7)
    wanted[[1, 4, 6]] = np.log(3 / 1.5), np.log(3 / 2.5), np.log(3 / 1.5)
    np.testing.assert_allclose(weights.rarity, wanted, rtol=1e-6)


@pytest.mark.parametrize("classes", [2, CLASSES])
def test_the_penalized_likelihood_has_no_slope(texts, classes):
    rows, ids = texts[0], texts[1] % classes
    weights = fit_ngrams(rows, ids, classes, BUCKETS)
    features = np.zeros((len(rows), BUCKETS))
    for feature, row in zip(features, rows, strict=True):
        np.add.at(feature, row, weights.rarity[row])
        feature /= np.sqrt(np.sum(weights.rarity[row] ** 2))
    logits = features @ weights.kernel + weights.bias
    np.testing.assert_allclose(weights.logits(rows), logits, atol=1e-5)
    errors = softmax(logits) - np.eye(classes)[ids]
    assert np.abs(errors.sum(axis=0)).max() < 0.01
    # Of two classes scikit-learn's penalty is on the difference of the two columns.
    penalty = weights.kernel / 10 * (2 if classes == 2 else 1)
    np.testing.assert_allclose(features.T @ errors, -penalty, atol=0.01)


def test_a_class_without_texts_is_never_the_answer(texts):
    rows, ids = texts
    weights = fit_ngrams(rows, np.where(ids == 1, 2, ids), CLASSES, BUCKETS)
    assert set(weights.logits(rows).argmax(axis=1)) == {0, 2}


def test_shares_are_those_of_another_optimizer():
    random = np.random.default_rng(7)
    truth = random.integers(0, CLASSES, 211)
    hint = np.eye(CLASSES)[truth]
    deep, linear = (2 * hint + random.normal(size=hint.shape) for _ in range(2))
    soft = hint * (1 - 1 / 213 - 1 / 426) + 1 / 426

    def loss(shares):
        return -np.mean(np.sum(soft * np.log(softmax(shares[0] * deep + shares[1] * linear)), 1))

    wanted = minimize(loss, [1, 1], method="Nelder-Mead", options={"xatol": 1e-6}).x
    np.testing.assert_allclose(blend(deep, linear, truth), wanted, rtol=1e-3)


def test_what_does_not_help_has_no_share():
    random = np.random.default_rng(3)
    truth = random.integers(0, CLASSES, 101)
    linear = 2 * np.eye(CLASSES)[truth] + random.normal(size=(101, CLASSES))
    noise = random.normal(size=linear.shape)
    assert blend(noise, linear, truth)[0] == 0 < blend(noise, linear, truth)[1]
    assert blend(-linear, linear, truth)[0] == 0
    assert blend(linear[:29], noise[:29], truth[:29]) == (0, 1), "too few to choose"


def test_a_joined_model_adds_both_logits():
    model = tiny_encoder(tfx.Classifier, num_classes=CLASSES, vocabulary_size=97)
    random = np.random.default_rng(9)
    read = [[1, *random.integers(4, 97, size), 2] for size in (3, 5, 11, 2)]
    hashed = hash_ngrams(read, 1024, 0)
    weights = fit_ngrams(hashed, np.array([0, 2, 1, 0]), CLASSES, 1024)
    ids = np.zeros((4, 13), "int32")
    for row, numbers in zip(ids, read, strict=True):
        row[: len(numbers)] = numbers
    joined = join(model, weights, 0.25, 3.0)
    wanted = 0.25 * model(ids).numpy() + 3 * weights.logits(hashed)
    np.testing.assert_allclose(joined(ids), wanted, atol=1e-5)
    assert not any("linear" in weight.path for weight in joined.trainable_weights)
    joined.divide_logits(2.0)
    np.testing.assert_allclose(joined(ids), wanted / 2, atol=1e-5)
    assert tfx.config_for_fine_tuning(joined.config).linear_buckets == 0


def test_buckets_are_twice_the_n_grams():
    assert [bucket_count(used, 2) for used in (3, 512, 513, 10**6)] == [1024, 1024, 2048, 2**18]
    assert bucket_count(10**6, 77) == 2**15, "2^22 / 77 = 54,471"
    assert bucket_count(10**6, 77, 100) == 64


def test_a_vocabulary_grows_with_the_rows():
    found = [classifier_defaults(rows, ["a cat"])["vocabulary_size"] for rows in (61, 1001)]
    assert found == [530, 1000]
    assert classifier_defaults(1001, ["猫がいます。"] * 2 + ["a"]) == {"vocabulary_size": 1000}
    assert classifier_defaults(10_003, ["猫がいます。"] * 2 + ["a"]) == {"vocabulary_size": 2000}


def test_settings_that_are_missing_are_those_of_the_interrupted_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    defaults = {"vocabulary_size": 7}
    shutil.copytree(INTERRUPTED, "runs/old")
    before = json.loads(Path("runs/old/settings.json").read_text("utf-8"))
    given = {"name": "old", "vocabulary_size": None, "epochs": 3}
    found = fill_in(given, defaults)
    assert found == given | {"vocabulary_size": before["vocabulary_size"]}
    assert fill_in(given | {"vocabulary_size": 11}, defaults)["vocabulary_size"] == 11
    assert fill_in({**given, "bag_width": None}, {"bag_width": 5})["bag_width"] is None
    for other in ({"name": "new"}, {"overwrite": True}):
        assert fill_in(given | other, defaults) == given | other | defaults
