"""The pictures that a run leaves in its folder."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas

from tfx_transformer import pictures
from tfx_transformer.data.translation_pair import encode_source
from tfx_transformer.errors import InputError
from tfx_transformer.evaluation.mistakes import as_text
from tfx_transformer.generation.text import TextGenerator
from tfx_transformer.images import read_image
from tfx_transformer.models.decoding import cross_attention
from tfx_transformer.models.states import self_attention, text_ids, token_bytes
from tfx_transformer.pictures.texts import say
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training.folder import RunFolder
from tfx_transformer.training.record import Summary

# The attention of a text with about so many tokens is drawn: there is room for numbers.
_READABLE = 12
# Images on the sheet of mistakes.
_IMAGES = 24


class RunPictures:
    """The pictures of one run.

    Args:
        folder: folder of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._caption = folder.path.name

    def lengths(self, summary: Summary, max_length: int) -> None:
        """Draw lengths.png, a histogram of token counts; nothing for data without lengths.

        Args:
            summary: summary of the training data.
            max_length: maximum length of the model, a line in the picture.
        """
        self._caption = f"{self._folder.path.name} · {Path(summary.path).name}"
        panels, limit = summary.panels(max_length)
        if panels:
            picture = self._folder.file("lengths.png")
            pictures.length_histogram(picture, panels, limit, caption=self._caption)

    def loss(self, metrics: pandas.DataFrame, best_epoch: int) -> None:
        """Draw loss.png, the loss curves and the best epoch."""
        picture = self._folder.file("loss.png")
        epochs = metrics.to_dict("records")
        pictures.loss_curve(picture, epochs, best_epoch, caption=self._caption)

    def labels(self, probabilities: np.ndarray, truth: np.ndarray, names: Sequence[str]) -> None:
        """Draw confusion.png, the confusion matrix, and calibration.png.

        Args:
            probabilities: float (examples, labels).
            truth: int (examples,), indices of the right labels.
            names: names of the labels.
        """
        predicted = probabilities.argmax(axis=1)
        caption = {"caption": self._caption}
        confusion = self._folder.file("confusion.png")
        pictures.confusion_matrix(confusion, truth, predicted, names, **caption)
        calibration = self._folder.file("calibration.png")
        pictures.calibration(calibration, probabilities, truth, **caption)

    def mistakes(self, mistakes: Sequence[Mapping[str, Any]]) -> None:
        """Draw mistakes.png, the images of the most confident mistakes with their predicted and
        right labels; nothing without mistakes.

        Args:
            mistakes: see `evaluation.most_confident_mistakes`; their inputs are image files.
        """
        images, captions = [], []
        for mistake in mistakes[:_IMAGES]:
            with contextlib.suppress(InputError):  # the file was removed since
                images.append(read_image(mistake["input"]))
                sure = f"{100 * mistake['probability']:.0f} %"
                label = say("label: {label}", label=mistake["label"])
                captions.append(f"{mistake['predicted']} {sure}\n{label}")
        if images:
            picture = self._folder.file("mistakes.png")
            title = say("Most confident mistakes")
            pictures.contact_sheet(picture, images, captions, title, caption=self._caption)

    def attention(self, model: keras.Model, generator: TextGenerator, sentence: str) -> None:
        """Draw attention.png: the attention of each written token to the tokens of a sentence.

        Args:
            model: a `Seq2SeqLM`.
            generator: generator of the model.
            sentence: what the generator reads.
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
            caption=self._caption,
        )

    def self_attention(
        self, model: keras.Model, tokenizer: Tokenizer, texts: Sequence[Any]
    ) -> None:
        """Draw attention.png: the attention between the tokens of a text, the mean over layers and
        heads. The text is the one whose picture is the easiest to read.

        Args:
            model: an encoder-only model.
            tokenizer: its tokenizer.
            texts: the texts to choose from, each a text or the texts of a row.
        """
        read = [text_ids(model, tokenizer, text) for text in texts]
        best = min(range(len(read)), key=lambda i: abs(len(read[i]) - _READABLE))
        tokens = token_bytes(tokenizer, read[best])
        weights = self_attention(model, read[best]).mean(axis=(0, 1))
        picture = self._folder.file("attention.png")
        labels = {"title": as_text(texts[best]), "caption": self._caption}
        pictures.self_attention_map(picture, weights, tokens, **labels)
