"""The tables and figures that a run writes into its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas

from tfx_transformer.data import write_bad_rows
from tfx_transformer.data.joined import Correction
from tfx_transformer.evaluation.mistakes import write_mistakes
from tfx_transformer.generation.text import Prompt
from tfx_transformer.training.callbacks import in_grains
from tfx_transformer.training.estimate import Cost
from tfx_transformer.training.folder import RunFolder
from tfx_transformer.training.terminal import visible_text


class Summary(Protocol):
    """Figures of the data; `data` has a summary for each kind of data."""

    name: str
    path: str

    def lines(self) -> list[str]:
        """Return the figures as lines for a terminal."""

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values; "tokens" are those of one epoch."""

    def panels(self, max_length: int) -> tuple[Mapping[str, Sequence[int]], int]:
        """Return the lengths to draw for each panel of the picture, and the model's limit."""


class Record:
    """The tables and figures of one run.

    Args:
        folder: folder of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def settings(self, settings: Mapping[str, Any]) -> None:
        """Write settings.json."""
        self._folder.write_json("settings.json", settings)

    def data(self, summaries: Sequence[Summary]) -> None:
        """Write data.json."""
        self._folder.write_json("data.json", [summary.to_dict() for summary in summaries])

    def bad_rows(self, part: str, bad_rows: Sequence[Any]) -> Path:
        """Write the rows of a part of the data that were skipped; return where.

        Args:
            part: "" for the training data, or a name such as "validation".
        """
        path = self._folder.file(f"bad_rows_{part}.csv" if part else "bad_rows.csv")
        write_bad_rows(path, bad_rows)
        return path

    def corrections(self, corrections: Sequence[Correction]) -> Path:
        """Write corrections.csv, rows whose label a later table has changed; return where."""
        path = self._folder.file("corrections.csv")
        self._folder.write_table("corrections.csv", pandas.DataFrame(corrections))
        return path

    def cost(self, cost: Cost) -> None:
        """Write cost.json."""
        self._folder.write_json("cost.json", cost.to_dict())

    def metrics(self, history: Mapping[str, Sequence[float]]) -> pandas.DataFrame:
        """Write metrics.csv and return it: a row for each epoch, counted from 1."""
        metrics = pandas.DataFrame(history)
        metrics.insert(0, "epoch", range(1, len(metrics) + 1))
        self._folder.write_table("metrics.csv", metrics)
        return metrics

    def previews(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write previews.csv, what the model wrote after each epoch."""
        self._folder.write_table("previews.csv", pandas.DataFrame(rows))

    def samples(
        self, texts: Sequence[Prompt], written: Sequence[str], references: Sequence[str]
    ) -> None:
        """Write samples.csv, what the trained model wrote for held-out texts.

        Args:
            references: the expected outputs; empty if they are not known.
        """
        table = {"source": map(visible_text, texts), "written": written}
        if references:
            table["reference"] = references
        self._folder.write_table("samples.csv", pandas.DataFrame(table))

    def pairs(self, pairs: Mapping[str, Sequence[Any]]) -> None:
        """Write pairs.csv, held-out pairs of texts with the nearest second text and the rank of
        their own, or with score and cosine."""
        self._folder.write_table("pairs.csv", pandas.DataFrame(pairs))

    def classes(self, scores: Mapping[str, Mapping[str, float]]) -> None:
        """Write classes.csv, one row of scores for each label."""
        table = pandas.DataFrame(scores).T
        self._folder.write_table("classes.csv", table, index=True, index_label="label")

    def mistakes(self, mistakes: Sequence[Any]) -> None:
        """Write mistakes.csv; see `evaluation.mistakes`."""
        write_mistakes(self._folder.file("mistakes.csv"), mistakes)

    def predictions(
        self, truth: Sequence[float], predicted: Sequence[float], mistakes: Sequence[Any]
    ) -> None:
        """Write predictions.csv, the true and the predicted number of each held-out example, and
        mistakes.csv, the largest errors; see `evaluation.numbers`."""
        table = pandas.DataFrame({"target": truth, "prediction": predicted})
        self._folder.write_table("predictions.csv", table, float_format="%.7g")
        self._folder.write_table("mistakes.csv", pandas.DataFrame(mistakes))

    def result(self, result: Mapping[str, Any]) -> None:
        """Write result.json."""
        self._folder.write_json("result.json", result)


def best_epoch(metrics: pandas.DataFrame, judged: str, grain: float) -> pandas.Series:
    """Return the row of the epoch whose weights `BestWeights` keeps.

    Args:
        metrics: see `Record.metrics`.
        judged: "val_loss", or a score to maximise.
        grain: see `BestWeights`.
    """
    scores = metrics[judged] * (1 if judged == "val_loss" else -1)
    return metrics.iloc[np.lexsort((metrics["val_loss"], in_grains(scores, grain)))[0]]
