"""The parameters, memory and time of a training, estimated before it begins."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfx_transformer.models.work import training_work
from tfx_transformer.planning import BACKENDS, cpu_utilisation

# AdamW's update of an array takes as long as so many sums of two arrays: it reads and writes
# weights, moments and their average several times. Measured with large tables.
_PASSES = 24


@dataclasses.dataclass(frozen=True)
class Cost:
    """Parameters as counts, memory in bytes, time in seconds; memory and time are estimates."""

    trained: int
    frozen: int
    memory: int
    seconds: float

    def lines(self) -> list[str]:
        """Return the figures as lines for a terminal."""
        minutes = self.seconds / 60
        time = f"{minutes:.0f} min" if minutes >= 1 else "less than a minute"
        memory = f"{self.memory / 1e6:,.0f} MB plus {BACKENDS[keras.backend.backend()]}'s own"
        return [
            f"parameters  {self.trained:,} trained, {self.frozen:,} frozen",
            f"estimate    {time} on this machine; {memory}",
        ]

    def to_dict(self) -> dict:
        """Return the figures as JSON values."""
        return dataclasses.asdict(self)


def estimate(
    model: keras.Model,
    batch_tokens: int,
    tokens: float,
    steps: int,
    parts: int = 1,
    length: int | None = None,
    remat: bool = False,
) -> Cost:
    """Return the cost of training a model.

    Memory: the weights; a gradient and AdamW's two moments for each trained weight, and the sum of
    the gradients of several parts; and the activations of one batch, or one part of it, that the
    backward pass needs, where logits and attention may be computed in chunks. Time: the operations
    of `Work.operations` (Kaplan et al. 2020, section 2.1), at a share of the speed of matrix
    products on this machine, `planning.cpu_utilisation`; an encoder's embedding tables are not
    multiplied, convolutions are multiplied at every pixel. Each step then updates all trained
    weights, at a share of the speed of additions. A `Classifier` compiled with `consistency` reads
    every batch twice.

    Args:
        model: a built model.
        batch_tokens: tokens of one batch, padding included.
        tokens: tokens of the whole training.
        steps: steps of the whole training.
        parts: parts in which a step computes its batch, one after the other.
        length: tokens of the longest row; None: the context of the model.
        remat: rematerialisation.
    """
    length = length or model.config.max_sequence_length
    work = training_work(model, length, remat)
    batch_tokens, tokens = work.readings * batch_tokens, work.readings * tokens
    mean = length * tokens / (batch_tokens * steps) if steps else length
    speed = cpu_utilisation(model.config.dropout) * operations_per_second()
    multiplying = work.operations(mean, remat) * tokens / speed
    updating = steps * work.trained * _PASSES / _sums_per_second()
    activations = math.ceil(4 * work.kept(batch_tokens / parts))
    arrays = 3 if parts == 1 else 4
    return Cost(
        trained=work.trained,
        frozen=work.frozen,
        memory=work.parameter_bytes + arrays * 4 * work.trained + activations,
        seconds=multiplying + updating,
    )


def warn_of_memory(needed: float, in_parts: bool = False) -> list[str]:
    """Return a warning, as lines, if a training needs more memory than this machine has.

    There is none if the memory of the machine is not known.

    Args:
        needed: bytes.
        in_parts: the recipe can compute a step in parts.
    """
    have = machine_memory()
    if have is None or needed <= have:
        return []
    accumulate = "a larger --accumulate, " if in_parts else ""
    return [
        f"warning     {needed / 1e9:,.1f} GB are needed, and this machine has {have / 1e9:,.1f} GB",
        f"            Choose {accumulate}a smaller --batch-size, context or model.",
    ]


def machine_memory() -> float | None:
    """Return the bytes of memory of this machine; None if the system does not say (Windows)."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return None


def operations_per_second(dtype: str = "float32") -> float:
    """Return the operations per second of matrix products on this machine.

    Args:
        dtype: format of their numbers.
    """
    size = 768
    matrix = keras.ops.ones((size, size), dtype)
    return 2 * size**3 / _seconds(keras.ops.matmul, matrix)


def _sums_per_second() -> float:
    """Return the additions per second of two float32 arrays that are too large for the caches."""
    size = 8_000_000
    return size / _seconds(keras.ops.add, keras.ops.ones((size,), "float32"))


def _seconds(operation: Callable[[Any, Any], Any], value: Any) -> float:
    """Return the seconds that operation(value, value) takes: the best of a few short trials."""
    np.asarray(operation(value, value))
    best = float("inf")
    for _ in range(4):
        begin = time.perf_counter()
        np.asarray(operation(value, value))
        best = min(best, time.perf_counter() - begin)
    return best
