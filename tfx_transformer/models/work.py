"""The multiplications and the memory of a training step, counted from the parts of a model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import keras

from tfx_transformer.config import TransformerConfig
from tfx_transformer.layers import Linear
from tfx_transformer.models.lora import TARGETS, base_bytes, trainable_summary
from tfx_transformer.models.scopes import without_memory
from tfx_transformer.models.transformer import TransformerStack
from tfx_transformer.planning import (
    Sizes,
    Training,
    block_of_scores,
    kept_logits,
    kept_numbers,
)

# Beginnings of the paths of tables that only encoder-only models have.
_TABLES = ("ngrams/", "segments/", "bag/")


@dataclasses.dataclass(frozen=True)
class Work:
    """The work of a training step of a model.

    Attributes:
        trained, frozen: numbers of parameters.
        parameter_bytes: bytes of all parameters.
        multiplied: trained parameters that a token is multiplied with. Tables that are only looked
            up do not count; a convolution counts once for every pixel of its input, divided by the
            tokens of the image.
        features: features of the heads of all layers, which attention multiplies with those of each
            token of the text.
        kept: tokens that are read at once -> numbers that the backward pass needs.
        readings: how often a step reads its batch.
    """

    trained: int
    frozen: int
    parameter_bytes: int
    multiplied: float
    features: int
    kept: Callable[[float], float]
    readings: int

    def operations(self, length: float, remat: bool = False) -> float:
        """Return the operations of the training for each token.

        They are those of `planning.operations`: 6 for each parameter that the token is multiplied
        with, 4 for a frozen one, and 12 for each feature and token of the text; with `remat` 2, 2
        and 4 more.

        Args:
            length: tokens of a text.
            remat: the backward pass computes the inside of a block again.
        """
        again = 2 if remat else 0
        weights = (6 + again) * self.multiplied + (4 + again) * self.frozen
        return weights + (12 + 2 * again) * self.features * length


def training_work(model: keras.Model, length: int, remat: bool = False) -> Work:
    """Return the work of a training step of a model, per token of its batch.

    Args:
        model: a `TransformerModel`.
        length: tokens of a row of the batch.
        remat: the backward pass computes the inside of a block again.
    """
    config = model.config
    counts = trainable_summary(model)
    stacks = [layer for layer in model.layers if isinstance(layer, TransformerStack)]
    layers = sum(len(stack.blocks) for stack in stacks)
    training = Training(remat=remat, backend=keras.backend.backend())
    kernels, maps = _convolutions(model)

    def kept(tokens: float) -> float:
        block = block_of_scores(config, tokens, length, training)
        if model.scores_tokens:
            block = max(block, kept_logits(config.vocabulary_size, tokens, training.backend))
        inside = kept_numbers(config, tokens, length, training, layers)
        return inside + block + 3 * maps * tokens

    return Work(
        trained=counts["trained"],
        frozen=counts["frozen"],
        parameter_bytes=counts["trained_bytes"] + counts["frozen_bytes"],
        multiplied=counts["trained"] - _table_parameters(model) + kernels,
        features=layers * config.num_heads * config.head_dim,
        kept=kept,
        readings=model.readings,
    )


def sizes(cls, config: TransformerConfig, training: Training) -> Sizes:
    """Return the counts of a model that is trained in this way; it is made without memory.

    Args:
        cls: class of the model.
        config: its architecture.
        training: adapters, if any, are LoRA on all of `TARGETS`.
    """
    with without_memory():
        model = cls(config, dtype=training.precision)
    parameters = sum(math.prod(weight.shape) for weight in model.weights)
    stacks = [layer for layer in model.layers if isinstance(layer, TransformerStack)]
    blocks = {id(layer): layer for stack in stacks for layer in _linears(stack)}
    kernels = sum(math.prod(layer.kernel_shape) for layer in blocks.values())
    read_out = 0
    if model.scores_tokens:
        ends = (layer for layer in _linears(model) if id(layer) not in blocks)
        read_out = sum(math.prod(layer.kernel_shape) for layer in ends)
        read_out += config.vocabulary_size * config.embedding_dim
    if not training.base_dtype:
        weights = base_bytes(model, None)
        return Sizes(parameters, parameters, weights, kernels, read_out)
    adapted = (layer for layer in blocks.values() if layer.name in TARGETS)
    new = sum(training.rank * sum(layer.kernel_shape) for layer in adapted)
    ends = (w for w in model.weights if w.path.startswith(model.read_out))
    trained = new + sum(math.prod(weight.shape) for weight in ends)
    stored = None if training.base_dtype == "float32" else training.base_dtype
    weights = base_bytes(model, stored) + 4 * new
    return Sizes(parameters, trained, weights, kernels, read_out)


def _linears(layer: keras.layers.Layer) -> list[Linear]:
    return [inner for inner in layer._flatten_layers() if isinstance(inner, Linear)]


def _table_parameters(model: keras.Model) -> int:
    """Return how many of the trained parameters are in tables that are only looked up."""
    tables = _TABLES
    if not (model.scores_tokens or model.config.image_size):
        tables += ("embedding/",)
    looked_up = (w for w in model.trainable_variables if w.path.startswith(tables))
    return sum(math.prod(table.shape) for table in looked_up)


def _convolutions(model: keras.Model) -> tuple[float, float]:
    """Return, per token of an image, the multiplications of the convolutions beyond one for each
    parameter, and the count of numbers that they make."""
    config = model.config
    if not (config.image_size and config.conv_layers):
        return 0.0, 0.0
    kernels, numbers, side = 0.0, 0.0, config.image_size
    for convolution in model.embedding.convolutions:
        pixels = side**2 / config.max_sequence_length
        kernels += math.prod(convolution.kernel.shape) * (pixels - 1)
        numbers += convolution.filters * pixels
        side = -(-side // 2)
    return kernels, numbers
