"""Frozen matrices in 4 bits: 16 levels, a scale for each block, scales stored in 8 bits."""

from __future__ import annotations

import numpy as np
from keras import ops

from tfx_transformer.annotations import Tensor

BLOCK = 64  # weights that share a scale
GROUP = 256  # blocks whose scales share a range

# NormalFloat: quantiles of the normal distribution, scaled to [-1, 1] (Dettmers et al. 2023,
# appendix E).
LEVELS = np.array(
    [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ],
    "float32",
)
# The two levels of each byte.
_PAIRS = np.stack([np.tile(LEVELS, 16), np.repeat(LEVELS, 16)], -1)
_CHUNK = 1 << 14  # blocks that are quantized at once


def stored_bytes(inputs: int, units: int) -> int:
    """Return the bytes of a matrix (inputs, units) in 4 bits with its scales."""
    blocks = -(-inputs * units // BLOCK)
    return blocks * (BLOCK // 2 + 1) + 8 * -(-blocks // GROUP)


def quantize(
    kernel: np.ndarray, levels: np.ndarray = LEVELS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a matrix (inputs, units) in 4 bits, as QLoRA stores it (Dettmers et al. 2023,
    section 3): the scale of a block is its largest magnitude, and is stored in 8 bits.

    A block is 64 weights, column after column; the last one is filled up with zeros.

    Args:
        kernel: float32 (inputs, units).
        levels: float32 (16,), rising, from -1 to 1.

    Returns: uint8 (blocks * 32,), two weights a byte, the first in the low bits; uint8 (blocks,),
        the scales; float32 (groups, 2), for each 256 blocks the smallest scale and the step between
        scales.
    """
    weights = kernel.T.reshape(-1)
    weights = np.pad(weights, (0, -weights.size % BLOCK)).reshape(-1, BLOCK)
    largest = np.maximum(weights.max(1), -weights.min(1))
    groups = np.pad(largest, (0, -largest.size % GROUP), "edge").reshape(-1, GROUP)
    low = groups.min(1)
    step = ((groups.max(1) - low) / 255).astype("float32")
    scales = np.rint((groups - low[:, None]) / np.where(step > 0, step, 1)[:, None])
    scales = scales.astype("uint8").reshape(-1)[: largest.size]
    ranges = np.stack([low, step], -1)
    factors = scales_of(scales, ranges)
    factors = np.where(factors > 0, factors, 1)[:, None]
    middles = (levels[1:] + levels[:-1]) / 2
    codes = np.empty((len(weights), BLOCK // 2), "uint8")
    for start in range(0, len(weights), _CHUNK):
        part = slice(start, start + _CHUNK)
        nearest = np.searchsorted(middles, weights[part] / factors[part]).astype("uint8")
        codes[part] = nearest[:, 0::2] | nearest[:, 1::2] << 4
    return codes.reshape(-1), scales, ranges


def scales_of(scales: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Return the scales of `quantize` as float32 (blocks,)."""
    low, step = np.repeat(ranges, GROUP, axis=0)[: len(scales)].T
    return low + step * scales.astype("float32")


def dequantize(codes: Tensor, scales: Tensor, ranges: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the matrix of `quantize` as float32 (inputs, units).

    Args:
        codes, scales, ranges: results of `quantize`.
        shape: (inputs, units).
    """
    inputs, units = shape
    levels = ops.take(_PAIRS, ops.cast(codes, "int32"), axis=0)
    of_blocks = ops.repeat(ranges, GROUP, axis=0)[: scales.shape[0]]
    factors = of_blocks[:, :1] + of_blocks[:, 1:] * ops.cast(scales, "float32")[:, None]
    weights = ops.reshape(ops.reshape(levels, (-1, BLOCK)) * factors, (-1,))[: inputs * units]
    return ops.transpose(ops.reshape(weights, (units, inputs)))


def multiply(
    x: Tensor, codes: Tensor, scales: Tensor, ranges: Tensor, shape: tuple[int, int]
) -> Tensor:
    """Return x W for a matrix of `quantize`, with a gradient for x only.

    The backward pass dequantizes again, so that no float matrix is kept between the two.

    Args:
        x: float (…, inputs).
        codes, scales, ranges, shape: as in `dequantize`.
    """

    def matrix(after):
        # Compilers join equal computations and begin them early, and so would keep many float
        # matrices. This one waits for `after`. The first number of `after`, if there is one,
        # changes nothing, unless it is NaN, and then the loss is NaN with any codes.
        broken = ops.any(ops.isnan(ops.reshape(after, (-1,))[:1]))
        waiting = ops.where(broken, ops.zeros_like(codes), codes)
        return ops.cast(dequantize(waiting, scales, ranges, shape), x.dtype)

    @ops.custom_gradient
    def product(x):
        def gradient(*arguments, upstream=None):
            slope = arguments[0] if upstream is None else upstream
            return ops.matmul(slope, ops.transpose(matrix(slope)))

        return ops.matmul(x, matrix(x)), gradient

    return product(x)
