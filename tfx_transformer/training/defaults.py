"""Default settings that depend on the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfx_transformer.evaluation.texts import mostly_unspaced
from tfx_transformer.training.checkpoints import Checkpoints
from tfx_transformer.training.folder import CHECKPOINTS


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


def fill_in(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's settings; those that are None come from the interrupted run of that name that
    goes on, else from the defaults. They stay None if the interrupted run did not have them.

    Args:
        settings: settings of the run, by the names of the recipe's parameters.
        defaults: see `classifier_defaults`.
    """
    folder = Path("runs", settings["name"], CHECKPOINTS)
    before = None if settings.get("overwrite") else Checkpoints(folder).peek()
    known = defaults if before is None else before["settings"]
    missing = {name: known.get(name) for name in defaults if settings[name] is None}
    return {**settings, **missing}
