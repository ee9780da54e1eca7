"""The pictures that a run leaves in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pandas

from tfx_transformer import pictures
from tfx_transformer.data.translation_pair import encode_source
from tfx_transformer.evaluation.mistakes import as_text
from tfx_transformer.generation.text import TextGenerator
from tfx_transformer.models.decoding import cross_attention
from tfx_transformer.models.states import self_attention, text_ids, token_bytes
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training.folder import RunFolder
from tfx_transformer.training.record import Summary

# Tokens of a text whose attention is drawn: so many have room for numbers.
_READABLE = 12


class RunPictures:
    """The pictures of one run.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def lengths(self, summary: Summary, max_length: int) -> None:
        """Draw lengths.png, how many texts have how many tokens; nothing of data without lengths.

        Args:
            summary: of the training data.
            max_length: of the model, a line in the picture.
        """
        panels, limit = summary.panels(max_length)
        if panels:
            pictures.length_histogram(self._folder.file("lengths.png"), panels, limit)

    def loss(self, metrics: pandas.DataFrame, best_epoch: int) -> None:
        """Draw loss.png, the curves of the losses and which epoch was the best."""
        picture = self._folder.file("loss.png")
        pictures.loss_curve(picture, metrics.to_dict("records"), best_epoch)

    def labels(self, probabilities: np.ndarray, truth: np.ndarray, names: Sequence[str]) -> None:
        """Draw confusion.png, which labels are taken for which, and calibration.png.

        Args:
            probabilities: float (examples, labels).
            truth: int (examples,), indices of the right labels.
            names: of the labels.
        """
        predicted = probabilities.argmax(axis=1)
        pictures.confusion_matrix(self._folder.file("confusion.png"), truth, predicted, names)
        pictures.calibration(self._folder.file("calibration.png"), probabilities, truth)

    def attention(self, model: keras.Model, generator: TextGenerator, sentence: str) -> None:
        """Draw attention.png: at which tokens of a sentence each written token looked.

        Args:
            model: a `Seq2SeqLM`.
            generator: of the model.
        """
        tokenizer = generator.tokenizer
        limit = model.config.max_sequence_length
        written = generator.generate(sentence, truncate=True)
        source_ids = encode_source(tokenizer, sentence, limit)
        target_ids = encode_source(tokenizer, written, limit)
        pictures.attention_map(
            self._folder.file("attention.png"),
            cross_attention(model, source_ids, target_ids),
            token_bytes(tokenizer, source_ids),
            token_bytes(tokenizer, target_ids),
            title=f"{sentence} → {written}",
        )

    def self_attention(
        self, model: keras.Model, tokenizer: Tokenizer, texts: Sequence[Any]
    ) -> None:
        """Draw attention.png: at which tokens each token of a text looks, the mean over layers and
        heads, of the text whose picture is the easiest to read.

        Args:
            model: an encoder-only model.
            texts: to choose from, each one or the texts of a row.
        """
        read = [text_ids(model, tokenizer, text) for text in texts]
        chosen = min(range(len(read)), key=lambda i: abs(len(read[i]) - _READABLE))
        tokens = token_bytes(tokenizer, read[chosen])
        weights = self_attention(model, read[chosen]).mean(axis=(0, 1))
        picture = self._folder.file("attention.png")
        pictures.self_attention_map(picture, weights, tokens, title=as_text(texts[chosen]))
