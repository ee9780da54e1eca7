"""The memory, time and cost of a training, by arithmetic alone: nothing is built or measured.

Operations follow Kaplan et al. (2020), section 2.1. `tests/test_plan.py` compares parameters with
published models, and memory with XLA's analysis of compiled steps.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError

Precision = Literal["float32", "bfloat16", "mixed_bfloat16"]
BaseDtype = Literal["float32", "bfloat16", "int8", "nf4"]

# Bits of a weight in a frozen kernel; int8: with a float32 scale for each column, which is little;
# nf4: see `layers.linear`. Tables of an nf4 base are bfloat16, of others float32.
_KERNEL_BITS = {"float32": 32.0, "bfloat16": 16.0, "int8": 8.0, "nf4": 4.129}
_TABLE_BITS = {"float32": 32, "bfloat16": 16, "int8": 32, "nf4": 16}


class Device(NamedTuple):
    """A device: memory in bytes, dense matrix products per second in bfloat16."""

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
    """Numbers of parameters: kernels that tokens are multiplied with, tables that are looked up,
    norms and biases. read_out: multiplications of a token with the vocabulary."""

    kernels: int
    tables: int
    others: int
    read_out: int

    @property
    def all(self) -> int:
        return self.kernels + self.tables + self.others


@dataclasses.dataclass(frozen=True)
class Training:
    """A way to train: the formats of the numbers and what is kept for the backward pass.

    Attributes:
        precision: format of the arithmetic; mixed_bfloat16 keeps the weights in float32.
        base_dtype: format of a frozen base under adapters; "": all weights are trained.
        rank: rank of the adapters of all kernels.
        remat: the backward pass computes the inside of a block again.
        scores: tokens of a block in whose attention all scores are kept; False: fused attention.
        logits: the logits of all tokens are held at once; False: in chunks.
    """

    precision: Precision = "float32"
    base_dtype: BaseDtype | Literal[""] = ""
    rank: int = 8
    remat: bool = False
    scores: bool = True
    logits: bool = True

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
        kernels * layers + vocabulary * own_head,
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
        rows, length: texts and tokens of each that the device reads at once.
        training: how it is trained.
        scores_tokens: the model has logits over the vocabulary.
    """
    found = parameters(config, scores_tokens)
    stored = 2 if training.precision == "bfloat16" else 4
    if training.base_dtype:
        trained = adapter_parameters(config, training.rank)
        weights = found.kernels * _KERNEL_BITS[training.base_dtype] / 8
        weights += found.tables * _TABLE_BITS[training.base_dtype] / 8 + 4 * found.others
        weights, stored = weights + 4 * trained, 4
    else:
        trained = found.all
        weights = float(stored * trained)
    kept = rows * length * kept_numbers(config, length, training) * training.number
    if scores_tokens:
        # Logits, their softmax and their gradient, in float32; in chunks: of 1,024 tokens.
        tokens = rows * length if training.logits else min(rows * length, 1_024)
        kept += 3 * 4 * tokens * config.vocabulary_size
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
    """Return the numbers of a token that the backward pass needs, without the logits.

    Of a block: inputs of norms and projections, queries, keys, values, what attention mixes, the
    inside of the feed-forward layer, what dropout changes; and each head's scores, unless attention
    is fused. With `remat` the input of every block, and the inside of one. The counts were fitted
    to XLA's analysis of compiled steps on a CPU.
    """
    inside = 12 * config.hidden_dim + (4 if config.gated else 3) * config.intermediate_dim
    inside += 8 * config.hidden_dim * (config.dropout > 0)
    if training.scores:
        # Scores, their softmax, and its gradient; in 2 bytes a float32 copy, which counts as two.
        copies = (3 if training.number == 4 else 4) + (config.dropout > 0)
        inside += copies * config.num_heads * length
    if training.remat:
        return config.num_layers * config.hidden_dim + inside
    return config.num_layers * inside


def operations(
    config: TransformerConfig, length: int, training: Training, scores_tokens: bool = True
) -> float:
    """Return the operations of a training step for a token: 6 for each weight that it is multiplied
    with, 4 if that is frozen, and 12 for each feature of a head and token that it is compared with,
    in each layer; with `remat` a third of 6 and 12 more, for the forward pass of the blocks."""
    found = parameters(config, scores_tokens)
    own_head = 0 if config.tie_embeddings else found.read_out
    head = config.head_dim or config.hidden_dim // config.num_heads
    compared = config.num_layers * config.num_heads * head * length
    times = 4 if training.base_dtype else 6
    extra = 2 if training.remat else 0
    blocks = (times + extra) * (found.kernels - own_head) + (12 + 2 * extra) * compared
    return blocks + times * found.read_out


class Step(NamedTuple):
    """A step of a device: `accumulate` parts of `rows` texts, and the memory of one."""

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
    """Return the step that does least work in the memory that there is.

    That is the largest number of rows at once without rematerialisation; with it only if not even
    one row fits otherwise. If nothing fits, the step of one row with it.

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
    """A step on several hosts: seconds of arithmetic and of the collective that adds gradients,
    bytes that each device sends, and the share of the time in which devices compute."""

    devices: int
    computing: float
    communicating: float
    sent: float
    share: float


def all_reduce_bytes(size: float, devices: int) -> float:
    """Return the bytes that each of several devices sends so that all have the sum of an array of
    `size` bytes: 2 (n - 1) / n of them, by a ring (Patarasuk and Yuan 2009)."""
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
        devices: how many there are.
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
