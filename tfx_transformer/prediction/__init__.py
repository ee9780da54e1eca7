"""Models that answer with a label or a vector: texts or images in, over any engine."""

from tfx_transformer.prediction.classification import Classification
from tfx_transformer.prediction.image import ImageClassifier
from tfx_transformer.prediction.text import TextClassifier, TextEmbedder

__all__ = ["Classification", "ImageClassifier", "TextClassifier", "TextEmbedder"]
