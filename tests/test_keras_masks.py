"""Layers among Keras's own: padding that Keras marks changes no answer."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from tiny_models import perturbed, tiny_config

from tfx_transformer import layers
from tfx_transformer.layers.norm import NORMS
from tfx_transformer.layers.pooling import _MODES
from tfx_transformer.models.transformer import TransformerStack

VOCABULARY, WIDTH = 17, 12
BLOCK = {"hidden_dim": WIDTH, "num_heads": 3, "intermediate_dim": 13}
# Three texts, and how many ids of padding a run adds to each.
TEXTS = [[3, 4, 5, 9, 2], [7, 8, 16], [11, 6]]


def padded(texts, side, extra=2):
    """int32 (batch, longest + extra), filled up with 0."""
    length = max(map(len, texts)) + extra
    rows = [[0] * (length - len(t)) for t in texts]
    pairs = zip(texts, rows, strict=True)
    return np.array([t + r if side == "right" else r + t for t, r in pairs], "int32")


def check(model, *, sides=("right", "left"), atol=1e-5):
    """A functional model of ids answers each text alone as it does among padding."""

    def answer(ids):
        return np.asarray(model(ids if len(model.inputs) == 1 else [ids] * len(model.inputs)))

    perturbed(model)
    alone = [answer(np.array([text], "int32")) for text in TEXTS]
    for side in sides:
        for one, row in zip(alone, answer(padded(TEXTS, side)), strict=True):
            np.testing.assert_allclose(row, one[0], atol=atol, err_msg=side)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def ids():
    return keras.Input((None,), dtype="int32")


def embedding(ours=False):
    if ours:
        return layers.TokenEmbedding(VOCABULARY, WIDTH, mask_zero=True)
    return keras.layers.Embedding(VOCABULARY, WIDTH, mask_zero=True)


BLOCKS = {
    "encoder": {},
    "causal": {"causal": True},
    "post_norm": {"norm_first": False},
    "rms_norm": {"norm": "rms_norm", "gated": True},
    "sandwich": {"norm": "rms_norm", "sandwich_norm": True},
    "rotary": {"rope_theta": 100.0, "causal": True},
    "grouped": {"num_key_value_heads": 1, "query_key_norm": True},
    "window": {"causal": True, "sliding_window": 2},
    "window on both sides": {"sliding_window": 3},
}


@pytest.mark.slow(but=["post_norm", "grouped", "window on both sides"])
@pytest.mark.parametrize("name", BLOCKS)
def test_padding_changes_nothing_of_a_block(name):
    x = source = ids()
    x = embedding()(x)
    for _ in range(2):
        x = layers.TransformerBlock(**BLOCK, **BLOCKS[name])(x)
    check(keras.Model(source, keras.layers.GlobalAveragePooling1D()(x)))


POSITIONS = ("sinusoidal", "learned", "rotary", "relative")
PLAIN = ("sinusoids", "positions", "feed_forward", "attention", "linear", "rms_norm", "layer_norm")


@pytest.mark.slow(
    but=["relative", "positions", "feed_forward", "attention", "linear", "layer_norm"]
)
@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.SinusoidalPositions(),
        lambda: layers.LearnedPositions(7),
        lambda: layers.FeedForward(13),
        lambda: layers.MultiHeadAttention(WIDTH, 3),
        lambda: layers.Linear(5),
        lambda: NORMS["rms_norm"](),
        lambda: NORMS["layer_norm"](),
        *(
            lambda position=position: TransformerStack(
                tiny_config(hidden_dim=WIDTH, num_heads=3, position=position), 2
            )
            for position in POSITIONS
        ),
    ],
    ids=[*PLAIN, *POSITIONS],
)
def test_padding_changes_nothing_of_a_layer(layer):
    source = ids()
    x = keras.layers.LSTM(WIDTH, return_sequences=True)(embedding(ours=True)(source))
    x = keras.layers.LSTM(5)(layer()(x))  # which sees the order, and skips what is masked
    check(keras.Model(source, x))


@pytest.mark.parametrize("mode", [mode for mode in _MODES if mode != "class_tokens"])
def test_padding_changes_nothing_of_a_pooling(mode):
    source = ids()
    x = layers.TransformerBlock(**BLOCK)(embedding()(source))
    check(keras.Model(source, layers.Pooling(mode)(x)))


def test_the_first_and_the_last_vector_that_is_no_padding_by_hand():
    x = np.arange(10, dtype="float32").reshape(2, 5, 1)
    mask = np.array([[0, 1, 0, 1, 0], [0, 0, 1, 0, 0]], bool)
    np.testing.assert_array_equal(layers.Pooling("first")(x, mask=mask), [[1], [7]])
    np.testing.assert_array_equal(layers.Pooling("last")(x, mask=mask), [[3], [7]])
    np.testing.assert_array_equal(layers.Pooling("mean")(x, mask=mask), [[2], [7]])


@pytest.mark.slow(but=["Keras's"])
@pytest.mark.parametrize("ours", [False, True], ids=["Keras's", "ours"])
def test_padding_on_both_sides_of_an_encoder_decoder(ours):
    source, target = ids(), ids()
    memory = layers.TransformerBlock(**BLOCK)(embedding(ours)(source))
    x = layers.TransformerBlock(**BLOCK, causal=True, cross=True)(
        embedding(ours)(target), memory=memory
    )
    x = layers.MultiHeadAttention(WIDTH, 3)(x, memory=memory)
    check(keras.Model([source, target], keras.layers.GlobalAveragePooling1D()(x)))


def test_padding_in_half_precision():
    policy, source = "mixed_bfloat16", ids()
    x = keras.layers.Embedding(VOCABULARY, WIDTH, mask_zero=True, dtype=policy)(source)
    x = layers.TransformerBlock(**BLOCK, dtype=policy)(x)
    x = layers.Pooling("mean", dtype=policy)(x)
    check(keras.Model(source, keras.ops.cast(x, "float32")), atol=0.05)


def test_the_mask_goes_on_and_is_that_of_the_ids():
    source = padded(TEXTS, "right")
    x = embedding()(source)
    for layer in (
        layers.TransformerBlock(**BLOCK),
        layers.MultiHeadAttention(WIDTH, 3),
        layers.FeedForward(13),
        layers.SinusoidalPositions(),
        TransformerStack(tiny_config(hidden_dim=WIDTH, num_heads=3), 1),
    ):
        x = layer(x)
        np.testing.assert_array_equal(x._keras_mask, source != 0, err_msg=layer.name)
    logits = layers.TokenEmbedding(VOCABULARY, WIDTH, mask_zero=True)
    logits(source)
    np.testing.assert_array_equal(logits(x, reverse=True)._keras_mask, source != 0)
    assert getattr(layers.Pooling("mean")(x), "_keras_mask", None) is None


def test_an_explicit_attention_mask_and_that_of_keras_both_hide():
    """As keras.layers.MultiHeadAttention with the same weights and both masks."""
    random = np.random.default_rng(0)
    x, memory = (random.normal(size=(2, n, WIDTH)).astype("float32") for n in (5, 7))
    seen = random.random((2, 5, 7)) < 0.6
    seen[:, :, 0] = True
    padding = np.array([[1] * 7, [1, 1, 1, 0, 0, 0, 0]], bool)
    ours = layers.MultiHeadAttention(WIDTH, 3)
    theirs = keras.layers.MultiHeadAttention(3, WIDTH // 3)
    ours(x, memory=memory)
    theirs(x, memory)
    perturbed(ours)
    shapes = [w.shape for w in theirs.weights]
    theirs.set_weights([np.reshape(w, s) for w, s in zip(ours.get_weights(), shapes, strict=True)])
    found = ours(x, memory=memory, attention_mask=seen, memory_mask=padding)
    expected = theirs(x, memory, key=memory, attention_mask=seen & padding[:, None])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # and of self-attention, beside an explicit mask as a tensor
    marked = keras.layers.Masking(99.0)(np.where(padding[:, :5, None], x, np.float32(99)))
    found = ours(marked, attention_mask=seen[:, :, :5])
    expected = theirs(
        np.array(marked), np.array(marked), attention_mask=seen[:, :, :5] & padding[:, None, :5]
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_mask_and_a_cache():
    layer = layers.MultiHeadAttention(WIDTH, 3, causal=True)
    x, mask = np.ones((2, 3, WIDTH), "float32"), np.array([[0, 1, 1], [1, 1, 1]], bool)
    cache = tuple(np.zeros((2, 3, 5, WIDTH // 3), "float32") for _ in range(2))
    with pytest.raises(ValueError, match="attention_mask"):
        layer(x, cache=cache, mask=mask)
    slots = np.pad(mask, [[0, 0], [0, 2]], constant_values=True)[:, None]
    found = np.asarray(layer(x, cache=cache, mask=mask, attention_mask=slots)[0])
    np.testing.assert_allclose(found[mask], np.asarray(layer(x, mask=mask))[mask], atol=1e-6)
