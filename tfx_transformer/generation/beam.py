"""Beam search with length normalization. Pure functions of arrays; `xp` is `keras.ops` or
`numpy_ops`."""

from __future__ import annotations

from typing import Any

from tfx_transformer.generation.options import GenerationOptions

_NEVER = -1e9


class BeamSearch:
    """The most probable text by length-normalized score, sought among `beams` hypotheses.

    score(text) = log p(text) / length(text)^length_penalty       Wu et al. (2016), section 7

    Each step extends the live hypotheses by every token and takes the 2 * beams best extensions.
    Those that end join the finished hypotheses, and the best `beams` of these stay; the best
    others live on. A text is done when no live hypothesis can still beat its best finished one.

    Args:
        xp: `keras.ops` or `numpy_ops`.
        options: see `GenerationOptions`.
        limit: most tokens to write; the length of the result.
        config: for the vocabulary size and the special ids.
    """

    def __init__(self, xp: Any, options: GenerationOptions, limit: int, config) -> None:
        self.xp, self.options, self.limit, self.config = xp, options, limit, config
        self.rows_per_text = options.beams

    def start(self, first_ids) -> dict[str, Any]:
        """Return the state before the first token: `ids` (batch * beams,) are the ids that the
        decoder reads next, `rows` (batch * beams,) the earlier row that each row continues."""
        xp, beams = self.xp, self.options.beams
        batch_size = xp.shape(first_ids)[0] // beams
        # All beams begin alike: only the first may be extended, else they would stay alike.
        first = xp.cast(xp.arange(beams) == 0, "float32")
        scores = xp.where(first > 0, 0.0, xp.full((batch_size, beams), _NEVER, dtype="float32"))
        tokens = xp.full((batch_size, beams, self.limit), self.config.padding_id, dtype="int32")
        return {
            "ids": first_ids,
            "rows": xp.arange(batch_size * beams),
            "tokens": tokens,
            "scores": scores,
            "done_tokens": tokens,
            "done_scores": xp.full((batch_size, beams), _NEVER, dtype="float32"),
            "finished": xp.zeros((batch_size,), "bool"),
        }

    def advance(self, state, index, logits, uniform=None):
        """Return the state after one more token.

        Args:
            index: int, or int (batch, 1); number of tokens before it.
            logits: float (batch * beams, vocabulary_size).
            uniform: not used.
        """
        xp, beams, config = self.xp, self.options.beams, self.config
        vocabulary_size = config.vocabulary_size
        batch = xp.shape(state["scores"])[0]
        steps = xp.reshape(xp.log_softmax(logits, axis=-1), (batch, beams, vocabulary_size))
        candidates = xp.reshape(
            xp.expand_dims(state["scores"], -1) + steps, (batch, beams * vocabulary_size)
        )
        scores, flat = xp.top_k(candidates, 2 * beams)
        flat = xp.cast(flat, "int32")
        origin, ids = flat // vocabulary_size, flat % vocabulary_size

        tokens = xp.take_along_axis(state["tokens"], xp.expand_dims(origin, -1), axis=1)
        here = xp.expand_dims(xp.arange(self.limit) == xp.reshape(index, (-1, 1)), 1)
        tokens = xp.where(here, xp.expand_dims(ids, -1), tokens)
        ends = ids == config.end_id

        # Finished: the old ones and the candidates that end here, best first.
        normalized = xp.where(ends, scores / self._length(index + 1), _NEVER)
        pool_scores = xp.concatenate([state["done_scores"], normalized], axis=1)
        pool_tokens = xp.concatenate([state["done_tokens"], tokens], axis=1)
        done_scores, best = xp.top_k(pool_scores, beams)
        done_tokens = xp.take_along_axis(pool_tokens, xp.expand_dims(best, -1), axis=1)

        # Live: the best candidates that do not end. Of 2 * beams at least `beams` do not.
        alive, best = xp.top_k(xp.where(ends, _NEVER, scores), beams)
        best = xp.cast(best, "int32")
        origin = xp.take_along_axis(origin, best, axis=1)
        rows = origin + beams * xp.expand_dims(xp.arange(batch, dtype="int32"), -1)
        # The best a live hypothesis can still reach: no further loss, and the longest text.
        hope = xp.max(alive, axis=1) / self._length(self.limit)
        finished = xp.logical_or(state["finished"], hope <= done_scores[:, 0])
        # Finished texts no longer change, so that a text does not depend on its neighbours.
        still = xp.expand_dims(state["finished"], -1)
        return {
            "ids": xp.reshape(xp.take_along_axis(ids, best, axis=1), (-1,)),
            "rows": xp.reshape(rows, (-1,)),
            "tokens": xp.take_along_axis(tokens, xp.expand_dims(best, -1), axis=1),
            "scores": alive,
            "done_tokens": xp.where(xp.expand_dims(still, -1), state["done_tokens"], done_tokens),
            "done_scores": xp.where(still, state["done_scores"], done_scores),
            "finished": finished,
        }

    def result(self, state):
        """Return the ids of each text's best hypothesis, int32 (batch, limit): the best finished
        one, or, if none is finished, the best that reached the limit."""
        xp = self.xp
        any_done = xp.expand_dims(state["done_scores"][:, 0] > _NEVER / 2, -1)
        return xp.where(any_done, state["done_tokens"][:, 0], state["tokens"][:, 0])

    def _length(self, length):
        return self.xp.cast(length, "float32") ** self.options.length_penalty
