"""Attention that does not hold the scores, fused or in blocks: the same answers and gradients."""

from __future__ import annotations

from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from on_jax import needs_jax, run_on_jax

from tfx_transformer.layers import MultiHeadAttention, attention

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(2, 7, 24)).astype("float32")
MEMORY = RANDOM.normal(size=(2, 5, 24)).astype("float32")
SEGMENTS = np.array([[0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 2, 2, 2]])
PACKED = SEGMENTS[:, :, None] == SEGMENTS[:, None, :]
PADDING = np.arange(7) < np.array([[7], [4]])
CASES = {
    "plain": ({}, {}),
    "causal": ({"causal": True}, {}),
    "masked": ({}, {"attention_mask": PADDING[:, None, :]}),
    "padding": ({"causal": True}, {"mask": PADDING}),
    "cross": ({}, {"memory": MEMORY, "memory_mask": PADDING[:, :5]}),
    "windowed": ({"sliding_window": 3}, {}),
    "causal window": ({"sliding_window": 3, "causal": True}, {"attention_mask": PACKED}),
    "grouped": ({"num_key_value_heads": 2, "scale": 0.3, "rope_theta": 100.0}, {}),
    "packed": ({"num_key_value_heads": 3, "causal": True}, {"attention_mask": PACKED}),
    "one key/value head": ({"num_key_value_heads": 1, "query_key_norm": True}, {}),
}


def step(layer, options):
    """Return the output, and the gradient of its squared length for each weight."""
    weights = [keras.ops.convert_to_tensor(w.value) for w in layer.trainable_variables]

    def loss(weights):
        mapping = zip(layer.trainable_variables, weights, strict=True)
        with keras.StatelessScope(state_mapping=mapping):
            output = layer(X, training=True, **options)
        return keras.ops.sum(keras.ops.square(output)), output

    if keras.backend.backend() == "jax":
        import jax

        (_, output), slopes = jax.jit(jax.value_and_grad(loss, has_aux=True))(weights)
    else:
        with tf.GradientTape() as tape:
            tape.watch(weights)
            value, output = loss(weights)
        slopes = tape.gradient(value, weights)
    return keras.ops.convert_to_numpy(output), [keras.ops.convert_to_numpy(s) for s in slopes]


def check(case):
    """Assert that fused attention answers as ours, and has its gradients."""
    settings, options = CASES[case]
    keras.utils.set_random_seed(1)
    layer = MultiHeadAttention(24, 6, **settings)
    layer.build(X.shape, MEMORY.shape if "memory" in options else None)
    output, slopes = step(layer, options)
    fused = mock.Mock(wraps=keras.ops.dot_product_attention)
    with (
        mock.patch.object(attention, "fuses", lambda *_: True),
        mock.patch.object(keras.ops, "dot_product_attention", fused),
    ):
        other, theirs = step(layer, options)
    assert fused.call_count == 1
    found = [(other, theirs)]
    if keras.backend.backend() == "jax":  # blocks of 3, 3 and 1 queries, and of 1
        for scores in (2 * 6 * 3 * 7, 1):
            with mock.patch.object(attention, "BLOCK", scores):
                found.append(step(layer, options))
    seen = PADDING if case == "padding" else np.ones((2, 7), bool)
    for other, theirs in found:
        np.testing.assert_allclose(other[seen], output[seen], atol=1e-6)
        for one, expected in zip(theirs, slopes, strict=True):
            np.testing.assert_allclose(one, expected, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("case", [case for case in CASES if case != "one key/value head"])
def test_fused_attention_is_attention(case):
    """TensorFlow's operation does not take one key/value head."""
    check(case)


@needs_jax
@pytest.mark.slow
def test_fused_attention_is_attention_on_jax():
    run_on_jax(
        """
        from test_fused_attention import CASES, check, check_memory, test_a_cpu_does_not_fuse

        test_a_cpu_does_not_fuse()
        for case in CASES:
            check(case)
        check_memory()
        """
    )


def check_memory():
    """Assert that a long text does not hold its scores."""
    import jax

    layer = MultiHeadAttention(24, 6, causal=True)
    layer.build((2, 521, 24))
    values = [variable.value for variable in layer.trainable_variables]
    others = [variable.value for variable in layer.non_trainable_variables]
    text = jax.ShapeDtypeStruct((2, 521, 24), "float32")

    def loss(values, x):
        return keras.ops.sum(layer.stateless_call(values, others, x)[0])

    def needed(scores):
        with mock.patch.object(attention, "BLOCK", scores):
            compiled = jax.jit(jax.grad(loss)).lower(values, text).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    whole = 4 * 2 * 6 * 521 * 521
    assert needed(2**24) > whole
    assert needed(2**16) < whole / 2


def test_what_needs_scores_is_not_fused():
    """Dropout, a bias, a softcap, a cache, and requested weights."""
    bias, cache = np.zeros((1, 6, 7, 7), "float32"), np.zeros((2, 6, 7, 4), "float32")
    cases = (
        ({"dropout": 0.1}, {"training": True}),
        ({}, {"attention_bias": bias}),
        ({"softcap": 5.0}, {}),
        ({"causal": True}, {"cache": (cache, cache)}),
        ({}, {"return_attention_scores": True}),
    )
    with (
        mock.patch.object(attention, "fuses", lambda *_: True),
        mock.patch.object(
            keras.ops, "dot_product_attention", mock.Mock(side_effect=AssertionError)
        ),
    ):
        for settings, options in cases:
            layer = MultiHeadAttention(24, 6, **settings)
            layer.build(X.shape)
            layer(X, **options)


def test_a_cpu_does_not_fuse():
    x = np.zeros((1, 2, 4, 64))
    assert not attention.fuses("bfloat16", x, x) and not attention.fuses("float32", x, x)


@pytest.mark.parametrize(
    ("device", "dtype", "keys", "width", "expected"),
    [
        ("gpu:0", "bfloat16", 6, 64, True),
        ("gpu:3", "float16", 6, 128, True),
        ("gpu:0", "float32", 6, 64, False),
        ("gpu:0", "bfloat16", 7, 64, False),
        ("gpu:0", "bfloat16", 6, 20, False),
        ("gpu:0", "bfloat16", 6, 256, False),
        ("tpu:0", "bfloat16", 6, 64, False),
        ("cpu:0", "bfloat16", 6, 64, False),
    ],
)
def test_what_is_fused_on_which_device(monkeypatch, device, dtype, keys, width, expected):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: [device])
    attention._has_gpu.cache_clear()
    query, key = (np.zeros((1, 2, length, width)) for length in (4, keys))
    assert attention.fuses(dtype, query, key) == expected
    attention._has_gpu.cache_clear()
