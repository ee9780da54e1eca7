"""Strings in, strings out, over any engine that turns ids into ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.text.tokenizer import Tokenizer


class Engine(Protocol):
    """Runs a model: Keras, LiteRT or a SavedModel."""

    def generate_ids(
        self,
        source_ids: Sequence[Sequence[int]],
        options: GenerationOptions,
        on_ids: Callable[[np.ndarray], None] | None = None,
    ) -> np.ndarray:
        """int32 (batch, limit): `end_id` closes a text, `padding_id` follows."""


class TextGenerator:
    """Generates texts from texts with a tokenizer and an engine.

    Args:
        engine: runs the model.
        tokenizer: of the model.
        max_source_tokens: longer texts are refused unless they may be truncated.
        batch_size: most texts that run together; texts of similar length do.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        max_source_tokens: int,
        batch_size: int = 64,
    ) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.max_source_tokens = max_source_tokens
        self.batch_size = batch_size

    def generate(
        self,
        texts: str | Sequence[str],
        *,
        stream: Callable[[str], None] | None = None,
        truncate: bool = False,
        **options,
    ) -> str | list[str]:
        """The text written for a text, or the list of those for a list.

        Args:
            texts: one text or several.
            stream: is given each piece of text as soon as it is certain; for one text, without
                beams.
            truncate: cut texts that have more tokens than the model reads.
            options: fields of `GenerationOptions`.

        Raises:
            InputError: a text is too long and may not be cut, or an option is out of range.
        """
        single = isinstance(texts, str)
        texts = [texts] if single else list(texts)
        choices = GenerationOptions(**options)
        if stream is not None and (len(texts) != 1 or choices.beams > 1):
            raise InputError(
                "streaming needs one text and no beams.\n"
                "  Beam search may still change its mind about every token."
            )
        source_ids = [self._encode(text, truncate) for text in texts]
        pieces = None if stream is None else _Pieces(self.tokenizer, stream)
        results = [""] * len(texts)
        by_length = sorted(range(len(texts)), key=lambda i: len(source_ids[i]))
        for start in range(0, len(texts), self.batch_size):
            batch = by_length[start : start + self.batch_size]
            rows = self.engine.generate_ids([source_ids[i] for i in batch], choices, pieces)
            for i, row in zip(batch, rows, strict=True):
                results[i] = self.tokenizer.decode(_until_end(row, self.tokenizer.end_id))
        if pieces is not None:
            pieces.flush()
        return results[0] if single else results

    def _encode(self, text: str, truncate: bool) -> list[int]:
        ids = self.tokenizer.encode(text)
        if len(ids) >= self.max_source_tokens and not truncate:
            raise InputError(
                f"the text {text[:40]!r}… has {len(ids)} tokens; the model reads "
                f"{self.max_source_tokens - 1}.\n  Split it into sentences."
            )
        return [*ids[: self.max_source_tokens - 1], self.tokenizer.end_id]


class _Pieces:
    """Turns ids into pieces of text, holding bytes back until they complete a character."""

    def __init__(self, tokenizer: Tokenizer, stream: Callable[[str], None]) -> None:
        import codecs

        self.tokenizer, self.stream = tokenizer, stream
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def __call__(self, ids: np.ndarray) -> None:
        piece = self.decoder.decode(self.tokenizer.decode_bytes(ids[:1]))
        if piece:
            self.stream(piece)

    def flush(self) -> None:
        piece = self.decoder.decode(b"", final=True)
        if piece:
            self.stream(piece)


def _until_end(ids: np.ndarray, end_id: int) -> list[int]:
    ids = ids.tolist()
    return ids[: ids.index(end_id)] if end_id in ids else ids
