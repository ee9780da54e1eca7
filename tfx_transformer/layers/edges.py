"""Images to logits by simple features: directions of edges, colours, and patches."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from tfx_transformer.annotations import Tensor
from tfx_transformer.layers.serializable import serializable

_DIRECTIONS = 8
_LEVELS = 4  # of red, green and blue
# Levels are lower by this: programs that resize images round a mean that is exactly a level, such
# as 127.5 of 127 and 128, to either side of it.
_SLACK = 1e-3
# Most products of features and weights that are held at once for an image.
_PART = 1 << 16
# Added to the squared norm of a block, so that noise in flat areas stays small.
_LEAST = 1e-2
# The size of an image in which edges have the strength of `edge_color_features`.
_SIZE = 32
# The arc tangent of 0 to 1 as a polynomial of odd powers, within 1e-5: Abramowitz & Stegun
# (1964), 4.4.47. GPUs have no arc tangent.
_ARC_TANGENT = (0.9998660, -0.3302995, 0.1801410, -0.0851330, 0.0208351)

# Added to the variance of a patch of colours from 0 to 1, so that noise in flat areas stays small:
# 10 for colours from 0 to 255 (Coates, Ng & Lee 2011, section 3.1).
LEAST_VARIANCE = 10 / 255**2
# The product of a patch and a filter up to which it counts for nothing.
_THRESHOLD = 0.25
# A factor on the features of patches, which makes them about as long as the others.
_LENGTH = 3.0


@dataclasses.dataclass(frozen=True)
class PatchGrid:
    """Places of the patches in an image.

    shrink: pixels along the side of the squares whose means are the pixels of a smaller image, of
        32 to 63 pixels along a side; 1 for an image of less than 64 pixels.
    side: pixels of the smaller image along the side of a patch.
    stride: pixels of the smaller image from one patch to the next.
    """

    shrink: int
    side: int
    stride: int

    @classmethod
    def of(cls, size: int) -> PatchGrid:
        """Return the grid of an image of size x size pixels."""
        shrink = max(size // _SIZE, 1)
        smaller = size // shrink
        side = min(max(round(smaller * 6 / _SIZE), 3), smaller)
        return cls(shrink, side, max(smaller // 24, 1))


def edge_color_count(cells: int, patches: int = 0) -> int:
    """Return the number of features of `EdgeColorLogits`.

    Args:
        cells: parts along a side in which directions of edges are counted.
        patches: filters of patches.
    """
    return (cells - 1) ** 2 * 4 * _DIRECTIONS + 4 * _LEVELS**3 + 4 * 2 * patches


def count_weights(size: int, cells: int, classes: int, patches: int = 0) -> int:
    """Return the number of weights of `EdgeColorLogits`; the arguments are the same."""
    filters = PatchGrid.of(size).side ** 2 * 3 * patches if patches else 0
    return edge_color_count(cells, patches) * classes + filters


@serializable
class EdgeColorLogits(keras.layers.Layer):
    """A linear classifier of the edges and colours of an image, and of its patches.

    logits = f(image) W

    f are the features of `evaluation.image_features`, with cells x cells parts in an image of any
    size: histograms of oriented gradients (Dalal & Triggs 2005), and the square roots of the shares
    of 64 colours in each quarter. Sides that do not divide are filled up at the end with pixels
    that count for nothing. W begins as zeros; `training.linear` fits it at once, without gradient
    steps.

    With `patches` filters F they are followed by features of patches (Coates & Ng 2011): for each
    quarter, filter and sign the square root of the mean over the patches x (see `PatchGrid`, with
    colours from -1/2 to 1/2) of max(0, +-F x / sqrt(var(x) + 10 / 255^2) - 1/4), times
    3 / sqrt(patches). F begins as zeros; `training.patches` makes it of training images.

    W is multiplied number by number, in parts if there are many classes: as the weights of a matrix
    product it would be rounded to integers in quantized files.

    Args:
        size: width and height of the images.
        cells: parts along a side in which directions of edges are counted, 2 or more.
        classes: C.
        patches: filters of patches; 0: none.
        kwargs: see `keras.layers.Layer`.

    Call arguments:
        images: float (batch, size, size, 3), colours from 0 to 255.

    Returns: float (batch, C).
    """

    def __init__(
        self, size: int, cells: int, classes: int, patches: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.size = size
        self.cells = cells
        self.classes = classes
        self.patches = patches
        self._grid = PatchGrid.of(size)

    def build(self, images_shape=None):
        self.kernel = self.add_weight(
            name="kernel",
            shape=(edge_color_count(self.cells, self.patches), self.classes),
            initializer="zeros",
            trainable=False,
        )
        if self.patches:
            self.filters = self.add_weight(
                name="filters",
                shape=(self._grid.side, self._grid.side, 3, self.patches),
                initializer="zeros",
                trainable=False,
            )

    @property
    def output_weight(self) -> keras.Variable:
        """The weight that the logits are proportional to."""
        return self.kernel

    def call(self, images):
        features = ops.expand_dims(self.features(images), -1)
        kernel = ops.expand_dims(self.kernel, 0)
        count, step = self.kernel.shape[0], max(_PART // self.classes, 1)
        if count <= step:
            return ops.sum(features * kernel, axis=1)
        logits = 0
        for start in range(0, count, step):
            part = slice(start, start + step)
            logits = logits + ops.sum(features[:, part] * kernel[:, part], axis=1)
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Return the features of images, float (batch, features)."""
        images = ops.cast(images, self.compute_dtype)
        images = ops.reshape(images, (-1, self.size, self.size, 3))  # which tracing may not know
        found = [self._edges(images), self._colors(images)]
        if self.patches:
            found.append(self._patches(images))
        return ops.concatenate(found, axis=1)

    def _edges(self, images):
        # In 256ths the squares of whole colours are exact, so that all engines find the same
        # colour strongest.
        x = images / 256
        down = ops.concatenate([x[:, 1:], x[:, -1:]], 1) - ops.concatenate([x[:, :1], x[:, :-1]], 1)
        right = ops.concatenate([x[:, :, 1:], x[:, :, -1:]], 2)
        right = right - ops.concatenate([x[:, :, :1], x[:, :, :-1]], 2)
        down, right, square = _strongest(down, right, down * down + right * right)
        # The two nearest directions share a pixel; the last one is next to the first.
        apart = ops.abs(
            _turn(down, right) - np.arange(_DIRECTIONS, dtype="float32")[None, None, None]
        )
        shares = ops.maximum(1 - ops.minimum(apart, _DIRECTIONS - apart), 0)
        side = math.ceil(self.size / self.cells)
        strengths = ops.sqrt(square) * (side * side * _SIZE / self.size * 256 / 255)
        found = ops.average_pool(_fill(shares * strengths, side * self.cells), side, side)
        corners = (found[:, :-1, :-1], found[:, 1:, :-1], found[:, :-1, 1:], found[:, 1:, 1:])
        blocks = ops.concatenate(corners, axis=-1)
        blocks = blocks / ops.sqrt(ops.sum(blocks * blocks, axis=-1, keepdims=True) + _LEAST)
        return ops.reshape(blocks, (-1, (self.cells - 1) ** 2 * 4 * _DIRECTIONS))

    def _colors(self, images):
        # By comparison: the quotient of a colour and a level may be rounded differently elsewhere.
        levels = ops.zeros_like(images)
        for level in range(1, _LEVELS):
            least = 255 * level / _LEVELS - _SLACK
            levels = levels + ops.cast(images >= least, images.dtype)
        red, green, blue = _split(levels)
        color = (red * _LEVELS + green) * _LEVELS + blue
        count = _LEVELS**3
        apart = ops.abs(color - np.arange(count, dtype="float32")[None, None, None])
        half = math.ceil(self.size / 2)
        shares = ops.average_pool(_fill(ops.maximum(1 - apart, 0), 2 * half), half, half)
        return ops.reshape(ops.sqrt(shares), (-1, 4 * count))

    def _patches(self, images):
        grid = self._grid
        x = images / 255 - 0.5  # small squares, so that 16 bits hold the variance
        if grid.shrink > 1:
            x = ops.average_pool(x, grid.shrink, grid.shrink)
        mean, square = (
            ops.average_pool(_grey(part), grid.side, grid.stride) for part in (x, x * x)
        )
        variance = ops.relu(square - mean * mean) + LEAST_VARIANCE
        products = ops.conv(x, self.filters, grid.stride) / ops.sqrt(variance)
        both = ops.concatenate([products - _THRESHOLD, -products - _THRESHOLD], axis=-1)
        half = math.ceil(both.shape[1] / 2)
        found = ops.average_pool(_fill(ops.relu(both), 2 * half), half, half)
        found = ops.sqrt(found) * (_LENGTH / math.sqrt(self.patches))
        return ops.reshape(found, (-1, 4 * 2 * self.patches))

    def compute_output_spec(self, images):
        return keras.KerasTensor((images.shape[0], self.classes), dtype=self.compute_dtype)

    def get_config(self):
        own = {"size": self.size, "cells": self.cells, "classes": self.classes}
        own["patches"] = self.patches
        return {**super().get_config(), **own}


def _split(x):
    """The three colours of each pixel, (batch, height, width, 1) each."""
    return x[..., :1], x[..., 1:2], x[..., 2:3]


def _grey(x):
    """The mean of the three colours of each pixel, (batch, height, width, 1)."""
    red, green, blue = _split(x)
    return (red + green + blue) / 3


def _strongest(down, right, squares):
    """The gradient of the colour with the largest square, the first of equal ones, and that."""
    downs, rights, squares = _split(down), _split(right), _split(squares)
    best = downs[0], rights[0], squares[0]
    for other in zip(downs[1:], rights[1:], squares[1:], strict=True):
        is_larger = other[2] > best[2]
        best = [ops.where(is_larger, new, old) for new, old in zip(other, best, strict=True)]
    return best


def _turn(down, right):
    """The direction of a gradient without its sign: 0 to 8 for 0 to 180 degrees."""
    height, width = ops.abs(down), ops.abs(right)
    ratio = ops.minimum(height, width) / ops.maximum(ops.maximum(height, width), 1e-6)
    square, arc = ratio * ratio, _ARC_TANGENT[-1]
    for factor in _ARC_TANGENT[-2::-1]:
        arc = arc * square + factor
    turn = arc * ratio * (_DIRECTIONS / math.pi)
    turn = ops.where(height > width, _DIRECTIONS / 2 - turn, turn)
    return ops.where(down * right < 0, _DIRECTIONS - turn, turn)


def _fill(x, size: int):
    """(batch, height, width, channels), of 0 or more, with zeros at the end of both sides.

    The rectifier changes nothing: without it LiteRT's GPU delegates would make one operation of the
    zeros and of the mean behind them, which does not count the zeros.
    """
    more = size - x.shape[1]
    return ops.relu(ops.pad(x, ((0, 0), (0, more), (0, more), (0, 0)))) if more else x
