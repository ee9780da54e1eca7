"""The part of evaluate that scores a regressor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfx_transformer import files
from tfx_transformer.cli.classifiers import classifier
from tfx_transformer.cli.engines import Variant
from tfx_transformer.reprs import quantity, significant

if TYPE_CHECKING:
    from tfx_transformer.cli.scoring import Scored

# Names of scores in the terminal.
_NAMES = {"mae": "mean absolute error", "r2": "R²", "spearman": "Spearman"}


def evaluate_regressor(scored: Scored) -> dict[str, Any]:
    """Score a regressor on a table of texts and numbers."""
    from tfx_transformer import data
    from tfx_transformer.evaluation.mistakes import as_text
    from tfx_transformer.evaluation.numbers import (
        finite_scores,
        number_intervals,
        score_numbers,
        worst_mistakes,
    )

    skip = {"skip_bad_rows": scored.skip_bad_rows}
    read = data.read_scored_texts(scored.file, *scored.columns.values(), **skip)
    model = open_regressor(scored.bundle, scored.engine, scored.variant)
    predicted = model.predict(read.inputs).astype("float64")
    scores = finite_scores(score_numbers(predicted, read.numbers))
    intervals = number_intervals(predicted, read.numbers)
    print(f"{quantity(len(read), 'row')} of {scored.file}, with 95 % intervals:")
    for name, text in _NAMES.items():
        print(f"  {text:<20} {_shown(name, scores[name], intervals[name])}")
    if scored.save:
        import pandas

        texts = list(map(as_text, read.inputs))
        table = pandas.DataFrame(worst_mistakes(texts, predicted, read.numbers, len(read)))
        files.write(scored.save, table.to_csv(index=False))
    found = {name: list(ends) for name, ends in intervals.items() if ends is not None}
    return scores | {"intervals": found}


def _shown(name: str, value: float | None, interval: Sequence[float] | None) -> str:
    """Return a score with its interval, if it has one."""
    if value is None:
        return "– (all numbers are the same)"
    shown = [significant(x) if name == "mae" else f"{x:.3f}" for x in (value, *(interval or ()))]
    return f"{shown[0]}  ({' to '.join(shown[1:])})" if interval else shown[0]


def open_regressor(path: Path, engine: str, variant: Variant | None) -> Any:
    """Return the model of the bundle at a path, on an engine.

    Raises:
        InputError: the bundle is not a regressor, or the engine does not run it.
    """
    return classifier(path, engine, variant, "predict", "regressor")
