"""What every layer must do, checked the same way for each; runs on any Keras backend."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfx_transformer import layers
from tfx_transformer.models.transformer import TransformerStack

# Sizes are prime, or differ, so that swapped axes show.
BATCH, LENGTH, MEMORY_LENGTH, HIDDEN, INTERMEDIATE, VOCABULARY = 3, 5, 11, 14, 13, 17


def random_vectors(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def random_ids(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCABULARY, shape, dtype="int32")


X = random_vectors(BATCH, LENGTH, HIDDEN)
MEMORY = random_vectors(BATCH, MEMORY_LENGTH, HIDDEN, seed=1)
BLOCK = {"hidden_dim": HIDDEN, "num_heads": 7, "intermediate_dim": INTERMEDIATE}
HEADS = {"hidden_dim": HIDDEN, "num_heads": 7}
LLAMA = {"norm": "rms_norm", "gated": True, "activation": "silu", "rope_theta": 1e4}
STACK = {
    "vocabulary_size": VOCABULARY,
    "num_layers": 2,
    "num_heads": 7,
    "hidden_dim": HIDDEN,
    "intermediate_dim": INTERMEDIATE,
}

# name -> (class, arguments, inputs)
CASES: dict[str, tuple[type[keras.layers.Layer], dict[str, Any], dict[str, np.ndarray]]] = {
    "sinusoidal": (layers.SinusoidalPositions, {"max_wavelength": 1e3}, {"x": X}),
    "learned": (layers.LearnedPositions, {"max_length": LENGTH}, {"x": X}),
    "rotary": (layers.RotaryPositions, {"theta": 1e3}, {"x": random_vectors(3, 7, 5, 2)}),
    "feed_forward": (layers.FeedForward, {"intermediate_dim": 13, "dropout": 0.5}, {"x": X}),
    "gated": (
        layers.FeedForward,
        {"intermediate_dim": 13, "activation": "silu", "gated": True, "use_bias": False},
        {"x": X},
    ),
    "attention": (layers.MultiHeadAttention, {**HEADS, "dropout": 0.5}, {"x": X}),
    "causal_attention": (layers.MultiHeadAttention, {**HEADS, "causal": True}, {"x": X}),
    "rotary_attention": (layers.MultiHeadAttention, {**HEADS, "rope_theta": 1e3}, {"x": X}),
    "cross_attention": (layers.MultiHeadAttention, HEADS, {"x": X, "memory": MEMORY}),
    "grouped_attention": (
        layers.MultiHeadAttention,
        {"hidden_dim": HIDDEN, "num_heads": 6, "num_key_value_heads": 2, "head_dim": 5},
        {"x": X},
    ),
    "encoder_block": (layers.TransformerBlock, {**BLOCK, "dropout": 0.1}, {"x": X}),
    "post_norm_block": (layers.TransformerBlock, {**BLOCK, "norm_first": False}, {"x": X}),
    "decoder_block": (
        layers.TransformerBlock,
        {**BLOCK, "causal": True, "cross": True},
        {"x": X, "memory": MEMORY},
    ),
    "llama_block": (layers.TransformerBlock, {**BLOCK, **LLAMA, "use_bias": False}, {"x": X}),
    "family_block": (
        layers.TransformerBlock,
        {
            **BLOCK,
            "parallel_residual": True,
            "first_norm": False,
            "norm_bias": False,
            "rope_theta": 1e3,
            "head_dim": 6,
            "rotary_dim": 4,
            "sliding_window": 2,
            "attention_softcap": 3.0,
        },
        {"x": X},
    ),
    "embedding": (
        layers.TokenEmbedding,
        {"input_dim": VOCABULARY, "output_dim": HIDDEN, "scale": 3.0},
        {"inputs": random_ids(BATCH, LENGTH)},
    ),
    "stack": (TransformerStack, {"config": STACK, "num_layers": 2}, {"x": X}),
}


def run_layer_test(
    layer_class: type[keras.layers.Layer],
    arguments: dict[str, Any],
    inputs: dict[str, np.ndarray],
    folder: Path,
) -> None:
    """Raises AssertionError unless a layer builds, runs, trains, serializes and runs in half
    precision.

    Args:
        arguments: of the constructor.
        inputs: array of each call argument, batch first; their second axis may vary in length,
            and for the four axes of attention heads, the third.
        folder: for a saved model.
    """
    layer = layer_class(**arguments)
    expected = np.asarray(layer(**inputs))
    assert np.isfinite(expected).all()

    model = _model_around(layer, inputs)
    np.testing.assert_allclose(model(inputs), expected, atol=1e-5)
    shorter = {
        name: array[..., :2, :] if array.ndim > 2 else array[:, :2]
        for name, array in inputs.items()
    }
    np.testing.assert_allclose(model(shorter), layer(**shorter), atol=1e-5)

    _check_config(layer, arguments, inputs, expected)
    model.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras")
    np.testing.assert_allclose(loaded(inputs), expected, atol=1e-5)

    _check_precision(layer, arguments, inputs, expected)
    _check_training(layer, model, inputs, expected)


def _model_around(layer, inputs):
    symbols = {}
    for name, array in inputs.items():
        shape = list(array.shape[1:])
        shape[1 if array.ndim == 4 else 0] = None
        symbols[name] = keras.Input(shape, dtype=str(array.dtype), name=name)
    return keras.Model(symbols, layer(**symbols))


def _check_config(layer, arguments, inputs, expected):
    config = layer.get_config()
    named = set(inspect.signature(type(layer).__init__).parameters) - {"self", "kwargs"}
    assert named <= set(config), "every constructor argument is in the configuration"
    assert all(config[name] == value for name, value in arguments.items() if name != "config")

    tree = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    copy = keras.saving.deserialize_keras_object(tree)
    assert copy.get_config() == config
    copy(**inputs)
    copy.set_weights(layer.get_weights())
    np.testing.assert_allclose(copy(**inputs), expected, atol=1e-5)


def _check_precision(layer, arguments, inputs, expected):
    for dtype in ("bfloat16", "float16"):
        half = type(layer)(**arguments, dtype=f"mixed_{dtype}")
        half(**inputs)
        half.set_weights(layer.get_weights())
        assert all(keras.backend.standardize_dtype(w.dtype) == "float32" for w in half.weights)
        output = half(**inputs)
        assert keras.backend.standardize_dtype(output.dtype) == dtype
        # bfloat16 keeps 8 bits: values of a few units are off by some hundredths.
        output = np.asarray(keras.ops.cast(output, "float32"))
        np.testing.assert_allclose(output, expected, atol=0.15, rtol=0.05)


def _check_training(layer, model, inputs, expected):
    if not layer.trainable_weights:
        return
    before = layer.get_weights()
    model.compile("adam", "mse", run_eagerly=True)  # nothing to trace: faster
    target = expected + random_vectors(*expected.shape, seed=2)
    loss = model.train_on_batch(inputs, target)
    assert np.isfinite(loss)
    for old, weight in zip(before, layer.weights, strict=True):
        # A softmax cancels what is added to all scores: such a bias has no gradient.
        if weight.trainable and not weight.path.endswith(("key/bias", "score/bias")):
            assert not np.array_equal(old, weight), f"{weight.path} was not trained"


def perturb(layer, scale=0.5, seed=0):
    """Every weight moved at random, so that no bias is zero and no norm is neutral."""
    random = np.random.default_rng(seed)
    for weight in layer.weights:
        if weight.trainable:
            weight.assign_add(scale * random.normal(size=weight.shape))


def copy_attention(theirs, ours):
    """Weights of Keras attention, kernels (in, heads, width) and (heads, width, out), into ours."""
    kernels = [np.asarray(w) for w in theirs.weights]
    query, query_bias, key, key_bias, value, value_bias, output, output_bias = kernels
    ours.query.set_weights([query.reshape(len(query), -1), query_bias.ravel()])
    ours.key.set_weights([key.reshape(len(key), -1), key_bias.ravel()])
    ours.value.set_weights([value.reshape(len(value), -1), value_bias.ravel()])
    ours.output_projection.set_weights([output.reshape(-1, output.shape[-1]), output_bias])


def copy_block(theirs, ours):
    copy_attention(theirs._self_attention_layer, ours.attention)
    ours.attention_norm.set_weights(theirs._self_attention_layer_norm.get_weights())
    if ours.cross:
        copy_attention(theirs._cross_attention_layer, ours.cross_attention)
        ours.cross_attention_norm.set_weights(theirs._cross_attention_layer_norm.get_weights())
    ours.feed_forward.expand.set_weights(theirs._feedforward_intermediate_dense.get_weights())
    ours.feed_forward.contract.set_weights(theirs._feedforward_output_dense.get_weights())
    ours.feed_forward_norm.set_weights(theirs._feedforward_layer_norm.get_weights())
