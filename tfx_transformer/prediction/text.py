"""Models of texts on any engine: classifiers, regressors and embedders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, overload

import numpy as np

from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.prediction.answers import TablePredictor
from tfx_transformer.prediction.classification import Classification, Labels
from tfx_transformer.renamed import old_method
from tfx_transformer.reprs import quantity
from tfx_transformer.text.framing import frame
from tfx_transformer.text.tokenizer import Tokenizer

# A text, or the texts of several columns of a row.
Text = str | Sequence[str]


class TextEngine(Protocol):
    """Runs an encoder-only model on token ids: Keras or LiteRT."""

    def run_ids(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Return float32 (rows, width), logits or vectors, of rows of about the same length."""


class _TextReader(TablePredictor):
    """The base of models that read texts; texts of similar length run together.

    Args:
        engine: runs the model.
        tokenizer: of the model.
        max_length: most tokens that the model reads; longer texts are cut.
        batch_size: most texts that run together.
    """

    def __init__(
        self, engine: TextEngine, tokenizer: Tokenizer, max_length: int, batch_size: int = 32
    ) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.batch_size = batch_size

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}: {type(self.engine).__name__}, texts of up to "
            f"{quantity(self.max_length, 'token')}\n  {self.tokenizer!r}"
        )

    def rows(self, texts: Sequence[Text]) -> list[list[int]]:
        """Return the ids that the model reads for each text."""
        return [frame(self.tokenizer, text, self.max_length) for text in texts]

    def run_rows(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Return the outputs of the engine for ids from `rows`, float32 (rows, width)."""
        if len(rows) == 1:
            return self.engine.run_ids(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        results = np.concatenate([self.engine.run_ids([rows[i] for i in b]) for b in batches])
        ordered = np.empty_like(results)
        ordered[order] = results
        return ordered

    def _run(self, texts: Sequence[Text]) -> np.ndarray:
        if not len(texts):
            raise InputError("there are no texts.\n  Give one or more.")
        return self.run_rows(self.rows(texts))


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

    def __repr__(self) -> str:
        return f"{super().__repr__()}\n  {self.labels!r}"

    def probabilities(self, texts: Sequence[Text]) -> np.ndarray:
        """Return the probabilities of texts, float32 (texts, classes)."""
        return self.labels.probabilities(self._run(texts))

    @overload
    def classify(self, texts: str) -> Classification: ...

    @overload
    def classify(self, texts: Sequence[Text]) -> list[Classification]: ...

    def classify(self, texts: str | Sequence[Text]) -> Classification | list[Classification]:
        """Return the classification of a text, or a list of classifications for a list. For a model
        of several columns, each item of the list is the sequence of a row's texts."""
        found = self.labels.classifications(
            self.probabilities([texts] if isinstance(texts, str) else texts)
        )
        return found[0] if isinstance(texts, str) else found


class TextRegressor(_TextReader):
    """Predicts a number for a text, in the unit of the data, with a tokenizer and an engine;
    arguments as for `_TextReader`."""

    task = "regression"

    @overload
    def predict(self, texts: str) -> float: ...

    @overload
    def predict(self, texts: Sequence[Text]) -> np.ndarray: ...

    def predict(self, texts: str | Sequence[Text]) -> float | np.ndarray:
        """Return the number of a text, or float32 (texts,) for a list. For a model of several
        columns, each item of the list is the sequence of a row's texts."""
        numbers = self._run([texts] if isinstance(texts, str) else texts)[:, 0]
        return float(numbers[0]) if isinstance(texts, str) else numbers


class TextEmbedder(_TextReader):
    """Embeds texts with a tokenizer and an engine.

    Args:
        engine, tokenizer, batch_size: see `_TextReader`.
        config: of the model.
    """

    task = "embedding"

    def __init__(self, engine, tokenizer, config: TransformerConfig, batch_size=32) -> None:
        super().__init__(engine, tokenizer, config.max_sequence_length, batch_size)
        self.config = config

    def embed(
        self, texts: str | Sequence[Text], prompt: str | None = None, width: int | None = None
    ) -> np.ndarray:
        """Return the vector of a text, float32 (width,), or (texts, width) for a list; vectors have
        norm 1 if the model normalizes them.

        Args:
            prompt: name of a prompt of the model, such as "query", which is put before each text;
                None: the model's default prompt, if it has one.
            width: see `cut`.

        Raises:
            InputError: the model has no prompt of this name, or was not trained for this width.
        """
        self.check_width(width)
        rows = self.add_prompts([texts] if isinstance(texts, str) else texts, prompt)
        vectors = self.cut(self._run(rows), width)
        return vectors[0] if isinstance(texts, str) else vectors

    def check_width(self, width: int | None) -> None:
        """Raise if the model was not trained for a width; see `cut`.

        Raises:
            InputError: it was not.
        """
        widths = (*self.config.widths, self.config.vector_dim)
        if width is not None and width not in widths:
            raise InputError(
                f"the width is {width}; vectors of this model have {', '.join(map(str, widths))} "
                "numbers.\n  Train for others: tfx-transformer run embedding --widths 64,128"
            )

    def cut(self, vectors: np.ndarray, width: int | None) -> np.ndarray:
        """Return the first numbers of vectors, float32 (texts, width), of norm 1.

        Args:
            vectors: float32 (texts, whole width).
            width: one of `config.widths`; None, or the whole width: the vectors as they are.
        """
        if width is None or width == vectors.shape[1]:
            return vectors
        vectors = vectors[:, :width]
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(lengths > 0, lengths, 1)

    def add_prompts(self, texts: Sequence[Text], prompt: str | None = None) -> list[Text]:
        """Return each text with the prompt before it; arguments as for `embed`."""
        start = self.config.prompt(prompt)
        if not start:
            return list(texts)
        return [start + t if isinstance(t, str) else (start + t[0], *t[1:]) for t in texts]

    prompted = old_method("TextEmbedder.prompted", "add_prompts")
