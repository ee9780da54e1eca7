"""Predictions of encoder-only Keras models for texts and images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np

from tfx_transformer.models.decoding import compile_function, pad_source
from tfx_transformer.models.encoders import EncoderModel
from tfx_transformer.prediction.classification import Labels
from tfx_transformer.prediction.image import ImageClassifier
from tfx_transformer.prediction.tagging import TextTagger
from tfx_transformer.prediction.tags import Tags
from tfx_transformer.prediction.text import TextClassifier, TextEmbedder, TextRegressor
from tfx_transformer.text.tokenizer import Tokenizer


class EncoderEngine:
    """Runs a Keras model as one graph for every shape: `predict` costs 40 to 60 ms a call.

    Args:
        model: a `Classifier`, `Regressor`, `Embedder` or `Tagger`.
    """

    def __init__(self, model: EncoderModel) -> None:
        self.model = model
        name = "images" if model.config.image_size else "token_ids"
        kinds = [("float32", 4)] if model.config.image_size else [("int32", 2)]
        self._call = lambda batch: model({name: batch}, training=False)
        self._run = compile_function(self._call, kinds)
        self._features = compile_function(
            lambda batch: model.features({name: batch}, training=False), kinds
        )

    def begin_eagerly(self) -> None:
        """Run the first batch operation by operation, as there may be no second one: tracing the
        graph takes about ten times as long. Results are equal up to rounding."""
        compiled = self._run

        def run_first(batch: np.ndarray) -> Any:
            self._run = compiled
            return self._call(batch)

        self._run: Callable[[np.ndarray], Any] = run_first

    def run_ids(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """See `prediction.text.TextEngine`."""
        return np.asarray(self._run(pad_source(rows, self.model.config.padding_id)), "float32")

    def run_images(self, images: np.ndarray) -> np.ndarray:
        """See `prediction.image.ImageEngine`."""
        return np.asarray(self._run(images), "float32")

    def run_features(self, images: np.ndarray) -> np.ndarray:
        """See `prediction.image.ImageEngine`."""
        return np.asarray(self._features(images), "float32")


# Only arguments tell these apart: Keras has no types, so every model passes for every other.
@overload
def predictor(
    model: EncoderModel, tokenizer: Tokenizer, labels: Sequence[str]
) -> TextClassifier: ...


@overload
def predictor(
    model: EncoderModel, tokenizer: None = None, *, labels: Sequence[str]
) -> ImageClassifier: ...


@overload
def predictor(model: EncoderModel, tokenizer: Tokenizer, *, tags: Sequence[str]) -> TextTagger: ...


@overload
def predictor(
    model: EncoderModel,
    tokenizer: Tokenizer | None = None,
    labels: Sequence[str] = (),
    tags: Sequence[str] = (),
) -> Any: ...


def predictor(
    model: EncoderModel,
    tokenizer: Tokenizer | None = None,
    labels: Sequence[str] = (),
    tags: Sequence[str] = (),
) -> TextClassifier | ImageClassifier | TextRegressor | TextEmbedder | TextTagger:
    """Return the predictor of a Keras model.

    Args:
        model: a `Classifier`, `Regressor`, `Embedder` or `Tagger`.
        tokenizer: tokenizer of the model, if it reads text.
        labels: names of the classes of a `Classifier`.
        tags: names of the tags of a `Tagger`; `labels` may give them too.
    """
    engine, config = EncoderEngine(model), model.config
    if model.makes_vectors:
        return TextEmbedder(engine, tokenizer, config)
    if not model.pools:
        return TextTagger(engine, tokenizer, Tags(tags or labels), config.max_sequence_length)
    if model.gives_number:
        return TextRegressor(engine, tokenizer, config.max_sequence_length)
    names = Labels(labels, config.multi_label)
    if config.image_size:
        return ImageClassifier(engine, names, config)
    return TextClassifier(engine, tokenizer, names, config.max_sequence_length)
