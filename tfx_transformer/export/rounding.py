"""4-bit weights, one scale for 32, rounded so that the outputs of a layer change little."""

from __future__ import annotations

from typing import NamedTuple

import ml_dtypes
import numpy as np

# Weights in a row that share a scale.
BLOCK = 32

# The integers of 4 bits.
_LOWEST, _HIGHEST = -8, 7

# The smallest magnitude that a block is taken to have, so that its scale is not 0.
_SMALLEST = 1e-9

# Scales that are tried, as factors on the one with which the largest magnitude of a block becomes
# 7. With 7/8 it becomes -8, if it is negative.
_FACTORS = np.append(np.linspace(0.7, 1.05, 15), 1).astype("float32")

# Added to the diagonal of H, as a share of its mean. Of 0.01 (Frantar et al. 2023, section 3.3),
# 0.1, 0.3 and 1, the logits of three trained models differed least with 0.1 and 0.3.
_DAMPING = 0.1

# Passes over the columns that round each again, while the others stay.
_PASSES = 2

# Columns that are rounded before the later ones are corrected.
_COLUMNS = 128

# Rows that are rounded at once, and numbers whose scales are searched at once.
_ROWS = 4096
_NUMBERS = 1 << 16


class Rounded(NamedTuple):
    """A matrix in 4 bits.

    Attributes:
        codes: int8 (rows, inputs), from -8 to 7.
        scales: float32 (rows, inputs / 32), numbers of bfloat16, as kernels hold them.
    """

    codes: np.ndarray
    scales: np.ndarray

    def dequantized(self) -> np.ndarray:
        """Return the matrix, float32 (rows, inputs)."""
        return self.codes * np.repeat(self.scales, BLOCK, axis=1)

    def packed(self) -> tuple[np.ndarray, np.ndarray]:
        """Return codes and scales as a TFLite file holds them, uint8: two codes a byte, the first
        in the low bits; scales in float16."""
        bits = self.codes.reshape(-1).view("uint8") & 15
        return bits[0::2] | bits[1::2] << 4, self.scales.astype("float16").reshape(-1).view("uint8")


def nearest(weights: np.ndarray) -> Rounded:
    """Return weights rounded to nearest, as the quantizer of LiteRT rounds them: the largest
    magnitude of a block becomes 7.

    Args:
        weights: float32 (rows, inputs).
    """
    scales = _largest_scales(weights)
    return Rounded(_codes(weights, np.repeat(scales, BLOCK, axis=1)), scales)


def with_best_scales(weights: np.ndarray) -> Rounded:
    """Return weights rounded to nearest, with the scale of each block that makes the smallest
    error; arguments as in `nearest`."""
    scales = _best_scales(weights, np.ones(weights.shape[1]))
    return Rounded(_codes(weights, np.repeat(scales, BLOCK, axis=1)), scales)


def with_least_change(weights: np.ndarray, hessian: np.ndarray) -> Rounded:
    """Return weights W rounded to V so that the sum of |(W - V) x|^2 over inputs x is small.

    Each scale is the one with the smallest error, weighted by the diagonal of H. Then the columns
    are rounded in order, and the error of each is carried on to those that follow: GPTQ, Frantar et
    al. (2023), algorithm 1. Then each column is rounded again, while the others stay (Behdin et
    al. 2023, QuantEase, algorithm 1).

    Args:
        weights: float32 (rows, inputs).
        hessian: float64 (inputs, inputs), H, the sum of x x^T over the inputs.
    """
    inputs = weights.shape[1]
    mean = np.trace(hessian) / inputs
    if not (np.isfinite(mean) and mean > 0):
        return with_best_scales(weights)
    damped = hessian / mean + _DAMPING * np.eye(inputs)
    inverse = np.linalg.cholesky(np.linalg.inv(damped)).T
    scales = _best_scales(weights, np.diag(damped))
    codes = np.empty(weights.shape, "int8")
    for start in range(0, len(weights), _ROWS):
        part = slice(start, start + _ROWS)
        factors = np.repeat(scales[part], BLOCK, axis=1).astype("float64")
        codes[part] = _in_order(weights[part], factors, inverse)
        for _ in range(_PASSES):
            _again(weights[part], factors, damped, codes[part])
    return Rounded(codes, scales)


def _in_order(weights: np.ndarray, factors: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Return the codes of weights, columns rounded in order.

    Args:
        weights: float (rows, inputs).
        factors: float64 (rows, inputs), the scale of each weight.
        inverse: float64 (inputs, inputs), upper triangular U with U^T U = H^-1.
    """
    left = weights.astype("float64")
    inputs = left.shape[1]
    codes = np.empty(left.shape, "int8")
    for start in range(0, inputs, _COLUMNS):
        stop = min(start + _COLUMNS, inputs)
        errors = np.empty((len(left), stop - start))
        for column in range(start, stop):
            factor = factors[:, column]
            codes[:, column] = _codes(left[:, column], factor)
            error = (left[:, column] - codes[:, column] * factor) / inverse[column, column]
            left[:, column:stop] -= error[:, None] * inverse[column, column:stop]
            errors[:, column - start] = error
        left[:, stop:] -= errors @ inverse[start:stop, stop:]
    return codes


def _again(
    weights: np.ndarray, factors: np.ndarray, hessian: np.ndarray, codes: np.ndarray
) -> None:
    """Round each column again, in place, to the best codes for the other columns as they are."""
    errors = weights - codes * factors
    for column in range(weights.shape[1]):
        factor = factors[:, column]
        slope = errors @ hessian[:, column] / hessian[column, column]
        new = _codes(codes[:, column] * factor + slope, factor)
        errors[:, column] += (codes[:, column] - new) * factor
        codes[:, column] = new


def _codes(weights: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(weights / scales), _LOWEST, _HIGHEST).astype("int8")


def _largest_scales(weights: np.ndarray) -> np.ndarray:
    """Return the scales of `nearest`, float32 (rows, inputs / 32)."""
    largest = np.abs(weights.reshape(len(weights), -1, BLOCK)).max(2)
    return _representable(np.maximum(largest, np.float32(_SMALLEST)) / np.float32(_HIGHEST))


def _representable(scales: np.ndarray) -> np.ndarray:
    """Return scales that bfloat16 and float16 can hold, not 0."""
    found = scales.astype(ml_dtypes.bfloat16).astype("float16").astype("float32")
    return np.maximum(found, np.finfo("float16").smallest_subnormal)


def _best_scales(weights: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """Return the scales of blocks with the smallest error of rounding to nearest.

    Args:
        weights: float32 (rows, inputs).
        importance: float (inputs,), factor on each column's squared error.
    """
    importance = importance.reshape(-1, BLOCK).astype("float32")
    largest = _largest_scales(weights)
    found = largest.copy()
    step = max(1, _NUMBERS // weights.shape[1])
    for start in range(0, len(weights), step):
        part = slice(start, start + step)
        blocks = weights[part].reshape(-1, *importance.shape)
        least = np.full(largest[part].shape, np.inf, "float32")
        for factor in _FACTORS:
            scales = _representable(factor * largest[part])
            factors = scales[..., None]
            rounded = np.clip(np.rint(blocks / factors), _LOWEST, _HIGHEST) * factors
            error = (np.square(blocks - rounded) * importance).sum(2)
            found[part] = np.where(error < least, scales, found[part])
            least = np.minimum(error, least)
    return found
