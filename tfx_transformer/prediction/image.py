"""The classifier of images, on any engine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol, overload

import numpy as np

from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.images import read_image, resize
from tfx_transformer.prediction.answers import TablePredictor
from tfx_transformer.prediction.classification import Classification, Labels

# A file, the bytes of a file, or pixels: uint8 (height, width, 3).
Image = str | os.PathLike | bytes | np.ndarray


class ImageEngine(Protocol):
    """Runs an image classifier: Keras or LiteRT."""

    def run_images(self, images: np.ndarray) -> np.ndarray:
        """Return the logits, float32 (images, classes), of float32 (images, size, size, 3)."""

    def run_features(self, images: np.ndarray) -> np.ndarray:
        """Return the vectors that the Transformer's logits are computed from, float32 (images,
        width)."""


class ImageClassifier(TablePredictor):
    """Classifies images with an engine.

    Args:
        engine: runs the model.
        labels: names of the classes.
        config: of the model; gives the size of images and the method of resizing.
        batch_size: most images that run together.
    """

    input_columns = ("path",)

    def __init__(
        self, engine: ImageEngine, labels: Labels, config: TransformerConfig, batch_size: int = 32
    ) -> None:
        self.engine = engine
        self.labels = labels
        self.image_size = config.image_size
        self.image_resize = config.image_resize
        self.batch_size = batch_size

    def __repr__(self) -> str:
        size = self.image_size
        engine = type(self.engine).__name__
        return f"ImageClassifier: {engine}, images of {size} × {size} pixels\n  {self.labels!r}"

    def logits(self, images: Sequence[Image]) -> np.ndarray:
        """Return the logits of images, float32 (images, classes)."""
        if not len(images):
            raise InputError("there are no images.\n  Give one or more.")
        starts = range(0, len(images), self.batch_size)
        batches = (images[start : start + self.batch_size] for start in starts)
        return np.concatenate([self.run_rows(list(map(self.read, batch))) for batch in batches])

    def probabilities(self, images: Sequence[Image]) -> np.ndarray:
        """Return the probabilities of images, float32 (images, classes)."""
        return self.labels.probabilities(self.logits(images))

    def run_rows(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """Return the logits of images from `read`, float32 (rows, classes)."""
        return self.engine.run_images(np.stack(rows))

    @overload
    def classify(self, images: Image) -> Classification: ...

    @overload
    def classify(self, images: Sequence[Image]) -> list[Classification]: ...

    def classify(self, images: Image | Sequence[Image]) -> Classification | list[Classification]:
        """Return the classification of an image, or a list of classifications for a list.

        Raises:
            InputError: a file is not an image that can be read; the message names it.
        """
        single = isinstance(images, (str, os.PathLike, bytes, np.ndarray))
        found = self.labels.classifications(self.probabilities([images] if single else images))
        return found[0] if single else found

    def features(self, images: Sequence[Image]) -> np.ndarray:
        """Return the vectors from which the Transformer computes labels, float32 (images, width):
        the input of a classifier of your own.

        Raises:
            InputError: a file is not an image, or the model's TFLite file gives no vectors.
        """
        if not len(images):
            raise InputError("there are no images.\n  Give one or more.")
        return np.concatenate(
            [self.engine.run_features(self.read(image)[np.newaxis]) for image in images]
        )

    def read(self, image: Image) -> np.ndarray:
        """Return a resized image, float32 (image_size, image_size, 3), colours from 0 to 255."""
        pixels = image if isinstance(image, np.ndarray) else read_image(image)
        return resize(pixels, self.image_size, self.image_resize)
