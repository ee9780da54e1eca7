"""Choosing the next token from logits: greedy or drawn. Pure functions of arrays; `xp` is
`keras.ops` or `numpy_ops`."""

from __future__ import annotations

from typing import Any

from tfx_transformer.generation.options import GenerationOptions

# Logits of tokens that may not be chosen.
_NEVER = -1e9


def penalize_repetition(xp, logits, seen, penalty):
    """Return logits, smaller for seen tokens: l / penalty if l > 0, else l * penalty.

    Keskar et al. (2019), 4.1. logits: float (batch, vocabulary_size); seen: bool, the same shape.
    """
    return xp.where(seen, xp.where(logits > 0, logits / penalty, logits * penalty), logits)


def keep_top_k(xp, logits, k: int):
    """Return logits that make all but the k largest of each row impossible (Fan et al. 2018)."""
    smallest = xp.top_k(logits, k)[0][..., -1:]
    return xp.where(logits < smallest, _NEVER, logits)


def keep_top_p(xp, logits, p):
    """Return logits that make all but the nucleus of each row impossible (Holtzman et al. 2020).

    The nucleus is the smallest set of most probable tokens whose probabilities reach p, with every
    token that is as probable as the last of these.
    """
    probabilities = xp.softmax(logits, axis=-1)
    ascending = xp.sort(probabilities, axis=-1)
    # A token belongs if it and all less probable ones together exceed 1 - p; the first always.
    inside = xp.cumsum(ascending, axis=-1) > 1 - p
    last = xp.min(xp.where(inside, ascending, ascending[..., -1:]), axis=-1, keepdims=True)
    return xp.where(probabilities < last, _NEVER, logits)


def draw(xp, logits, uniform):
    """Return the token at which the cumulative distribution passes `uniform`.

    Args:
        logits: float (batch, vocabulary_size).
        uniform: float (batch,), from [0, 1).

    Returns: int32 (batch,).
    """
    cumulative = xp.cumsum(xp.softmax(logits, axis=-1), axis=-1)
    passed = cumulative <= xp.expand_dims(uniform, -1) * cumulative[..., -1:]
    last = logits.shape[-1] - 1
    return xp.minimum(xp.sum(xp.cast(passed, "int32"), axis=-1), last)


class Sampler:
    """Greedy decoding and sampling as a state that each step's logits advance.

    Args:
        xp: `keras.ops` or `numpy_ops`.
        options: see `GenerationOptions`.
        limit: most tokens to write; the length of the result.
        config: for the vocabulary size and the special ids.
    """

    def __init__(self, xp: Any, options: GenerationOptions, limit: int, config) -> None:
        self.xp, self.options, self.limit, self.config = xp, options, limit, config
        self.rows_per_text = 1

    def start(self, first_ids) -> dict[str, Any]:
        """Return the state before the first token; the decoder reads its `ids`, int32 (batch,),
        next."""
        xp, config = self.xp, self.config
        batch_size = xp.shape(first_ids)[0]
        state = {
            "ids": first_ids,
            "tokens": xp.full((batch_size, self.limit), config.padding_id, dtype="int32"),
            "finished": xp.zeros((batch_size,), "bool"),
        }
        if self.options.repetition_penalty != 1:
            state["seen"] = xp.zeros((batch_size, config.vocabulary_size), "bool")
        return state

    def advance(self, state, index, logits, uniform):
        """Return the state after one more token.

        Args:
            index: int, or int (batch, 1); number of tokens before it.
            logits: float (batch, vocabulary_size).
            uniform: float (batch,), from [0, 1); not used by greedy decoding.
        """
        xp, options, config = self.xp, self.options, self.config
        if "seen" in state:
            logits = penalize_repetition(xp, logits, state["seen"], options.repetition_penalty)
        if options.temperature:
            logits = logits / options.temperature
            if 0 < options.top_k < config.vocabulary_size:
                logits = keep_top_k(xp, logits, options.top_k)
            if options.top_p < 1:
                logits = keep_top_p(xp, logits, options.top_p)
            ids = draw(xp, logits, uniform)
        else:
            ids = xp.argmax(logits, axis=-1)
        ids = xp.where(state["finished"], config.padding_id, xp.cast(ids, "int32"))
        here = xp.arange(self.limit) == index
        after = {
            "ids": ids,
            "tokens": xp.where(here, xp.expand_dims(ids, -1), state["tokens"]),
            "finished": xp.logical_or(state["finished"], ids == config.end_id),
        }
        if "seen" in state:
            new = xp.arange(config.vocabulary_size) == xp.expand_dims(ids, -1)
            after["seen"] = xp.logical_or(state["seen"], new)
        return after

    def result(self, state):
        """The written ids, int32 (batch, limit): `end_id` closes a text, `padding_id` follows."""
        return state["tokens"]
