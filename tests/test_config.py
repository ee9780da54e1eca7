"""Configurations of encoder-only models: what of images follows from what, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import (
    PATCHES,
    tiny_config,
)

from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.models.encoders import Classifier
from tfx_transformer.training.identity import _FIRST_FIELDS


@pytest.mark.parametrize(
    ("settings", "side"),
    [
        ({"image_size": 15, "patch_size": 5}, 3),
        ({"image_size": 7, "patch_size": 1}, 7),
        ({"image_size": 11, "conv_layers": 1}, 6),
        ({"image_size": 11, "conv_layers": 2}, 3),
        ({"image_size": 17, "conv_layers": 2, "patch_size": 5}, 5),
    ],
)
def test_an_image_becomes_a_square_of_vectors(settings, side):
    config = tiny_config(vocabulary_size=0, num_classes=2, max_sequence_length=19, **settings)
    assert (config.image_side, config.max_sequence_length) == (side, side * side)
    assert TransformerConfig.from_dict(config.to_dict()) == config
    size = config.image_size
    vectors, _ = Classifier(config).encode({"images": np.zeros((1, size, size, 3), "float32")})
    assert vectors.shape == (1, side * side, 24)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**PATCHES, "patch_size": 4}, "image_size 15 is not a multiple of patch_size 4"),
        ({**PATCHES, "patch_size": 30}, "image_size 15 is not a multiple of patch_size 30"),
        ({**PATCHES, "vocabulary_size": 23}, "vocabulary_size is 23.\n.* from 0 to 0"),
        ({**PATCHES, "image_size": 5_000}, "image_size is 5000"),
        ({**PATCHES, "image_size": 4_096, "patch_size": 1}, "16,777,216 vectors"),
        ({**PATCHES, "linear_cells": 1}, "linear_cells is 1.\n  Expected 2 or more"),
        ({"vocabulary_size": 0}, "vocabulary_size is 0"),
        ({"num_classes": -1}, "num_classes is -1"),
        ({"conv_layers": 9}, "conv_layers is 9"),
        ({"pooling": "median"}, "pooling is 'median'"),
        ({"projections": [{"width": 5}]}, "projections is"),
        ({"prompts": {"query": 3}}, "prompts is not an object"),
        ({"default_prompt": "query"}, "default_prompt is 'query'"),
        ({"multi_label": 1}, "multi_label is 1"),
        ({"embedding_norm": "yes"}, "embedding_norm is 'yes'"),
        ({"stochastic_depth": 1.0}, "stochastic_depth is 1.0"),
    ],
)
def test_impossible_configurations_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        tiny_config(**settings)


def test_zero_means_the_sizes_own_number():
    own = TransformerConfig.of_size("tiny", 300)
    assert TransformerConfig.of_size("tiny", 300, num_layers=0, hidden_dim=0, num_heads=0) == own
    config = TransformerConfig.of_size("tiny", 300, hidden_dim=24, intermediate_dim=0, dropout=0)
    assert (config.hidden_dim, config.intermediate_dim, config.dropout) == (24, 96, 0)
    assert (config.num_layers, config.num_heads) == (own.num_layers, own.num_heads)


def test_a_configuration_of_the_first_version_is_read():
    """Bundles of version 0.1 have these fields only."""
    config = TransformerConfig.of_size("nano", 300)
    first = {name: value for name, value in config.to_dict().items() if name in _FIRST_FIELDS}
    assert len(first) == 50 and TransformerConfig.from_dict(first) == config


# JSON values of every kind, and some that only look right.
_VALUES = (
    *(None, True, 0, 1, -1, 2**70, 1.5, float("nan"), float("inf"), "", "mean", [], {}, [1], ["a"]),
    *([[1]], [{}], [None], {"a": 1}, {"a": []}, [{"width": []}], {"rope_type": {}}, {"size": []}),
)


@pytest.mark.parametrize("base", [{}, {"style": "llama"}], ids=["plain", "llama"])
def test_any_value_of_any_field_is_taken_or_refused(base):
    values = TransformerConfig.of_size("nano", 300, **base).to_dict()
    refused = 0
    for name in values:
        for value in _VALUES:
            try:
                TransformerConfig.from_dict(values | {name: value})
            except InputError:
                refused += 1
    assert refused > 10 * len(values)
