"""Multi-head attention: self, masked and cross, with the key/value cache as argument and result."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from tfx_transformer import devices
from tfx_transformer.annotations import Tensor
from tfx_transformer.layers.linear import Linear
from tfx_transformer.layers.masks import both, padding_mask
from tfx_transformer.layers.norm import NORMS
from tfx_transformer.layers.position import RotaryPositions, token_positions
from tfx_transformer.layers.serializable import serializable
from tfx_transformer.planning import BLOCK

# Added to scores of masked keys. exp(-1e4) is 0 in every float type, float16 can hold -1e4, and a
# moderate value keeps quantized graphs accurate where -1e9 would stretch their range.
MASKED = -1e4


@serializable
class MultiHeadAttention(keras.layers.Layer):
    """Attention(Q, K, V) = softmax(Q K^T / sqrt(head_dim)) V, in several heads side by side.

    Vaswani et al. (2017), section 3.2. Queries come from `x`; keys and values come from `x` too
    (self-attention) or from `memory` (cross-attention). With fewer key/value heads than query
    heads, each serves a group of query heads (Ainslie et al. 2023).

    Args:
        hidden_dim: width of the result.
        num_heads: query heads.
        num_key_value_heads: key/value heads, a divisor of num_heads. Defaults to num_heads.
        head_dim: width of a head. Defaults to hidden_dim // num_heads.
        causal: a token attends to itself and the tokens before it only.
        rope_theta: rotate queries and keys by `RotaryPositions(rope_theta)`; None: do not.
        dropout: rate on the attention weights, in training.
        use_bias: biases in the four projections.
        qkv_bias: biases of queries, keys and values. Defaults to use_bias.
        query_key_norm: normalize each head's queries and keys before they are rotated
            (RMSNorm; Dehghani et al. 2023, section 2).
        norm_epsilon: added to the mean square by that norm.
        scale: factor on the scores. Defaults to head_dim^-0.5.
        sliding_window: w; a token attends to itself and at most w - 1 tokens before it, and as many
            after it unless `causal` (Beltagy et al. 2020, section 3.1); 0: all.
        rope_scaling: see `RotaryPositions`.
        rotary_dim: number of features of a head that are rotated, the first ones. Defaults to
            head_dim.
        softcap: c; scores s become c tanh(s / c) before they are masked (Gemma Team 2024,
            section 2); None: no cap.

    Call arguments:
        x: float (batch, length, hidden_dim).
        memory: what cross-attention reads: float (batch, memory_length, memory_dim), or the
            (key, value) pair that `project_memory` made of it once. None: self-attention.
        cache: (key, value) of the tokens before, each float
            (batch, num_key_value_heads, max_length, head_dim); self-attention only. Or separate
            rows: two lists with a tensor (1, num_key_value_heads, max_length, head_dim) per row;
            then position is (batch,) and length 1.
        position: int or int tensor, scalar or (batch,); position of x[:, 0], which is also the
            cache's slot for it. Without a cache also (batch, length), see `token_positions`:
            it gives the position of a token; what the token may see depends on its place in x.
        cache_slots: number of slots of the cache to read, the first ones; None: all.
        first_slot: int or scalar int tensor; the cache's slot for x[:, 0], if that is not
            `position`, which may then be (batch, length). The tokens of x are then alternatives,
            such as beams: attention_mask alone says which slots each of them sees.
        attention_mask: bool, broadcastable to (batch, length, keys); False hides a key.
        attention_bias: float, broadcastable to (batch, num_heads, length, keys), added to the
            scores; see `RelativePositions`.
        return_attention_scores: also return the weights, float (batch, num_heads, length, keys).
        mask: bool (batch, length), False for padding in x, which is then hidden from all queries.
            Keras fills it in, under this name or as `x_mask`, from the tensor. With a cache pass an
            `attention_mask` of its slots instead.
        memory_mask: bool (batch, memory_length), the same for memory.

    Returns: float (batch, length, hidden_dim); with a cache the pair (output, new cache); the
        attention weights, if requested, come last. The mask of x is passed on.

    Raises:
        ValueError: num_heads is not a multiple of num_key_value_heads; or a call has a mask and a
            cache, but no attention_mask.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        num_key_value_heads: int | None = None,
        head_dim: int | None = None,
        causal: bool = False,
        rope_theta: float | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        qkv_bias: bool | None = None,
        query_key_norm: bool = False,
        norm_epsilon: float = 1e-6,
        scale: float | None = None,
        sliding_window: int = 0,
        rope_scaling: Mapping[str, Any] | None = None,
        rotary_dim: int | None = None,
        softcap: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.num_key_value_heads = num_key_value_heads or num_heads
        self.head_dim = head_dim or hidden_dim // num_heads
        self.causal = causal
        self.rope_theta = rope_theta
        self.dropout = dropout
        self.use_bias = use_bias
        self.qkv_bias = use_bias if qkv_bias is None else qkv_bias
        self.query_key_norm = query_key_norm
        self.norm_epsilon = norm_epsilon
        self.scale = self.head_dim**-0.5 if scale is None else scale
        self.sliding_window = sliding_window
        self.rope_scaling = rope_scaling
        self.rotary_dim = rotary_dim
        self.softcap = softcap
        if num_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_heads {num_heads} is not a multiple of num_key_value_heads "
                f"{self.num_key_value_heads}: key/value heads serve query heads in equal groups."
            )
        dense = {"use_bias": self.qkv_bias, "dtype": self.dtype_policy}
        query_dim = num_heads * self.head_dim
        key_dim = self.num_key_value_heads * self.head_dim
        self.query = Linear(query_dim, name="query", **dense)
        self.key = Linear(key_dim, name="key", **dense)
        self.value = Linear(key_dim, name="value", **dense)
        self.output_projection = Linear(
            hidden_dim, use_bias=use_bias, name="output_projection", dtype=self.dtype_policy
        )
        self.query_norm = self.key_norm = None
        if query_key_norm:
            norm = {"epsilon": norm_epsilon, "dtype": self.dtype_policy}
            self.query_norm = NORMS["rms_norm"](name="query_norm", **norm)
            self.key_norm = NORMS["rms_norm"](name="key_norm", **norm)
        self.weights_dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        self.rotary = None
        if rope_theta is not None:
            self.rotary = RotaryPositions(
                rope_theta, rope_scaling, rotary_dim, dtype=self.dtype_policy
            )

    def build(self, x_shape, memory_shape=None):
        memory_shape = x_shape if memory_shape is None else memory_shape
        self.query.build(x_shape)
        self.key.build(memory_shape)
        self.value.build(memory_shape)
        self.output_projection.build((*x_shape[:-1], self.num_heads * self.head_dim))
        if self.query_norm is not None:
            self.query_norm.build((None, None, None, self.head_dim))
            self.key_norm.build((None, None, None, self.head_dim))
        if self.rotary is not None:
            self.rotary.build((x_shape[0], self.num_heads, x_shape[1], self.head_dim))

    def project_memory(self, memory: Any) -> Any:
        """(key, value) of a memory, so that decoding projects it once and not at every step."""
        key = self._split_heads(self.key(memory), self.num_key_value_heads)
        if self.key_norm is not None:
            key = self.key_norm(key)
        return key, self._split_heads(self.value(memory), self.num_key_value_heads)

    def call(
        self,
        x,
        memory=None,
        cache=None,
        position=0,
        attention_mask=None,
        attention_bias=None,
        return_attention_scores=False,
        training=None,
        mask=None,
        x_mask=None,
        memory_mask=None,
        cache_slots=None,
        first_slot=None,
    ):
        query = self._split_heads(self.query(x), self.num_heads)
        if self.query_norm is not None:
            query = self.query_norm(query)
        if memory is None:
            key, value = self.project_memory(x)
            if self.rotary is not None:
                query = self.rotary(query, start=position)
                key = self.rotary(key, start=position)
            if cache is not None:
                place = position if first_slot is None else first_slot
                written = tuple(
                    write_cache(old, new, place)
                    for old, new in zip(cache, (key, value), strict=True)
                )
                key, value = written
                if cache_slots is not None:
                    key, value = key[:, :, :cache_slots], value[:, :, :cache_slots]
        else:
            projected = isinstance(memory, (tuple, list))
            key, value = memory if projected else self.project_memory(memory)

        padding = padding_mask(mask, x_mask) if memory is None else padding_mask(memory_mask)
        visible = self._visible(attention_mask, padding, cache is not None)
        plain = cache is None and attention_bias is None and self.softcap is None
        drops = training and self.dropout
        if plain and not (drops or return_attention_scores):
            count = count_blocks(query, key)
            if fuses(self.compute_dtype, query, key):
                return self.output_projection(self._fused(query, key, value, visible))
            if count > 1:
                mixed = self._in_blocks(query, key, value, visible, count)
                return self.output_projection(mixed)
        scores = self._scores(query, key)
        if attention_bias is not None:
            scores = scores + attention_bias
        if self.causal and first_slot is None:
            first = 0 if cache is None else position
            seen = causal_mask(first, ops.shape(x)[1], ops.shape(scores)[3], self.sliding_window)
            visible = both(seen, visible)
        elif self.sliding_window and not self.causal:
            visible = both(window_mask(ops.shape(x)[1], self.sliding_window), visible)
        if visible is not None:
            scores = self._hide(scores, visible)
        weights = _softmax(scores)
        output = self._mix(self.weights_dropout(weights, training=training), value)
        output = self.output_projection(output)

        results = [output]
        if cache is not None:
            results.append(written)
        if return_attention_scores:
            results.append(weights)
        return results[0] if len(results) == 1 else tuple(results)

    def _fused(self, query, key, value, visible):
        """Return what the heads mix, float (batch, length, num_heads * head_dim), by one operation
        that need not hold the scores."""
        length = ops.shape(query)[2]
        if self.sliding_window:
            window = self.sliding_window
            near = causal_mask(0, length, length, window) if self.causal else None
            visible = both(window_mask(length, window) if near is None else near, visible)
        if visible is not None:
            visible = ops.reshape(visible, (-1, 1, *ops.shape(visible)[-2:]))
        mixed = ops.dot_product_attention(
            *(ops.transpose(x, (0, 2, 1, 3)) for x in (query, key, value)),
            mask=visible,
            scale=self.scale,
            is_causal=self.causal,
        )
        return ops.reshape(mixed, (-1, length, self.num_heads * self.head_dim))

    def _in_blocks(self, query, key, value, visible, count):
        """Return what the heads mix, float (batch, length, num_heads * head_dim): blocks of queries
        one after the other, each computed again for the gradient, so that memory holds the scores
        of one block (Rabe & Staats 2021)."""
        length, keys = query.shape[2], key.shape[2]
        if self.causal:
            visible = both(causal_mask(0, length, keys, self.sliding_window), visible)
        elif self.sliding_window:
            visible = both(window_mask(length, self.sliding_window), visible)

        def blocks(x, axis):
            size = -(-length // count)
            room = [[0, 0]] * x.ndim
            room[axis] = [0, size * count - length]
            x = ops.moveaxis(ops.pad(x, room), axis, 0)
            x = ops.reshape(x, (count, size, *x.shape[1:]))
            return ops.moveaxis(x, 1, axis + 1)

        parts, fixed = [blocks(query, 2)], None
        if visible is not None:
            visible = ops.reshape(visible, (-1, *visible.shape[-2:]))
            if visible.shape[1] == 1:
                fixed = visible
            else:
                parts.append(blocks(visible, 1))

        def attend(query, seen=fixed):
            scores = self._scores(query, key)
            return self._mix(_softmax(scores if seen is None else self._hide(scores, seen)), value)

        again = keras.remat(attend)
        mixed = ops.scan(lambda _, part: (None, again(*part)), None, tuple(parts))[1]
        mixed = ops.moveaxis(mixed, 0, 1)
        return ops.reshape(mixed, (mixed.shape[0], -1, mixed.shape[-1]))[:, :length]

    def _visible(self, attention_mask, padding, cached):
        """Return the mask of the keys that may be seen, causality aside; None: all."""
        if padding is None or (cached and attention_mask is not None):
            return attention_mask
        if cached:
            raise ValueError(
                f"{self.path}: the mask of x does not say which slots of the cache hold padding. "
                "Pass an attention_mask, bool, broadcastable to (batch, length, slots)."
            )
        return both(attention_mask, ops.expand_dims(padding, 1))

    def _split_heads(self, x, heads):
        """(batch, length, heads * head_dim) -> (batch, heads, length, head_dim)."""
        x = ops.reshape(x, (ops.shape(x)[0], ops.shape(x)[1], heads, self.head_dim))
        return ops.transpose(x, (0, 2, 1, 3))

    # With grouped heads the queries of one group are laid along the length, so that one matrix
    # product serves the whole group and no key or value is copied.

    def _scores(self, query, key):
        batch, length = ops.shape(query)[0], ops.shape(query)[2]
        rows = (self.num_heads // self.num_key_value_heads) * length
        # Scaling the query is cheaper than scaling the scores.
        if self.scale != 1:
            query = query * ops.cast(self.scale, query.dtype)
        query = ops.reshape(query, (batch, self.num_key_value_heads, rows, self.head_dim))
        scores = _by_rows(lambda q, k: ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))), query, key)
        if self.softcap is not None:
            cap = ops.cast(self.softcap, scores.dtype)
            scores = ops.tanh(scores / cap) * cap
        return ops.reshape(scores, (batch, self.num_heads, length, ops.shape(scores)[3]))

    def _hide(self, scores, mask):
        mask = ops.expand_dims(mask, -3)  # heads share the mask
        return scores + ops.where(mask, ops.cast(0, scores.dtype), ops.cast(MASKED, scores.dtype))

    def _mix(self, weights, value):
        batch, length = ops.shape(weights)[0], ops.shape(weights)[2]
        rows = (self.num_heads // self.num_key_value_heads) * length
        keys = ops.shape(weights)[3]
        weights = ops.reshape(weights, (batch, self.num_key_value_heads, rows, keys))
        mixed = _by_rows(ops.matmul, weights, value)
        mixed = ops.reshape(mixed, (batch, self.num_heads, length, self.head_dim))
        mixed = ops.transpose(mixed, (0, 2, 1, 3))
        return ops.reshape(mixed, (batch, length, self.num_heads * self.head_dim))

    def get_config(self):
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "causal": self.causal,
            "rope_theta": self.rope_theta,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "qkv_bias": self.qkv_bias,
            "query_key_norm": self.query_key_norm,
            "norm_epsilon": self.norm_epsilon,
            "scale": self.scale,
            "sliding_window": self.sliding_window,
            "rope_scaling": self.rope_scaling,
            "rotary_dim": self.rotary_dim,
            "softcap": self.softcap,
        }


def count_blocks(query: Tensor, key: Tensor) -> int:
    """Return the number of blocks of queries in which attention is computed: on JAX, as many as
    keep at most `BLOCK` scores in the memory of a device; else 1.

    Args:
        query: float (batch, num_heads, length, head_dim).
        key: float (batch, num_key_value_heads, keys, head_dim).
    """
    sizes = (*query.shape[:3], key.shape[2])
    known = all(isinstance(size, int) for size in sizes)  # not None, nor a symbol of JAX
    if keras.backend.backend() != "jax" or not known:
        return 1
    scores = devices.own_rows(sizes[0]) * math.prod(sizes[1:])
    return min(math.ceil(scores / BLOCK), query.shape[2]) or 1


def fuses(dtype: str, query: Tensor, key: Tensor) -> bool:
    """Return True if one fused operation of the backend computes attention without holding the
    scores: cuDNN's, which JAX has on GPUs (NVIDIA's since Ampere) in 2 bytes, for these widths of a
    head and even lengths. Elsewhere the backends hold the scores too, and dropout of the attention
    weights, relative positions and a softcap need them.

    Args:
        dtype: dtype of the computation.
        query, key: see `count_blocks`.
    """
    if keras.backend.backend() != "jax" or dtype not in ("bfloat16", "float16"):
        return False
    lengths, width = (query.shape[2], key.shape[2]), query.shape[3]
    if any(length is None or length % 2 for length in lengths) or width > 128 or width % 8:
        return False
    return _has_gpu()


@functools.cache
def _has_gpu() -> bool:
    # Of all kinds of devices: where there is no GPU, JAX raises if it is asked for them.
    return any(name.startswith("gpu") for name in keras.distribution.list_devices())


def _softmax(scores: Tensor) -> Tensor:
    """Softmax over the keys, without Keras' warning about a single key, whose weight is 1."""
    if scores.shape[-1] != 1:
        return ops.softmax(scores, axis=-1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are using a softmax")
        return ops.softmax(scores, axis=-1)


def causal_mask(position: Tensor, length: Tensor, keys: int, window: int = 0) -> Tensor:
    """Return the mask of the slots that the tokens at position, position + 1, … may see: those up
    to their own.

    Args:
        position: int or int tensor, scalar or (batch,).
        length: number of queries.
        keys: number of key slots.
        window: how many slots up to its own a token sees; 0: all.

    Returns: bool (length, keys), or (batch, length, keys) if position is (batch,).
    """
    queries = ops.expand_dims(token_positions(position, length), -1)
    slots = ops.arange(keys, dtype="int32")
    seen = queries >= slots
    return ops.logical_and(seen, queries < slots + window) if window else seen


def window_mask(length: Tensor, window: int) -> Tensor:
    """Return the mask of the tokens that see each other in a text read as a whole: those less than
    `window` apart.

    Returns: bool (1, length, length).
    """
    places = ops.arange(length, dtype="int32")
    apart = ops.abs(ops.reshape(places, (1, -1, 1)) - ops.reshape(places, (1, 1, -1)))
    return apart < window


def _by_rows(function, x, y):
    """function(x, y); if y is a list, function of each row of x and its own y, joined as rows."""
    if not isinstance(y, list):
        return function(x, y)
    rows = [function(x[index : index + 1], row) for index, row in enumerate(y)]
    return ops.concatenate(rows, axis=0)


def write_cache(cache: Any, new: Tensor, position: Tensor) -> Any:
    """The cache with `new` written at slots position, position + 1, …

    Args:
        cache: float (batch, heads, max_length, head_dim); or separate rows, a list of
            (1, heads, max_length, head_dim).
        new: float (batch, heads, length, head_dim).
        position: int or int tensor; scalar (all rows alike) or (batch,), then length is 1.

    Returns: float, the shape of cache, or such a list.
    """
    position = ops.cast(position, "int32")
    if isinstance(cache, list):
        return [
            write_cache(row, new[index : index + 1], position[index])
            for index, row in enumerate(cache)
        ]
    new = ops.cast(new, cache.dtype)
    if len(position.shape) == 0:
        return ops.slice_update(cache, (0, 0, position, 0), new)
    # Rows at different positions: one slot per row, chosen by comparison (no gather, no scatter).
    slots = ops.arange(ops.shape(cache)[2], dtype="int32")
    here = ops.expand_dims(position, -1) == slots
    return ops.where(here[:, None, :, None], new, cache)
