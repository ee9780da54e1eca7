"""The tagger of texts, which marks spans such as names, places and dates, on any engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, overload

import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.prediction.answers import TablePredictor
from tfx_transformer.prediction.tags import Entity, Tags
from tfx_transformer.prediction.text import TextEngine
from tfx_transformer.reprs import quantity
from tfx_transformer.text.offsets import Offsets
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.text.windows import Window, windows


class TaggedTokens(NamedTuple):
    """The tokens of a text with their logits.

    offsets: of each token, see `Tokenizer.encode_with_offsets`; logits: float32 (tokens, tags).
    """

    offsets: Offsets
    logits: np.ndarray


class TextTagger(TablePredictor):
    """Marks spans in texts, with a tokenizer and an engine.

    A text longer than `max_length` is read in overlapping windows, so that every token is read with
    its context.

    Args:
        engine: runs the model; its `run_ids` returns float32 (rows, length, tags).
        tokenizer: of the model.
        tags: of the model.
        max_length: most tokens that the model reads at once.
        batch_size: most windows that run together.
    """

    task = "tagging"

    def __init__(
        self,
        engine: TextEngine,
        tokenizer: Tokenizer,
        tags: Tags,
        max_length: int,
        batch_size: int = 32,
    ) -> None:
        self.engine, self.tokenizer, self.tags = engine, tokenizer, tags
        self.max_length, self.batch_size = max_length, batch_size

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}: {type(self.engine).__name__}, windows of "
            f"{quantity(self.max_length, 'token')}\n  {self.tokenizer!r}\n  {self.tags!r}"
        )

    @overload
    def tag(self, texts: str) -> list[Entity]: ...

    @overload
    def tag(self, texts: Sequence[str]) -> list[list[Entity]]: ...

    def tag(self, texts: str | Sequence[str]) -> list[Entity] | list[list[Entity]]:
        """Return the spans of a text in their order, or a list of such lists for a list.

        Raises:
            InputError: the list is empty.
        """
        given = [texts] if isinstance(texts, str) else texts
        found = [
            self.tags.entities(text, tokens.offsets, tokens.logits)
            for text, tokens in zip(given, self.tokens(given), strict=True)
        ]
        return found[0] if isinstance(texts, str) else found

    def tokens(self, texts: Sequence[str]) -> list[TaggedTokens]:
        """Return the tokens of each text with their logits.

        Raises:
            InputError: there are no texts.
        """
        if not len(texts):
            raise InputError("there are no texts.\n  Give one or more.")
        encoded = [self.tokenizer.encode_with_offsets(text) for text in texts]
        rows = [
            (index, window)
            for index, (ids, _) in enumerate(encoded)
            for window in windows(len(ids), room_for(self.tokenizer, self.max_length))
        ]
        logits = [np.zeros((len(ids), len(self.tags.names)), "float32") for ids, _ in encoded]
        order = sorted(rows, key=lambda row: row[1].end - row[1].start)
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            framed = [frame_window(self.tokenizer, encoded[i][0], window) for i, window in batch]
            for (index, window), output in zip(batch, self.engine.run_ids(framed), strict=True):
                first = len(self.tokenizer.frame.before) - window.start
                kept = slice(window.kept_start, window.kept_end)
                logits[index][kept] = output[first + kept.start : first + kept.stop]
        offsets = (offsets for _, offsets in encoded)
        return [TaggedTokens(*pair) for pair in zip(offsets, logits, strict=True)]


def room_for(tokenizer: Tokenizer, max_length: int) -> int:
    """Return the number of a text's tokens that a model reads at once, without the frame's tokens.

    Raises:
        InputError: there is no room for a token.
    """
    room = max_length - tokenizer.frame.size(1)
    if room < 1:
        raise InputError(
            f"max_length is {max_length}.\n"
            f"  Expected {tokenizer.frame.size(1) + 1} or more: a token, and those around a text."
        )
    return room


def frame_window(tokenizer: Tokenizer, ids: Sequence[int], window: Window) -> list[int]:
    """Return the ids that a model reads for a window, framed as `text.framing` frames a text."""
    around = tokenizer.frame
    framed = [*around.before, *ids[window.start : window.end], *around.after]
    return framed or [tokenizer.end_id]
