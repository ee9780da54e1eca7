"""The one stack: positions, blocks, final normalization. BERT, GPT and both halves of a
translator are this stack with other settings."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfx_transformer.config import TransformerConfig
from tfx_transformer.layers import (
    LearnedPositions,
    Linear,
    RelativePositions,
    SinusoidalPositions,
    TransformerBlock,
)
from tfx_transformer.layers.masks import padding_mask
from tfx_transformer.layers.norm import new_norm
from tfx_transformer.layers.remat import recompute
from tfx_transformer.layers.serializable import serializable


@serializable
class TransformerStack(keras.layers.Layer):
    """Embedded tokens to contextual vectors, through the same step in training and decoding.

    x <- dropout([norm](x + positions)) [W + b];  x <- block_i(x) for every i;  x <- norm(x) if
    pre-norm and not `norm_pooled`

    Args:
        config: `TransformerConfig`, or its dictionary.
        num_layers: number of blocks.
        causal: tokens see only themselves and those before them.
        cross: blocks read a memory by cross-attention.

    Attributes:
        remat: compute the activations within blocks again for the gradient, see `recompute`.

    Call arguments:
        x: float (batch, length, embedding_dim), embedded tokens.
        memory: float (batch, memory_length, hidden_dim), or the result of `project_memory`.
        cache: None (training), or one (key, value) pair per block, each float
            (batch, num_key_value_heads, max_length, head_dim), or two lists of separate rows, see
            `MultiHeadAttention`. A cache and length > 1 is prefill, a cache and length 1 is
            decoding.
        position: int or int tensor, scalar or (batch,); position of x[:, 0]. Without a cache also
            (batch, length), the position of every token.
        cache_slots, first_slot: see `MultiHeadAttention`.
        attention_mask: bool, broadcastable to (batch, length, keys); False hides a token.
        cross_attention_mask: bool, broadcastable to (batch, length, memory_length).
        return_attention_scores: also return every block's weights, as `TransformerBlock` does.
        return_hidden_states: also return the input of each block, and the output of the last.
        mask, memory_mask: padding in x and in memory: see `MultiHeadAttention`.

    Returns: float (batch, length, hidden_dim); then the new cache if one was given; then the list
        of attention weights if requested; then, if requested, the list of num_layers + 1 hidden
        states, float (batch, length, hidden_dim).
    """

    remat = False

    def __init__(
        self,
        config: TransformerConfig | dict[str, Any],
        num_layers: int,
        causal: bool = False,
        cross: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        config = TransformerConfig.from_dict(config) if isinstance(config, dict) else config
        self.config = config
        self.num_layers = num_layers
        self.causal = causal
        self.cross = cross
        self.positions = self._new_positions()
        self.distances = self._new_distances("distances") if config.relative_scores else None
        self.embedding_dropout = keras.layers.Dropout(config.dropout, dtype=self.dtype_policy)
        self.blocks = [self._new_block(index) for index in range(num_layers)]
        self.embedding_norm = self._new_norm("embedding_norm") if config.embedding_norm else None
        self.embedding_projection = None
        if config.embedding_dim != config.hidden_dim:
            self.embedding_projection = Linear(
                config.hidden_dim, name="embedding_projection", dtype=self.dtype_policy
            )
        normed = config.norm_first and not config.norm_pooled
        self.final_norm = self._new_norm("final_norm") if normed else None

    def _new_positions(self):
        """Return the layer that adds positions to the embeddings or gives scores; None: neither."""
        config, part = self.config, {"name": "positions", "dtype": self.dtype_policy}
        if config.position == "rotary":
            return None  # lives inside attention
        if config.position == "learned":
            return LearnedPositions(config.max_sequence_length, **part)
        if config.position == "relative":
            return self._new_distances("positions")
        if config.position == "sinusoidal_fairseq":
            return SinusoidalPositions(interleaved=False, inclusive=True, first=2, **part)
        return SinusoidalPositions(interleaved=config.position == "sinusoidal", **part)

    def _new_distances(self, name):
        """Return the layer of the scores that every block's attention adds to its own."""
        config, part = self.config, {"name": name, "dtype": self.dtype_policy}
        buckets, distance = config.relative_buckets, config.relative_distance
        return RelativePositions(config.num_heads, buckets, distance, self.causal, **part)

    def _new_block(self, index):
        config, window = self.config, self.config.window_of(index)
        theta = config.local_rope_theta if window else config.rope_theta
        # Windowed blocks with a wavelength of their own were not stretched with the context.
        stretched = config.local_rope_theta == config.rope_theta or not window
        rotary = config.position == "rotary" and index not in config.no_position_layers
        return TransformerBlock(
            config.hidden_dim,
            config.num_heads,
            config.intermediate_dim,
            num_key_value_heads=config.num_key_value_heads,
            causal=self.causal,
            cross=self.cross,
            norm=config.norm,
            norm_first=config.norm_first,
            norm_epsilon=config.norm_epsilon,
            activation=config.activation,
            gated=config.gated,
            use_bias=config.use_bias,
            rope_theta=theta if rotary else None,
            dropout=config.dropout,
            stochastic_depth=config.stochastic_depth * index / max(self.num_layers - 1, 1),
            head_dim=config.head_dim,
            qkv_bias=config.qkv_bias,
            feed_forward_bias=config.feed_forward_bias,
            query_key_norm=config.query_key_norm,
            attention_scale=config.attention_scale,
            sliding_window=window,
            rope_scaling=config.rope_scaling if stretched else None,
            sandwich_norm=config.sandwich_norm,
            rotary_dim=config.rotary_dim,
            attention_softcap=config.attention_softcap,
            parallel_residual=config.parallel_residual,
            first_norm=config.first_norm or index > 0,
            norm_bias=config.norm_bias,
            name=f"block_{index}",
            dtype=self.dtype_policy,
        )

    def _new_norm(self, name):
        config, part = self.config, {"name": name, "dtype": self.dtype_policy}
        return new_norm(config.norm, config.norm_bias, epsilon=config.norm_epsilon, **part)

    def build(self, x_shape, memory_shape=None):
        embedded = (None, None, self.config.embedding_dim)
        for part in (self.positions, self.distances, self.embedding_norm):
            if part is not None:
                part.build(embedded)
        if self.embedding_projection is not None:
            self.embedding_projection.build(embedded)
        shape = (None, None, self.config.hidden_dim)
        for block in self.blocks:
            block.build(shape, shape if self.cross else None)
        if self.final_norm is not None:
            self.final_norm.build(shape)

    def project_memory(self, memory: Any) -> Any:
        """One (key, value) pair per block, each float
        (batch, num_key_value_heads, memory_length, head_dim): decoding computes them once."""
        return [block.cross_attention.project_memory(memory) for block in self.blocks]

    def new_cache(self, batch_size: int, max_length: int) -> Any:
        """An empty cache for `call`: zeros in the compute dtype, one (key, value) per block."""
        config = self.config
        shape = (batch_size, config.num_key_value_heads, max_length, config.head_dim)
        return [
            (ops.zeros(shape, self.compute_dtype), ops.zeros(shape, self.compute_dtype))
            for _ in self.blocks
        ]

    def call(
        self,
        x,
        memory=None,
        cache=None,
        position=0,
        attention_mask=None,
        cross_attention_mask=None,
        return_attention_scores=False,
        return_hidden_states=False,
        training=None,
        mask=None,
        x_mask=None,
        memory_mask=None,
        cache_slots=None,
        first_slot=None,
    ):
        mask = padding_mask(mask, x_mask)
        bias, distances = None, self.distances
        if self.config.position == "relative":
            distances = self.positions
        elif self.positions is not None:
            x = self.positions(x, start=position, mask=mask)
        if distances is not None:
            length = ops.shape(x)[1]
            keys = length if cache is None else cache_slots or _slots(cache)
            start = 0 if cache is None else position
            if first_slot is None:
                bias = distances(start=start, length=length, keys=keys)
            else:  # as many slots as alternatives share a position
                bias = distances(start=first_slot // length, length=1, keys=keys, beside=length)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        x = self.embedding_dropout(x, training=training)
        if self.embedding_projection is not None:
            x = self.embedding_projection(x)
        new_cache, scores, states = [], [], [x]
        saved = cache is not None or return_attention_scores or not training or not self.remat
        for index, block in enumerate(self.blocks):
            own = memory[index] if isinstance(memory, list) else memory
            if not saved:
                x = recompute(
                    block,
                    {"x": x, "memory": own, "attention_bias": bias},
                    position=position,
                    attention_mask=attention_mask,
                    cross_attention_mask=cross_attention_mask,
                    training=training,
                    mask=mask,
                    memory_mask=memory_mask,
                )
                states.append(x)
                continue
            result = block(
                x,
                memory=own,
                cache=None if cache is None else cache[index],
                position=position,
                cache_slots=cache_slots,
                first_slot=first_slot,
                attention_mask=attention_mask,
                attention_bias=bias,
                cross_attention_mask=cross_attention_mask,
                return_attention_scores=return_attention_scores,
                training=training,
                mask=mask,
                memory_mask=memory_mask,
            )
            x, *extra = result if isinstance(result, tuple) else (result,)
            if cache is not None:
                new_cache.append(extra.pop(0))
            scores += extra
            states.append(x)
        if self.final_norm is not None:
            x = self.final_norm(x)
        results = [x]
        if cache is not None:
            results.append(new_cache)
        if return_attention_scores:
            results.append(scores)
        if return_hidden_states:
            results.append(states)
        return results[0] if len(results) == 1 else tuple(results)

    def get_config(self):
        return {
            **super().get_config(),
            "config": self.config.to_dict(),
            "num_layers": self.num_layers,
            "causal": self.causal,
            "cross": self.cross,
        }


def _slots(cache):
    """Return how many tokens a cache has room for."""
    key = cache[0][0]
    return ops.shape(key[0] if isinstance(key, list) else key)[2]
