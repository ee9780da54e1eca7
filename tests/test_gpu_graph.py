"""Exported graphs have the form that GPUs compute rightly: no GPU is needed to see it."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tfx_transformer.export import compact, gpu_graph
from tfx_transformer.layers.attention import MultiHeadAttention

RANDOM = np.random.default_rng(7)
CACHE = RANDOM.normal(size=(3, 2, 5, 7)).astype("float32")
ROWS = np.array([2, 0, 0, 1, 2], "int32")


@tf.function(experimental_implements="embedding_matmul")
def looked_up(table, ids):
    return tf.gather(table, ids)


# What the models compute, as TensorFlow functions: the fault, the function, and its inputs.
FAULTS = {
    "a vector beside a matrix": (
        "GREATER_EQUAL of shapes .*ranks differ",
        lambda x: tf.cast(x >= np.arange(11, dtype="int32"), tf.float32),
        [np.array([[3], [5], [7]], "int32")],
    ),
    "look-up and position signal": (
        "ADD .*first axis is a batch|ranks differ",
        lambda ids: tf.reshape(
            tf.gather(CACHE.reshape(-1, 7), ids) + CACHE.reshape(-1, 7)[:5], (1, 5, 7)
        ),
        [ROWS],
    ),
    "a slice that drops an axis": (
        "STRIDED_SLICE that drops an axis",
        lambda x: x[:, 1] * x[:, -1],
        [CACHE[0]],
    ),
    "a matrix of indices": (
        "GATHER at indices of shape",
        lambda ids: tf.gather(CACHE[0, 0], ids) * 2.0,
        [np.array([[0, 4], [2, 2], [1, 0]], "int32")],
    ),
    "padding of a matrix": (
        "PAD of shape",
        lambda x: tf.pad(x, [[1, 0], [0, 3]]) * 2.0,
        [CACHE[0, 0]],
    ),
    "one memory for many rows": (
        "BATCH_MATMUL of shapes .*one serves a batch",
        lambda x, memory: tf.matmul(x, memory, transpose_b=True),
        [CACHE, RANDOM.normal(size=(1, 2, 11, 7)).astype("float32")],
    ),
}


def converted(function, arrays):
    specs = [tf.TensorSpec(array.shape, array.dtype) for array in arrays]
    concrete = tf.function(function, input_signature=specs).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    return compact.unpack(bytes(converter.convert()))


def answer(model, arrays):
    interpreter = Interpreter(model_content=compact.pack(model))
    interpreter.allocate_tensors()
    for details, array in zip(interpreter.get_input_details(), arrays, strict=True):
        interpreter.set_tensor(details["index"], array)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_seen_and_mended(kind):
    fault, function, arrays = FAULTS[kind]
    model = converted(function, arrays)
    assert [line for line in gpu_graph.problems(model) if re.search(fault, line)]
    gpu_graph.adapt(model)
    assert gpu_graph.problems(model) == []
    expected = np.asarray(function(*map(tf.constant, arrays)))
    np.testing.assert_allclose(answer(model, arrays), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("width", "rotated"), [(10, 10), (11, 6)])
def test_attention_of_any_width_is_mended(width, rotated):
    # A step of two rows, whose halves of rotated features have 5 or 3 numbers.
    settings = {"causal": True, "rope_theta": 100.0, "rotary_dim": rotated, "sliding_window": 4}
    keras.utils.set_random_seed(5)
    attention = MultiHeadAttention(33, 6, 3, width, softcap=3.0, query_key_norm=True, **settings)
    attention.build((2, 1, 33))

    def step(x, key, value, position):
        return attention(x, cache=(key, value), position=position)[0]

    shapes = (2, 1, 33), (2, 3, 7, width), (2, 3, 7, width)
    arrays = [RANDOM.normal(size=shape).astype("float32") for shape in shapes]
    arrays.append(np.array([5, 2], "int32"))
    model = converted(step, arrays)
    assert [line for line in gpu_graph.problems(model) if "ranks differ" in line]
    gpu_graph.adapt(model)
    assert gpu_graph.problems(model) == []
    expected = np.asarray(step(*map(tf.constant, arrays)))
    np.testing.assert_allclose(answer(model, arrays), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("fault", "function", "array"),
    [
        (
            "PAD of shape .*of integers",
            lambda x: tf.pad(x, [[0, 0]] * 2 + [[1, 2]]),
            ROWS[None, None],
        ),
        ("CUMSUM of integers", lambda x: tf.cumsum(x, axis=1), ROWS[None]),
        ("GATHER_ND does not run", lambda x: tf.gather_nd(CACHE, x[None, :2]), ROWS),
    ],
)
def test_what_is_not_mended_is_named(fault, function, array):
    model = converted(function, [array])
    gpu_graph.adapt(model)
    (line,) = gpu_graph.problems(model)
    assert re.search(fault, line)


def test_what_changes_nothing_is_left_out():
    def function(x):
        y = tf.reshape(x, (1, 10, 7))
        return tf.reshape(tf.nn.relu(tf.reshape(y, (2, 5, 7)))[:, 0:5], (70,))

    model = converted(function, [CACHE[0]])
    gpu_graph.adapt(model)
    assert len(model.subgraphs[0].operators) == 2, "the activation, and one reshaping"
    np.testing.assert_array_equal(answer(model, [CACHE[0]]), np.maximum(CACHE[0], 0).ravel())


def test_a_slice_from_the_end_that_reverses_stays():
    model = converted(lambda x: tf.nn.relu(x)[:, ::-1], [CACHE[0]])
    gpu_graph.adapt(model)
    np.testing.assert_array_equal(answer(model, [CACHE[0]]), np.maximum(CACHE[0], 0)[:, ::-1])
