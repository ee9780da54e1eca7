"""Texts to labels, and texts to vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, overload

import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.prediction.classification import Classification, Labels
from tfx_transformer.text.framing import frame
from tfx_transformer.text.tokenizer import Tokenizer

# A text, or the texts of several columns of a row.
Text = str | Sequence[str]


class TextEngine(Protocol):
    """Runs an encoder-only model on token ids: Keras or LiteRT."""

    def run_ids(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """float32 (rows, width): logits, or vectors; rows of about the same length."""


class _TextReader:
    """Texts to what the engine makes of them, those of similar length together.

    Args:
        engine: runs the model.
        tokenizer: of the model.
        max_length: most tokens it reads; what goes beyond is cut.
        batch_size: most texts that run together.
    """

    def __init__(
        self, engine: TextEngine, tokenizer: Tokenizer, max_length: int, batch_size: int = 32
    ) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.batch_size = batch_size

    def _run(self, texts: Sequence[Text]) -> np.ndarray:
        if not len(texts):
            raise InputError("there are no texts.\n  Give one or more.")
        rows = [frame(self.tokenizer, text, self.max_length) for text in texts]
        if len(rows) == 1:
            return self.engine.run_ids(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        results = np.concatenate([self.engine.run_ids([rows[i] for i in b]) for b in batches])
        ordered = np.empty_like(results)
        ordered[order] = results
        return ordered


class TextClassifier(_TextReader):
    """Classifies texts with a tokenizer and an engine.

    Args:
        labels: names of the classes.
        engine, tokenizer, max_length, batch_size: see `_TextReader`.
    """

    def __init__(
        self,
        engine: TextEngine,
        tokenizer: Tokenizer,
        labels: Labels,
        max_length: int,
        batch_size: int = 32,
    ) -> None:
        super().__init__(engine, tokenizer, max_length, batch_size)
        self.labels = labels

    def probabilities(self, texts: Sequence[Text]) -> np.ndarray:
        """float32 (texts, classes)."""
        return self.labels.probabilities(self._run(texts))

    @overload
    def classify(self, texts: str) -> Classification: ...

    @overload
    def classify(self, texts: Sequence[Text]) -> list[Classification]: ...

    def classify(self, texts: str | Sequence[Text]) -> Classification | list[Classification]:
        """What a text is, or a list of that for a list. Of rows with several columns each text is
        the sequence of them."""
        found = self.labels.classifications(
            self.probabilities([texts] if isinstance(texts, str) else texts)
        )
        return found[0] if isinstance(texts, str) else found


class TextEmbedder(_TextReader):
    """Embeds texts with a tokenizer and an engine; arguments as of `_TextReader`."""

    def embed(self, texts: str | Sequence[Text]) -> np.ndarray:
        """float32 (hidden_dim,), of length 1, or (texts, hidden_dim) for a list."""
        vectors = self._run([texts] if isinstance(texts, str) else texts)
        return vectors[0] if isinstance(texts, str) else vectors
