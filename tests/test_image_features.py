"""Edges and colours of images, and the linear classifier that sees them."""

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy.linalg import eigh, sqrtm

from tfx_transformer.evaluation.baselines import edge_color_labels, pixel_labels
from tfx_transformer.evaluation.image_features import edge_color_features
from tfx_transformer.images import resize
from tfx_transformer.layers import EdgeColorLogits
from tfx_transformer.layers.edges import count_weights, edge_color_count
from tfx_transformer.training.patches import patch_filters

COLORS = 64


def one_by_one(image, cell=8, strength=1.0):
    """The features of an image, pixel by pixel; `cell`: pixels along the side of a part; `strength`
    is a factor on all gradients."""
    height, width, _ = image.shape
    x = image / 255
    cells = np.zeros((math.ceil(height / cell), math.ceil(width / cell), 8))
    for i in range(height):
        for j in range(width):
            down = x[min(i + 1, height - 1), j] - x[max(i - 1, 0), j]
            right = x[i, min(j + 1, width - 1)] - x[i, max(j - 1, 0)]
            best = int(np.argmax(np.hypot(down, right)))
            turn = (math.atan2(down[best], right[best]) / math.pi % 1) * 8
            low, share = int(turn), turn - int(turn)
            long = math.hypot(down[best], right[best]) * strength
            cells[i // cell, j // cell, low % 8] += long * (1 - share)
            cells[i // cell, j // cell, (low + 1) % 8] += long * share
    edges = []
    for i in range(len(cells) - 1):
        for j in range(cells.shape[1] - 1):
            places = ((i, j), (i + 1, j), (i, j + 1), (i + 1, j + 1))
            block = np.concatenate([cells[place] for place in places])
            edges.append(block / math.sqrt(block @ block + 0.01))
    colors = np.zeros((2, 2, COLORS))
    down, right = math.ceil(height / 2), math.ceil(width / 2)
    for i in range(height):
        for j in range(width):
            red, green, blue = (min(int(value * 4), 3) for value in x[i, j])
            colors[i // down, j // right, 16 * red + 4 * green + blue] += 1
    return np.concatenate([*edges, np.sqrt(colors / (down * right)).ravel()])


def test_features_pixel_by_pixel():
    images = np.random.default_rng(3).integers(0, 256, (3, 16, 24, 3)).astype("uint8")
    found = edge_color_features(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [one_by_one(image) for image in images], atol=2e-5)


@pytest.mark.parametrize(("size", "cells", "side"), [(16, 2, 8), (15, 5, 3), (11, 3, 4)])
def test_the_layer_pixel_by_pixel(size, cells, side):
    """An image of 11 has parts of 4 and 4 and 3 pixels. Edges are as strong as at 32 pixels."""
    images = np.random.default_rng(size).integers(0, 256, (3, size, size, 3))
    images[1] = images[1, :, :, :1]  # grey: all colours have the same gradient
    images[2] = 128
    layer = EdgeColorLogits(size, cells, 2)
    layer.build()
    wanted = np.array([one_by_one(image, side, 32 / size) for image in images])
    assert wanted.shape[1] == edge_color_count(cells) == layer.kernel.shape[0]
    np.testing.assert_allclose(layer.features(images), wanted, atol=1e-4)
    kernel = np.random.default_rng(1).normal(size=layer.kernel.shape)
    layer.kernel.assign(kernel)
    np.testing.assert_allclose(layer(images.astype("float32")), wanted @ kernel, atol=2e-3)
    assert EdgeColorLogits.from_config(layer.get_config()).get_config() == layer.get_config()


def patches_one_by_one(image, filters, shrink, stride):
    """The features of patches of an image, patch by patch; `shrink`: pixels along the side of the
    squares whose means count."""
    small = len(image) // shrink
    squares = image[: small * shrink, : small * shrink] / 255 - 0.5
    x = squares.reshape(small, shrink, small, shrink, 3).mean(axis=(1, 3))
    side, count = len(filters), filters.shape[-1]
    starts = range(0, small - side + 1, stride)
    half = math.ceil(len(starts) / 2)
    sums = np.zeros((2, 2, 2 * count))
    for i, down in enumerate(starts):
        for j, right in enumerate(starts):
            patch = x[down : down + side, right : right + side]
            products = np.einsum("ijc,ijck->k", patch, filters)
            products /= math.sqrt(patch.var() + 10 / 255**2)
            both = np.concatenate([products, -products])
            sums[i // half, j // half] += np.maximum(both - 0.25, 0)
    return 3 * np.sqrt(sums / half**2 / count).ravel()


@pytest.mark.parametrize(
    ("size", "shrink", "side", "stride"), [(11, 1, 3, 1), (48, 1, 9, 2), (97, 3, 6, 1)]
)
def test_patches_one_by_one(size, shrink, side, stride):
    random = np.random.default_rng(size)
    images = random.integers(0, 256, (2, size, size, 3))
    images[1] = 90
    layer = EdgeColorLogits(size, 3, 2, 5)
    layer.build()
    filters = random.normal(size=(side, side, 3, 5)) / side
    layer.filters.assign(filters)
    wanted = np.array([patches_one_by_one(image, filters, shrink, stride) for image in images])
    found = np.asarray(layer.features(images))
    assert found.shape[1] == edge_color_count(3, 5) == layer.kernel.shape[0]
    np.testing.assert_allclose(found[:, -40:], wanted, atol=1e-3)
    assert layer.count_params() == count_weights(size, 3, 2, 5)
    assert EdgeColorLogits.from_config(layer.get_config()).get_config() == layer.get_config()


def test_a_filter_is_the_main_direction_of_whitened_patches():
    """In images of one patch each, nearly all of a pattern or its opposite. One filter is then the
    first principal component, which SciPy computes."""
    random = np.random.default_rng(4)
    pattern = random.normal(size=(3, 3, 3)) * random.choice([-40, 40], (50, 1, 1, 1))
    images = (128 + pattern + random.normal(0, 9, (50, 3, 3, 3))).clip(0, 255)
    filters = patch_filters(images, 1)
    assert filters.shape == (3, 3, 3, 1) and filters.dtype == np.float32
    flat = images.reshape(50, 27) / 255
    patches = flat - flat.mean(axis=1, keepdims=True)
    patches /= np.sqrt(flat.var(axis=1, keepdims=True) + 10 / 255**2)
    # The 20,000 drawn patches have each image about equally often.
    root: Any = sqrtm(patches.T @ patches / 50 + 0.1 * np.eye(27))
    whitening = np.linalg.inv(root.real)
    white = patches @ whitening
    directions: Any = eigh(white.T @ white)[1]
    wanted = whitening @ directions[:, -1]
    found = filters.ravel() * np.sign(filters.ravel() @ wanted)
    np.testing.assert_allclose(found, wanted, atol=0.03 * float(np.linalg.norm(wanted)))
    assert filters.sum() == pytest.approx(0, abs=1e-5)


def test_the_layer_sees_what_the_baseline_sees():
    images = np.random.default_rng(8).integers(0, 256, (2, 32, 32, 3)).astype("uint8")
    found = EdgeColorLogits(32, 4, 2).features(images)
    np.testing.assert_allclose(found, edge_color_features(images), atol=1e-4)


def test_a_flat_image_has_a_colour_and_no_edge():
    image = np.full((1, 32, 32, 3), (255, 0, 70), "uint8")
    (found,) = edge_color_features(image)
    assert found.shape == (544,) and not found[:288].any()
    expected = np.zeros((4, COLORS))
    expected[:, 3 * 16 + 1] = 1  # 70 of 255 is in the second of four levels
    np.testing.assert_array_equal(found[288:], expected.ravel())


def test_stripes_of_any_place_and_colour_are_told_by_their_direction():
    random = np.random.default_rng(5)
    images = np.zeros((160, 32, 32, 3))
    ids = np.arange(160) % 2
    for image, label in zip(images, ids, strict=True):
        wave = np.sin(np.arange(32) / 1.5 + random.uniform(0, 7))
        image[:] = 127 + 100 * (wave[:, None, None] if label else wave[None, :, None])
    predicted = edge_color_labels(images[:80], ids[:80], images[80:])
    assert (predicted == ids[80:]).all()
    by_pixels = pixel_labels(images[:80], ids[:80], images[80:])
    assert (by_pixels == ids[80:]).mean() < 0.9


def test_many_classes_take_no_more_memory():
    layer = EdgeColorLogits(16, 2, 3000)
    layer.build()
    layer.kernel.assign(np.random.default_rng(1).normal(size=layer.kernel.shape))
    images = np.random.default_rng(2).integers(0, 256, (2, 16, 16, 3)).astype("float32")
    wanted = np.asarray(layer.features(images), "float64") @ layer.kernel.numpy()
    np.testing.assert_allclose(layer(images), wanted, rtol=1e-5, atol=1e-4)
    traced = tf.function(layer).get_concrete_function(tf.TensorSpec([2, 16, 16, 3]))
    shapes = [one.shape for op in traced.graph.get_operations() for one in op.outputs]
    sizes = [shape.num_elements() for shape in shapes if shape.rank and shape[0] == 2]
    assert 2 * 3000 <= max(sizes) <= 2 * 65_536


def test_colours_are_alike_however_an_image_was_resized():
    """The mean of 127 and 128 is between two levels, and no program rounds it as another."""
    images = np.random.default_rng(4).integers(127, 129, (4, 16, 16, 3)).astype("uint8")
    ours = np.stack([resize(image, 24) for image in images])
    by_tensorflow = tf.image.resize(images, (24, 24), antialias=True)
    np.testing.assert_allclose(ours, by_tensorflow, atol=1e-4)
    layer = EdgeColorLogits(24, 4, 2)
    wanted = layer.features(by_tensorflow)[:, -256:]
    np.testing.assert_allclose(layer.features(ours)[:, -256:], wanted, atol=1e-6)
    for near in (-2e-5, 2e-5):
        np.testing.assert_array_equal(layer.features(np.full((1, 24, 24, 3), 127.5 + near)),
                                      layer.features(np.full((1, 24, 24, 3), 127.5)))  # fmt: skip
