"""Metrics of predicting tokens and losses of comparing texts, against numbers computed by hand."""

import math
import statistics

import keras
import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import pearsonr
from tiny_models import tiny_causal

from tfx_transformer.errors import InputError
from tfx_transformer.models.losses import (
    BitsPerByte,
    InBatchContrast,
    Perplexity,
    ScoredCorrelation,
    ScoredCosine,
    TokenAccuracy,
    TokenCrossentropy,
    disagreement,
)
from tfx_transformer.models.row_losses import RowLosses, row_losses

# Each row predicts ids 0, 1 and 2 with these probabilities; the right ones are in LABELS.
PROBABILITIES = [[[1 / 2, 1 / 4, 1 / 4], [1 / 8, 3 / 4, 1 / 8]], [[1 / 16, 7 / 16, 1 / 2]] * 2]
LABELS = [[0, 2], [0, 1]]
WEIGHTS = [[1, 1], [1, 0]]
# The right ones that weigh have 1/2, 1/8 and 1/16: 1, 3 and 4 bits.
BITS = [1, 3, 4]


def measured(metric, *rows):
    """The metric of the chosen rows, each a batch of its own; logits are off by a constant."""
    for row in rows:
        logits = np.log(np.array(PROBABILITIES[row : row + 1], "float32")) + 5
        metric.update_state(np.array(LABELS[row : row + 1]), logits, np.array([WEIGHTS[row]]))
    return float(metric.result())


@pytest.mark.parametrize("bytes_per_token", [1, 2.5, 7])
def test_bits_per_byte_by_hand(bytes_per_token):
    metric = BitsPerByte(bytes_per_token)
    assert metric.name == "bits_per_byte"
    expected = sum(BITS) / 3 / bytes_per_token
    assert measured(metric, 0, 1) == pytest.approx(expected, rel=1e-6)
    metric.reset_state()
    assert measured(metric, 1) == pytest.approx(4 / bytes_per_token, rel=1e-6)


def test_perplexity_by_hand():
    # One over the geometric mean of the probabilities.
    metric = Perplexity()
    assert metric.name == "perplexity"
    assert measured(metric, 0, 1) == pytest.approx((2 * 8 * 16) ** (1 / 3), rel=1e-6)


def test_both_are_the_loss_in_other_words():
    loss = TokenCrossentropy()(
        np.array(LABELS), np.log(np.array(PROBABILITIES, "float32")), np.array(WEIGHTS)
    )
    assert float(loss) == pytest.approx(math.log(2) * sum(BITS) / 3, rel=1e-6)
    assert measured(Perplexity(), 0, 1) == pytest.approx(math.exp(loss), rel=1e-5)
    assert measured(BitsPerByte(3), 0, 1) == pytest.approx(float(loss) / math.log(2) / 3, rel=1e-5)


def test_half_precision_logits_are_measured_in_float32():
    # float16 ends at 65504: the sum of 3 * exp(11) would not fit.
    logits = np.full((1, 1, 3), 11, "float16")
    for metric, expected in ((Perplexity(), 3), (BitsPerByte(2), math.log2(3) / 2)):
        metric.update_state(np.array([[1]]), logits)
        assert float(metric.result()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("metric", [BitsPerByte(2.5, name="bpb"), Perplexity(name="ppl")])
def test_a_metric_comes_back_from_its_configuration(metric):
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(again) is type(metric) and again.name == metric.name
    assert again.get_config() == metric.get_config()
    assert measured(again, 0, 1) == measured(metric, 0, 1)


@pytest.mark.parametrize("smoothing", [-0.1, 1, float("nan")])
def test_smoothing_is_a_share(smoothing):
    with pytest.raises(InputError, match=f"label_smoothing is {smoothing}.\n  Expected from 0"):
        TokenCrossentropy(smoothing)


# Two answers to the same inputs

TWO_ANSWERS = [[1 / 2, 1 / 4, 1 / 4], [1 / 8, 3 / 4, 1 / 8]]


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_disagreement_is_the_mean_of_both_divergences():
    p, q = TWO_ANSWERS
    z, other = np.log(np.array(TWO_ANSWERS, "float32")) + [[5], [-3]]
    expected = (divergence(p, q) + divergence(q, p)) / 2
    assert np.array(disagreement([z, z], [other, z])) == pytest.approx([expected, 0], rel=1e-5)


def test_disagreement_on_classes_that_exclude_nothing():
    z, other = (np.log(p / (1 - p)) for p in np.array(TWO_ANSWERS, "float32"))
    pairs = [((p, 1 - p), (q, 1 - q)) for p, q in zip(*TWO_ANSWERS, strict=True)]
    both = [(divergence(p, q) + divergence(q, p)) / 2 for p, q in pairs]
    apart = np.array(disagreement([z, z], [other, z], multi_label=True))
    assert apart == pytest.approx([np.mean(both), 0], rel=1e-5)


# Comparing texts


@pytest.fixture
def cosines():
    """Of 5 texts with 5 pairs; not symmetric."""
    return np.random.default_rng(0).uniform(-1, 1, (5, 5)).astype("float32")


SCORES = np.array([0.2, 1.0, 0.2, 0.6, 0.0], "float32")
UNEVEN = np.array([1.0, 0.0, 2.0, 0.5, 1.0], "float32")


def contrast(cosines, temperature):
    """Cross-entropy of every row and every column with its own number, text by text."""
    losses = []
    for i in range(len(cosines)):
        parts = [
            math.exp(cosines[i, i] / temperature) / sum(math.exp(c / temperature) for c in line)
            for line in (cosines[i].tolist(), cosines[:, i].tolist())
        ]
        losses.append(-sum(map(math.log, parts)) / 2)
    return np.array(losses)


def squares(cosines):
    return np.array([(cosines[i, i] - SCORES[i]) ** 2 for i in range(len(SCORES))])


def standardized(cosines):
    own = [float(cosines[i, i]) for i in range(len(SCORES))]
    z = [(np.array(x) - statistics.mean(x)) / statistics.pstdev(x) for x in (own, SCORES.tolist())]
    return (z[0] - z[1]) ** 2 / 2


@pytest.mark.parametrize(
    ("loss", "oracle"),
    [
        (InBatchContrast, lambda c: contrast(c, 0.05)),
        (lambda **k: InBatchContrast(0.7, **k), lambda c: contrast(c, 0.7)),
        (ScoredCosine, squares),
        (ScoredCorrelation, standardized),
    ],
    ids=["contrast", "warmer", "squares", "correlation"],
)
def test_comparing_texts_by_hand(cosines, loss, oracle):
    expected = oracle(cosines)
    assert np.array(loss(reduction=None)(SCORES, cosines)) == pytest.approx(expected, rel=1e-5)
    assert float(loss()(SCORES, cosines)) == pytest.approx(expected.mean(), rel=1e-5)
    assert float(loss(reduction="sum")(SCORES, cosines)) == pytest.approx(expected.sum(), rel=1e-5)
    weighted = np.average(expected, weights=UNEVEN)
    assert float(loss()(SCORES, cosines, UNEVEN)) == pytest.approx(weighted, rel=1e-5)


def test_the_mean_loss_of_correlation_is_one_minus_pearson(cosines):
    expected = 1 - pearsonr(np.diagonal(cosines), SCORES).statistic
    assert float(ScoredCorrelation()(SCORES, cosines)) == pytest.approx(expected, abs=1e-5)
    assert np.isfinite(float(ScoredCorrelation()(SCORES * 0 + 1, cosines)))


def test_scores_do_not_matter_to_the_contrast(cosines):
    assert InBatchContrast()(SCORES, cosines) == InBatchContrast()(1 - SCORES, cosines)


def test_cosines_in_half_precision_do_not_overflow():
    # float16 ends at exp(11.09); a cosine over 0.05 reaches 20.
    cosines = np.array([[1, -1], [-1, 1]], "float16")
    assert float(InBatchContrast()(SCORES[:2], -cosines)) == pytest.approx(40, rel=1e-5)


@pytest.mark.parametrize("loss", [InBatchContrast, ScoredCosine, ScoredCorrelation])
def test_the_gradient_is_that_of_finite_differences(cosines, loss):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(variable := tf.constant(cosines))
        value = loss()(SCORES, variable)
    gradient = tape.gradient(value, variable).numpy()
    step = 1e-3
    for i, j in ((0, 0), (1, 1), (3, 2)):
        moved = np.zeros_like(cosines)
        moved[i, j] = step
        rise = float(loss()(SCORES, cosines + moved)) - float(loss()(SCORES, cosines - moved))
        assert gradient[i, j] == pytest.approx(rise / (2 * step), rel=0.02, abs=5e-3)


@pytest.mark.parametrize("loss", [InBatchContrast(0.1, name="near"), ScoredCosine(name="far")])
def test_a_loss_comes_back_from_its_configuration(cosines, loss):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    assert again(SCORES, cosines) == loss(SCORES, cosines)


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_temperature_is_positive(value):
    with pytest.raises(InputError, match=f"temperature is {value}.\n  Expected more than 0"):
        InBatchContrast(value)


def test_tokens_weigh_alike_in_batches_of_different_lengths():
    """Keras' own Mean would weigh a token of a batch by one over the batch's length."""
    random = np.random.default_rng(5)
    perplexity, accuracy, losses, hits = Perplexity(), TokenAccuracy(), [], []
    for rows, length in ((3, 11), (2, 5)):
        logits = random.normal(size=(rows, length, 7)).astype("float32")
        ids = random.integers(0, 7, (rows, length))
        weights = (random.random((rows, length)) < 0.6).astype("float32")
        for metric in (perplexity, accuracy):
            metric.update_state(ids, logits, weights)
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        losses += (-np.take_along_axis(logs, ids[..., None], -1)[..., 0][weights == 1]).tolist()
        hits += (logits.argmax(-1) == ids)[weights == 1].tolist()
    assert float(perplexity.result()) == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)
    assert float(accuracy.result()) == pytest.approx(np.mean(hits), rel=1e-5)


def test_the_loss_of_each_row_gives_the_perplexity_and_its_interval():
    import tensorflow as tf

    model = tiny_causal(vocabulary_size=31)
    random = np.random.default_rng(4)
    ids = random.integers(1, 31, (7, 12)).astype("int32")
    weights = (random.random((7, 11)) < 0.8).astype("float32")
    weights[3] = 0  # a row without a token that weighs
    rows = ({"token_ids": ids[:, :-1]}, ids[:, 1:], weights)
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(3)
    found = row_losses(model, batches)
    logits = np.asarray(model(rows[0]))
    nats = -np.take_along_axis(log_softmax(logits, axis=-1), ids[:, 1:, None], -1)[..., 0] * weights
    kept = [0, 1, 2, 4, 5, 6]
    np.testing.assert_allclose(found.nats, nats.sum(axis=1)[kept], rtol=1e-5)
    assert found.tokens.tolist() == weights.sum(axis=1)[kept].tolist()
    model.compile(weighted_metrics=[Perplexity(), BitsPerByte(2.5)])
    measured = model.evaluate(batches, verbose=0, return_dict=True)
    assert np.exp(found.loss()) == pytest.approx(measured["perplexity"], rel=1e-5)
    intervals = found.intervals(2.5)
    for name, (low, high) in intervals.items():
        assert low < measured[name] < high, name
    scale = np.log(2) * 2.5
    assert np.log(intervals["perplexity"].low) / scale == pytest.approx(
        intervals["bits_per_byte"].low
    )


def test_one_row_has_no_interval():
    assert RowLosses(np.array([3.0]), np.array([2.0])).intervals(1.0) == {}


def test_blocks_that_differ_more_make_the_interval_wider():
    tokens = np.full(40, 50.0)
    even = RowLosses(tokens * 2 + np.arange(40) % 2, tokens).intervals()["perplexity"]
    wide = RowLosses(tokens * 2 + 40 * (np.arange(40) % 2), tokens).intervals()["perplexity"]
    assert even.high - even.low < 0.1 * (wide.high - wide.low)
