"""Layers at both ends of an encoder, against loops in NumPy: images to vectors, vectors to one."""

from __future__ import annotations

import numpy as np
import pytest
from by_numpy import softmax
from keras import ops
from layer_harness import BATCH, HIDDEN, LENGTH, X, perturb, run_layer_test

from tfx_transformer.layers import ConvolutionalTokenizer, PatchEmbedding, Pooling

MODES = ("mean", "first", "last", "attention")
# Every token, three of them, one.
MASK = np.arange(LENGTH) < np.array([[5], [3], [1]])
COLOURS = np.random.default_rng(0).uniform(0, 255, (2, 14, 22, 3)).astype("float32")


def as_float32(tensor) -> np.ndarray:
    return np.asarray(ops.cast(tensor, "float32"))


# Pooling


def pooling(mode: str, **options) -> Pooling:
    """Its weights, if it has any, are far from neutral."""
    layer = Pooling(mode, **options)
    layer.build(X.shape)
    perturb(layer)
    return layer


def pooled_by_hand(layer: Pooling, mask: np.ndarray) -> np.ndarray:
    """Row by row, from those vectors only that are not padding."""
    kernel, bias = layer.get_weights() or (np.zeros((HIDDEN, 1)), np.zeros(1))
    formulas = {
        "mean": lambda row: row.mean(axis=0),
        "first": lambda row: row[0],
        "last": lambda row: row[-1],
        "attention": lambda row: softmax((row @ kernel + bias)[:, 0]) @ row,
    }
    rows = [X[index][mask[index]] for index in range(BATCH)]
    return np.stack([formulas[layer.mode](row) for row in rows])


@pytest.mark.parametrize("mode", MODES)
def test_pooling_is_a_keras_layer(mode, tmp_path):
    inputs = {"x": X, "attention_mask": MASK}
    run_layer_test(Pooling, {"mode": mode}, inputs, tmp_path)


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-6), ("mixed_bfloat16", 0.03)])
@pytest.mark.parametrize("mode", MODES)
def test_pooling_is_numpy(mode, dtype, atol):
    layer = pooling(mode, dtype=dtype)
    x = ops.cast(X, layer.compute_dtype)
    pooled = layer(x, attention_mask=MASK)
    assert pooled.dtype == layer.compute_dtype
    np.testing.assert_allclose(as_float32(pooled), pooled_by_hand(layer, MASK), atol=atol)
    every = np.ones_like(MASK)
    expected = pooled_by_hand(layer, every)
    np.testing.assert_allclose(as_float32(layer(x)), expected, atol=atol)
    np.testing.assert_allclose(as_float32(layer(x, attention_mask=every)), expected, atol=atol)
    assert mode == "first" or not np.allclose(expected, pooled_by_hand(layer, MASK), atol=0.1)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("mode", MODES)
def test_what_stands_in_padding_changes_nothing(mode, dtype):
    layer = pooling(mode, dtype=dtype)
    other = np.where(MASK[:, :, None], X, 100.0).astype("float32")
    pooled = [as_float32(layer(x, attention_mask=MASK)) for x in (X, other)]
    np.testing.assert_array_equal(*pooled)
    assert mode == "first" or not np.array_equal(layer(X), layer(other))


@pytest.mark.parametrize("mode", ["mean", "attention"])
def test_a_long_text_is_averaged_in_half_precision(mode):
    # More equal weights than bfloat16 can count: 257 is 256 in it.
    layer = Pooling(mode, dtype="mixed_bfloat16")
    pooled = as_float32(layer(np.full((1, 1009, 3), 5.0, "float32")))
    np.testing.assert_allclose(pooled, 5, rtol=0.01)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="no mode 'median'"):
        Pooling("median")


# Patches


@pytest.mark.parametrize(
    ("layer", "arguments"),
    [
        (PatchEmbedding, {"hidden_dim": 13, "patch_size": 2}),
        (ConvolutionalTokenizer, {"hidden_dim": 13, "conv_layers": 1}),
        (ConvolutionalTokenizer, {"hidden_dim": 5, "conv_layers": 2}),
    ],
    ids=["patches", "one_convolution", "two_convolutions"],
)
def test_image_layers_are_keras_layers(layer, arguments, tmp_path):
    run_layer_test(layer, arguments, {"images": COLOURS[:, :10, :6]}, tmp_path)


def test_patches_are_numpy():
    layer = PatchEmbedding(13, 7)
    layer.build()
    perturb(layer, 0.1)
    kernel, bias = layer.get_weights()
    images, size = COLOURS[:, :14, :21] / 127.5 - 1, 7
    expected = [
        images[:, y : y + size, x : x + size].reshape(2, -1) @ kernel.reshape(-1, 13) + bias
        for y in range(0, 14, size)
        for x in range(0, 21, size)
    ]
    vectors = layer(COLOURS[:, :14, :21])
    assert vectors.shape == (2, 6, 13)
    np.testing.assert_allclose(vectors, np.stack(expected, axis=1), atol=1e-5)


@pytest.mark.parametrize(("colour", "scaled"), [(0, -1), (127.5, 0), (255, 1), (51, -0.6)])
def test_colours_are_scaled_around_zero(colour, scaled):
    layer = PatchEmbedding(1, 1)
    layer.build()
    # One colour after the other, so that none is left out.
    layer.projection.set_weights([np.array([1, 10, 100]).reshape(1, 1, 3, 1), np.zeros(1)])
    vectors = layer(np.full((1, 1, 1, 3), colour, "float32"))
    assert float(vectors[0, 0, 0]) == pytest.approx(111 * scaled, abs=1e-4)


# Convolutions


def convolved(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Of the same height and width, zeros around."""
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)])
    result = np.zeros((*images.shape[:3], kernel.shape[-1]))
    for y in range(images.shape[1]):
        for x in range(images.shape[2]):
            window = padded[:, y : y + 3, x : x + 3]
            result[:, y, x] = np.einsum("byxc,yxcd->bd", window, kernel)
    return result


def max_pooled(images: np.ndarray) -> np.ndarray:
    """The largest of three by three, at every second pixel; of an odd side from -1 on, of an even
    one from 0 on, so that as much hangs over at the far end."""
    height, width = images.shape[1:3]
    tops, lefts = range(-(height % 2), height - 1, 2), range(-(width % 2), width - 1, 2)
    rows = [
        [images[:, max(y, 0) : y + 3, max(x, 0) : x + 3].max(axis=(1, 2)) for x in lefts]
        for y in tops
    ]
    return np.array(rows).transpose(2, 0, 1, 3)


@pytest.mark.parametrize("conv_layers", [1, 2, 3])
@pytest.mark.parametrize(("height", "width"), [(7, 11), (11, 7), (8, 5)])
def test_convolutions_are_numpy(height, width, conv_layers):
    layer = ConvolutionalTokenizer(5, conv_layers)
    layer.build()
    images = COLOURS[:, :height, :width]
    kernels = [np.asarray(weight, "float64") for weight in layer.weights]
    channels = [3, *[64] * (conv_layers - 1), 5]
    assert [k.shape for k in kernels] == [
        (3, 3, *pair) for pair in zip(channels, channels[1:], strict=False)
    ]
    grid = images.astype("float64") / 127.5 - 1
    for kernel in kernels:
        grid = max_pooled(np.maximum(convolved(grid, kernel), 0))
    count = -(-height // 2**conv_layers) * -(-width // 2**conv_layers)
    vectors = layer(images)
    assert vectors.shape == (2, count, 5)
    np.testing.assert_allclose(vectors, grid.reshape(2, count, 5), atol=1e-4)
