"""Layers against keras-hub, Keras, NumPy and numbers computed by hand."""

from __future__ import annotations

import warnings

import keras
import keras_hub
import numpy as np
import pytest
from by_numpy import softmax
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from layer_harness import (
    BATCH,
    CASES,
    HIDDEN,
    INTERMEDIATE,
    LENGTH,
    LLAMA,
    MEMORY,
    MEMORY_LENGTH,
    VOCABULARY,
    X,
    copy_attention,
    copy_block,
    perturb,
    random_ids,
    random_vectors,
    run_layer_test,
)

from tfx_transformer.layers import (
    FeedForward,
    LearnedPositions,
    MultiHeadAttention,
    RotaryPositions,
    SinusoidalPositions,
    TokenEmbedding,
    TransformerBlock,
)
from tfx_transformer.layers.attention import causal_mask, write_cache
from tfx_transformer.layers.norm import LayerNorm


@pytest.mark.slow(
    but=[
        "sinusoidal",
        "learned",
        "rotary",
        "gated",
        "cross_attention",
        "family_block",
        "embedding",
        "stack",
    ]
)
@pytest.mark.parametrize("name", CASES)
def test_every_layer(name, tmp_path):
    run_layer_test(*CASES[name], tmp_path)


# Positions


def test_sinusoidal_is_keras_hubs():
    expected = X + keras_hub.layers.SinePositionEncoding()(X)
    np.testing.assert_allclose(SinusoidalPositions()(X), expected, atol=1e-6)


def test_sinusoidal_by_hand():
    # d = 4, p = 2: sin 2, cos 2, sin(2 / 10000^(2/4)) = sin 0.02, cos 0.02.
    signal = SinusoidalPositions()(np.zeros((1, 3, 4), "float32"))
    np.testing.assert_allclose(signal[0, 2], [0.909297, -0.416147, 0.0199987, 0.9998], atol=1e-6)


@pytest.mark.parametrize("layer", [SinusoidalPositions(), LearnedPositions(23)])
def test_start_continues_the_positions(layer):
    whole = layer(X)
    np.testing.assert_allclose(layer(X[:, 2:], start=2), whole[:, 2:], atol=1e-6)
    rows = np.array([3, 0, 2])
    one_each = layer(np.stack([X[i, p : p + 1] for i, p in enumerate(rows)]), start=rows)
    expected = np.stack([whole[i, p : p + 1] for i, p in enumerate(rows)])
    np.testing.assert_allclose(one_each, expected, atol=1e-6)


def test_learned_positions_are_table_rows():
    layer = LearnedPositions(7)
    layer(X)
    np.testing.assert_allclose(layer(X), X + np.asarray(layer.embeddings)[:LENGTH], atol=1e-6)


def rotate(x, positions, theta):
    """x (…, length, head_dim), each pair (i, i + d/2) a complex number turned by its angle."""
    half = x.shape[-1] // 2
    turn = np.exp(1j * np.asarray(positions)[:, None] * theta ** (-np.arange(half) / half))
    turned = (x[..., :half] + 1j * x[..., half:]) * turn
    return np.concatenate([turned.real, turned.imag], axis=-1)


def test_rotary_is_complex_rotation():
    x = random_vectors(3, 7, 5, 22)
    expected = rotate(x, 13 + np.arange(5), 1e3)
    np.testing.assert_allclose(RotaryPositions(1e3)(x, start=13), expected, atol=1e-5)


def test_rotary_positions_of_each_row():
    x, layer = random_vectors(3, 7, 1, 22), RotaryPositions()
    rows = layer(x, start=np.array([2, 0, 11]))
    for row, start in enumerate([2, 0, 11]):
        np.testing.assert_allclose(rows[row], layer(x[row : row + 1], start=start)[0], atol=1e-6)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
@settings(deadline=None, max_examples=50)
def test_rotary_scores_depend_on_the_distance_only(query, key, shift):
    layer = RotaryPositions()
    q, k = random_vectors(1, 1, 1, 22), random_vectors(1, 1, 1, 22, seed=1)

    def score(offset):
        return ops.sum(layer(q, start=query + offset) * layer(k, start=key + offset))

    # Angles of hundreds of turns in float32 leave four digits.
    assert float(score(shift)) == pytest.approx(float(score(0)), abs=2e-3)


@pytest.mark.parametrize("layer", [SinusoidalPositions(), RotaryPositions()])
def test_odd_width_is_refused(layer):
    with pytest.raises(ValueError, match="even .*got 7"):
        layer(np.zeros((1, 2, 3, 7)[-3 if isinstance(layer, SinusoidalPositions) else 0 :]))


# Attention


def attention_by_hand(causal=False):
    """Two tokens, one head of width 2. With the weights below, and scores divided by sqrt(2):

    token 0: q = (sqrt2 ln3, 0), scores (ln3, 0), weights (3/4, 1/4)
    token 1: q = (0, sqrt2 ln2), scores (0, ln2), weights (1/3, 2/3)
    values (4, 0) and (0, 12) mix to (3, 3) and (4/3, 8), projected to (3, 6) and (4/3, 28/3).
    """
    layer = MultiHeadAttention(2, 1, causal=causal, use_bias=False)
    x = np.eye(2, dtype="float32")[None]
    layer(x)
    layer.query.set_weights([np.diag(np.sqrt(2) * np.log([3, 2]))])
    layer.key.set_weights([np.eye(2)])
    layer.value.set_weights([np.diag([4, 12])])
    layer.output_projection.set_weights([np.array([[1, 1], [0, 1]])])
    return layer(x, return_attention_scores=True)


def test_attention_by_hand():
    output, weights = attention_by_hand()
    np.testing.assert_allclose(weights, [[[[3 / 4, 1 / 4], [1 / 3, 2 / 3]]]], rtol=1e-5)
    np.testing.assert_allclose(output, [[[3, 6], [4 / 3, 28 / 3]]], rtol=1e-5)


def test_causal_attention_by_hand():
    output, weights = attention_by_hand(causal=True)
    np.testing.assert_allclose(weights, [[[[1, 0], [1 / 3, 2 / 3]]]], rtol=1e-5)
    np.testing.assert_allclose(output, [[[4, 4], [4 / 3, 28 / 3]]], rtol=1e-5)


@pytest.mark.parametrize("key_value_heads", [1, 2, 6])
def test_grouped_attention_is_keras(key_value_heads):
    theirs = keras.layers.GroupQueryAttention(5, 6, key_value_heads)
    ours = MultiHeadAttention(HIDDEN, 6, key_value_heads, head_dim=5)
    mask = np.random.default_rng(0).random((BATCH, LENGTH, MEMORY_LENGTH)) < 0.7
    mask[..., 0] = True
    theirs(X, MEMORY)
    ours(X, memory=MEMORY)
    perturb(theirs)
    copy_attention(theirs, ours)
    expected, expected_weights = theirs(
        X, MEMORY, attention_mask=mask, return_attention_scores=True
    )
    output, weights = ours(X, memory=MEMORY, attention_mask=mask, return_attention_scores=True)
    np.testing.assert_allclose(output, expected, atol=1e-5)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in CASES if "attention" in n])
def test_attention_weights_sum_to_one(name):
    layer_class, arguments, inputs = CASES[name]
    layer = layer_class(**arguments)
    layer(**inputs)
    perturb(layer)
    _, weights = layer(**inputs, return_attention_scores=True)
    keys = MEMORY_LENGTH if "memory" in inputs else LENGTH
    assert weights.shape == (BATCH, layer.num_heads, LENGTH, keys)
    np.testing.assert_allclose(ops.sum(weights, axis=-1), 1, atol=1e-5)
    above = np.asarray(weights)[..., np.triu(np.ones((LENGTH, keys), bool), 1)]
    assert (above == 0).all() == layer.causal


def test_block_returns_the_weights_of_its_last_attention():
    mask = np.arange(MEMORY_LENGTH) < 4
    for cross, keys in [(False, LENGTH), (True, MEMORY_LENGTH)]:
        block = TransformerBlock(HIDDEN, 7, INTERMEDIATE, causal=True, cross=cross)
        _, weights = block(
            X,
            memory=MEMORY if cross else None,
            cross_attention_mask=mask[None, None],
            return_attention_scores=True,
        )
        assert weights.shape == (BATCH, 7, LENGTH, keys)
        hidden = weights[..., 4:] if cross else np.triu(weights, 1)
        assert not np.any(hidden)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_hidden_tokens_change_nothing(dtype):
    block = TransformerBlock(HIDDEN, 7, INTERMEDIATE, cross=True, dtype=dtype)
    mask = (np.arange(LENGTH) < 3)[None, None]
    memory_mask = (np.arange(MEMORY_LENGTH) < 7)[None, None]

    def run(x, memory):
        y = block(x, memory=memory, attention_mask=mask, cross_attention_mask=memory_mask)
        return np.asarray(ops.cast(y, "float32"))

    other_x, other_memory = X.copy(), MEMORY.copy()
    other_x[:, 3:], other_memory[:, 7:] = 50, -50
    np.testing.assert_array_equal(run(X, MEMORY)[:, :3], run(other_x, other_memory)[:, :3])
    other_x[:, 2] = 50
    assert not np.allclose(run(X, MEMORY)[:, :2], run(other_x, MEMORY)[:, :2], atol=1e-3)


def test_projected_memory_and_cache_change_nothing():
    block = TransformerBlock(HIDDEN, 7, INTERMEDIATE, causal=True, cross=True, **LLAMA)
    expected = block(X, memory=MEMORY)
    memory = block.cross_attention.project_memory(MEMORY)
    cache = tuple(np.full((BATCH, 7, LENGTH + 2, 2), 9.0, "float32") for _ in "kv")
    y, cache = block(X[:, :3], memory=memory, cache=cache, position=0)
    np.testing.assert_allclose(y, expected[:, :3], atol=1e-5)
    for position in (3, np.full(BATCH, 4)):
        at = int(np.max(position))
        y, cache = block(X[:, at : at + 1], memory=memory, cache=cache, position=position)
        np.testing.assert_allclose(y[:, 0], expected[:, at], atol=1e-5)
    assert np.all(np.asarray(cache)[..., LENGTH:, :] == 9), "free slots stay untouched"


def test_causal_mask_by_hand():
    assert causal_mask(1, 2, 4).numpy().tolist() == [
        [True, True, False, False],
        [True, True, True, False],
    ]
    assert causal_mask(np.array([0, 2]), 1, 3).numpy().tolist() == [
        [[True, False, False]],
        [[True, True, True]],
    ]


def test_write_cache_by_hand():
    cache, new = np.zeros((2, 1, 3, 1), "float32"), np.array([5, 7], "float32").reshape(2, 1, 1, 1)
    assert write_cache(cache, new, 1).numpy().squeeze().tolist() == [[0, 5, 0], [0, 7, 0]]
    rows = write_cache(cache, new, np.array([2, 0]))
    assert rows.numpy().squeeze().tolist() == [[0, 0, 5], [7, 0, 0]]


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="num_heads 6 .* num_key_value_heads 4"):
        MultiHeadAttention(12, 6, 4)


# Feed-forward and blocks


def test_gated_feed_forward_is_numpy():
    layer = FeedForward(INTERMEDIATE, "silu", gated=True)
    layer(X)
    perturb(layer)
    expand, expand_bias, gate, gate_bias, contract, contract_bias = layer.get_weights()
    gated = X @ gate + gate_bias
    inner = gated / (1 + np.exp(-gated)) * (X @ expand + expand_bias)
    np.testing.assert_allclose(layer(X), inner @ contract + contract_bias, atol=1e-5, rtol=1e-5)


def test_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="'swish'.*silu"):
        FeedForward(INTERMEDIATE, "swish")


@pytest.mark.slow(but=["relu-False", "gelu-True"])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_block_is_keras_hubs(norm_first, activation):
    theirs = keras_hub.layers.TransformerEncoder(
        INTERMEDIATE, 7, activation=activation, normalize_first=norm_first
    )
    ours = TransformerBlock(HIDDEN, 7, INTERMEDIATE, activation=activation, norm_first=norm_first)
    padding_mask = np.arange(LENGTH) < np.array([[5], [3], [2]])
    theirs(X)
    ours(X)
    perturb(theirs)
    copy_block(theirs, ours)
    expected = theirs(X, padding_mask=padding_mask)
    output = ours(X, attention_mask=padding_mask[:, None])
    np.testing.assert_allclose(output, expected, atol=1e-5)


@pytest.mark.slow(but=["relu-True", "gelu-False"])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_decoder_block_is_keras_hubs(norm_first, activation):
    theirs = keras_hub.layers.TransformerDecoder(
        INTERMEDIATE, 7, activation=activation, normalize_first=norm_first
    )
    ours = TransformerBlock(
        HIDDEN,
        7,
        INTERMEDIATE,
        causal=True,
        cross=True,
        activation=activation,
        norm_first=norm_first,
    )
    padding_mask = np.arange(MEMORY_LENGTH) < np.array([[11], [3], [2]])
    theirs(X, MEMORY)
    ours(X, memory=MEMORY)
    perturb(theirs)
    copy_block(theirs, ours)
    expected = theirs(X, MEMORY, encoder_padding_mask=padding_mask)
    output = ours(X, memory=MEMORY, cross_attention_mask=padding_mask[:, None])
    np.testing.assert_allclose(output, expected, atol=1e-5)


def test_llama_block_is_numpy():
    """RMSNorm, rotary grouped causal attention and a gated feed-forward, in float64."""
    heads, groups, width = 6, 2, 4
    block = TransformerBlock(
        heads * width, heads, INTERMEDIATE, groups, causal=True, use_bias=False, **LLAMA
    )
    x = random_vectors(BATCH, LENGTH, heads * width)
    block(x)
    perturb(block)

    def weight(layer):
        return np.asarray(layer.weights[0], "float64")

    def norm(y, layer):
        return y / np.sqrt(np.mean(y**2, axis=-1, keepdims=True) + 1e-5) * weight(layer)

    def heads_of(y, layer, count):
        return (y @ weight(layer)).reshape(BATCH, LENGTH, count, width).swapaxes(1, 2)

    y = norm(x.astype("float64"), block.attention_norm)
    query = rotate(heads_of(y, block.attention.query, heads), np.arange(LENGTH), 1e4)
    key = rotate(heads_of(y, block.attention.key, groups), np.arange(LENGTH), 1e4)
    value = heads_of(y, block.attention.value, groups)
    mixed = np.zeros((BATCH, LENGTH, heads, width))
    for head in range(heads):
        group = head // (heads // groups)
        scores = query[:, head] @ key[:, group].swapaxes(-1, -2) / np.sqrt(width)
        scores[:, np.triu(np.ones((LENGTH, LENGTH), bool), 1)] = -np.inf
        mixed[:, :, head] = softmax(scores) @ value[:, group]
    x = x + mixed.reshape(x.shape) @ weight(block.attention.output_projection)
    y = norm(x, block.feed_forward_norm)
    gate = y @ weight(block.feed_forward.gate)
    inner = gate / (1 + np.exp(-gate)) * (y @ weight(block.feed_forward.expand))
    expected = x + inner @ weight(block.feed_forward.contract)

    inputs = random_vectors(BATCH, LENGTH, heads * width)
    np.testing.assert_allclose(block(inputs), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm_first", [False, True])
def test_dropout_is_of_training_only(norm_first):
    block = TransformerBlock(HIDDEN, 7, INTERMEDIATE, dropout=0.5, norm_first=norm_first)
    np.testing.assert_array_equal(block(X), block(X, training=False))
    assert not np.allclose(block(X, training=True), block(X, training=True))


def test_dropout_of_sub_layers_by_hand():
    # All weights 0 but the last biases, 1 and 10: half of each is left out, the rest doubled.
    block = TransformerBlock(HIDDEN, 7, INTERMEDIATE, dropout=0.5)
    block(X)
    for weight in block.weights:
        if weight.trainable:
            weight.assign(ops.zeros_like(weight))
    block.attention.output_projection.bias.assign(np.ones(HIDDEN))
    block.feed_forward.contract.bias.assign(np.full(HIDDEN, 10))
    x = np.zeros_like(X)
    np.testing.assert_array_equal(block(x), np.full_like(X, 11))
    assert set(np.unique(block(x, training=True))) == {0, 2, 20, 22}


# Norms


def test_layer_norm_by_hand():
    layer = LayerNorm(epsilon=2.5)
    layer.build((None, 4))
    layer.set_weights([np.array([1.0, 2, 3, -4]), np.array([0.0, 1, 0, 10])])
    # Of the first row the mean is 3 and the variance 6.5; of the second the variance is 0.
    x = np.array([[0.0, 2, 3, 7], [5, 5, 5, 5]], "float32")
    np.testing.assert_allclose(layer(x), [[-1, 1 / 3, 0, 14 / 3], [0, 1, 0, 10]], atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_layer_norm_is_keras(dtype):
    ours, theirs = (
        norm(epsilon=1e-5, dtype=dtype) for norm in (LayerNorm, keras.layers.LayerNormalization)
    )
    x = 3 + 5 * random_vectors(BATCH, LENGTH, 37)
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.set_weights([1 + random_vectors(37), random_vectors(37)])
    result, expected = ours(x), theirs(x)
    assert result.dtype == expected.dtype
    if dtype == "float32":
        np.testing.assert_allclose(result, expected, atol=2e-6)
    else:  # one unit in the last place
        step = 2.0 ** (-7 if dtype == "mixed_bfloat16" else -10)
        result, expected = (np.asarray(ops.cast(y, "float32")) for y in (result, expected))
        np.testing.assert_allclose(result, expected, rtol=step, atol=step)


# Embedding


@pytest.mark.parametrize("tied", [True, False])
def test_embedding_reads_and_writes_by_its_table(tied):
    layer = TokenEmbedding(VOCABULARY, HIDDEN, scale=3.0, tie_weights=tied)
    ids = random_ids(BATCH, LENGTH)
    layer(ids)
    table, *reverse = map(np.asarray, layer.weights)
    assert len(reverse) == (0 if tied else 1)
    np.testing.assert_allclose(layer(ids), 3 * table[ids], rtol=1e-6)
    expected = X @ (table.T if tied else reverse[0])
    np.testing.assert_allclose(layer(X, reverse=True), expected, atol=1e-5)


def test_embedded_vectors_have_unit_variance():
    layer = TokenEmbedding(1009, 256, scale=256**0.5)
    assert float(ops.std(layer(np.arange(1009)[None]))) == pytest.approx(1, abs=0.01)


def test_a_single_key_is_attended_to_without_a_warning():
    layer = MultiHeadAttention(hidden_dim=8, num_heads=2)
    x = np.arange(24, dtype="float32").reshape(3, 1, 8)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="You are using a softmax")
        _, weights = layer(x, return_attention_scores=True)
    assert ops.convert_to_numpy(weights).tolist() == np.ones((3, 2, 1, 1)).tolist()
