"""The decode loop on the host: one step function, any engine behind it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from tfx_transformer.generation import numpy_ops
from tfx_transformer.generation.beam import BeamSearch
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.generation.sampling import Sampler

Step = Callable[[np.ndarray, int, Any], tuple[np.ndarray, Any]]
# A watcher of a generation, see `decode`. If it has a method `choose`, that returns the state after
# each token. Its arguments: the logits, float (batch, vocabulary_size); the number of tokens that
# may still be written; and a function from logits to the state after a choice by them.
OnIds = Callable[[np.ndarray], bool | None]


def new_strategy(xp: Any, options: GenerationOptions, limit: int, config):
    """`BeamSearch` for several beams, else `Sampler`."""
    return (BeamSearch if options.beams > 1 else Sampler)(xp, options, limit, config)


def new_limit(options: GenerationOptions, room: int) -> int:
    """Return the most tokens to write: `max_new_tokens`, but not more than the model's `room`."""
    return min(options.max_new_tokens or room, room)


def uniforms(options: GenerationOptions, limit: int, batch_size: int) -> np.ndarray:
    """Return the random numbers of all draws, float32 (limit, batch): the same in every engine, and
    for each text the same whatever the limit and its neighbours."""
    seeds = ([options.seed, index] for index in range(batch_size))
    columns = [np.random.default_rng(seed).random(limit, dtype="float32") for seed in seeds]
    return np.stack(columns, axis=1)


def decode(
    step: Step,
    cache: Any,
    first_ids: np.ndarray,
    options: GenerationOptions,
    config,
    draws: np.ndarray,
    reorder: Callable[[Any, np.ndarray], Any] | None = None,
    on_ids: OnIds | None = None,
) -> np.ndarray:
    """Generate token by token until every text has ended.

    Args:
        step: (ids int32 (rows,), index, cache) -> (logits float (rows, vocabulary_size), cache);
            index counts the steps. rows is batch * options.beams.
        cache: the cache for the first step; opaque here.
        first_ids: int32 (rows,), the ids that the first step decodes.
        draws: random numbers from `uniforms`, (limit, batch): at most `limit` tokens are written.
        reorder: (cache, rows) -> the cache with row i taken from rows[i]; beam search needs it.
        on_ids: called with the new ids, int32 (batch,), after every step; not with beams. If it
            returns True, the generation ends.

    Returns: int32 (batch, limit): `end_id` closes a text, `padding_id` follows.
    """
    limit = len(draws)
    strategy = new_strategy(numpy_ops, options, limit, config)
    state = strategy.start(first_ids)
    unmoved = np.arange(len(first_ids))
    choose = getattr(on_ids, "choose", None)
    for index in range(limit):
        if options.beams > 1 and not np.array_equal(state["rows"], unmoved):
            cache = reorder(cache, state["rows"])
        logits, cache = step(state["ids"], index, cache)
        advance = functools.partial(_advance, strategy, state, index, draws[index])
        state = advance(logits) if choose is None else choose(logits, limit - index, advance)
        if on_ids is not None and on_ids(state["ids"]):
            break
        if state["finished"].all():
            break
    return strategy.result(state)


def _advance(strategy, state, index, draw, logits):
    return strategy.advance(state, index, logits, draw)


class Session(Protocol):
    """The key/value cache of a causal model, for one row; each engine has its own kind."""

    def extend(self, ids: Sequence[int], position: int) -> None:
        """Writes tokens into the cache at slots position, position + 1, …"""

    def step(self, ids: np.ndarray, position: int) -> np.ndarray:
        """float32 (1, vocabulary_size) logits after ids int32 (1,), which are at `position`."""


def complete(
    session: Session,
    ids: Sequence[int],
    position: int,
    options: GenerationOptions,
    config,
    draws: np.ndarray,
    on_ids: OnIds | None = None,
) -> np.ndarray:
    """Continues the text in a session's cache.

    Args:
        ids: one or more tokens that are not in the cache yet.
        position: number of tokens in the cache.
        draws: random numbers from `uniforms`, (limit, 1).

    Returns: int32 (limit,), as `decode`. All but the last written token are in the cache then.
    """
    *before, last = ids
    if before:
        session.extend(before, position)
    start = position + len(before)

    def step(ids, index, cache):
        return session.step(ids, start + index), cache

    first_ids = np.array([last], "int32")
    return decode(step, None, first_ids, options, config, draws, on_ids=on_ids)[0]
