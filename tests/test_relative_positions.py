"""Relative positions and sliding windows, against the formulas of the papers."""

import math

import numpy as np
import pytest

from tfx_transformer.layers import MultiHeadAttention, RelativePositions, RotaryPositions
from tfx_transformer.layers.attention import causal_mask


def bucket(distance: int, count: int, most: int, causal: bool) -> int:
    """Raffel et al. (2020), as their program has it: key position minus query position."""
    behind = 0
    if causal:
        distance = max(-distance, 0)
    else:
        count //= 2
        behind, distance = count * (distance > 0), abs(distance)
    exact = count // 2
    if distance < exact:
        return behind + distance
    share = math.log(distance / exact) / math.log(most / exact)
    return behind + min(exact + int(share * (count - exact)), count - 1)


@pytest.mark.parametrize("causal", [False, True])
def test_scores_are_those_of_the_buckets(causal):
    layer = RelativePositions(3, num_buckets=14, max_distance=29, causal=causal)
    layer.build()
    table = np.random.default_rng(1).normal(size=(14, 3)).astype("float32")
    layer.embeddings.assign(table)
    scores = np.asarray(layer(start=0, length=41, keys=43))
    assert scores.shape == (1, 3, 41, 43)
    for query in range(41):
        for key in range(43):
            row = bucket(key - query, 14, 29, causal)
            np.testing.assert_array_equal(scores[0, :, query, key], table[row])


def test_a_row_may_begin_anywhere():
    layer = RelativePositions(2, causal=True)
    layer.build()
    whole = np.asarray(layer(start=0, length=13, keys=13))
    rows = np.asarray(layer(start=np.array([5, 11]), length=1, keys=13))
    np.testing.assert_array_equal(rows[:, :, 0], whole[0][:, [5, 11]].transpose(1, 0, 2))


def test_a_window_hides_what_is_further_back():
    mask = np.asarray(causal_mask(2, 5, 11, window=3))
    for query in range(5):
        seen = [key for key in range(11) if mask[query, key]]
        assert seen == list(range(max(query + 2 - 2, 0), query + 2 + 1))


def test_windowed_attention_is_full_attention_with_that_mask():
    x = np.random.default_rng(2).normal(size=(2, 11, 12)).astype("float32")
    windowed = MultiHeadAttention(12, 3, causal=True, sliding_window=4)
    full = MultiHeadAttention(12, 3)
    windowed(x), full(x)
    full.set_weights(windowed.get_weights())
    queries, keys = np.mgrid[:11, :11]
    mask = (keys <= queries) & (keys > queries - 4)
    expected = np.asarray(full(x, attention_mask=mask))
    np.testing.assert_allclose(np.asarray(windowed(x)), expected, atol=1e-6)


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 4.0},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    ],
)
def test_scaled_rotations_keep_lengths_but_for_yarn(scaling):
    x = np.random.default_rng(3).normal(size=(1, 2, 17, 16)).astype("float32")
    rotated = np.asarray(RotaryPositions(10_000.0, scaling)(x, start=31))
    factor = 0.1 * math.log(4) + 1 if scaling["rope_type"] == "yarn" else 1.0
    lengths = np.linalg.norm(rotated, axis=-1) / np.linalg.norm(x, axis=-1)
    np.testing.assert_allclose(lengths, factor, rtol=1e-5)
    assert np.abs(rotated - np.asarray(RotaryPositions(10_000.0)(x, start=31))).max() > 0.1


def test_linear_scaling_is_a_slower_position():
    x = np.random.default_rng(4).normal(size=(1, 1, 1, 16)).astype("float32")
    scaled = RotaryPositions(10_000.0, {"rope_type": "linear", "factor": 4.0})
    plain = RotaryPositions(10_000.0)
    np.testing.assert_allclose(
        np.asarray(scaled(x, start=28)), np.asarray(plain(x, start=7)), atol=1e-5
    )
