"""The multiplications and the memory of a training step, counted from the parts of a model."""

from __future__ import annotations

import dataclasses
import math

import keras

from tfx_transformer.config import TransformerConfig
from tfx_transformer.layers import Linear, four_bit
from tfx_transformer.models.lora import trainable_summary
from tfx_transformer.models.scopes import without_memory
from tfx_transformer.models.transformer import TransformerStack

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
        kept: numbers of a token that the backward pass needs.
        readings: how often a step reads its batch.
    """

    trained: int
    frozen: int
    parameter_bytes: int
    multiplied: float
    kept: float
    readings: int


def training_work(model: keras.Model) -> Work:
    """Return the work of a training step of a model, per token of its batch.

    Args:
        model: a `TransformerModel`.
    """
    config = model.config
    counts = trainable_summary(model)
    stacks = [layer for layer in model.layers if isinstance(layer, TransformerStack)]
    layers = sum(len(stack.blocks) for stack in stacks)
    # Per token and block: inputs of norms and projections, queries, keys, values, what they mix.
    width = 12 * config.hidden_dim + 3 * config.intermediate_dim
    kernels, maps = _convolutions(model)
    return Work(
        trained=counts["trained"],
        frozen=counts["frozen"],
        parameter_bytes=counts["trained_bytes"] + counts["frozen_bytes"],
        multiplied=counts["trained"] - _table_parameters(model) + kernels,
        kept=layers * width + 3 * (config.vocabulary_size + maps),
        readings=model.readings,
    )


def adapted_memory(cls, config: TransformerConfig, rank: int = 8) -> dict[str, int]:
    """Return the bytes of a model that is trained through LoRA adapters of all its linear layers,
    while its kernels are stored in 4 bits ("nf4"); no model is made.

    Args:
        cls: class of the model; its read-out is not trained.
        config: its architecture.
        rank: rank of the adapters.

    Returns: "base", the frozen weights; "adapters"; "optimizer", AdamW's two moments of these.
    """
    with without_memory():
        model = cls(config)
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, Linear)]
    kernels = {f"{layer.path}/kernel": layer.kernel_shape for layer in layers}
    base = sum(four_bit.stored_bytes(*shape) for shape in kernels.values())
    for weight in model.weights:
        if weight.path not in kernels:
            is_table = weight.name in ("embeddings", "reverse_embeddings")
            is_table = is_table and weight.path.startswith("embedding/")
            base += (2 if is_table else 4) * math.prod(weight.shape)
    adapters = sum(4 * rank * (inputs + units) for inputs, units in kernels.values())
    return {"base": base, "adapters": adapters, "optimizer": 2 * adapters}


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
