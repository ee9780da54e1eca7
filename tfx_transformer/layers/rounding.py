"""Weights as quantized files hold them, for the training of weights that will be rounded."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops
from keras.src.backend.common.variables import AutocastScope  # no public name for it

from tfx_transformer.annotations import Tensor
from tfx_transformer.evaluation.rounding import BLOCK

# The largest integers of 4 and 8 bits; the smallest ones are -8 and -127.
_HIGHEST = {4: 7, 8: 127}

# The smallest magnitude that a block is taken to have, so that its scale is not 0.
_SMALLEST = 1e-9

# The smallest number of float16, and the smallest one with all of its digits.
_STEP, _NORMAL = 2.0**-24, 2.0**-14


class StraightThrough:
    """Rounds weights w as a file holds them, and passes gradients on as if it did not:

    y = q(f w) / f,  dy/dw = 1        Jacob et al. (2018), section 3; Bengio et al. (2013)

    q is `round_to`. The value is q(f w) / f to the bit.

    Args:
        bits: 4 or 8.
        factor: f, by which the converter multiplies the weights before they are rounded.
    """

    def __init__(self, bits: int, factor: float = 1.0) -> None:
        self.bits, self.factor = bits, factor

    def __call__(self, weights: Any, axis: int) -> Tensor:
        """Return the rounded weights, float32.

        Args:
            weights: a variable, float (rows, inputs) or (inputs, rows).
            axis: the axis of the inputs.
        """
        with AutocastScope(None):  # whatever the policy, files are made of the weights themselves
            value = weights.value if isinstance(weights, keras.Variable) else weights
            weights = ops.cast(value, "float32")
        fixed = ops.stop_gradient(weights)
        if self.factor == 1:
            rounded = round_to(fixed, axis, self.bits)
        else:
            rounded = round_to(fixed * self.factor, axis, self.bits) / self.factor
        return rounded + (weights - fixed)


def has_blocks(inputs: int, bits: int) -> bool:
    """Return True if weights of so many inputs have 4 bits in a file of 4 bits, a scale for each
    32; else they have 8 bits there, a scale for each row."""
    return bits == 4 and inputs % BLOCK == 0


def round_to(weights: Tensor, axis: int, bits: int) -> Tensor:
    """Return weights rounded to nearest: s clip(round(w / s)),  s = max |w| / highest integer.

    In 4 bits each 32 inputs of a row share a scale s, a number that bfloat16 and float16 have; in 8
    bits, or where rows do not divide into 32, each row has one in float32. The numbers are those of
    `export.rounding.nearest` and of LiteRT's quantizer.

    Args:
        weights: float32 (rows, inputs) or (inputs, rows).
        axis: the axis of the inputs.
        bits: 4 or 8.
    """
    shape, axis = tuple(weights.shape), axis % len(weights.shape)
    in_blocks = has_blocks(shape[axis], bits)
    size, highest = (BLOCK, _HIGHEST[4]) if in_blocks else (shape[axis], _HIGHEST[8])
    parts = (*shape[:axis], shape[axis] // size, size, *shape[axis + 1 :])
    blocks = ops.reshape(weights, parts)
    largest = ops.maximum(ops.max(ops.abs(blocks), axis=axis + 1, keepdims=True), _SMALLEST)
    # XLA would multiply by the inverse of a constant, which is rounded.
    scales = largest / (highest + 0 * largest)
    lowest = -highest
    if in_blocks:
        scales, lowest = _representable(scales), -highest - 1
    codes = ops.clip(ops.round(blocks / scales), lowest, highest)
    return ops.reshape(codes * scales, shape)


def _representable(scales: Tensor) -> Tensor:
    """Return positive float32 numbers rounded to bfloat16, then to float16, and not to 0.

    The bits are rounded here: XLA removes casts to and fro.
    """
    bits = ops.view(scales, "int32")
    even = ops.bitwise_and(ops.right_shift(bits, 16), 1)
    bits = ops.bitwise_and(bits + 0x7FFF + even, -0x10000)
    found = ops.view(bits, "float32")
    small = ops.round(found / _STEP) * _STEP
    return ops.maximum(ops.where(found < _NORMAL, small, found), _STEP)
