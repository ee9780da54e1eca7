"""A linear classifier on the vectors of an embedder in training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfx_transformer.config import TransformerConfig
from tfx_transformer.data.labelled_text import LabelledTexts
from tfx_transformer.evaluation.linear import fit_vectors
from tfx_transformer.models.heads import Head
from tfx_transformer.prediction.classification import Labels
from tfx_transformer.prediction.text import Text, TextEmbedder


def config_for_contrast(config: TransformerConfig) -> TransformerConfig:
    """Return the configuration of an embedder that is to become a classifier by `add_head`.

    Its vectors are only pooled, and the classifier has nothing between them and its logits. Those
    of a post-norm encoder are normalized after the pooling, so that all have the same length; those
    of a pre-norm encoder are normalized before it already.
    """
    return dataclasses.replace(
        config,
        normalize=False,
        projections=(),
        bag_dim=0,
        pooler=False,
        pooler_norm=False,
        unit_features=False,
        norm_pooled=not config.norm_first,
    )


class HeadOnVectors:
    """Classifies texts by an embedder in training, with a linear head that is fitted to its current
    vectors of the training texts whenever it answers.

    Args:
        embedder: predictor of the embedder; its vectors are not normalized.
        train: the training texts, with one label each.
        labels: names of the classes.
        balanced: see `fit_vectors`.
    """

    def __init__(
        self,
        embedder: TextEmbedder,
        train: LabelledTexts,
        labels: Sequence[str],
        balanced: bool = False,
    ) -> None:
        self.labels = Labels(labels)
        self.tokenizer = embedder.tokenizer
        self.balanced = balanced
        self._embedder = embedder
        self._rows = embedder.rows(train.inputs)
        self._ids = train.targets(self.labels.names)

    def fit(self) -> Head:
        """Return the head for the current vectors: see `fit_vectors`."""
        vectors = self._embedder.run_rows(self._rows)
        names = list(self.labels.names)
        kernel, bias = fit_vectors(vectors, self._ids, len(names), self.balanced)
        return Head(names, kernel.T, bias)

    def probabilities(self, texts: Sequence[Text]) -> np.ndarray:
        """Return the probabilities of texts, float32 (texts, classes)."""
        head = self.fit()
        vectors = self._embedder.run_rows(self._embedder.rows(texts))
        return self.labels.probabilities(vectors @ head.weights.T + head.bias)
