"""The presets by name: settings of recipes for a kind of data, such as `--preset multi30k`.

Like a file of `--config`, a preset has values of a recipe's parameters. docs/quality.md says on
which rows each was chosen, and what it reaches where that is measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Preset:
    """Settings of a recipe that have a name.

    Attributes:
        name: value of `--preset`.
        recipe: name of the recipe.
        purpose: the data that it suits, and the size of the model, in a few words.
        settings: values by the names of the recipe's parameters.
    """

    name: str
    recipe: str
    purpose: str
    settings: Mapping[str, Any]


PRESETS = (
    Preset(
        "tatoeba",
        "translation",
        "50,000 short sentence pairs; 3 + 3 layers of 256",
        {
            "size": "small",
            "vocabulary_size": 6000,
            "max_length": 48,
            "dropout": 0.15,
            "epochs": 13,
            "learning_rate": 1e-3,
            "warmup_steps": 1000,
            "patience": 3,
        },
    ),
    Preset(
        "multi30k",
        "translation",
        "30,000 captions of images; 4 + 4 layers of 128",
        {
            "layers": 4,
            "heads": 4,
            "width": 128,
            "vocabulary_size": 8000,
            "max_length": 64,
            "dropout": 0.3,
            "epochs": 30,
            "batch_size": 128,
            "learning_rate": 3e-3,
            "warmup_steps": 1000,
        },
    ),
    Preset(
        "small-images",
        "image_classification",
        "thousands of images of 32 x 32 pixels; 6 layers of 128",
        {
            "share": 0.04,
            "layers": 6,
            "image_size": 32,
            "conv_layers": 3,
            "epochs": 90,
            "batch_size": 128,
            "warmup_steps": 300,
            "mix": 0.8,
            "average": 0.998,
            "patience": 90,
        },
    ),
    Preset(
        "nanogpt-cpu",
        "pretraining",
        "one megabyte of text; nanoGPT's size, steps and batch on a CPU",
        {
            "layers": 4,
            "heads": 4,
            "width": 128,
            "vocabulary_size": 262,
            "context": 64,
            "dropout": 0.0,
            "steps": 2000,
            "validate_every": 500,
            "batch_size": 12,
            "learning_rate": 3e-3,
            "warmup_steps": 100,
        },
    ),
)


def presets_of(recipe: str) -> dict[str, Preset]:
    """Return the presets of a recipe by their names."""
    return {preset.name: preset for preset in PRESETS if preset.recipe == recipe}
