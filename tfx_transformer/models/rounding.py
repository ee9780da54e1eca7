"""Models that compute with weights as a quantized file holds them, so that training can allow for
the rounding."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from tfx_transformer.layers import Linear, MultiHeadAttention, TokenEmbedding, TransformerBlock
from tfx_transformer.layers.rounding import StraightThrough, has_blocks
from tfx_transformer.models.tagger import Tagger
from tfx_transformer.models.tasks import Seq2SeqLM

# Number format of a file -> bits of its weights.
BITS = {"int4": 4, "int8": 8}

# Weights that have 8 bits stay in float32 if there are fewer: see `export.convert_litert`.
_FEWEST = 1024


@contextlib.contextmanager
def rounding(model: keras.Model, form: str) -> Iterator[None]:
    """Let a model compute, in the block, with the rounded weights that a file of it would have, as
    long as norms are folded: see `folded_norms`. Gradients pass as if they were not rounded.

    These are the kernels of linear layers and the tables that are trained. Convolutions, which have
    8 bits in every quantized file, are computed as they are, and so are activations.

    Args:
        model: a model without adapters.
        form: "int4" or "int8", the format of the file.
    """
    layers = list(_rounded_layers(model, BITS[form]))
    try:
        for layer, straight in layers:
            layer.rounding = straight
        _trace_again(model)
        yield
    finally:
        for layer, _ in layers:
            layer.rounding = None
        _trace_again(model)


@contextlib.contextmanager
def folded_norms(model: keras.Model) -> Iterator[None]:
    """Multiply the scales of RMS norms into the kernels that read their results, as the converter
    does, and keep them 1 in the block. The model computes the same, up to rounding.

    A layer norm has a bias or a product between its scale and the kernel, so nothing is multiplied.
    In a post-norm block a residual reads the result too, so its scales stay; there the converter
    multiplies them into kernels that are rounded in training without them.
    """
    scales = []
    for norm, kernels in _readers_of_norms(model):
        if isinstance(norm, keras.layers.RMSNormalization):
            scale = ops.convert_to_tensor(norm.scale.value)
            for kernel in kernels:
                kernel.assign(kernel.value * ops.expand_dims(scale, 1))
            norm.scale.assign(ops.ones_like(scale))
            scales.append(norm.scale)
    trained = [scale for scale in scales if scale.trainable]
    try:
        for scale in trained:
            scale.trainable = False
        yield
    finally:
        for scale in trained:
            scale.trainable = True


def _rounded_layers(model: keras.Model, bits: int) -> Iterator[tuple[Any, StraightThrough]]:
    """Yield the layers whose weights a file would hold in so many bits, and what rounds them."""
    factors = {}
    for layer in model._flatten_layers():
        is_attention = isinstance(layer, MultiHeadAttention)
        if is_attention and layer.rotary is None and layer.query_norm is None:
            # The converter multiplies the scale of the scores into the query.
            factors[id(layer.query)] = layer.scale
    for layer in model._flatten_layers():
        if isinstance(layer, Linear):
            weights, inputs = layer._kernel, layer.kernel_shape[0]
        elif isinstance(layer, TokenEmbedding) and layer.output_dim > 1:
            weights, inputs = layer._embeddings, layer.output_dim
        else:
            continue
        is_large = has_blocks(inputs, bits) or math.prod(weights.shape) >= _FEWEST
        if weights.trainable and is_large:
            yield layer, StraightThrough(bits, factors.get(id(layer), 1.0))


def _readers_of_norms(model: Any) -> Iterator[tuple[Any, list[keras.Variable]]]:
    """Yield the norms whose results only linear layers read, and the kernels of these, (width,
    units) each."""
    for layer in model._flatten_layers():
        if isinstance(layer, TransformerBlock) and layer.norm_first:
            own, feed = layer.attention, layer.feed_forward
            yield layer.attention_norm, _kernels(own.query, own.key, own.value)
            if layer.cross:
                yield layer.cross_attention_norm, _kernels(layer.cross_attention.query)
            gate = [feed.gate] if feed.gated else []
            yield layer.feed_forward_norm, _kernels(feed.expand, *gate)
    if isinstance(model, Seq2SeqLM):
        crossing = [block.cross_attention for block in model.decoder.blocks]
        readers = [reader for one in crossing for reader in (one.key, one.value)]
        yield model.encoder.final_norm, _kernels(*readers)
    if isinstance(model, Tagger):
        yield model.encoder.final_norm, _kernels(model.logits)
    if model.writes and not model.embedding.tie_weights:
        yield model.decoder.final_norm, [model.embedding.reverse_embeddings]


def _kernels(*layers: Linear) -> list[keras.Variable]:
    return [layer._kernel for layer in layers]


def _trace_again(model: keras.Model) -> None:
    """Forget the functions that Keras has traced, which compute with other weights."""
    model.train_function = model.test_function = model.predict_function = None
