"""One Transformer block: attention, cross-attention if it has a memory, feed-forward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from tfx_transformer.layers.attention import MultiHeadAttention
from tfx_transformer.layers.feed_forward import FeedForward
from tfx_transformer.layers.masks import padding_mask
from tfx_transformer.layers.norm import new_norm
from tfx_transformer.layers.serializable import serializable


@serializable
class TransformerBlock(keras.layers.Layer):
    """Residual sub-layers f1 … fn: self-attention, [cross-attention], feed-forward.

    pre-norm:   x <- x + dropout(f(norm(x)))      Xiong et al. (2020)
    post-norm:  x <- norm(x + dropout(f(x)))      Vaswani et al. (2017), section 3.1
    sandwich:   x <- x + dropout(norm'(f(norm(x))))      Ding et al. (2021), section 2.4
    parallel:   x <- x + dropout(f1(norm1(x))) + dropout(f2(norm2(x)))      Black et al. (2022), 2.1

    With `cross=False, causal=False` this is an encoder block, with `causal=True` a GPT block, with
    both the decoder block of an encoder-decoder.

    Args:
        hidden_dim, num_heads, num_key_value_heads, head_dim, use_bias, qkv_bias, attention_scale:
            see `MultiHeadAttention`.
        rope_theta, rope_scaling, rotary_dim, query_key_norm, sliding_window, attention_softcap:
            the same, for self-attention only.
        intermediate_dim, activation, gated: see `FeedForward`.
        causal: tokens see only themselves and those before them.
        cross: add cross-attention to a memory.
        norm: "layer_norm" (Ba et al. 2016) or "rms_norm" (Zhang & Sennrich 2019).
        norm_first: pre-norm instead of post-norm.
        sandwich_norm: the third formula.
        parallel_residual: the fourth formula, for a pre-norm block without cross-attention.
        first_norm: False: attention of a pre-norm block reads x without norm (ModernBERT).
        norm_bias: False: layer normalization without beta.
        norm_epsilon: added to the variance.
        feed_forward_bias: biases in the feed-forward layer. Defaults to use_bias.
        dropout: rate on each sub-layer's result and on attention weights, in training.
        stochastic_depth: rate at which a sub-layer's whole result is left out of an example, in
            training (Huang et al. 2016).

    Call arguments:
        x: float (batch, length, hidden_dim).
        memory, cache, position, cache_slots, first_slot: see `MultiHeadAttention`; the cache
            serves self-attention.
        attention_mask: bool, broadcastable to (batch, length, keys), for self-attention.
        attention_bias: float, broadcastable to (batch, num_heads, length, keys), the same.
        cross_attention_mask: bool, broadcastable to (batch, length, memory_length).
        return_attention_scores: also return the weights of the last attention: cross-attention if
            the block has it, else self-attention.
        mask, memory_mask: padding in x and in memory: see `MultiHeadAttention`.

    Returns: float (batch, length, hidden_dim); then the new cache if one was given; then the
        weights if requested. The mask of x is passed on.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        intermediate_dim: int,
        num_key_value_heads: int | None = None,
        causal: bool = False,
        cross: bool = False,
        norm: str = "layer_norm",
        norm_first: bool = True,
        norm_epsilon: float = 1e-5,
        activation: str = "gelu",
        gated: bool = False,
        use_bias: bool = True,
        rope_theta: float | None = None,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        head_dim: int | None = None,
        qkv_bias: bool | None = None,
        feed_forward_bias: bool | None = None,
        query_key_norm: bool = False,
        attention_scale: float | None = None,
        sliding_window: int = 0,
        rope_scaling: Mapping[str, Any] | None = None,
        sandwich_norm: bool = False,
        rotary_dim: int | None = None,
        attention_softcap: float | None = None,
        parallel_residual: bool = False,
        first_norm: bool = True,
        norm_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        settings = dict(locals())
        super().__init__(**kwargs)
        not_own = ("self", "kwargs", "__class__")
        self.settings = {name: x for name, x in settings.items() if name not in not_own}
        self.supports_masking = True
        self.norm = norm
        self.norm_first = norm_first
        self.norm_epsilon = norm_epsilon
        self.norm_bias = norm_bias
        self.parallel_residual = parallel_residual
        self.cross = cross
        attention = {
            "hidden_dim": hidden_dim,
            "num_heads": num_heads,
            "num_key_value_heads": num_key_value_heads,
            "head_dim": head_dim,
            "use_bias": use_bias,
            "qkv_bias": qkv_bias,
            "scale": attention_scale,
            "dropout": dropout,
            "dtype": self.dtype_policy,
        }
        self.attention = MultiHeadAttention(
            causal=causal,
            rope_theta=rope_theta,
            rope_scaling=rope_scaling,
            query_key_norm=query_key_norm,
            norm_epsilon=norm_epsilon,
            sliding_window=sliding_window,
            rotary_dim=rotary_dim,
            softcap=attention_softcap,
            name="attention",
            **attention,
        )
        if cross:
            self.cross_attention = MultiHeadAttention(name="cross_attention", **attention)
        self.feed_forward = FeedForward(
            intermediate_dim,
            activation,
            gated=gated,
            use_bias=use_bias if feed_forward_bias is None else feed_forward_bias,
            name="feed_forward",
            dtype=self.dtype_policy,
        )
        self._add_norms(sandwich_norm, first_norm)
        self._add_dropout(dropout, stochastic_depth)

    def _add_norms(self, sandwich, first):
        """Add one norm for each sub-layer; with `sandwich` another for its result."""

        def norm_named(name, wanted=True):
            if not wanted:
                return None
            part = {"epsilon": self.norm_epsilon, "name": name, "dtype": self.dtype_policy}
            return new_norm(self.norm, self.norm_bias, **part)

        self.attention_norm = norm_named("attention_norm", first)
        self.attention_result_norm = norm_named("attention_result_norm", sandwich)
        self.cross_attention_norm = norm_named("cross_attention_norm", self.cross)
        self.feed_forward_norm = norm_named("feed_forward_norm")
        self.feed_forward_result_norm = norm_named("feed_forward_result_norm", sandwich)

    def _add_dropout(self, dropout, stochastic_depth):
        self.residual_dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        self.depth_dropout = None
        if stochastic_depth:
            # One draw for a whole example: kept and scaled up, or left out.
            self.depth_dropout = keras.layers.Dropout(
                stochastic_depth, noise_shape=(None, 1, 1), dtype=self.dtype_policy
            )

    def build(self, x_shape, memory_shape=None):
        self.attention.build(x_shape)
        if self.cross:
            self.cross_attention.build(x_shape, memory_shape or x_shape)
        self.feed_forward.build(x_shape)
        for norm in (
            self.attention_norm,
            self.cross_attention_norm,
            self.feed_forward_norm,
            self.attention_result_norm,
            self.feed_forward_result_norm,
        ):
            if norm is not None:
                norm.build(x_shape)

    def call(
        self,
        x,
        memory=None,
        cache=None,
        position=0,
        attention_mask=None,
        attention_bias=None,
        cross_attention_mask=None,
        return_attention_scores=False,
        training=None,
        mask=None,
        x_mask=None,
        memory_mask=None,
        cache_slots=None,
        first_slot=None,
    ):
        mask = padding_mask(mask, x_mask)

        def attend(y):
            return self.attention(
                y,
                cache=cache,
                position=position,
                cache_slots=cache_slots,
                first_slot=first_slot,
                attention_mask=attention_mask,
                attention_bias=attention_bias,
                return_attention_scores=return_attention_scores,
                training=training,
                mask=mask,
            )

        def attend_memory(y):
            return self.cross_attention(
                y,
                memory=memory,
                attention_mask=cross_attention_mask,
                return_attention_scores=return_attention_scores,
                training=training,
                memory_mask=memory_mask,
            )

        read, norms = x, (self.attention_norm, self.attention_result_norm)
        x, extra = self._residual(x, attend, norms, training)
        new_cache = extra[:1] if cache is not None else ()
        if self.cross:
            norms = (self.cross_attention_norm, None)
            x, extra = self._residual(x, attend_memory, norms, training)
        scores = extra[-1:] if return_attention_scores else ()
        norms = (self.feed_forward_norm, self.feed_forward_result_norm)
        read = read if self.parallel_residual else x
        x, _ = self._residual(
            x, lambda y: self.feed_forward(y, training=training), norms, training, read
        )
        return (x, *new_cache, *scores) if new_cache or scores else x

    def _residual(self, x, sub_layer, norms, training, read=None):
        """Return x with one residual sub-layer applied, and the other results of the sub-layer,
        which reads `read`; None: x."""
        norm, result_norm = norms
        read = x if read is None else read
        result = sub_layer(norm(read) if self.norm_first and norm is not None else read)
        y, *extra = result if isinstance(result, tuple) else (result,)
        if result_norm is not None:
            y = result_norm(y)
        y = self.residual_dropout(y, training=training)
        if self.depth_dropout is not None:
            y = self.depth_dropout(y, training=training)
        x = x + y
        return (x if self.norm_first else norm(x)), extra

    def get_config(self):
        return {**super().get_config(), **self.settings}
