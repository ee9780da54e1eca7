"""The decode loop on the host: one step function, any engine behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfx_transformer.generation import numpy_ops
from tfx_transformer.generation.beam import BeamSearch
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.generation.sampling import Sampler

Step = Callable[[np.ndarray, int, Any], tuple[np.ndarray, Any]]


def new_strategy(xp: Any, options: GenerationOptions, limit: int, config):
    """`BeamSearch` for several beams, else `Sampler`."""
    return (BeamSearch if options.beams > 1 else Sampler)(xp, options, limit, config)


def new_limit(options: GenerationOptions, config) -> int:
    """Most tokens to write: what is asked for, within what the model can."""
    return min(options.max_new_tokens or config.max_sequence_length, config.max_sequence_length)


def uniforms(options: GenerationOptions, limit: int, batch_size: int) -> np.ndarray:
    """The random numbers of all draws, float32 (limit, batch): the same in every engine."""
    return np.random.default_rng(options.seed).random((limit, batch_size), dtype="float32")


def decode(
    step: Step,
    cache: Any,
    batch_size: int,
    options: GenerationOptions,
    config,
    draws: np.ndarray,
    reorder: Callable[[Any, np.ndarray], Any] | None = None,
    on_ids: Callable[[np.ndarray], None] | None = None,
) -> np.ndarray:
    """Generates token by token until every text has ended.

    Args:
        step: (ids int32 (rows,), position, cache) -> (logits float (rows, vocabulary_size),
            cache). rows is batch_size * options.beams.
        cache: what the first step takes; opaque here.
        draws: of `uniforms`.
        reorder: (cache, rows) -> the cache with row i taken from rows[i]; beam search needs it.
        on_ids: is given the new ids, int32 (batch,), after every step; not with beams.

    Returns: int32 (batch, limit): `end_id` closes a text, `padding_id` follows.
    """
    limit = new_limit(options, config)
    strategy = new_strategy(numpy_ops, options, limit, config)
    state = strategy.start(batch_size)
    unmoved = np.arange(batch_size * strategy.rows_per_text)
    for index in range(limit):
        if options.beams > 1 and not np.array_equal(state["rows"], unmoved):
            cache = reorder(cache, state["rows"])
        logits, cache = step(state["ids"], index, cache)
        state = strategy.advance(state, index, logits, draws[index])
        if on_ids is not None:
            on_ids(state["ids"])
        if state["finished"].all():
            break
    return strategy.result(state)
