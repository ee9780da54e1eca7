"""Choices in which families differ, each by hand or by NumPy; families as a whole are compared with
`transformers` in conformance/."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import tfx_transformer as tfx
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.layers import (
    MultiHeadAttention,
    RotaryPositions,
    SinusoidalPositions,
    TransformerBlock,
)
from tfx_transformer.layers.attention import window_mask
from tfx_transformer.layers.norm import new_norm

ROWS = np.random.default_rng(7).normal(size=(2, 5, 12)).astype("float32")


def test_window_of_both_sides_by_hand():
    expected = [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 0, 1, 1]]
    assert np.asarray(window_mask(5, 2)).astype(int).tolist() == [expected]


def test_a_window_reaches_as_far_on_both_sides():
    layer = MultiHeadAttention(12, 3, sliding_window=2)
    output, scores = layer(ROWS, return_attention_scores=True)
    seen = np.asarray(scores) > 1e-6
    assert (seen == np.asarray(window_mask(5, 2))[:, None]).all()
    # Beside padding: what is hidden by either is hidden.
    padded = np.array([[True] * 5, [True, True, True, False, False]])[:, None]
    _, scores = layer(ROWS, attention_mask=padded, return_attention_scores=True)
    assert not (np.asarray(scores)[1, ..., 3:] > 1e-6)[:, :4].any()


def test_soft_capped_scores_by_numpy():
    layer = MultiHeadAttention(12, 3, softcap=0.3)
    _, weights = layer(ROWS, return_attention_scores=True)
    query, key = (
        np.asarray(part(ROWS)).reshape(2, 5, 3, 4).transpose(0, 2, 1, 3)
        for part in (layer.query, layer.key)
    )
    scores = 0.3 * np.tanh(query @ key.transpose(0, 1, 3, 2) / 2 / 0.3)
    expected = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    assert np.abs(scores).max() < 0.3


def test_only_the_first_features_are_rotated():
    x = np.random.default_rng(1).normal(size=(1, 2, 5, 10)).astype("float32")
    turned = np.asarray(RotaryPositions(100.0, width=6)(x))
    np.testing.assert_array_equal(turned[..., 6:], x[..., 6:])
    np.testing.assert_allclose(turned[..., :6], RotaryPositions(100.0)(x[..., :6]), atol=1e-6)
    with pytest.raises(ValueError, match="at most head_dim 10"):
        RotaryPositions(width=12)(x)


def test_long_rope_divides_each_frequency():
    x = np.ones((1, 1, 4, 4), "float32")
    scaling = {"rope_type": "longrope", "short_factor": [2.0, 5.0], "attention_factor": 3.0}
    turned = np.asarray(RotaryPositions(100.0, scaling)(x))
    # Frequencies 1 / 2 and 0.1 / 5; of ones the first half is cos - sin.
    angles = np.arange(4)[:, None] * np.array([0.5, 0.02])
    expected = 3 * (np.cos(angles) - np.sin(angles))
    np.testing.assert_allclose(turned[0, 0, :, :2], expected, atol=1e-5)


def test_fairseq_positions_by_hand():
    """Ott et al. (2019): position 2 first, the last wavelength is 2 pi 10000."""
    layer = SinusoidalPositions(interleaved=False, inclusive=True, first=2)
    signal = np.asarray(layer(np.zeros((1, 3, 6), "float32")))[0]
    frequencies = np.array([1.0, 0.01, 0.0001])
    angles = np.arange(2, 5)[:, None] * frequencies
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    np.testing.assert_allclose(signal, expected, atol=1e-6)
    np.testing.assert_allclose(layer(np.zeros((1, 1, 6), "float32"), start=2)[0, 0], signal[2])


def test_parallel_residual_by_its_parts():
    block = TransformerBlock(12, 3, 17, parallel_residual=True)
    output = np.asarray(block(ROWS))
    attended = np.asarray(block.attention(block.attention_norm(ROWS)))
    fed = np.asarray(block.feed_forward(block.feed_forward_norm(ROWS)))
    np.testing.assert_allclose(output, ROWS + attended + fed, atol=1e-5)


def test_the_first_norm_may_be_left_out():
    block = TransformerBlock(12, 3, 17, first_norm=False)
    block(ROWS)
    assert block.attention_norm is None
    assert not any("attention_norm" in weight.path for weight in block.weights)


def test_norm_without_beta_by_hand():
    norm = new_norm("layer_norm", use_bias=False, epsilon=0.0)
    result = np.asarray(norm(np.array([[1.0, 3.0, 5.0]], "float32")))
    np.testing.assert_allclose(result, [[-np.sqrt(1.5), 0, np.sqrt(1.5)]], atol=1e-5)
    assert [weight.path.rsplit("/")[-1] for weight in norm.weights] == ["gamma"]


def small(**fields) -> TransformerConfig:
    sizes = {"num_layers": 2, "num_heads": 3, "hidden_dim": 12, "intermediate_dim": 17}
    return TransformerConfig(vocabulary_size=31, **{**sizes, "dropout": 0.0, **fields})


def test_blocks_without_positions_do_not_see_the_order():
    """Of one block that sees all: what the last token reads is the same in any order."""
    rows = np.array([[5, 6, 7, 8, 9], [7, 5, 8, 6, 9]], "int32")
    fields = {"position": "rotary", "num_layers": 1}
    none = tfx.CausalLM(small(**fields, no_position_layers=(0,)))({"token_ids": rows})[:, -1]
    np.testing.assert_allclose(none[0], none[1], atol=1e-5)
    some = np.asarray(tfx.CausalLM(small(**fields))({"token_ids": rows}))[:, -1]
    assert np.abs(some[0] - some[1]).max() > 1e-3


def test_soft_capped_logits():
    config = small(position="rotary", logit_softcap=2.0)
    capped, plain = (
        tfx.CausalLM(c) for c in (config, dataclasses.replace(config, logit_softcap=None))
    )
    plain.set_weights(capped.get_weights())
    ids = {"token_ids": np.array([[5, 6, 7]], "int32")}
    np.testing.assert_allclose(capped(ids), 2 * np.tanh(np.asarray(plain(ids)) / 2), atol=1e-5)


def test_a_causal_encoder_sees_what_was_before():
    model = tfx.Embedder(small(causal_encoder=True, pooling="first"))
    one, other = (np.asarray(model.embed(np.array([[5, *rest]]))) for rest in ([6, 7], [8, 9]))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_narrow_table_is_projected():
    model = tfx.MaskedLM(small(embedding_dim=7, position="learned"))
    shapes = {w.path: tuple(w.shape) for w in model.weights}
    assert shapes["embedding/embeddings"] == (31, 7)
    assert shapes["encoder/embedding_projection/kernel"] == (7, 12)
    assert shapes["transform/kernel"] == (12, 7)
    inputs = {"token_ids": np.array([[5, 6]]), "masked_positions": np.array([[1]])}
    assert model(inputs).shape == (1, 1, 31)
    with pytest.raises(InputError, match="embedding_dim is 8 for a model that writes"):
        tfx.CausalLM(small(embedding_dim=8))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parallel_residual": True, "norm_first": False}, "goes with norm_first"),
        ({"position": "rotary", "rotary_dim": 6}, "rotary_dim 6 is above head_dim 4"),
        ({"position": "rotary", "rotary_dim": 3}, "need an even width, got 3"),
        ({"logit_softcap": 0.0}, "logit_softcap is 0"),
        ({"no_position_layers": (-1,)}, "no_position_layers is"),
        ({"pooler_activation": "swish"}, "pooler_activation is 'swish'"),
        (
            {
                "position": "rotary",
                "rope_scaling": {
                    "rope_type": "longrope",
                    "short_factor": [1.0],
                    "attention_factor": 1.0,
                    "original_max_position_embeddings": 9,
                },
            },
            "short_factor has 1 numbers",
        ),
    ],
)
def test_what_does_not_fit_is_named(fields, message):
    with pytest.raises(InputError, match=message):
        small(**fields)


def test_switches_survive_their_json():
    config = small(no_position_layers=(1,), attention_softcap=3.0, rotary_dim=2)
    assert TransformerConfig.from_dict(config.to_dict()) == config
