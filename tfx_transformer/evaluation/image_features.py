"""Simple features of images: directions of edges, and colours."""

from __future__ import annotations

import numpy as np

_CELL = 8  # pixels along the side of a cell
_DIRECTIONS = 8
_LEVELS = 4  # of red, green and blue
_LEAST = 1e-2  # added to the squared norm of a block, so that noise in flat areas stays small
_IMAGES = 500  # images whose features are computed at once


def edge_color_features(images: np.ndarray) -> np.ndarray:
    """Return histograms of edges and colours of images, float32 (n, features).

    Edges are histograms of oriented gradients (Dalal & Triggs 2005): 8 directions of the strongest
    gradient among the colours, without sign, in cells of 8 x 8 pixels, with the L2 norm of 2 x 2
    neighbouring cells made 1. Colours are the square roots of the shares of 4 x 4 x 4 colours in
    each quarter of the image. An image of 32 x 32 has 9 * 32 + 4 * 64 = 544 features.

    Args:
        images: 0 to 255, (n, height, width, 3); both sides are multiples of 8, from 16.
    """
    parts = [images[start : start + _IMAGES] for start in range(0, len(images), _IMAGES)]
    found = [_features(np.asarray(part, "float32") / 255) for part in parts]
    return np.concatenate(found)


def _features(x: np.ndarray) -> np.ndarray:
    return np.concatenate([_edges(x), _colors(x)], axis=1)


def _edges(x: np.ndarray) -> np.ndarray:
    """Return the histograms of directions, float32 (n, blocks * 4 * directions)."""
    around = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    down = around[:, 2:, 1:-1] - around[:, :-2, 1:-1]
    right = around[:, 1:-1, 2:] - around[:, 1:-1, :-2]
    strength = np.hypot(down, right)
    strongest = strength.argmax(axis=-1)[..., None]
    down, right, strength = (
        np.take_along_axis(values, strongest, -1) for values in (down, right, strength)
    )
    turn = np.arctan2(down, right) / np.pi % 1 * _DIRECTIONS
    # The two nearest directions share a pixel; the last one is next to the first.
    apart = np.abs(turn - np.arange(_DIRECTIONS))
    shares = np.maximum(1 - np.minimum(apart, _DIRECTIONS - apart), 0)
    n, height, width, _ = shares.shape
    cells = (strength * shares).reshape(
        n, height // _CELL, _CELL, width // _CELL, _CELL, _DIRECTIONS
    )
    cells = cells.sum(axis=(2, 4))
    corners = (cells[:, :-1, :-1], cells[:, 1:, :-1], cells[:, :-1, 1:], cells[:, 1:, 1:])
    blocks = np.concatenate(corners, axis=-1)
    norm = np.sqrt((blocks**2).sum(axis=-1, keepdims=True) + _LEAST)
    return (blocks / norm).reshape(n, -1).astype("float32")


def _colors(x: np.ndarray) -> np.ndarray:
    """Return the roots of the shares of colours in each quarter, float32 (n, 4 * colours)."""
    levels = np.minimum((x * _LEVELS).astype(int), _LEVELS - 1)
    colors = (levels[..., 0] * _LEVELS + levels[..., 1]) * _LEVELS + levels[..., 2]
    count = _LEVELS**3
    found = []
    for half in np.array_split(colors, 2, axis=1):
        for quarter in np.array_split(half, 2, axis=2):
            rows = quarter.reshape(len(x), -1)
            places = rows + count * np.arange(len(x))[:, None]
            counts = np.bincount(places.ravel(), minlength=count * len(x))
            found.append(np.sqrt(counts.reshape(len(x), count) / rows.shape[1]))
    return np.concatenate(found, axis=1).astype("float32")
