"""4-bit weights, one scale for 32, rounded so that the outputs of a layer change little."""

from __future__ import annotations

from typing import NamedTuple

import ml_dtypes
import numpy as np

from tfx_transformer.evaluation.rounding import BLOCK

# The integers of 4 bits.
_LOWEST, _HIGHEST = -8, 7

# The smallest magnitude that a block is taken to have, so that its scale is not 0.
_SMALLEST = 1e-9

# Scales that are tried, as factors on the one with which the largest magnitude of a block becomes
# 7. With 7/8 it becomes -8, if it is negative.
_FACTORS = np.append(np.linspace(0.7, 1.05, 15), 1).astype("float32")

# Added to the diagonal of H, as a share of its mean (Frantar et al. 2023, section 3.3: 0.01). Of
# 0.03, 0.1 and 0.3, the next tokens of three trained models changed least with 0.3 (KL on
# validation rows).
_DAMPING = 0.3

# The penalty d of `corrected`, as a share of the mean of the diagonal of H. On the same rows 0.003
# to 0.1 hardly differed.
_PENALTY = 0.03

# Passes over the columns that round each again, while the others stay.
_PASSES = 2

# Columns that are rounded before the later ones are corrected.
_COLUMNS = 32

# Rows whose columns are rounded in order at once; and numbers that are rounded to nearest, or whose
# scales are searched, at once.
_ROWS = 2048
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
        blocks = self.codes.reshape(*self.scales.shape, BLOCK)
        return (blocks * self.scales[..., None]).reshape(self.codes.shape)

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
    return _to_nearest(weights, _largest_scales(weights))


def with_best_scales(weights: np.ndarray) -> Rounded:
    """Return weights rounded to nearest, with the scale of each block that makes the smallest
    error; arguments as in `nearest`."""
    return _to_nearest(weights, _best_scales(weights, np.ones(weights.shape[1])))


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
    damped = hessian / mean
    damped[np.diag_indices(inputs)] += _DAMPING
    inverse = np.linalg.cholesky(np.linalg.inv(damped)).T.astype("float32")
    damped = damped.astype("float32")
    scales = _best_scales(weights, np.diag(damped))
    codes = np.empty(weights.shape, "int8")
    for start in range(0, len(weights), _ROWS):
        part = slice(start, start + _ROWS)
        # Transposed, so that a column of the matrix is a row in memory.
        columns = np.ascontiguousarray(weights[part].T, "float32")
        factors = np.repeat(scales[part].T, BLOCK, axis=0)
        found = _in_order(columns, factors, inverse)
        for _ in range(_PASSES):
            _again(columns, factors, damped, found)
        codes[part] = found.T
    return Rounded(codes, scales)


def corrected(weights: np.ndarray, hessian: np.ndarray, mixed: np.ndarray) -> np.ndarray:
    """Return weights V, float32 (rows, inputs), such that V y is near W x: a layer gets the inputs
    y instead of x.

    V = W (C + d I) (H + d I)^-1 makes the sum of |W x - V y|^2 + d |W - V|^2 smallest. It corrects
    what earlier layers changed, which is also the aim of GPTAQ (Li et al. 2025).

    Args:
        weights: float32 (rows, inputs), W.
        hessian: float64 (inputs, inputs), H, the sum of y y^T over the inputs.
        mixed: float64 (inputs, inputs), C, the sum of x y^T.
    """
    mean = np.trace(hessian) / len(hessian)
    if not (np.isfinite(mean) and mean > 0):
        return weights
    damped = hessian.copy()
    damped[np.diag_indices(len(damped))] += _PENALTY * mean
    change = np.linalg.solve(damped, (mixed - hessian).T).T.astype("float32")
    return weights + weights @ change


def _in_order(columns: np.ndarray, factors: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Return the codes of weights, int8 (inputs, rows), columns rounded in order.

    Args:
        columns: float32 (inputs, rows), the weights.
        factors: float32 (inputs, rows), the scale of each weight.
        inverse: float32 (inputs, inputs), upper triangular U with U^T U = H^-1.
    """
    left = columns.copy()
    codes = np.empty(left.shape, "int8")
    for start in range(0, len(left), _COLUMNS):
        stop = min(start + _COLUMNS, len(left))
        errors = np.empty((stop - start, left.shape[1]), "float32")
        for column in range(start, stop):
            codes[column] = _codes(left[column], factors[column])
            error = left[column] - codes[column] * factors[column]
            error /= inverse[column, column]
            left[column:stop] -= inverse[column, column:stop, None] * error
            errors[column - start] = error
        left[stop:] -= inverse[start:stop, stop:].T @ errors
    return codes


def _again(
    columns: np.ndarray, factors: np.ndarray, hessian: np.ndarray, codes: np.ndarray
) -> None:
    """Round each column again, in place, to the codes that are best while the others stay.

    Args:
        columns, factors: see `_in_order`.
        hessian: float32 (inputs, inputs).
        codes: int8 (inputs, rows).
    """
    errors = columns - codes * factors
    for start in range(0, len(columns), _COLUMNS):
        stop = min(start + _COLUMNS, len(columns))
        slopes = hessian[start:stop] @ errors
        for column in range(start, stop):
            factor = factors[column]
            slope = slopes[column - start] / hessian[column, column]
            new = _codes(codes[column] * factor + slope, factor)
            moved = (codes[column] - new) * factor
            errors[column] += moved
            slopes[column - start + 1 :] += hessian[column + 1 : stop, column, None] * moved
            codes[column] = new


def _to_nearest(weights: np.ndarray, scales: np.ndarray) -> Rounded:
    """Return weights rounded to nearest with given scales, float32 (rows, inputs / 32)."""
    codes = np.empty(weights.shape, "int8")
    step = max(1, _NUMBERS // weights.shape[1])
    for start in range(0, len(weights), step):
        part = slice(start, start + step)
        codes[part] = _codes(weights[part], np.repeat(scales[part], BLOCK, axis=1))
    return Rounded(codes, scales)


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
