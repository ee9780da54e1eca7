"""Models that answer texts or images with labels, spans, numbers or vectors, on any engine."""

from tfx_transformer.prediction.classification import Classification
from tfx_transformer.prediction.image import ImageClassifier
from tfx_transformer.prediction.tagging import TextTagger
from tfx_transformer.prediction.tags import Entity
from tfx_transformer.prediction.text import TextClassifier, TextEmbedder, TextRegressor

__all__ = [
    "Classification",
    "Entity",
    "ImageClassifier",
    "TextClassifier",
    "TextEmbedder",
    "TextRegressor",
    "TextTagger",
]
