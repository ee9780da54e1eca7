"""The decode loop on the host: one step function, any engine behind it."""

from __future__ import annotations

import collections
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
    """Return the random numbers of all draws, float32 (limit, batch); zeros if nothing is drawn.

    They are the same in every engine. Those of a text depend neither on the limit nor on its
    neighbours.
    """
    if not options.temperature:
        return np.zeros((limit, batch_size), "float32")
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


class Rows(Protocol):
    """Rows of an engine; each holds a text that is being generated, with a row or several beams.

    Attributes:
        count: number of rows.
    """

    count: int

    def begin(self, row: int, ids: Sequence[int]) -> int:
        """Read a prompt into a row; return the id to decode first."""

    def end(self, row: int) -> None:
        """Free a row."""

    def room(self, ids: Sequence[int]) -> int:
        """Return the most tokens that can be written after a prompt."""

    def step(
        self, rows: Sequence[int], ids: np.ndarray, origins: np.ndarray | None = None
    ) -> np.ndarray:
        """Return float32 (rows * beams, vocabulary_size): logits after one more token.

        Args:
            rows: all rows that hold a text.
            ids: int32 (rows * beams,), the tokens.
            origins: int (rows, beams), the beam of the last step that each beam continues; None:
                itself.
        """


def decode_rows(
    rows: Rows,
    prompts: Sequence[Sequence[int]],
    limits: np.ndarray,
    options: GenerationOptions,
    config,
    draws: np.ndarray,
) -> np.ndarray:
    """Generate many texts in the rows of an engine; a text that ends leaves its row to the next.

    Args:
        rows: of the engine, all free.
        prompts: ids of each text.
        limits: int (texts,), most tokens to write of each text; with beams all are equal.
        options, config: see `decode`.
        draws: random numbers from `uniforms`, (most, texts); most is the largest limit.

    Returns: int32 (texts, most): what `decode` returns for each text alone.
    """
    written = np.full((len(prompts), len(draws)), config.padding_id, "int32")
    strategy = new_strategy(numpy_ops, options, len(draws), config)

    def begin(row: int, text: int) -> dict[str, Any]:
        first_id = rows.begin(row, prompts[text])
        return strategy.start(np.full(options.beams, first_id, "int32"))

    waiting = collections.deque(np.flatnonzero(limits > 0).tolist())
    places = list(range(min(rows.count, len(waiting))))
    texts = np.array([waiting.popleft() for _ in places], "int32")
    state = _join([begin(row, text) for row, text in zip(places, texts, strict=True)])
    steps = np.zeros(len(places), "int32")
    while places:
        origins = None
        if options.beams > 1:
            origins = state["rows"].reshape(len(places), -1) % options.beams
        logits = rows.step(places, state["ids"], origins)
        state = strategy.advance(state, steps[:, None], logits, draws[steps, texts])
        steps += 1
        ended = np.flatnonzero(state["finished"] | (steps == limits[texts]))
        if not len(ended):
            continue
        written[texts[ended]] = strategy.result(state)[ended]
        parts, kept = _apart(state, len(places)), []
        for index, row in enumerate(places):
            if index in ended:
                rows.end(row)
                if not waiting:
                    continue
                texts[index], steps[index] = waiting.popleft(), 0
                parts[index] = begin(row, texts[index])
            kept.append(index)
        places, texts, steps = [places[index] for index in kept], texts[kept], steps[kept]
        state = _join([parts[index] for index in kept])
    return written


def _apart(state: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Return the states of `count` texts, one for each."""
    parts = {name: np.split(value, count) for name, value in state.items()}
    return [{name: part[index] for name, part in parts.items()} for index in range(count)]


def _join(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the states of texts as one; see `_apart`."""
    names = states[0] if states else ()
    return {name: np.concatenate([state[name] for state in states]) for name in names}


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
