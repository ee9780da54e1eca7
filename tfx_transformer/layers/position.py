"""Positions of tokens: sinusoidal, learned and rotary positions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from tfx_transformer.annotations import Tensor
from tfx_transformer.layers.serializable import serializable


def token_positions(start: Tensor, length: Tensor, mask: Tensor = None) -> Tensor:
    """Positions start, start + 1, … of `length` tokens.

    Args:
        start: int or int tensor, scalar or (batch,); position of the first token of each row. Or
            (batch, length): the positions themselves, which begin anew in each packed example.
        length: int; number of tokens.
        mask: bool (batch, length), False for padding, which is not counted.

    Returns: int32 (length,), or (batch, length) if start is not a scalar or there is a mask.
    """
    start = ops.cast(start, "int32")
    if len(start.shape) == 2:
        return start
    if mask is not None:
        counted = ops.cumsum(ops.cast(mask, "int32"), axis=1) - 1
        return ops.expand_dims(start, -1) + ops.maximum(counted, 0)
    return ops.expand_dims(start, -1) + ops.arange(length, dtype="int32")


@serializable
class SinusoidalPositions(keras.layers.Layer):
    """Adds the fixed sine/cosine position signal of Vaswani et al. (2017), section 3.5.

    PE[p, 2i] = sin(p / 10000^(2i/d)),  PE[p, 2i+1] = cos(p / 10000^(2i/d))

    Args:
        max_wavelength: the 10000 of the formula.
        interleaved: False: all sines come before the cosines (Marian: Junczys-Dowmunt et al. 2018).
        inclusive: the last pair has the wavelength 2 pi max_wavelength itself: 10000^(i/(d/2 - 1))
            (fairseq: Ott et al. 2019).
        first: number of the first position.

    Call arguments:
        x: float (batch, length, hidden_dim).
        start: see `token_positions`. Cached decoding passes the number of tokens already seen.
        mask: bool (batch, length), which Keras fills in from x: padding, at either end, takes no
            position.

    Returns: float (batch, length, hidden_dim), the dtype of x. The mask of x is passed on.

    Raises:
        ValueError: hidden_dim is odd.
    """

    def __init__(
        self,
        max_wavelength: float = 10_000.0,
        interleaved: bool = True,
        inclusive: bool = False,
        first: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.max_wavelength = max_wavelength
        self.interleaved = interleaved
        self.inclusive = inclusive
        self.first = first

    def build(self, input_shape):
        if input_shape[-1] % 2:
            raise ValueError(
                f"SinusoidalPositions needs an even hidden_dim, got {input_shape[-1]}: "
                "sines and cosines come in pairs."
            )

    def call(self, x, start=0, mask=None):
        length, hidden_dim = ops.shape(x)[1], x.shape[-1]
        # Angles stay in float32: in half precision neighbouring positions would coincide.
        frequencies = _frequencies(hidden_dim, self.max_wavelength, self.inclusive)
        positions = token_positions(start, length, mask)
        if self.first:
            positions = positions + self.first
        angles = ops.cast(positions, "float32")[..., None] * frequencies
        join = ops.stack if self.interleaved else ops.concatenate
        signal = join([ops.sin(angles), ops.cos(angles)], axis=-1)
        signal = ops.reshape(signal, (-1, length, hidden_dim))
        return x + ops.cast(signal, x.dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "max_wavelength": self.max_wavelength,
            "interleaved": self.interleaved,
            "inclusive": self.inclusive,
            "first": self.first,
        }


@serializable
class LearnedPositions(keras.layers.Layer):
    """Adds one trained vector per position (Gehring et al. 2017; BERT, GPT-2).

    y[p] = x[p] + W[p]

    Args:
        max_length: number of positions that have a vector.
        initializer: initializer of the vectors.

    Call arguments:
        x: float (batch, length, hidden_dim); start + length may not exceed max_length.
        start: see `token_positions`.
        mask: see `SinusoidalPositions`.

    Returns: float (batch, length, hidden_dim), the dtype of x. The mask of x is passed on.
    """

    def __init__(self, max_length: int, initializer: Any = "uniform", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.max_length = max_length
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape):
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.max_length, input_shape[-1]),
            initializer=self.initializer,
        )

    def call(self, x, start=0, mask=None):
        positions = token_positions(start, ops.shape(x)[1], mask)
        vectors = ops.take(self.embeddings, positions, axis=0)
        return x + ops.cast(vectors, x.dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "max_length": self.max_length,
            "initializer": keras.initializers.serialize(self.initializer),
        }


@serializable
class RotaryPositions(keras.layers.Layer):
    """Rotates pairs of query or key features by an angle that grows with the position p.

    With a = p / theta^(2i/d):  (x[i], x[i + d/2]) -> (x[i] cos a - x[i + d/2] sin a,
                                                       x[i + d/2] cos a + x[i] sin a)

    Su et al. (2021), section 3.4, with the halves paired as in Llama. The product of a rotated
    query and a rotated key depends on the distance of their positions only.

    Args:
        theta: base of the wavelengths.
        width: d, the number of features that are rotated, the first ones (Black et al. 2022,
            section 2.1); None: all.
        scaling: how the wavelengths were stretched to a longer context than the model was first
            trained with, under the names of Hugging Face's `rope_scaling`. {"rope_type": "linear",
            "factor"}: all by one factor (Chen et al. 2023). "llama3", with factor, low_freq_factor,
            high_freq_factor and original_max_position_embeddings: only the long ones (Grattafiori
            et al. 2024, section 3.2). "yarn", with factor, original_max_position_embeddings and
            optional beta_fast, beta_slow, attention_factor, mscale, mscale_all_dim and truncate:
            the long ones, and all products grow a little (Peng et al. 2023, sections 3.2 to 3.4).
            "longrope", with attention_factor and short_factor: each by a factor of its own, and all
            products grow (Ding et al. 2024). None: they were not.

    Call arguments:
        x: float (batch, heads, length, head_dim).
        start: see `token_positions`.

    Returns: float (batch, heads, length, head_dim), the dtype of x.

    Raises:
        ValueError: width is odd, or larger than head_dim.
    """

    def __init__(
        self,
        theta: float = 10_000.0,
        scaling: Mapping[str, Any] | None = None,
        width: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.theta = theta
        self.scaling = scaling
        self.width = width

    def build(self, input_shape):
        width = self.width or input_shape[-1]
        if width % 2 or width > input_shape[-1]:
            raise ValueError(
                f"RotaryPositions needs an even width of at most head_dim {input_shape[-1]}, "
                f"got {width}: features are rotated in pairs."
            )

    def call(self, x, start=0):
        length, head_dim = ops.shape(x)[2], self.width or x.shape[-1]
        kept = []
        if head_dim < x.shape[-1]:
            x, *kept = ops.split(x, [head_dim], axis=-1)  # pyright: ignore
        frequencies, factor = _scale(_frequencies(head_dim, self.theta), self.theta, self.scaling)
        angles = ops.cast(token_positions(start, length), "float32")[..., None] * frequencies
        angles = ops.reshape(angles, (-1, 1, length, head_dim // 2))
        cos, sin = ops.cos(angles), ops.sin(angles)
        if factor != 1.0:
            cos, sin = cos * factor, sin * factor
        cos, sin = ops.cast(cos, x.dtype), ops.cast(sin, x.dtype)
        first, second = ops.split(x, 2, axis=-1)  # pyright: ignore
        turned = [first * cos - second * sin, second * cos + first * sin]
        return ops.concatenate([*turned, *kept], axis=-1)

    def get_config(self):
        settings = {"theta": self.theta, "scaling": self.scaling, "width": self.width}
        return {**super().get_config(), **settings}


def _frequencies(width: int, base: float, inclusive: bool = False) -> np.ndarray:
    """1 / base^(2i/width) for i = 0 … width/2 - 1, computed in float64; inclusive: the last is
    1 / base."""
    steps = max(width - 2, 1) if inclusive else width
    return (base ** (-np.arange(0, width, 2, dtype="float64") / steps)).astype("float32")


def _scale(frequencies: np.ndarray, theta: float, scaling) -> tuple[np.ndarray, float]:
    """Return the frequencies of a stretched context, and the factor on cosine and sine."""
    if scaling is None:
        return frequencies, 1.0
    if scaling["rope_type"] == "longrope":
        factors = np.array(scaling["short_factor"], "float32")
        return frequencies / factors, float(scaling["attention_factor"])
    slow = frequencies / np.float32(scaling["factor"])
    if scaling["rope_type"] == "linear":
        return slow, 1.0
    if scaling["rope_type"] == "llama3":
        # The share of a frequency that stays: 0 for those with at most `low` turns within the first
        # context, 1 for those with `high` or more.
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        turns = scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)
        kept = np.clip((turns - low) / (high - low), 0, 1).astype("float32")
        return kept * frequencies + (1 - kept) * slow, 1.0
    kept = _yarn_shares(len(frequencies), theta, scaling)
    return kept * frequencies + (1 - kept) * slow, _yarn_factor(scaling)


def _yarn_shares(count: int, theta: float, scaling) -> np.ndarray:
    """Return the share of each frequency that stays, float32 (count,): Peng et al. (2023), 3.2."""

    def index_of(turns: float) -> float:
        """Return the index of the frequency that makes so many turns within the first context."""
        length = scaling["original_max_position_embeddings"]
        return count * math.log(length / (turns * 2 * math.pi)) / math.log(theta)

    first, last = index_of(scaling.get("beta_fast") or 32), index_of(scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * count - 1)
    if first == last:
        last += 0.001  # a step, as in the authors' program
    ramp = (np.arange(count, dtype="float32") - first) / (last - first)
    return 1 - np.clip(ramp, 0, 1).astype("float32")


def _yarn_factor(scaling) -> float:
    """Return the factor on cosine and sine of section 3.4, equation 22; scores get its square."""

    def growth(share: float) -> float:
        return 0.1 * share * math.log(scaling["factor"]) + 1 if scaling["factor"] > 1 else 1.0

    if scaling.get("attention_factor") is not None:
        return float(scaling["attention_factor"])
    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        return growth(scaling["mscale"]) / growth(scaling["mscale_all_dim"])
    return growth(1.0)
