"""Default settings that depend on the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfx_transformer.evaluation.texts import mostly_unspaced
from tfx_transformer.training.checkpoints import Checkpoints
from tfx_transformer.training.folder import CHECKPOINTS

# Rows for each class below which a classifier is trained by contrast, and its steps and batch.
_FEW = 20
_STEPS = 40
_MANY = 96


def classifier_defaults(rows: int, texts: Sequence[str]) -> dict[str, Any]:
    """Return the settings of a new text classifier that depend on its training rows.

    vocabulary_size: 500 + rows / 2, at most 1,000, or 2,000 if most texts have no spaces: few rows
    have few long tokens often enough to learn from, and short tokens occur in new texts too.
    docs/quality.md has the figures.

    Args:
        rows: count of training rows, without the held-out ones.
        texts: texts of these rows, or a sample.
    """
    most = 2000 if mostly_unspaced(texts) else 1000
    return {"vocabulary_size": min(500 + rows // 2, most)}


def embedder_defaults() -> dict[str, Any]:
    """Return the settings of a new embedder that an interrupted run of an earlier version may have
    otherwise.

    vocabulary_size: 8,000 tokens at most: most words are then one token, of which the bag of tokens
    knows all parts. bag_width: 256; cosines of random projections are within about 1/16.
    docs/quality.md has the figures.
    """
    return {"vocabulary_size": 8000, "bag_width": 256}


def is_few(rows: int, classes: int) -> bool:
    """Return True if a pre-trained encoder learns more from comparing texts with each other than
    from their labels: fewer than 20 rows for each class."""
    return rows < _FEW * classes


def fine_tuning_defaults(
    width: int, rows: int, classes: int = 0, by_contrast: bool = False
) -> dict[str, Any]:
    """Return the settings to fine-tune a pre-trained encoder.

    The learning rate is 1.5e-4 up to a width of 384, and falls with the width to the power of 1.5:
    5.3e-5 for 768. Each layer learns at 0.9 of the rate of the one above. The training takes 5
    passes, or as many as see 24,000 rows, at most 20, but 3 of more than 20,000 rows. Up to 10,000
    rows with classes it compares two answers to each text (R-Drop). A training by contrast has
    large batches, about 40 steps and no early stopping, since few held-out rows decide nothing.
    docs/quality.md has the figures.

    Args:
        width: of the encoder's vectors.
        rows: count of training rows, without the held-out ones.
        classes: count of classes; 0: the rows have no classes.
        by_contrast: True for a training of vectors by contrast, see `is_few`.
    """
    rate = 1.5e-4 * min(1.0, (384 / width) ** 1.5)
    settings: dict[str, Any] = {"layer_decay": 0.9, "dropout": 0.1, "patience": 3}
    if by_contrast:
        epochs = min(max(-(-_STEPS // -(-rows // _MANY)), 3), 20)
        return settings | {
            "batch_size": _MANY,
            "learning_rate": float(f"{rate:.2g}"),
            "epochs": epochs,
            "patience": epochs,
            "consistency": 0.0,
        }
    least = 5 if rows <= 20_000 else 3
    return settings | {
        "batch_size": 32,
        "learning_rate": float(f"{rate:.2g}"),
        "epochs": min(max(-(-24_000 // rows), least), 20),
        "consistency": 4.0 if classes and rows <= 10_000 else 0.0,
    }


def fill_in(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's settings; those that are None come from the interrupted run of that name that
    goes on, else from the defaults. They stay None if the interrupted run did not have them.

    Args:
        settings: settings of the run, by the names of the recipe's parameters.
        defaults: see `classifier_defaults` and `fine_tuning_defaults`; those that the recipe does
            not have are not used.
    """
    folder = Path("runs", settings["name"], CHECKPOINTS)
    before = None if settings.get("overwrite") else Checkpoints(folder).peek()
    known = defaults if before is None else before["settings"]
    missing = {name: known.get(name) for name in defaults if settings.get(name, "") is None}
    return {**settings, **missing}
