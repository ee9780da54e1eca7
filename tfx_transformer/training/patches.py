"""Filters of the patches of images, made of training images at once, without gradient steps."""

from __future__ import annotations

import numpy as np

from tfx_transformer.layers.edges import LEAST_VARIANCE, PatchGrid

# Patches that the filters are made of.
_PATCHES = 20_000
# Added to each variance when patches are whitened (Coates, Ng & Lee 2011, section 3.1).
_LEAST = 0.1
# Rounds of k-means.
_ROUNDS = 10


def patch_filters(images: np.ndarray, count: int) -> np.ndarray:
    """Return the filters of `EdgeColorLogits`, float32 (side, side, 3, count): the product of a
    patch and a filter is that of the whitened patch and a direction. The directions are those of
    drawn patches, moved by spherical k-means (Coates & Ng 2012, section 2).

    Args:
        images: 0 to 255, (n, size, size, 3).
        count: number of filters.
    """
    grid = PatchGrid.of(images.shape[1])
    patches = _draw(images, grid, max(_PATCHES, count))
    patches -= patches.mean(axis=1, keepdims=True)
    patches /= np.sqrt((patches**2).mean(axis=1, keepdims=True) + LEAST_VARIANCE)
    variances, directions = np.linalg.eigh(patches.T @ patches / len(patches))
    whitening = (directions / np.sqrt(np.maximum(variances, 0) + _LEAST)) @ directions.T
    white = patches @ whitening
    filters = whitening @ _directions(white, count).T
    filters -= filters.mean(axis=0)  # the product of a filter and the mean of a patch is 0
    return filters.reshape(grid.side, grid.side, 3, count).astype("float32")


def _directions(patches: np.ndarray, count: int) -> np.ndarray:
    """Return directions near which whitened patches, float (n, width), are, or opposite ones,
    float (count, width), each of length 1."""
    directions = _unit(patches[:count])
    for _ in range(_ROUNDS):
        products = patches @ directions.T
        nearest = np.abs(products).argmax(axis=1)[:, None]
        shares = np.zeros_like(products)
        np.put_along_axis(shares, nearest, np.take_along_axis(products, nearest, 1), 1)
        directions = _unit(shares.T @ patches + directions)
    return directions


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def _draw(images: np.ndarray, grid: PatchGrid, count: int) -> np.ndarray:
    """Return patches of random places, colours from 0 to 1, float64 (count, side * side * 3)."""
    random = np.random.default_rng(0)
    places = images.shape[1] // grid.shrink - grid.side + 1
    drawn = random.integers(0, (len(images), places, places), (count, 3))
    inside = grid.side * grid.shrink
    found = np.empty((count, grid.side, grid.side, 3))
    for patch, (image, *corner) in zip(found, drawn.tolist(), strict=True):
        down, right = (place * grid.shrink for place in corner)
        pixels = images[image, down : down + inside, right : right + inside] / 255
        shape = (grid.side, grid.shrink, grid.side, grid.shrink, 3)
        patch[:] = pixels.reshape(shape).mean(axis=(1, 3))
    return found.reshape(count, -1)
