"""What a training run may cost: parameters, memory, time. Said before it begins."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfx_transformer.models.lora import trainable_summary
from tfx_transformer.models.transformer import TransformerStack

# Share of the measured speed of matrix products that a training step reaches on a CPU: what
# small models came to on the machines that benchmarks/README.md tells of.
_EFFICIENCY = 0.35
# Sums of two arrays that take as long as AdamW's update of one, which reads and writes weights,
# moments and their average several times: what large tables cost.
_PASSES = 24
# What the paths of tables begin with that only encoder-only models have.
_TABLES = ("ngrams/", "segments/")


@dataclasses.dataclass(frozen=True)
class Cost:
    """Parameters as counts, memory in bytes, time in seconds; memory and time are estimates."""

    trained: int
    frozen: int
    memory: int
    seconds: float

    def lines(self) -> list[str]:
        """The figures, for a terminal."""
        minutes = self.seconds / 60
        time = f"{minutes:.0f} min" if minutes >= 1 else "less than a minute"
        return [
            f"parameters  {self.trained:,} trained, {self.frozen:,} frozen",
            f"estimate    {self.memory / 1e6:,.0f} MB of memory beside TensorFlow's own, {time} "
            "on this machine's CPU",
        ]

    def to_dict(self) -> dict:
        """The figures as JSON values."""
        return dataclasses.asdict(self)


def estimate(model: keras.Model, batch_tokens: int, tokens: float, steps: int) -> Cost:
    """The cost of training a model.

    Memory: weights; a gradient and AdamW's two moments for each trained one; and the activations
    of one batch that the backward pass needs. Time: 6 operations per parameter and token (Kaplan
    et al. 2020, section 2.1), 4 if it is frozen, at a share of the speed at which this machine
    multiplies matrices; tables in which an encoder looks up its tokens are not multiplied, and
    convolutions are at every pixel that they see. Each step then updates all that is trained, at a
    share of the speed at which the machine adds. A `Classifier` that was compiled with
    `consistency` reads all twice.

    Args:
        model: built.
        batch_tokens: tokens of one batch, padding included.
        tokens: tokens of the whole training.
        steps: of the whole training.
    """
    config = model.config
    if getattr(model, "consistency", 0):
        batch_tokens, tokens = 2 * batch_tokens, 2 * tokens
    counts = trainable_summary(model)
    trained, frozen = counts["trained"], counts["frozen"]
    # Per token and block: inputs of norms and projections, queries, keys, values, what they mix.
    stacks = [layer for layer in model.layers if isinstance(layer, TransformerStack)]
    layers = sum(len(stack.blocks) for stack in stacks)
    width = 12 * config.hidden_dim + 3 * config.intermediate_dim
    kernels, maps = _convolutions(model)
    outside = 3 * (config.vocabulary_size + maps)
    activations = math.ceil(4 * batch_tokens * (layers * width + outside))
    operations = (6 * (trained - _looked_up(model) + kernels) + 4 * frozen) * tokens
    multiplying = operations / (_EFFICIENCY * _operations_per_second())
    updating = steps * trained * _PASSES / _sums_per_second()
    return Cost(
        trained=trained,
        frozen=frozen,
        memory=counts["trained_bytes"] + counts["frozen_bytes"] + 3 * 4 * trained + activations,
        seconds=multiplying + updating,
    )


def _looked_up(model: keras.Model) -> int:
    """How many of the trained parameters no matrix is multiplied with."""
    tables = _TABLES
    if not (model.scores_tokens or model.config.image_size):
        tables += ("embedding/",)
    looked_up = (w for w in model.trainable_variables if w.path.startswith(tables))
    return sum(math.prod(table.shape) for table in looked_up)


def _convolutions(model: keras.Model) -> tuple[float, float]:
    """Per token of an image: what its convolutions multiply beyond their parameters once, and how
    many numbers they make."""
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


def _operations_per_second() -> float:
    """Of float32 matrix products on this machine."""
    size = 768
    matrix = keras.ops.ones((size, size), "float32")
    return 2 * size**3 / _seconds(keras.ops.matmul, matrix)


def _sums_per_second() -> float:
    """Of the float32 numbers of two arrays that no cache holds."""
    size = 8_000_000
    return size / _seconds(keras.ops.add, keras.ops.ones((size,), "float32"))


def _seconds(operation: Callable[[Any, Any], Any], value: Any) -> float:
    """For the operation of a value with itself: the best of a few short trials."""
    np.asarray(operation(value, value))
    best = float("inf")
    for _ in range(4):
        begin = time.perf_counter()
        np.asarray(operation(value, value))
        best = min(best, time.perf_counter() - begin)
    return best
