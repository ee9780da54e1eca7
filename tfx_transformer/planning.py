"""The memory, time and cost of a training, by arithmetic alone: nothing is measured here.

Operations follow Kaplan et al. (2020), section 2.1. `tests/test_plan.py` compares parameters and
operations with published models, and memory with the compiled steps that it was fitted to.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

from tfx_transformer.config import TransformerConfig

# Names of Keras's backends.
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
# The most logits that a device has at once in a step, 128 MiB in float32; those of one token may be
# more.
CHUNK = 2**25
# Vocabularies of this size and larger are scored in chunks where TensorFlow traces a step without
# the number of tokens.
LARGE_VOCABULARY = 2**14
# The most scores that attention in blocks has at once, 16 MiB in float32; those of one query may be
# more.
BLOCK = 2**22

Precision = Literal["float32", "bfloat16", "mixed_bfloat16"]
BaseDtype = Literal["float32", "bfloat16", "int8", "nf4"]


# Share of the speed of its matrix products that a training reaches on accelerators, where nothing
# was measured: large trainings report 21 to 46 % (Chowdhery et al. 2022, table 3).
UTILISATION = 0.4


def cpu_utilisation(dropout: float) -> float:
    """Return the share of the speed of large matrix products that a training reaches on a CPU.

    It was chosen from measured steps, see docs/scale.md: with dropout, which draws many random
    numbers, they reached less.

    Args:
        dropout: of the model.
    """
    return 0.4 if dropout else 0.65


class Device(NamedTuple):
    """A device: its memory in bytes, its operations per second in dense matrix products of
    bfloat16, and the share of this speed that a training reaches."""

    memory: float
    speed: float
    utilisation: float = UTILISATION


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


class Sizes(NamedTuple):
    """Counts of a model and its training; `models.work.sizes` makes them.

    Attributes:
        parameters: of the model, without adapters.
        trained: parameters that are trained; only the adapters of a frozen base.
        weights: bytes of the model as it is trained, adapters included.
        kernels: of the matrices of the blocks.
        read_out: multiplications for the logits of a token; 0 without logits.
    """

    parameters: int
    trained: int
    weights: int
    kernels: int
    read_out: int


@dataclasses.dataclass(frozen=True)
class Training:
    """A way to train: formats of numbers, and what is kept for the backward pass.

    Attributes:
        precision: format of the arithmetic; mixed_bfloat16 keeps the weights in float32.
        base_dtype: format of a frozen base with adapters; "": all weights are trained.
        rank: rank of the adapters of all kernels.
        remat: rematerialisation: the backward pass computes the inside of a block again.
        backend: Keras's backend. TensorFlow holds all scores of attention, and PyTorch all logits
            too.
        gpu: the device is a GPU with a fused operation for attention.
    """

    precision: Precision = "float32"
    base_dtype: BaseDtype | Literal[""] = ""
    rank: int = 8
    remat: bool = False
    backend: str = "tensorflow"
    gpu: bool = False

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


def memory(
    config: TransformerConfig,
    sizes: Sizes,
    rows: int,
    length: int,
    training: Training,
    accumulate: int = 1,
) -> Memory:
    """Return the memory of a training step on one device.

    Args:
        config: the architecture of the model.
        sizes: its counts.
        rows: texts that the device reads at once.
        length: tokens of a text.
        training: how it is trained.
        accumulate: parts of the step, each of `rows` texts.
    """
    # Adapters are float32 whatever the precision.
    stored = 2 if training.precision == "bfloat16" and not training.base_dtype else 4
    tokens = rows * length
    kept = kept_numbers(config, tokens, length, training) * training.number
    block = block_of_scores(config, tokens, length, training) * training.number
    if sizes.read_out:
        # Logits are gone when the gradient of attention begins.
        block = max(block, 4 * kept_logits(config.vocabulary_size, tokens, training.backend))
    kept += block
    trained = stored * sizes.trained
    gradients = trained if accumulate == 1 else 2 * trained  # that of a part, and the sum
    return Memory(sizes.weights, gradients, 2 * trained, kept)


def kept_numbers(
    config: TransformerConfig,
    tokens: float,
    length: int,
    training: Training,
    layers: int | None = None,
) -> float:
    """Return how many numbers are kept for the backward pass, without the logits.

    Of a token in a layer: inputs of norms and projections, queries, keys, values, what attention
    mixes, the inside of the feed-forward layer, what dropout changes; and each head's scores, where
    attention holds them. With `remat`: the input of every layer, and the inside of one. The counts
    were fitted to XLA's analysis of the compiled steps in `tests/test_plan.py`, on a CPU.

    Args:
        config: the architecture of the model.
        tokens: tokens that the device reads at once.
        length: tokens of a text.
        training: how it is trained.
        layers: number of layers; None: as the configuration says.
    """
    layers = config.num_layers if layers is None else layers
    inside = 12 * config.hidden_dim + (4 if config.gated else 3) * config.intermediate_dim
    inside += 8 * config.hidden_dim * (config.dropout > 0)
    if not in_blocks(config, tokens, length, training):
        inside += _copies(config, training) * config.num_heads * length
    if training.remat:
        return tokens * (layers * config.hidden_dim + inside)
    return tokens * layers * inside


def block_of_scores(
    config: TransformerConfig, tokens: float, length: int, training: Training
) -> float:
    """Return how many numbers a block of attention's scores takes; 0 where attention is not
    computed in blocks of queries, or a fused operation computes it.

    Args: see `kept_numbers`.
    """
    if not in_blocks(config, tokens, length, training) or _fuses(config, length, training):
        return 0.0
    return float(_copies(config, training) * BLOCK)


def _copies(config: TransformerConfig, training: Training) -> int:
    """Return how many numbers are held for each score: itself, its softmax, and its gradient; in 2
    bytes also a float32 copy, which counts as two; and what dropout leaves."""
    return (3 if training.number == 4 else 4) + (config.dropout > 0)


def kept_logits(vocabulary_size: int, tokens: float, backend: str) -> float:
    """Return how many float32 numbers a step of `fit` holds for the logits: themselves, their
    softmax and their gradient; or one chunk of them. See `models.token_scores`.

    Args:
        vocabulary_size: logits of a token.
        tokens: tokens that the device reads at once.
        backend: Keras's backend.
    """
    whole = 3 * tokens * vocabulary_size
    small = backend == "tensorflow" and vocabulary_size < LARGE_VOCABULARY
    if small or backend not in ("tensorflow", "jax") or tokens * vocabulary_size <= CHUNK:
        return whole
    return max(CHUNK, vocabulary_size)


def in_blocks(config: TransformerConfig, tokens: float, length: int, training: Training) -> bool:
    """Return True if attention does not keep its scores for the backward pass: see
    `layers.attention`.

    Args: see `kept_numbers`.
    """
    relative = config.position == "relative" or config.relative_scores
    if training.backend != "jax" or config.dropout or relative or config.attention_softcap:
        return False
    many = tokens * config.num_heads * length > BLOCK
    return many or _fuses(config, length, training)


def _fuses(config: TransformerConfig, length: int, training: Training) -> bool:
    head = config.head_dim or config.hidden_dim // config.num_heads
    even = length % 2 == 0 and head % 8 == 0 and head <= 128
    return training.gpu and training.number == 2 and even


def operations(config: TransformerConfig, sizes: Sizes, length: int, training: Training) -> float:
    """Return the operations of a training step for each token.

    6 for each weight that the token is multiplied with, 4 for a frozen one; in each layer 12 for
    each feature of a head, times the tokens that it attends to. With `remat` the blocks' forward
    pass is computed again: 2 more for each weight, and 16 instead of 12.
    """
    head = config.head_dim or config.hidden_dim // config.num_heads
    compared = config.num_layers * config.num_heads * head * length
    times = 4 if training.base_dtype else 6
    extra = 2 if training.remat else 0
    blocks = (times + extra) * sizes.kernels + (12 + 2 * extra) * compared
    return blocks + times * sizes.read_out


class Step(NamedTuple):
    """A step of a device: `accumulate` parts of `rows` texts, and the memory of one part."""

    rows: int
    accumulate: int
    training: Training
    memory: Memory


def best_step(
    config: TransformerConfig,
    sizes: Sizes,
    rows: int,
    length: int,
    training: Training,
    available: float,
) -> Step:
    """Return the step that does the least work in the available memory.

    It has as many rows at once as fit without rematerialisation. If not even one row fits, it uses
    rematerialisation. If that does not fit either, it is the step of one row, with it.

    Args:
        config: the architecture of the model.
        sizes: its counts.
        rows: rows of a whole step on this device.
        length: tokens of a row.
        training: how it is trained.
        available: bytes of memory.
    """
    tries = [training, dataclasses.replace(training, remat=True)]
    for tried in tries:
        for accumulate in range(1, rows + 1):
            if rows % accumulate:
                continue
            part = rows // accumulate
            needed = memory(config, sizes, part, length, tried, accumulate)
            if needed.all <= available:
                return Step(part, accumulate, tried, needed)
    last = tries[-1]
    return Step(1, rows, last, memory(config, sizes, 1, length, last, rows))


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
    sizes: Sizes,
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
        sizes: its counts.
        tokens: tokens of a step of all devices.
        length: tokens of a row.
        training: how it is trained.
        devices: number of devices.
        speed: operations per second that a device reaches.
        bandwidth: bytes per second that a device sends to the next.
    """
    computing = operations(config, sizes, length, training) * tokens / devices / speed
    sent = all_reduce_bytes(4.0 * sizes.trained, devices)
    communicating = sent / bandwidth
    return Scale(devices, computing, communicating, sent, computing / (computing + communicating))


def checkpoint_bytes(sizes: Sizes) -> float:
    """Return the bytes of a checkpoint: every weight and both moments of AdamW, in float32."""
    return 12.0 * sizes.parameters


def to_dict(memory: Memory) -> dict[str, Any]:
    """Return memory as JSON values, in bytes."""
    return {name: round(value) for name, value in memory._asdict().items()} | {
        "all": round(memory.all)
    }
