"""The memory, time and cost of a training, by arithmetic alone: nothing is built or measured.

Operations follow Kaplan et al. (2020), section 2.1. `tests/test_plan.py` compares parameters and
operations with published models, and memory with the compiled steps that it was fitted to.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError

Precision = Literal["float32", "bfloat16", "mixed_bfloat16"]
BaseDtype = Literal["float32", "bfloat16", "int8", "nf4"]

# Bits of a weight of a frozen kernel. int8: the float32 scale of each column is little, and is left
# out; nf4: see `layers.linear`.
_KERNEL_BITS = {"float32": 32.0, "bfloat16": 16.0, "int8": 8.0, "nf4": 4.129}
# Bytes of a weight of an embedding table, or of a read-out, of a frozen base.
_TABLE_BYTES = {"float32": 4, "bfloat16": 2, "int8": 2, "nf4": 2}


class Device(NamedTuple):
    """A device: its memory in bytes, and its operations per second in dense matrix products of
    bfloat16."""

    memory: float
    speed: float


# From the vendors' data sheets. Speeds are without sparsity.
DEVICES = {
    "h200": Device(141e9, 989e12),
    "h100": Device(80e9, 989e12),
    "a100-80": Device(80e9, 312e12),
    "a100-40": Device(40e9, 312e12),
    "l4": Device(24e9, 121e12),
    "rtx4090": Device(24e9, 165e12),
    "t4": Device(16e9, 65e12),
    "tpu-v5e": Device(16e9, 197e12),
    "tpu-v5p": Device(95e9, 459e12),
}


class Parameters(NamedTuple):
    """Numbers of parameters.

    Attributes:
        kernels: of the matrices of the blocks.
        head: of a read-out over the vocabulary that is not the embedding table.
        tables: of embedding tables.
        others: of norms and biases.
        read_out: multiplications for the logits of a token; 0 without logits.
    """

    kernels: int
    head: int
    tables: int
    others: int
    read_out: int

    @property
    def all(self) -> int:
        return self.kernels + self.head + self.tables + self.others


@dataclasses.dataclass(frozen=True)
class Training:
    """A way to train: formats of numbers, and what is kept for the backward pass.

    Attributes:
        precision: format of the arithmetic; mixed_bfloat16 keeps the weights in float32.
        base_dtype: format of a frozen base with adapters; "": all weights are trained.
        rank: rank of the adapters of all kernels.
        remat: rematerialisation: the backward pass computes the inside of a block again.
    """

    precision: Precision = "float32"
    base_dtype: BaseDtype | Literal[""] = ""
    rank: int = 8
    remat: bool = False

    @property
    def number(self) -> int:
        """Bytes of a number of the arithmetic."""
        return 4 if self.precision == "float32" else 2


class Memory(NamedTuple):
    """Bytes on a device, by what they hold."""

    weights: float
    gradients: float
    optimizer: float
    activations: float

    @property
    def all(self) -> float:
        return sum(self)


def parameters(config: TransformerConfig, scores_tokens: bool = True) -> Parameters:
    """Return the parameters of a decoder-only or encoder-only model that reads text.

    Args:
        config: its architecture.
        scores_tokens: it has logits over the vocabulary.

    Raises:
        InputError: it reads images.
    """
    if config.image_size:
        raise InputError("a model that reads images cannot be planned.\n  Plan one of texts.")
    width, inner = config.hidden_dim, config.intermediate_dim
    head = config.head_dim or width // config.num_heads
    queries, keys = config.num_heads * head, (config.num_key_value_heads or config.num_heads) * head
    qkv_bias = config.use_bias if config.qkv_bias is None else config.qkv_bias
    inner_bias = config.use_bias if config.feed_forward_bias is None else config.feed_forward_bias
    norm = width * (2 if config.norm == "layer_norm" and config.norm_bias else 1)

    kernels = 2 * width * (queries + keys) + (3 if config.gated else 2) * width * inner
    others = (4 if config.sandwich_norm else 2) * norm
    others += qkv_bias * (queries + 2 * keys) + config.use_bias * width
    others += inner_bias * ((2 if config.gated else 1) * inner + width)
    others += 2 * head * config.query_key_norm

    embedding = config.embedding_dim or width
    vocabulary = config.vocabulary_size * width
    own_head = scores_tokens and not config.tie_embeddings
    tables = config.vocabulary_size * embedding
    tables += config.max_sequence_length * embedding * (config.position == "learned")
    tables += config.num_segments * embedding
    layers = config.num_layers
    ends = norm * (config.norm_first + config.embedding_norm)
    return Parameters(
        kernels * layers,
        vocabulary * own_head,
        tables,
        others * layers + ends,
        vocabulary * scores_tokens,
    )


def memory(
    config: TransformerConfig,
    rows: int,
    length: int,
    training: Training,
    scores_tokens: bool = True,
) -> Memory:
    """Return the memory of a training step on one device.

    Args:
        config: the architecture of the model.
        rows: texts that the device reads at once.
        length: tokens of a text.
        training: how it is trained.
        scores_tokens: the model has logits over the vocabulary.
    """
    found = parameters(config, scores_tokens)
    stored = 2 if training.precision == "bfloat16" else 4
    if training.base_dtype:
        trained = adapter_parameters(config, training.rank)
        weights = found.kernels * _KERNEL_BITS[training.base_dtype] / 8
        weights += (found.tables + found.head) * _TABLE_BYTES[training.base_dtype]
        weights, stored = weights + 4 * (found.others + trained), 4
    else:
        trained = found.all
        weights = float(stored * trained)
    kept = rows * length * kept_numbers(config, length, training) * training.number
    if scores_tokens:
        # Logits, their softmax and their gradient, in float32.
        kept += 3 * 4 * rows * length * config.vocabulary_size
    return Memory(weights, stored * trained, 2 * stored * trained, kept)


def adapter_parameters(config: TransformerConfig, rank: int) -> int:
    """Return the parameters of LoRA adapters of this rank beside all kernels of all blocks."""
    width, inner = config.hidden_dim, config.intermediate_dim
    head = config.head_dim or width // config.num_heads
    queries, keys = config.num_heads * head, (config.num_key_value_heads or config.num_heads) * head
    sides = 2 * (width + queries) + 2 * (width + keys)
    sides += (3 if config.gated else 2) * (width + inner)
    return rank * sides * config.num_layers


def kept_numbers(config: TransformerConfig, length: int, training: Training) -> float:
    """Return how many numbers of each token are kept for the backward pass, without the logits.

    Of a block: inputs of norms and projections, queries, keys, values, what attention mixes, the
    inside of the feed-forward layer, what dropout changes, and each head's scores. With `remat`:
    the input of every block, and the inside of one. The counts were fitted to XLA's analysis of the
    compiled steps in `tests/test_plan.py`, on a CPU.
    """
    inside = 12 * config.hidden_dim + (4 if config.gated else 3) * config.intermediate_dim
    inside += 8 * config.hidden_dim * (config.dropout > 0)
    # Scores, their softmax, and its gradient; in 2 bytes a float32 copy, which counts as two.
    copies = (3 if training.number == 4 else 4) + (config.dropout > 0)
    inside += copies * config.num_heads * length
    if training.remat:
        return config.num_layers * config.hidden_dim + inside
    return config.num_layers * inside


def operations(
    config: TransformerConfig, length: int, training: Training, scores_tokens: bool = True
) -> float:
    """Return the operations of a training step for each token.

    6 for each weight that the token is multiplied with, 4 for a frozen one; in each layer 12 for
    each feature of a head, times the tokens that it attends to. With `remat` the blocks' forward
    pass is computed again: 2 more for each weight, and 16 instead of 12.
    """
    found = parameters(config, scores_tokens)
    head = config.head_dim or config.hidden_dim // config.num_heads
    compared = config.num_layers * config.num_heads * head * length
    times = 4 if training.base_dtype else 6
    extra = 2 if training.remat else 0
    blocks = (times + extra) * found.kernels + (12 + 2 * extra) * compared
    return blocks + times * found.read_out


class Step(NamedTuple):
    """A step of a device: `accumulate` parts of `rows` texts, and the memory of one part."""

    rows: int
    accumulate: int
    training: Training
    memory: Memory


def best_step(
    config: TransformerConfig,
    rows: int,
    length: int,
    training: Training,
    available: float,
    scores_tokens: bool = True,
) -> Step:
    """Return the step that does the least work in the available memory.

    It has as many rows at once as fit without rematerialisation. If not even one row fits, it uses
    rematerialisation. If that does not fit either, it is the step of one row, with it.

    Args:
        config: the architecture of the model.
        rows: rows of a whole step on this device.
        length: tokens of a row.
        training: how it is trained.
        available: bytes of memory.
        scores_tokens: the model has logits over the vocabulary.
    """
    tries = [training, dataclasses.replace(training, remat=True)]
    for tried in tries:
        for accumulate in range(1, rows + 1):
            if rows % accumulate:
                continue
            part = rows // accumulate
            needed = memory(config, part, length, tried, scores_tokens)
            if needed.all <= available:
                return Step(part, accumulate, tried, needed)
    last = tries[-1]
    return Step(1, rows, last, memory(config, 1, length, last, scores_tokens))


class Scale(NamedTuple):
    """A training step on several devices.

    Attributes:
        devices: their number.
        computing: seconds of arithmetic.
        communicating: seconds in which gradients are added.
        sent: bytes that each device sends.
        share: share of the time in which devices compute.
    """

    devices: int
    computing: float
    communicating: float
    sent: float
    share: float


def all_reduce_bytes(size: float, devices: int) -> float:
    """Return the bytes that each of n devices sends until all have the sum of their arrays.

    That is 2 (n - 1) / n of the size of an array, by a ring (Patarasuk and Yuan 2009).

    Args:
        size: bytes of an array.
        devices: n.
    """
    return 2 * (devices - 1) / devices * size


def scale(
    config: TransformerConfig,
    tokens: float,
    length: int,
    training: Training,
    devices: int,
    speed: float,
    bandwidth: float,
) -> Scale:
    """Return a step of data-parallel training, with the gradient summed after the backward pass.

    Args:
        config: the architecture of the model.
        tokens: tokens of a step of all devices.
        length: tokens of a row.
        training: how it is trained.
        devices: number of devices.
        speed: operations per second that a device reaches.
        bandwidth: bytes per second that a device sends to the next.
    """
    gradient = 4.0 * parameters(config).all
    if training.base_dtype:
        gradient = 4.0 * adapter_parameters(config, training.rank)
    computing = operations(config, length, training) * tokens / devices / speed
    sent = all_reduce_bytes(gradient, devices)
    communicating = sent / bandwidth
    return Scale(devices, computing, communicating, sent, computing / (computing + communicating))


def checkpoint_bytes(config: TransformerConfig, scores_tokens: bool = True) -> float:
    """Return the bytes of a checkpoint: every weight and both moments of AdamW, in float32."""
    return 12.0 * parameters(config, scores_tokens).all


def to_dict(memory: Memory) -> dict[str, Any]:
    """Return memory as JSON values, in bytes."""
    return {name: round(value) for name, value in memory._asdict().items()} | {
        "all": round(memory.all)
    }
