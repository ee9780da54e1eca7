"""Metrics of predicting tokens, against numbers computed by hand."""

import math

import keras
import numpy as np
import pytest

from tfx_transformer.errors import InputError
from tfx_transformer.models.losses import BitsPerByte, Perplexity, TokenCrossentropy

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
