"""Keras layers of a Transformer, written with keras.ops only: they run on every Keras backend."""

from tfx_transformer.layers.attention import MultiHeadAttention
from tfx_transformer.layers.bag import TokenBag
from tfx_transformer.layers.block import TransformerBlock
from tfx_transformer.layers.edges import EdgeColorLogits
from tfx_transformer.layers.embedding import TokenEmbedding
from tfx_transformer.layers.feed_forward import FeedForward
from tfx_transformer.layers.image import ConvolutionalTokenizer, PatchEmbedding
from tfx_transformer.layers.linear import Linear
from tfx_transformer.layers.ngrams import NGramEmbedding, NGramLogits
from tfx_transformer.layers.pooling import Pooling
from tfx_transformer.layers.position import (
    LearnedPositions,
    RotaryPositions,
    SinusoidalPositions,
)
from tfx_transformer.layers.relative import RelativePositions

__all__ = [
    "ConvolutionalTokenizer",
    "EdgeColorLogits",
    "FeedForward",
    "LearnedPositions",
    "Linear",
    "MultiHeadAttention",
    "NGramEmbedding",
    "NGramLogits",
    "PatchEmbedding",
    "Pooling",
    "RelativePositions",
    "RotaryPositions",
    "SinusoidalPositions",
    "TokenBag",
    "TokenEmbedding",
    "TransformerBlock",
]
