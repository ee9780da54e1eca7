"""The most confident mistakes of a classifier: often wrong labels, or what it never learnt."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfx_transformer import files
from tfx_transformer.evaluation.labels import validate


def most_confident_mistakes(
    inputs: Sequence[str],
    probabilities: np.ndarray,
    truth: np.ndarray,
    names: Sequence[str],
    count: int = 50,
) -> list[dict[str, str | float]]:
    """Return the wrong predictions, the most probable first, equal ones in file order.

    Args:
        inputs: n texts or file names.
        probabilities: float (n, C).
        truth: int (n,), ids from 0 to C - 1.
        names: the C labels.
        count: most mistakes to return.

    Returns: for each mistake its input, label, predicted (label) and probability (of the predicted
        label).

    Raises: ValueError as `score_labels` does, or if there are not n inputs.
    """
    probabilities, truth = validate(probabilities, truth)
    if len(inputs) != len(truth):
        raise ValueError(f"{len(inputs)} inputs do not fit the truth of {len(truth)} examples.")
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    surest: list[int] = wrong[np.argsort(-confidence[wrong], kind="stable")][:count].tolist()
    return [
        {
            "input": inputs[i],
            "label": names[truth[i]],
            "predicted": names[predicted[i]],
            "probability": float(confidence[i]),
        }
        for i in surest
    ]


def as_text(item: Any) -> str:
    """Return a classified item (a text, the texts of a row or an image file) as one string."""
    return " | ".join(item) if isinstance(item, tuple) else str(item)


def write_mistakes(path: str | os.PathLike, mistakes: Sequence[dict[str, str | float]]) -> None:
    """Write mistakes as a CSV with a header, even if there are no mistakes."""
    import pandas

    columns = ["input", "label", "predicted", "probability"]
    files.write(path, pandas.DataFrame(mistakes, columns=columns).to_csv(index=False))
